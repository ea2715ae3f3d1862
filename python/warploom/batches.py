"""The arrays a user passes to a model, checked and paired with their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warploom import _arrays
from warploom._typing import Array, Shape
from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.interop import Array as DeviceArray
from warploom.lazy import Lazy

if TYPE_CHECKING:
    from warploom.losses import Loss
    from warploom.model import Model

Arrays = Any  # an array (or Lazy), a list of them in order, or a dictionary by name
_CHUNK = 256  # label maps looked at in one go


@dataclass
class Target:
    """What a target array must look like, from the losses that read it."""

    name: str
    shape: Shape | None = None  # None: no loss reads it
    reader: str = ""
    classes: int = 0  # labels of so many classes; 0: no labels
    ignored: tuple[int, ...] = ()

    def needs(self, shape: Shape, reader: str, classes: int = 0, ignored: int | None = None) -> None:
        if self.shape is not None and (self.shape, self.classes) != (shape, classes):
            raise ArgumentError(
                f"target {self.name!r} is read by {self.reader} as {_form(self.shape, self.classes)} and by {reader} as "
                f"{_form(shape, classes)}: give one of them another target"
            )
        if ignored is not None:  # a label must be fine with every loss that reads it
            self.ignored = (ignored,) if self.shape is None or ignored in self.ignored else ()
        self.shape, self.reader, self.classes = shape, reader, classes


def _form(shape: Shape, classes: int) -> str:
    return f"{'labels' if classes else 'an array'} of shape {shape}"


def targets_of(model: "Model") -> list[Target]:
    """The targets by number; before compile(), one per output."""
    shapes = [t.shape for t in model.outputs]
    if model.losses is None:
        return [Target(name, shape, "the output") for name, shape in zip(model.target_names, shapes, strict=True)]
    return wanted_by(model.losses, model.target_names, shapes)


def wanted_by(losses: "Sequence[Loss]", names: Sequence[str], outputs: Sequence[Shape]) -> list[Target]:
    """The targets those losses read; ArgumentError where two want different things of one."""
    targets = [Target(name) for name in names]
    for loss in losses:
        shape, reader = outputs[int(loss.output)], f"the loss {loss}"
        if loss.kind == "cross_entropy":
            targets[int(loss.target)].needs(shape[1:], reader, shape[0], loss.options()["ignore_index"])
        else:
            targets[int(loss.target)].needs(shape, reader)
        if loss.mask is not None:
            targets[int(loss.mask)].needs((1, *shape[1:]), f"the mask of the loss {loss}")
    return targets


def _in_order(given: Arrays, names: Sequence[str], what: str, whose: str, kind: str) -> list[Any]:
    """One array per name, from one array, a list or a dictionary."""
    if isinstance(given, Mapping):
        missing, extra = [n for n in names if n not in given], [str(k) for k in given if k not in names]
        if missing or extra:
            parts = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"it has unknown {', '.join(extra)}"] * bool(extra)
            raise ArgumentError(f"{what}: {whose} {kind.format(len(names))} ({', '.join(names)}), but {'; '.join(parts)}")
        return [given[name] for name in names]
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(values) != len(names):
        raise ArgumentError(f"{what}: {whose} {kind.format(len(names))} ({', '.join(names)}), not {len(values)}")
    return values


def inputs_of(model: "Model", x: Arrays, what: str) -> list[Array]:
    """One array per input of the model."""
    names = [str(t.name) for t in model.inputs]
    given = _in_order(x, names, what, f"model {model.name!r}", "takes {} input array(s)")
    arrays = []
    for value, tensor in zip(given, model.inputs, strict=True):
        name = what if len(names) == 1 else f"{what}[{tensor.name!r}]"
        array = _arrays.images(value, name, tensor.shape, f"input {tensor.name!r} of model {model.name!r}")
        _arrays.require_finite(array, name)
        arrays.append(array)
    _same_length(arrays, what)
    return arrays


def pairs(model: "Model", x: Arrays, y: Arrays | None, what: str = "x") -> tuple[list[Array], list[Array]]:
    """Inputs and targets; y=None: the targets are the inputs."""
    inputs = inputs_of(model, x, what)
    wanted = targets_of(model)
    if y is None:
        fits = len(wanted) <= len(inputs) and all(
            t.shape is None or (t.shape == inputs[i].shape[1:] and not t.classes) for i, t in enumerate(wanted)
        )
        if not fits:
            shapes = [t.shape for t in model.inputs], ", ".join(f"{t.name} {t.shape}" for t in wanted)
            raise ArgumentError(f"y=None reconstructs x, but the inputs are {shapes[0]} and the targets {shapes[1]}: pass y")
        return inputs, inputs[: len(wanted)]
    names = [t.name for t in wanted]
    targets = []
    given = _in_order(y, names, "y", f"the losses of model {model.name!r}", "compare with {} target array(s)")
    for value, target in zip(given, wanted, strict=True):
        name = "y" if len(names) == 1 else f"y[{target.name!r}]"
        targets.append(_labels(value, name, target) if target.classes else _image(value, name, target))
    _same_length([*inputs, *targets], f"{what} and y")
    return inputs, targets


def _image(value: Any, name: str, target: Target) -> Array:
    array = _arrays.images(value, name, np.shape(value)[1:] if target.shape is None else target.shape, target.reader)
    _arrays.require_finite(array, name)
    return array


def _labels(value: Any, name: str, target: Target) -> Array:
    """Class numbers as signed integers, so that nothing takes them for pixels."""
    given = _arrays.placed(value, name)
    if isinstance(given, DeviceArray):  # not looked at: a label that is no class makes the loss NaN
        return _arrays.images(given, name, target.shape or (), f"{target.reader} from a device")
    array = _arrays.as_array(given, name)
    if array.dtype.kind not in "iu":
        raise DTypeError(
            f"{name} has dtype {array.dtype}; {target.reader} takes class numbers: convert it with {name}.astype(numpy.int32)"
        )
    shape = target.shape or ()
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        hint = f"; drop the axis of size 1 with {name}[:, 0]" if array.shape[1:] == (1, *shape) else ""
        raise ArgumentError(
            f"{name} has shape {array.shape}, but {target.reader} takes labels (N, {', '.join(map(str, shape))}){hint}"
        )
    _arrays.rows_within(array, name, target.reader)
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK]
        wrong = (part < 0) | (part >= target.classes)
        for value in target.ignored:
            wrong &= part != value
        if wrong.any():
            row, *place = np.argwhere(wrong)[0].tolist()
            allowed = f"0 to {target.classes - 1}" + "".join(f" or {v}, which is ignored" for v in target.ignored)
            raise DataError(f"{name} holds the label {part[(row, *place)]} at index {(start + row, *place)}; expected {allowed}")
    return array.astype(np.int16) if array.dtype == np.uint8 else array


def batch(model: "Model", x: Arrays, y: Arrays | None) -> tuple[list[Array], list[Array]]:
    """The same for one step. No targets means, to the core, that the inputs are the targets."""
    inputs, targets = pairs(model, x, y)
    return [to_host(a[:]) for a in inputs], [] if y is None else [to_host(a[:]) for a in targets]


def to_host(array: Array) -> Array:
    """What the core takes: contiguous float32 or uint8 pixels, labels as float32 class numbers; or what lies on a device."""
    if isinstance(array, DeviceArray):
        return array
    return np.ascontiguousarray(array if array.dtype in (np.float32, np.uint8) else array.astype(np.float32))


def is_lazy(array: object) -> bool:
    return isinstance(array, (Lazy, np.memmap))


def _same_length(arrays: Sequence[Array], what: str) -> None:
    if len({len(a) for a in arrays}) > 1:
        raise ArgumentError(f"{what}: the arrays hold different numbers of samples ({', '.join(str(len(a)) for a in arrays)})")
