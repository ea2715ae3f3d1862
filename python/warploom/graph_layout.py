"""Where the parts of a network's picture stand: layers gathered into boxes, boxes in columns and rows. See graph_plot.py."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from warploom._typing import Shape
from warploom.graph import Call, Tensor
from warploom.layers import Identity, Layer

if TYPE_CHECKING:
    from warploom.model import Model

_FOLDED = {"ReLU", "LeakyReLU", "Sigmoid", "BatchNorm2d", "RMSNorm", "Identity", "Latent", "Reshape", "Flatten"}
_KINDS = {
    "Conv2d": "convolution", "ConvTranspose2d": "enlarging", "Upsample": "enlarging", "DepthToSpace": "enlarging",
    "MaxPool2d": "pooling", "AvgPool2d": "pooling", "Linear": "linear", "Concat": "merging", "Add": "merging",
    "Multiply": "merging",
}  # fmt: skip
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
        if type(call.layer).__name__ not in _FOLDED and not getattr(call.layer, "folded", False):
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
        room = max(max(box.width, 0.068 * len(box.name), 0.062 * len(shape_text(box.shape))) for box in members)
        for box in members:
            box.x = x + room / 2
        x += room + 0.28


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def shape_text(shape: Shape) -> str:
    """128 x 64² for square maps."""
    if len(shape) == 3 and shape[1] == shape[2]:
        return f"{shape[0]}\N{MULTIPLICATION SIGN}{shape[1]}²"
    return "\N{MULTIPLICATION SIGN}".join(map(str, shape))
