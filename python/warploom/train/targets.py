"""The arrays a user passes to a model, checked and paired with their targets."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.ground import arrays
from warploom.ground.array_types import Array, Shape
from warploom.ground.augmented import Augmented
from warploom.ground.lazy import Head, Lazy
from warploom.ground.pictures import Given, given_images, is_list_of_images
from warploom.interop import Array as DeviceArray
from warploom.losses import Loss
from warploom.network.network import Network

Arrays = Any  # an array (or Lazy), a list of them in order, or a dictionary by name
_CHUNK = 256  # samples looked at in one go
_NO_UNIT = 16.0  # larger than what normalised images hold


@dataclass
class Target:
    """What a target array must look like, from the losses that read it."""

    name: str
    shape: Shape | None = None  # None: no loss reads it
    reader: str = ""
    classes: int = 0  # labels of so many classes; 0: no labels
    ignored: tuple[int, ...] = ()
    unit: str = ""  # the loss that takes values in [0, 1] only

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


def targets_by_default(network: Network) -> list[Target]:
    """One target per output, of its shape: what is known before compile()."""
    return [Target(name, t.shape, "the output") for name, t in zip(network.output_names, network.outputs, strict=True)]


def wanted_by(losses: Sequence[Loss], names: Sequence[str], outputs: Sequence[Shape]) -> list[Target]:
    """The targets those losses read; ArgumentError where two want different things of one."""
    targets = [Target(name) for name in names]
    for loss in losses:
        if not loss.takes_target:
            continue
        shape, reader = outputs[int(loss.output)], f"the loss {loss}"
        targets[int(loss.target)].needs(loss.target_shape(shape), reader, *loss.labels(shape))
        if loss.kind.startswith("bce"):
            targets[int(loss.target)].unit = reader
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


def inputs_of(network: Network, x: Arrays, what: str) -> list[Array]:
    """One array per input of the network."""
    names = [str(t.name) for t in network.inputs]
    given = _in_order(x, names, what, f"model {network.name!r}", "takes {} input array(s)")
    found = []
    for value, tensor in zip(given, network.inputs, strict=True):
        name = what if len(names) == 1 else f"{what}[{tensor.name!r}]"
        array = arrays.images(value, name, tensor.shape, f"input {tensor.name!r} of model {network.name!r}")
        arrays.require_finite(array, name)
        found.append(array)
    _same_length(found, what)
    return found


def images_of(network: Network, x: Arrays, what: str) -> tuple[Given, list[list[Array]]]:
    """What predict() takes: as inputs_of(), and images of any one size in any layout, single ones, Pillow's, and lists of them.

    Returns what was passed, and the network's inputs [N, C, H, W] for each size; whether it can take that size is not asked here.
    """
    names, shapes = [str(t.name) for t in network.inputs], [t.shape for t in network.inputs]
    whose, owners = f"model {network.name!r}", [f"input {n!r} of model {network.name!r}" for n in names]
    if all(len(shape) == 3 for shape in shapes):
        if len(shapes) == 1:
            alone = isinstance(x, Mapping) or (isinstance(x, (list, tuple)) and not is_list_of_images(x))
            value = _in_order(x, names, what, whose, "takes {} input array(s)")[0] if alone else x
            placed = arrays.placed(value, what)
            given = None if isinstance(placed, (Lazy, DeviceArray)) else given_images(placed, shapes[0][0], what)
            if given is not None:
                given.arrays = [_checked(a, what, owners[0]) for a in given.arrays]
                return given, [[a] for a in given.arrays]
        else:
            values = [arrays.placed(v, what) for v in _in_order(x, names, what, whose, "takes {} input array(s)")]
            seen = [np.shape(v) for v in values if isinstance(v, np.ndarray) and not isinstance(v, Lazy)]
            fits = len(seen) == len(values) and all(len(s) == 4 and s[1] == own[0] for s, own in zip(seen, shapes, strict=True))
            if fits and len({(s[0], *s[2:]) for s in seen}) == 1:
                group = [_checked(v, f"{what}[{n!r}]", o) for v, n, o in zip(values, names, owners, strict=True)]
                return Given(group[:1], ["NCHW"], False), [group]
    found = inputs_of(network, x, what)
    return Given(found[:1], ["NCHW"], False), [found]


def _checked(array: Any, name: str, whose: str) -> Array:
    """float32 or uint8 [N, C, H, W] without NaN."""
    found = arrays.images(array, name, array.shape[1:], whose)
    arrays.require_finite(found, name)
    return found


def pairs(
    network: Network, wanted: Sequence[Target], x: Arrays, y: Arrays | None, what: str = "x"
) -> tuple[list[Array], list[Array]]:
    """Inputs and targets; y=None: the targets are the inputs."""
    inputs = inputs_of(network, x, what)
    if y is None:
        fits = len(wanted) <= len(inputs) and all(
            t.shape is None or (t.shape == inputs[i].shape[1:] and not t.classes) for i, t in enumerate(wanted)
        )
        if not fits:
            shapes = [t.shape for t in network.inputs], ", ".join(f"{t.name} {t.shape}" for t in wanted)
            way_out = _other_size(network, wanted) if len(wanted) == len(inputs) == 1 and not wanted[0].classes else ""
            raise ArgumentError(
                f"y=None reconstructs x, but the inputs are {shapes[0]} and the targets {shapes[1]}: pass y{way_out}"
            )
        for array, target, tensor in zip(inputs, wanted, network.inputs, strict=False):
            _require_unit(array, what if len(inputs) == 1 else f"{what}[{tensor.name!r}]", target)
        return inputs, inputs[: len(wanted)]
    names = [t.name for t in wanted]
    targets = []
    given = _in_order(y, names, "y", f"the losses of model {network.name!r}", "compare with {} target array(s)")
    for value, target in zip(given, wanted, strict=True):
        name = "y" if len(names) == 1 else f"y[{target.name!r}]"
        targets.append(_labels(value, name, target) if target.classes else _image(value, name, target))
    _same_length([*inputs, *targets], f"{what} and y")
    return inputs, targets


def _other_size(network: Network, wanted: Sequence[Target]) -> str:
    """What to do where the output is a little smaller or larger than the input, since a side is no multiple of the strides."""
    own, made = network.inputs[0].shape, wanted[0].shape
    if made is None or len(own) != 3 or len(made) != 3 or made[0] != own[0] or made[1:] == own[1:]:
        return ""
    if not all(abs(a - b) < 64 for a, b in zip(own[1:], made[1:], strict=True)):
        return ""
    height, width = (min(a, b) for a, b in zip(own[1:], made[1:], strict=True))
    return (
        f"; or build the network for a size that its poolings and strides divide, such as Input({(own[0], height, width)}), and "
        f"cut the images to it (x[:, :, :{height}, :{width}])"
    )


def _image(value: Any, name: str, target: Target) -> Array:
    array = arrays.images(value, name, np.shape(value)[1:] if target.shape is None else target.shape, target.reader)
    arrays.require_finite(array, name)
    _require_unit(array, name, target)
    return array


def _require_unit(array: Array, name: str, target: Target) -> None:
    """DataError where a target that must lie in [0, 1] does not, or is a mask of 0 and 1 that would be scaled as pixels are."""
    if isinstance(array, Augmented) and not array.damaged:  # flips and shifts leave every pixel's value
        array = array.images
    if not target.unit or isinstance(array, (Lazy, DeviceArray)):
        return
    low, high = 0.0, 0.0
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK]
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if array.dtype == np.uint8 and high == 1.0:
        raise DataError(
            f"{name} holds only 0 and 1 as uint8, which are taken for pixels and scaled to 0 and 1/255, for "
            f"{target.unit}: pass {name}.astype(numpy.float32) for 0 and 1, or 255 * {name}"
        )
    if array.dtype != np.uint8 and (low < 0.0 or high > 1.0):
        raise DataError(
            f"{name} holds values from {low:g} to {high:g}; {target.unit} takes targets in [0, 1]: "
            f"{'divide by 255' if low >= 0.0 and high <= 255.0 else 'scale them first'}"
        )


def _labels(value: Any, name: str, target: Target) -> Array:
    """Class numbers as signed integers, so that nothing takes them for pixels."""
    given = arrays.placed(value, name)
    if isinstance(given, DeviceArray):  # not looked at: a label that is no class makes the loss NaN
        return arrays.images(given, name, target.shape or (), f"{target.reader} from a device")
    array = arrays.as_array(given, name)
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
    arrays.rows_within(array, name, target.reader)
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK]
        wrong = (part < 0) | (part >= target.classes)
        for value in target.ignored:
            wrong &= part != value
        if wrong.any():
            row, *place = np.argwhere(wrong)[0].tolist()
            at = (row, *place)
            allowed = f"0 to {target.classes - 1}" + "".join(f" or {v}, which is ignored" for v in target.ignored)
            raise DataError(f"{name} holds the label {part[at]} at index {(start + row, *place)}; expected {allowed}")
    return array.astype(np.int16) if array.dtype == np.uint8 else array


def batch(network: Network, wanted: Sequence[Target], x: Arrays, y: Arrays | None) -> tuple[list[Array], list[Array]]:
    """The same for one step. No targets means, to the core, that the inputs are the targets."""
    inputs, targets = pairs(network, wanted, x, y)
    return [to_host(a[:]) for a in inputs], [] if y is None else [to_host(a[:]) for a in targets]


def split_off(data: tuple[list[Array], list[Array]], share: float) -> tuple[tuple[list[Array], list[Array]], ...]:
    """(for training, for validation): the last `share` of the samples, at least one, is for validation."""
    share = arrays.number(share, "validation_split", 0.0, 1.0)
    rows = len(data[0][0])
    kept = rows - max(1, round(share * rows))
    if kept < 1:
        raise ArgumentError(f"validation_split={share:g} of {rows} samples leaves none to train on")
    parts: dict[int, tuple[Array, Array]] = {}  # an array that is input and target stays one
    for array in (*data[0], *data[1]):
        if isinstance(array, Lazy):
            parts[id(array)] = cast(Array, Head(array, kept)), cast(Array, Head(array, rows - kept, kept))
        else:
            parts[id(array)] = array[:kept], array[kept:]
    training, validation = ([[parts[id(a)][i] for a in side] for side in data] for i in (0, 1))
    return (training[0], training[1]), (validation[0], validation[1])


def warn_of_pixels(inputs: Iterable[Array], *, whole: bool = False) -> None:
    """A warning where float images look like pixels from 0 to 255: most trainings diverge, and predictions are nonsense.

    whole: only for whole numbers, where codes of a latent may come in as well.
    """
    for array in inputs:
        if array.dtype.kind != "f" or isinstance(array, (Lazy, DeviceArray, np.memmap)) or array.ndim != 4:
            continue
        some = array[:_CHUNK]
        low, high = float(some.min()), float(some.max())
        if low >= 0.0 and _NO_UNIT < high <= 255.0 and not (whole and (some != np.rint(some)).any()):
            warnings.warn(
                f"x holds floats from {low:g} to {high:g}, which look like pixels: pass them as uint8, or divide by 255",
                UserWarning, stacklevel=3,
            )  # fmt: skip


def to_host(array: Array) -> Array:
    """What the core takes: contiguous float32 or uint8 pixels, labels as float32 class numbers; or what lies on a device."""
    if isinstance(array, DeviceArray):
        return array
    return np.ascontiguousarray(array if array.dtype in (np.float32, np.uint8) else array.astype(np.float32))


def is_lazy(array: object) -> bool:
    return isinstance(array, (Lazy, np.memmap))


def _same_length(given: Sequence[Array], what: str) -> None:
    if len({len(a) for a in given}) > 1:
        raise ArgumentError(f"{what}: the arrays hold different numbers of samples ({', '.join(str(len(a)) for a in given)})")
