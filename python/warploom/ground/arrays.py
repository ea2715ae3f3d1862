"""Checks of what a user passes in. Each error says what was wrong, what was expected and what to do."""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.lazy import Lazy
from warploom.interop import Array as DeviceArray
from warploom.interop import device_array, on_host

LARGEST = (1 << 31) - 1  # of what the core counts with 32 bits
LARGEST_SEED = (1 << 64) - 1
_CHUNK = 1 << 22  # elements looked at in one go, so that a check of a memory-mapped file stays small


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ArgumentError(message)


def as_array(value: object, what: str) -> Array:
    """The value as an array, without guessing: NumPy arrays and what offers the array protocol (torch tensors, Pillow images)."""
    if isinstance(value, np.ndarray):
        return value
    placed = device_array(value, what)
    if placed is not None:
        return on_host(placed, what)
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        try:
            return np.asarray(value)
        except (RuntimeError, TypeError) as error:  # a tensor of PyTorch with a gradient, or on a device not known here
            kind = type(value).__name__
            if getattr(value, "requires_grad", False):
                raise DTypeError(
                    f"{what} is a {kind} that requires a gradient, and none flows here: pass {what}.detach()"
                ) from None
            raise DTypeError(f"{what} of type {kind} gives no array ({error})") from None
    raise DTypeError(f"{what} must be a NumPy array, not {_named(value)}")


def numbers(value: object, what: str) -> Array:
    """As as_array(); lists of numbers or of such arrays too."""
    if not isinstance(value, (list, tuple)):
        return np.asarray(value) if isinstance(value, (bool, int, float)) else as_array(value, what)
    try:
        return np.asarray([numbers(item, what) for item in value])
    except ValueError:
        raise ArgumentError(f"{what} is a {type(value).__name__} whose parts have different shapes: pass one array") from None


