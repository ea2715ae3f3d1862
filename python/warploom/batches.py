"""The arrays a user passes to a model, checked and paired with their targets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from warploom import _arrays
from warploom._typing import Array
from warploom.errors import ArgumentError

if TYPE_CHECKING:
    from warploom.model import Model

Arrays = Array | Sequence[Array]


def inputs_of(model: "Model", x: Arrays, what: str) -> list[Array]:
    """One array per input of the model."""
    given = list(x) if isinstance(x, (list, tuple)) else [x]
    if len(given) != len(model.inputs):
        names = ", ".join(str(t.name) for t in model.inputs)
        raise ArgumentError(f"{what}: model {model.name!r} takes {len(model.inputs)} input array(s) ({names}), not {len(given)}")
    arrays = []
    for i, (value, tensor) in enumerate(zip(given, model.inputs, strict=True)):
        name = what if len(given) == 1 else f"{what}[{i}]"
        array = _arrays.images(value, name, tensor.shape, f"input {tensor.name!r} of model {model.name!r}")
        _arrays.require_finite(array, name)
        arrays.append(array)
    _same_length(arrays, what)
    return arrays


def pairs(model: "Model", x: Arrays, y: Arrays | None, what: str = "x") -> tuple[list[Array], list[Array]]:
    """Inputs and targets; y=None: the targets are the inputs."""
    inputs = inputs_of(model, x, what)
    losses = model.losses or []
    count = 1 + max((loss.target for loss in losses), default=len(model.outputs) - 1)
    compared = {loss.target: model.outputs[loss.output].shape for loss in losses}
    if y is None:
        if count > len(inputs) or any(inputs[i].shape[1:] != shape for i, shape in compared.items()):
            shapes = [t.shape for t in model.inputs], [t.shape for t in model.outputs]
            raise ArgumentError(f"y=None reconstructs x, but the inputs are {shapes[0]} and the outputs {shapes[1]}: pass y")
        return inputs, inputs[:count]
    given = list(y) if isinstance(y, (list, tuple)) else [y]
    if len(given) != count:
        raise ArgumentError(f"y: the losses of model {model.name!r} compare with {count} target array(s), not {len(given)}")
    targets = []
    for i, value in enumerate(given):
        name = "y" if len(given) == 1 else f"y[{i}]"
        array = _arrays.images(value, name, compared.get(i, np.shape(value)[1:]), f"the loss of model {model.name!r}")
        _arrays.require_finite(array, name)
        targets.append(array)
    _same_length([*inputs, *targets], f"{what} and y")
    return inputs, targets


def batch(model: "Model", x: Arrays, y: Arrays | None) -> tuple[list[Array], list[Array]]:
    """The same for one step. No targets means, to the core, that the inputs are the targets."""
    inputs, targets = pairs(model, x, y)
    return [np.ascontiguousarray(a) for a in inputs], [] if y is None else [np.ascontiguousarray(a) for a in targets]


def _same_length(arrays: Sequence[Array], what: str) -> None:
    if len({len(a) for a in arrays}) > 1:
        raise ArgumentError(f"{what}: the arrays hold different numbers of samples ({', '.join(str(len(a)) for a in arrays)})")
