"""A picture of a network in which a person recognises the architecture.

Layers are gathered into boxes (a stage with its activation and norm, a whole block of a large network); a box's column is its
depth in the graph, its row the size of its map, so that what halves and doubles draws a U or an hourglass; its height follows the
map, its width the channels. Parallel branches lie side by side in a row; an edge that jumps over columns is a skip, drawn as an arc.
"""

import io
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warploom._typing import Shape
from warploom.errors import ArgumentError
from warploom.files import write_atomically
from warploom.graph import Call, Tensor
from warploom.layers import Identity, Layer

if TYPE_CHECKING:
    from warploom.model import Model

_FOLDED = {"ReLU", "LeakyReLU", "Sigmoid", "BatchNorm2d", "RMSNorm", "Identity", "Latent", "Reshape", "Flatten"}
_COLORS = {
    "input": "#f2f2f2",
    "convolution": "#a9cbe8",
    "enlarging": "#b5dfb0",
    "pooling": "#f6c9a0",
    "linear": "#d5c1ea",
    "merging": "#f4e3a1",
    "other": "#dddddd",
}
_KINDS = {
    "Conv2d": "convolution", "ConvTranspose2d": "enlarging", "Upsample": "enlarging", "DepthToSpace": "enlarging",
    "MaxPool2d": "pooling", "AvgPool2d": "pooling", "Linear": "linear", "Concat": "merging", "Add": "merging",
    "Multiply": "merging",
}  # fmt: skip
_LABEL = 0.17  # height of a box's name above it
_RANK = ("convolution", "linear", "enlarging", "pooling", "merging", "other")  # what names a box that holds several


@dataclass
class Box:
    """Some calls drawn as one."""

    name: str
    kind: str
    shape: Shape
    parameters: int = 0
    latent: bool = False
    column: int = 0
    lane: float = 0.0
    x: float = 0.0
    y: float = 0.0
    sources: list[int] = field(default_factory=list)

    @property
    def side(self) -> int:
        """The map's size: what the row stands for; 0 for values without one."""
        return self.shape[1] if len(self.shape) == 3 else 0

    @property
    def width(self) -> float:
        return 0.16 + 0.07 * math.log2(1 + self.shape[0])

    @property
    def height(self) -> float:
        return 0.26 + 0.085 * math.log2(1 + max(self.shape[1:], default=1))


