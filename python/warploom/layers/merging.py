"""Layers that bring several values together. `a + b` and `a * b` on tensors make Add and Multiply layers."""

from warploom import _core
from warploom.errors import ArgumentError
from warploom.ground.array_types import Shape
from warploom.ground.parameters import ParameterSpec
from warploom.network.graph import Layer

MOST = 8  # inputs of one concatenation of the core; more are joined in several


class _Merge(Layer):
    drawn_as = "merging"
    fewest, most = 2, 1 << 30

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        if not self.fewest <= len(shapes) <= self.most:
            wanted = str(self.fewest) if self.fewest == self.most else f"{self.fewest} or more"
            raise ArgumentError(f"{self} takes {wanted} tensors, not {len(shapes)}")
        return []


class Concat(_Merge):
    """Puts its inputs one after the other along the channels (the first axis after the batch); the other axes must be equal."""

    op = "concat"

    def lower(self, graph: _core.Graph, name: str, inputs: list[int], parameters: list[int]) -> list[int]:
        part = 0
        while len(inputs) > MOST:
            part += 1
            inputs = [*graph.node(self.op, f"{name}/{part}", inputs[:MOST], [], {}), *inputs[MOST:]]
        return super().lower(graph, name, inputs, parameters)


class Add(_Merge):
    """The sum of two or more inputs of equal shape."""

    op = "add"


class Multiply(_Merge):
    """The product of two inputs of equal shape, or of an input and a mask with one channel."""

    op = "multiply"
    most = 2
