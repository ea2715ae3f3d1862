"""A picture of a network in which a person recognises the architecture.

Layers are gathered into boxes (a stage with its activation and norm, a whole block of a large network); a box's column is its
depth in the graph, its row the size of its map, so that what halves and doubles draws a U or an hourglass; its height follows the
map, its width the channels. Parallel branches lie side by side in a row; an edge that jumps over columns is a skip: an arc.
"""

import base64
import io
from pathlib import Path
from typing import Any

from warploom.errors import ArgumentError
from warploom.ground import figures
from warploom.ground.atomic import write_atomically
from warploom.inspection.graph_layout import Box, gathered, place, shape_text
from warploom.network.network import Network

_COLORS = {
    "input": "#f2f2f2",
    "convolution": "#a9cbe8",
    "enlarging": "#b5dfb0",
    "pooling": "#f6c9a0",
    "linear": "#d5c1ea",
    "merging": "#f4e3a1",
    "other": "#dddddd",
}
_LABEL = 0.17  # height of a box's name above it


class Picture:
    """A network's graph as a notebook shows it."""

    def __init__(self, name: str, svg: str, png: bytes) -> None:
        self.name, self.svg, self.png = name, svg, png

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"image/svg+xml": self.svg, "image/png": base64.b64encode(self.png).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<Picture of {self.name!r}: a notebook shows it; model.plot('net.svg') writes it to a file>"


def picture(model: Network) -> Picture:
    """The model drawn, not written."""
    return Picture(model.name, _drawn(model, "svg").decode(), _drawn(model, "png"))


def plot(model: Network, path: str | Path) -> None:
    """Draws the model; the file's ending chooses svg or png."""
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in ("svg", "png"):
        raise ArgumentError(f"plot draws .svg and .png files, not {str(path)!r}")
    write_atomically(path, _drawn(model, ending))


def _drawn(model: Network, ending: str) -> bytes:
    boxes = gathered(model)
    place(boxes)
    buffer = io.BytesIO()
    _figure(model, boxes).savefig(buffer, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
    return buffer.getvalue()


def _figure(model: Network, boxes: list[Box]) -> Any:
    figures.ready()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, Patch

    arcs = [_arc_height(boxes, s, box) for box in boxes for s in box.sources if _is_skip(boxes, s, box)]
    left, right = min(b.x - b.width for b in boxes) - 0.3, max(b.x + b.width for b in boxes) + 0.4
    low, high = min(b.y - b.height for b in boxes) - 0.2, max([b.y + b.height for b in boxes] + arcs) + 0.15
    width, height = max(right - left, 5.5), high - low + 0.75
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.38 / height, 1.0, (high - low) / height))
    axes.set(xlim=(left, left + width), ylim=(low, high))
    axes.axis("off")
    for box in boxes:
        for s in box.sources:
            _edge(axes, boxes, s, box)
    for box in boxes:
        color, thickness = ("#c0392b", 2.0) if box.latent else ("#444444", 0.8)
        corner = (box.x - box.width / 2, box.y - box.height / 2)
        axes.add_patch(
            FancyBboxPatch(
                corner,
                box.width,
                box.height,
                boxstyle="round,pad=0,rounding_size=0.05",
                facecolor=_COLORS[box.kind],
                edgecolor=color,
                linewidth=thickness,
                zorder=3,
            )
        )
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
        style: dict[str, Any] = {"ha": "center", "zorder": 4, "bbox": ground}
        axes.text(box.x, box.y + box.height / 2 + 0.04, box.name, va="bottom", fontsize=7, weight="bold", **style)
        axes.text(box.x, box.y - box.height / 2 - 0.04, shape_text(box.shape), va="top", fontsize=6.5, color="#333333", **style)
    title = f"{model.name}: {model.count_parameters():,} parameters"
    figure.text(0.3 / width, 1 - 0.24 / height, title, fontsize=11, weight="bold", va="center")
    used = [kind for kind in _COLORS if any(box.kind == kind for box in boxes)]
    patches = [Patch(facecolor=_COLORS[kind], edgecolor="#444444", label=kind) for kind in used]
    if any(box.latent for box in boxes):
        patches.append(Patch(facecolor="white", edgecolor="#c0392b", linewidth=2.0, label="latent"))
    figure.legend(handles=patches, loc="lower center", ncols=len(patches), fontsize=7, frameon=False)
    return figure


def _is_skip(boxes: list[Box], source: int, box: Box) -> bool:
    """An edge in one row that jumps over other boxes."""
    return boxes[source].side == box.side and box.column - boxes[source].column > 1


def _arc_height(boxes: list[Box], source: int, box: Box) -> float:
    """Where the arc of a skip is highest: above its ends and above whatever it passes in its row."""
    start = boxes[source]
    passed = [b for b in boxes if b.side == box.side and start.column < b.column < box.column]
    top = max(b.y + b.height / 2 for b in (start, box, *passed))
    return top + 0.3 + 0.02 * (box.column - start.column)


def _edge(axes: Any, boxes: list[Box], source: int, box: Box) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    start = boxes[source]
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 8, "zorder": 2, "shrinkA": 0, "shrinkB": 0}
    if _is_skip(boxes, source, box):
        x0, x1 = start.x, box.x
        y0, y1 = start.y + start.height / 2 + _LABEL, box.y + box.height / 2 + _LABEL
        top = max(y0, y1) + (_arc_height(boxes, source, box) - max(y0, y1)) * 1.33
        bend = min(0.5, (x1 - x0) / 4)
        curve = Curve([(x0, y0), (x0 + bend, top), (x1 - bend, top), (x1, y1)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
        axes.add_patch(FancyArrowPatch(path=curve, color="#c0392b", linewidth=1.3, **style))
        return
    x0, x1 = start.x + start.width / 2, box.x - box.width / 2
    middle = (x0 + x1) / 2
    if box.column - start.column > 1:  # down or up along the first gap, then straight
        middle = x0 + 0.14
    curve = Curve([(x0, start.y), (middle, start.y), (middle, box.y), (x1, box.y)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
    axes.add_patch(FancyArrowPatch(path=curve, color="#777777", linewidth=0.9, **style))