def plot(model: "Model", path: str | Path) -> None:
    """Draws the model; the file's ending chooses svg or png."""
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in ("svg", "png"):
        raise ArgumentError(f"plot draws .svg and .png files, not {str(path)!r}")
    boxes = gathered(model)
    place(boxes)
    buffer = io.BytesIO()
    _figure(model, boxes).savefig(buffer, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
    write_atomically(path, buffer.getvalue())


# What is a box


def gathered(model: "Model") -> list[Box]:
    """The boxes in an order in which each comes after its sources; a source is a place in this list.

    Layers are gathered by the first parts of their names, as few parts as leave no box that halves or doubles its map twice.
    """
    parts = max(str(name).count(".") for name in model.node_names) + 1
    for depth in range(1, parts + 1):
        keys = _keys(model, depth)
        if _sorted(model, keys) is not None and not _too_coarse(model, keys):
            return _boxes(model, keys)
    keys = {id(call): name for call, name in zip(model.calls, model.node_names, strict=True)}
    return _boxes(model, keys)


def _keys(model: "Model", depth: int) -> dict[int, str]:
    """A box's name for every call: the first parts of the name, and which use of the layers it is; small layers join another."""
    keys: dict[int, str] = {}
    users: dict[int, list[Call]] = defaultdict(list)
    for call in model.calls:
        for tensor in call.inputs:
            users[id(tensor)].append(call)
    for call, name in zip(model.calls, model.node_names, strict=True):
        base, _, use = name.partition("@")
        keys[id(call)] = ".".join(base.split(".")[:depth]) + (f"@{use}" if use else "")
    late: list[Call] = []
    for call in model.calls:
        if type(call.layer).__name__ not in _FOLDED:
            continue
        source = call.inputs[0].call
        if source is not None and (len(users[id(call.inputs[0])]) == 1 or isinstance(call.layer, Identity)):
            keys[id(call)] = keys[id(source)]
        else:
            late.append(call)
    for call in reversed(late):  # what others see as well cannot become part of its source: it joins what it leads to
        after = users[id(call.outputs[0])]
        if len(after) == 1:
            keys[id(call)] = keys[id(after[0])]
    return keys


def _too_coarse(model: "Model", keys: dict[int, str]) -> bool:
    sides: dict[str, set[int]] = defaultdict(set)
    for call in model.calls:
        sides[keys[id(call)]].update(t.shape[1] for t in (*call.inputs, *call.outputs) if len(t.shape) == 3)
    return any(max(found) > 2 * min(found) for found in sides.values() if found)


def _edges(model: "Model", keys: dict[int, str]) -> list[tuple[str, str]]:
    pairs = [
        (f"in:{t.name}" if t.call is None else keys[id(t.call)], keys[id(call)]) for call in model.calls for t in call.inputs
    ]
    return list(dict.fromkeys((a, b) for a, b in pairs if a != b))


def _sorted(model: "Model", keys: dict[int, str]) -> list[str] | None:
    """The boxes' names so that sources come first; None where they run in circles."""
    edges = _edges(model, keys)
    waiting: dict[str, set[str]] = {f"in:{t.name}": set() for t in model.inputs}
    for call in model.calls:
        waiting.setdefault(keys[id(call)], set())
    for a, b in edges:
        waiting[b].add(a)
    done: dict[str, None] = {}
    while len(done) < len(waiting):
        ready = [name for name, needs in waiting.items() if name not in done and needs <= done.keys()]
        if not ready:
            return None
        done.update(dict.fromkeys(ready))
    return list(done)


def _boxes(model: "Model", keys: dict[int, str]) -> list[Box]:
    names = _sorted(model, keys)
    assert names is not None  # a model's own calls have no circles
    boxes = {f"in:{t.name}": Box(str(t.name), "input", t.shape) for t in model.inputs}
    layers: dict[str, list[Layer]] = defaultdict(list)
    for call in model.calls:
        layers[keys[id(call)]].append(call.layer)
        made = call.outputs[0]
        box = boxes.setdefault(keys[id(call)], Box(keys[id(call)], "other", made.shape))
        box.shape = _largest(box.shape, made) if len(made.shape) < 3 else made.shape
        box.latent = box.latent or made is model.latent
    for name, members in layers.items():
        kinds = {_KINDS.get(type(layer).__name__, "other") for layer in members}
        boxes[name].kind = next(kind for kind in _RANK if kind in kinds)
        unique = {id(p): p for layer in members for p in layer.parameters.values() if not p.spec.buffer}
        boxes[name].parameters = sum(math.prod(p.spec.shape) for p in unique.values())
    index = {name: i for i, name in enumerate(names)}
    for a, b in _edges(model, keys):
        boxes[b].sources.append(index[a])
    return [boxes[name] for name in names]


def _largest(shape: Shape, made: Tensor) -> Shape:
    """A box that ends in a vector is known by it; one that reshapes on the way keeps the map."""
    return made.shape if len(shape) < 3 or made.shape != (math.prod(shape),) else shape


# Where a box stands


def place(boxes: list[Box]) -> None:
    """Columns by depth, rows by the map's size, lanes inside a row for what would cover each other."""
    for box in boxes:
        box.column = 1 + max((boxes[s].column for s in box.sources), default=-1)
    first_use: dict[int, int] = {}
    for box in boxes:
        for s in box.sources:
            first_use[s] = min(first_use.get(s, box.column), box.column)
    for i, box in enumerate(boxes):  # an input stands right before what first uses it
        if box.kind == "input" and i in first_use:
            box.column = first_use[i] - 1
    sides = sorted({box.side for box in boxes}, reverse=True)
    crowds: dict[tuple[int, int], list[Box]] = defaultdict(list)
    for box in boxes:
        crowds[box.side, box.column].append(box)
    lanes = {side: max(len(crowd) for (s, _), crowd in crowds.items() if s == side) for side in sides}
    top: dict[int, float] = {}
    at = 0.0
    for side in sides:
        heights = [box.height for box in boxes if box.side == side]
        pitch = max(heights) + 0.52
        top[side] = at
        at -= pitch * lanes[side] * (1.0 if lanes[side] > 1 else 0.82)
        for (s, _), crowd in crowds.items():
            if s != side:
                continue
            crowd.sort(key=lambda b: _mean([boxes[i].lane for i in b.sources]))
            for k, box in enumerate(crowd):
                box.lane = (k + 0.5) / len(crowd)
                box.y = top[side] - pitch * (lanes[side] * box.lane)
    columns = sorted({box.column for box in boxes})
    x = 0.0
    for column in columns:
        members = [box for box in boxes if box.column == column]
        room = max(max(box.width, 0.068 * len(_label(box)), 0.062 * len(_size(box.shape))) for box in members)
        for box in members:
            box.x = x + room / 2
        x += room + 0.28


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


# How it is drawn


def _figure(model: "Model", boxes: list[Box]) -> Any:
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
        edge = {"edgecolor": "#c0392b", "linewidth": 2.0} if box.latent else {"edgecolor": "#444444", "linewidth": 0.8}
        corner = (box.x - box.width / 2, box.y - box.height / 2)
        axes.add_patch(
            FancyBboxPatch(
                corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=0.05", facecolor=_COLORS[box.kind], zorder=3, **edge
            )
        )  # fmt: skip
        style = {"ha": "center", "zorder": 4, "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}}
        axes.text(box.x, box.y + box.height / 2 + 0.04, _label(box), va="bottom", fontsize=7, weight="bold", **style)
        axes.text(box.x, box.y - box.height / 2 - 0.04, _size(box.shape), va="top", fontsize=6.5, color="#333333", **style)
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
    style = {"arrowstyle": "-|>", "mutation_scale": 8, "zorder": 2, "shrinkA": 0, "shrinkB": 0}
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


def _label(box: Box) -> str:
    return box.name


def _size(shape: Shape) -> str:
    """128×64² for square maps."""
    if len(shape) == 3 and shape[1] == shape[2]:
        return f"{shape[0]}×{shape[1]}²"
    return "×".join(map(str, shape))