def _named(value: object) -> str:
    """What it is, and for what people often pass, how its arrays are had."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        return f"{kind}: load the images first (warploom.data.load takes a folder or a file)"
    if isinstance(value, (list, tuple)):
        return f"{kind}: stack it with numpy.stack(...)"
    if hasattr(value, "train") and hasattr(value, "notes"):
        return f"{kind}: pass a part of it, .train, .test or .images"
    if hasattr(value, "iloc"):
        return f"{kind}: take its numbers with .to_numpy()"
    if hasattr(value, "__iter__") and (hasattr(value, "dataset") or hasattr(value, "__next__") or hasattr(value, "batch_size")):
        return (
            f"{kind}: collect its batches into one array (numpy.concatenate), call train_step() on each, or derive from "
            "warploom.data.Lazy, whose rows are computed while the device works"
        )
    return kind


def float32(value: object, what: str, rank: int | None = None) -> Floats:
    """The value as a C-contiguous float32 array of that rank; an array that the caller has placed on a device stays there."""
    array = cast(Array, value) if isinstance(value, DeviceArray) else as_array(value, what)
    if array.dtype != np.float32:
        raise DTypeError(f"{what} must be float32, not {array.dtype}; convert it with {what}.astype(numpy.float32)")
    if rank is not None and array.ndim != rank:
        raise ArgumentError(f"{what} must have {rank} dimensions, not {array.ndim} (its shape is {array.shape})")
    return cast(Floats, value) if isinstance(value, DeviceArray) else np.asarray(array, order="C")  # keeps 0 dimensions


def placed(value: object, what: str) -> object:
    """What is fed to a model: an array on a device as it is, one on the host as NumPy sees it, anything else untouched."""
    found = device_array(value, what)
    if found is None:
        return value
    return found.numpy() if found.device == "cpu" else found


def images(value: object, what: str, shape: Shape, whose: str) -> Array:
    """A float32 or uint8 array of one or more samples of that shape."""
    value = placed(value, what)
    array = cast(Array, value) if isinstance(value, (Lazy, DeviceArray)) else as_array(value, what)
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        wanted = ", ".join(["N", *map(str, shape)])
        hint = _shape_hint(array.shape, shape, what)
        raise ArgumentError(f"{what} has shape {array.shape}, but {whose} takes ({wanted}){hint}")
    if array.dtype != np.float32 and array.dtype != np.uint8:
        if array.dtype.kind not in "fb" or isinstance(array, (Lazy, DeviceArray, np.memmap)):
            pixels = array.dtype.kind in "iu" and not isinstance(array, (Lazy, DeviceArray)) and _are_pixels(array)
            raise DTypeError(
                f"{what} has dtype {array.dtype}; {whose} takes float32, or uint8 images that are scaled by 1/255: "
                f"convert it with {what}.astype(numpy.{'uint8' if pixels else 'float32'})"
            )
        array = array.astype(np.float32)  # float64, float16 and bool hold the same numbers as what the kernels take
    rows_within(array, what, whose)
    return array


def rows_within(array: Array, what: str, whose: str) -> None:
    """A data set has at least one sample, and no more than the core counts."""
    if not len(array):
        raise ArgumentError(f"{what} is empty; {whose} needs at least one sample")
    if len(array) > LARGEST:
        raise ArgumentError(f"{what} holds {len(array)} samples; {whose} takes at most {LARGEST} at once: pass it in parts")


def _are_pixels(array: Array) -> bool:
    return bool(array.size) and bool(array.min() >= 0) and 1 < array.max() <= 255


def _shape_hint(given: Shape, shape: Shape, what: str) -> str:
    """How an array of that shape becomes one of samples of the wanted shape, where that is plain."""
    if given == shape:
        return f"; for one sample use {what}[None]"
    if len(shape) != 3:
        return ""
    channels, *sides = shape
    nhwc, grey = (*sides, channels), channels == 1
    if given[1:] == nhwc and len(given) == 4:
        return f"; it looks like NHWC: use {what}.transpose(0, 3, 1, 2)"
    if given == nhwc:
        return f"; it looks like one image as HWC: use numpy.asarray({what}).transpose(2, 0, 1)[None]"
    if given[1:] == tuple(sides) and len(given) == 3:
        more = "" if grey else f".repeat({channels}, 1)"
        return f"; for grey images use {what}[:, None]{more}"
    if given == tuple(sides):
        more = "" if grey else f".repeat({channels}, 1)"
        return f"; for one grey image use numpy.asarray({what})[None, None]{more}"
    if len(given) == 3 and given[-1] in (1, 3, 4):
        return f"; it looks like one image as HWC: resize it to {sides[0]}x{sides[1]}, then .transpose(2, 0, 1)[None]"
    if len(given) == 4 and given[1] != channels and given[1] in (1, 3) and given[2:] == tuple(sides):
        return f"; the network takes {channels} channel{'s' if channels != 1 else ''}, these have {given[1]}"
    return ""


def require_finite(array: Array, what: str) -> None:
    """Raises DataError where a float array holds NaN or infinity; not where it is computed on demand or lies on a device."""
    if array.dtype.kind != "f" or isinstance(array, (Lazy, DeviceArray)):
        return
    per_row = max(1, math.prod(array.shape[1:]))
    rows = max(1, _CHUNK // per_row)
    for start in range(0, len(array), rows):
        finite = np.isfinite(array[start : start + rows])
        if not finite.all():
            row, *position = np.argwhere(~finite)[0].tolist()
            at = (start + row, *position)
            kind = "NaN" if np.isnan(array[at]) else "infinity"
            raise DataError(f"{what} holds {kind} at index {at}; clean the data first (numpy.nan_to_num replaces such values)")


def positive(value: object, what: str, *, minimum: int = 1, maximum: int = LARGEST) -> int:
    """The value as an int between `minimum` and `maximum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise DTypeError(f"{what} must be a whole number, not {value!r}")
    if value < minimum:
        raise ArgumentError(f"{what} must be at least {minimum}, not {value}")
    if value > maximum:
        raise ArgumentError(f"{what} must be at most {maximum}, not {value}")
    return int(value)


def seed(value: object, what: str = "seed") -> int:
    """The value as a key of the counter-based generators."""
    return positive(value, what, minimum=0, maximum=LARGEST_SEED)


def number(value: object, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The value as a finite float between low and high."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DTypeError(f"{what} must be a number, not {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        span = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ArgumentError(f"{what} must be finite and {span}, not {value}")
    return float(value)


def pair(value: object, what: str, *, minimum: int = 1) -> tuple[int, int]:
    """An int or a pair of ints (height, width)."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ArgumentError(f"{what} must be a number or a pair (height, width), not {value!r}")
        return positive(value[0], what, minimum=minimum), positive(value[1], what, minimum=minimum)
    size = positive(value, what, minimum=minimum)
    return size, size


def padding(value: object, what: str = "padding") -> tuple[int, int, int, int]:
    """An int, (height, width) or (top, bottom, left, right), as (top, bottom, left, right)."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        sides = [positive(v, what, minimum=0) for v in value]
        if len(sides) == 2:
            return sides[0], sides[0], sides[1], sides[1]
        if len(sides) == 4:
            return sides[0], sides[1], sides[2], sides[3]
        raise ArgumentError(f"{what} must be a number, (height, width) or (top, bottom, left, right), not {value!r}")
    p = positive(value, what, minimum=0)
    return p, p, p, p
