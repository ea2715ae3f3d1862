"""How well images are reconstructed: one by one, and all together as training tells it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom import metrics
from warploom.ground.array_types import Array, Floats
from warploom.inference.images import Batch, Images
from warploom.inference.trained import Trained


@dataclass(frozen=True)
class Row:
    """Of one image."""

    name: str
    mse: float
    psnr: float
    ssim: float
    mae: float
    height: int  # of what was compared
    width: int


def reconstructions(
    trained: Trained, images: Images, *, fit: str = "own", skipped: list[str] | None = None
) -> Iterator[tuple[Batch, Floats]]:
    """Batches and their reconstructions as pixels [n, C, H, W], not cut off to [0, 1]."""
    model = trained.require_reconstruction()
    for batch in images.batches(trained.batch_size, size=trained.size, fit=fit, skipped=skipped):
        yield batch, trained.pixels(model.reconstruct(trained.prepare(batch.images)))


def judged(images: Array, outputs: Floats, names: list[str]) -> list[Row]:
    """Every image of a batch by itself."""
    unit = metrics.unit(images)
    squares = ((unit - outputs) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)
    absolute = np.abs(unit - outputs).mean(axis=(1, 2, 3), dtype=np.float64)
    return [
        Row(
            name, float(squares[i]), metrics.decibels(float(squares[i])), metrics.ssim(unit[i : i + 1], outputs[i : i + 1]),
            float(absolute[i]), images.shape[2], images.shape[3],
        )
        for i, name in enumerate(names)
    ]  # fmt: skip


def evaluate(
    trained: Trained, images: Images, *, fit: str = "crop", skipped: list[str] | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """(mse, psnr, ssim_index, mae and images of all together, every image by itself).

    The PSNR is that of the mean squared error of all pixels, as training tells it; images of several sizes weigh by their pixels.
    """
    rows = list[Row]()
    for batch, outputs in reconstructions(trained, images, fit=fit, skipped=skipped):
        rows += judged(batch.images, outputs, batch.names)
        if report is not None:
            report(len(rows))
    weights = [r.height * r.width for r in rows]
    whole = math.fsum(weights)
    mse, mae = (math.fsum(getattr(r, key) * w for r, w in zip(rows, weights, strict=True)) / whole for key in ("mse", "mae"))
    ssim = math.fsum(r.ssim for r in rows) / len(rows)
    return {"images": len(rows), "mse": mse, "psnr": metrics.decibels(mse), "ssim_index": ssim, "mae": mae}, rows
