"""The confusion matrix as a picture."""

from pathlib import Path

import numpy as np

from warploom.ground.array_types import Array
from warploom.ground.figures import short_name
from warploom.runs.plots import new_figure, save_figure

_NUMBERED = 20  # classes up to which every cell shows its count


def draw_confusion(path: Path, counts: Array, names: list[str], title: str) -> None:
    """Rows are the labels, columns what they were taken for; colours are shares of a row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(counts)
    side = min(14.0, 3.0 + 0.5 * classes)
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    shown = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(shown, label="share of the row")
    if classes <= 60:
        short = [short_name(name) for name in names]  # long ones would leave no room for the matrix
        axes.set_xticks(range(classes), short, rotation=90, parse_math=False)
        axes.set_yticks(range(classes), short, parse_math=False)
    if classes <= _NUMBERED:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                color = "white" if shares[i, j] > 0.55 else "black"
                axes.text(j, i, f"{int(count)}", ha="center", va="center", fontsize=7, color=color)
    axes.set(xlabel="taken for", ylabel="label")
    axes.set_title(title, fontsize=10, parse_math=False)
    save_figure(figure, path)
