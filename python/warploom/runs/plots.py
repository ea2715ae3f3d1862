"""Pictures of a run, drawn without a display."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from warploom.ground import figures
from warploom.ground.array_types import Array
from warploom.ground.atomic import write_atomically

_LOG_RANGE = 10.0  # losses that span more than this are drawn on a logarithmic axis


def new_figure(width: float, height: float) -> Any:
    """A figure of matplotlib, of that many inches, that needs no display."""
    figures.ready()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # the canvas that needs no display; pyplot's global state stays untouched
    return figure


def save_figure(figure: Any, path: str | Path) -> None:
    """As a .png file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names of data sets may be in any script
        figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, buffer.getvalue())


def plot_loss(path: str | Path, metrics: Sequence[dict[str, Any]], title: str, what: str = "mean squared error") -> None:
    """Training and test loss over epochs, from the rows of metrics.jsonl. what: the loss in words."""
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    epochs = [row["epoch"] for row in metrics]
    values: list[float] = []
    for key, label, style in (("train_loss", "training", "o-"), ("test_loss", "test", "s--")):
        points = [(e, row[key]) for e, row in zip(epochs, metrics, strict=True) if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
            values += [v for _, v in points]
    if values and min(values) > 0 and max(values) / min(values) > _LOG_RANGE:
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=f"loss ({what})")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    if values:
        axes.legend(loc="upper right")  # "best" is slow with many values, and then says so
    save_figure(figure, path)


def plot_reconstructions(path: str | Path, originals: Array, outputs: Array, title: str) -> None:
    """Originals over their reconstructions; NCHW, uint8 or float32 in [0, 1]."""
    plot_rows(path, [("original", originals), ("reconstruction", outputs)], title)


def plot_rows(
    path: str | Path, rows: Sequence[tuple[str, Array]], title: str, captions: Sequence[Sequence[str]] | None = None
) -> None:
    """A labelled row of images for each entry, none longer than the first; NCHW, uint8 or float32 in [0, 1].

    captions: for each row what stands under its images, in two lines at most; an empty sequence where there is nothing."""
    count = len(rows[0][1])
    said = captions if captions is not None else [[]] * len(rows)
    figure = new_figure(1.15 * count + 0.9, 1.2 * len(rows) + 0.3 * sum(map(bool, said)) + 0.7)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for row, (label, images) in enumerate(rows):
        for column, image in enumerate(images):
            axes = grid[row][column]
            axes.imshow(to_pixels(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if said[row]:
                axes.set_xlabel(said[row][column], fontsize=7, parse_math=False)
            if column == 0:
                axes.set_ylabel(label, fontsize=10)
        for axes in grid[row][len(images) :]:
            axes.set_axis_off()
    figure.suptitle(title, fontsize=11, parse_math=False)
    save_figure(figure, path)


def to_pixels(image: Array) -> Array:
    """[C, H, W] as uint8 pixels, [H, W, 3] or [H, W]."""
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    pixels: Array = image[0] if image.shape[0] != 3 else image.transpose(1, 2, 0)
    return pixels
