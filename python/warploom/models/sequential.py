"""A network that is one layer after another."""

from collections.abc import Callable, Iterable

from warploom.errors import ArgumentError, DTypeError
from warploom.model import Model
from warploom.network.graph import Tensor

Step = Tensor | Callable[[Tensor], Tensor]


def Sequential(layers: Iterable[Step], name: str = "sequential") -> Model:
    """A Model of layers in a row, as in Keras: the first is an Input; a function of a tensor may stand for a layer.

    Sequential([Input((3, 32, 32)), Conv2d(8, 3, padding="same"), ReLU()]). ArgumentError where it does not begin with an Input.
    """
    if not isinstance(layers, Iterable):
        raise DTypeError(f"Sequential takes one list of layers, not {type(layers).__name__}: Sequential([Input(...), ...])")
    given = list(layers)
    first, others = next(iter(given), None), given[1:]
    if not isinstance(first, Tensor):
        kind = "nothing" if first is None else type(first).__name__
        raise ArgumentError(f"Sequential begins with an Input, not with {kind}: Sequential([Input((3, 32, 32)), ...])")
    if not others:
        raise ArgumentError("Sequential has an Input and no layer: put layers after it")
    h = first
    for place, layer in enumerate(others, 1):
        if isinstance(layer, type):
            raise DTypeError(f"number {place} of Sequential is the class {layer.__name__}: write {layer.__name__}()")
        made = layer(h) if callable(layer) else layer
        if not isinstance(made, Tensor) or made is layer:
            raise DTypeError(f"number {place} of Sequential is no layer: {type(layer).__name__}")
        h = made
    return Model(first, h, name=name)
