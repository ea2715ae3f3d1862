"""Pictures of a detector's findings: heat maps in colours that mean the same on every image, curves, an overview."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.detect.curves import Curve
from warploom.ground import figures
from warploom.ground.array_types import Array, Floats
from warploom.ground.atomic import write_atomically
from warploom.runs.plots import new_figure, save_figure, to_pixels

_COLOURS = "turbo"  # matplotlib's: blue for 0, green at the threshold, red for 1
_SHOWN = 256  # pixels of the longer side in the overview


@lru_cache(maxsize=1)
def _palette() -> Array:
    """[256, 3] uint8."""
    figures.ready()
    from matplotlib import colormaps

    table: Array = np.rint(colormaps[_COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return table


def coloured(heat: Floats) -> Array:
    """[H, W] in [0, 1) as [H, W, 3] uint8."""
    rows: Array = _palette()[np.minimum(heat * 256, 255).astype(np.uint8)]
    return rows


def overlay(image: Array, heat: Floats) -> Array:
    """The heat map's colours, half covering the grey of the image [C, H, W]; uint8 [H, W, 3]."""
    pixels = to_pixels(image).astype(np.float32)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    mixed: Array = np.rint(0.5 * grey[..., None] + 0.5 * coloured(heat)).astype(np.uint8)
    return mixed


def outlined(image: Array, mask: NDArray[np.bool_]) -> Array:
    """The image with a red line around the mask; uint8 [H, W, 3]."""
    pixels = to_pixels(image)
    rgb: Array = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels.copy()
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    rgb[mask & ~inner] = (255, 0, 0)
    return rgb


def write_png(path: Path, pixels: Array) -> None:
    """uint8 [H, W] or [H, W, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=3)
    write_atomically(path, buffer.getvalue())


@dataclass
class Shown:
    """One image of the overview, not larger than needed."""

    title: str
    image: Array  # [H, W, 3]
    heat: Array
    outline: Array
    truth: Array | None  # the mask that was given, [H, W, 3]


def shown(title: str, image: Array, heat: Floats, mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> Shown:
    step = -(-max(heat.shape) // _SHOWN)
    small = np.ascontiguousarray(image[:, ::step, ::step])
    pixels = to_pixels(small)
    rgb: Array = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    given = None if truth is None else np.repeat(np.where(truth[::step, ::step], 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return Shown(title, rgb, coloured(heat[::step, ::step]), outlined(small, mask[::step, ::step]), given)


def draw_overview(path: Path, rows: Sequence[Shown], title: str) -> None:
    """A column for each image: the image, its heat map, its mask as an outline, the mask that was given."""
    labels = ["image", "heat map", "found"] + (["mask"] if any(r.truth is not None for r in rows) else [])
    figure = new_figure(1.7 * len(rows) + 1.3, 1.75 * len(labels) + 0.8)
    grid = figure.subplots(len(labels), len(rows), squeeze=False)
    for column, row in enumerate(rows):
        for place, pixels in enumerate([row.image, row.heat, row.outline, row.truth][: len(labels)]):
            axes = grid[place][column]
            axes.set(xticks=[], yticks=[])
            if pixels is not None:
                axes.imshow(pixels, interpolation="nearest")
            else:
                axes.set_axis_off()
            if column == 0:
                axes.set_ylabel(labels[place], fontsize=9)
        grid[0][column].set_title(row.title, fontsize=7, parse_math=False)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLOURS), ax=grid.ravel().tolist(), shrink=0.6, ticks=[0, 0.25, 0.5, 0.75, 1]
    )
    bar.ax.set_yticklabels(["0", "1/3 of the threshold", "the threshold", "3 times", "far above"], fontsize=7)
    figure.suptitle(title, fontsize=10, parse_math=False)
    save_figure(figure, path)


def draw_scores(path: Path, scores: Floats, truth: NDArray[np.bool_] | None, threshold: float, title: str) -> None:
    """How many images have which score, by kind where it is known."""
    figure = new_figure(6.4, 3.8)
    axes = figure.add_subplot()
    edges = np.linspace(min(float(scores.min()), threshold), max(float(scores.max()), threshold) * 1.0001 + 1e-12, 41)
    groups: list[tuple[str, Any, str]] = [("all", slice(None), "0.5")]
    if truth is not None:
        groups = [("normal", ~truth, "tab:blue"), ("abnormal", truth, "tab:red")]
    for label, rows, colour in groups:
        axes.hist(scores[rows], bins=edges, alpha=0.6, label=f"{label} ({len(scores[rows]):,})", color=colour)
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.4g}")
    axes.set(xlabel="score", ylabel="images")
    axes.set_title(title, parse_math=False, fontsize=10)
    axes.legend(loc="upper right")  # "best" is slow with many values, and then says so
    save_figure(figure, path)


def draw_curves(path: Path, curves: Sequence[tuple[str, Curve]], title: str) -> None:
    """ROC and precision-recall, one line for each name."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    for name, c in curves:
        keep = np.unique(np.linspace(0, len(c.thresholds) - 1, 2000).astype(np.int64))  # more points than a picture has pixels
        left.plot(c.false_positive_rate[keep], c.recall[keep], label=f"{name}: area {c.auroc:.3f}")
        right.plot(c.recall[keep], c.precision[keep], label=f"{name}: average precision {c.average_precision:.3f}")
    left.plot([0, 1], [0, 1], color="0.7", linestyle=":", linewidth=1)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.03))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right" if axes is left else "lower left", fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    save_figure(figure, path)
