"""Layers that only move elements."""

import math
from collections.abc import Sequence
from typing import Any

from warploom import _core
from warploom.errors import ArgumentError, DTypeError
from warploom.ground.array_types import Shape
from warploom.ground.arrays import positive
from warploom.ground.parameters import ParameterSpec
from warploom.network.graph import Layer

ORDERS = ("dcr", "crd")


class DepthToSpace(Layer):
    """block_size² channels become one channel of a map that is block_size times as high and wide.

    order "dcr": out[c, b*y + i, b*x + j] = in[(i*b + j)*C + c, y, x]; "crd": in[c*b² + i*b + j, y, x], PyTorch's PixelShuffle.
    """

    op = "depth_to_space"
    drawn_as = "enlarging"

    def __init__(self, block_size: int = 2, order: str = "dcr", *, name: str | None = None) -> None:
        super().__init__(name)
        if order not in ORDERS:
            raise ArgumentError(f"DepthToSpace: unknown order {order!r}; expected dcr or crd")
        self.block_size = positive(block_size, "DepthToSpace: block_size")
        self.order = order

    def attributes(self) -> dict[str, Any]:
        return {"block": self.block_size, "order": self.order}


class Reshape(Layer):
    """The same elements in another shape, without the batch axis; one size may be -1: what is left."""

    op = "reshape"
    drawn_as = ""

    def __init__(self, shape: Sequence[int], *, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(shape, (list, tuple)) or not shape:
            raise DTypeError(f"{type(self).__name__}: shape must be a tuple of sizes such as (512, 8, 8), not {shape!r}")
        self.shape = tuple(-1 if size == -1 else positive(size, f"{type(self).__name__}: a size") for size in shape)
        if self.shape.count(-1) > 1:
            raise ArgumentError(f"{type(self).__name__}: only one size of {self.shape} may be -1")

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        self.target(shapes[0])
        return []

    def target(self, shape: Shape) -> Shape:
        """The output's shape for an input of that shape."""
        count, known = math.prod(shape), math.prod(size for size in self.shape if size != -1)
        if count % known or (-1 not in self.shape and count != known):
            raise ArgumentError(f"{self}: {shape} holds {count} elements and cannot become {self.shape}")
        return tuple(count // known if size == -1 else size for size in self.shape)

    def lower(self, graph: _core.Graph, name: str, inputs: list[int], parameters: list[int]) -> list[int]:
        return graph.node(self.op, name, inputs, parameters, {"shape": list(self.target(tuple(graph.shape(inputs[0]))))})


class Flatten(Reshape):
    """All axes but the batch become one, in the order channels, rows, columns."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__((-1,), name=name)
