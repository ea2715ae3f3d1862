"""Concatenation, products, and operations that only move elements."""

import math
from collections.abc import Sequence

import numpy as np

from warploom.errors import ArgumentError
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import float32, positive, require
from warploom.ground.hardware import layouts
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed

_MOST = 8  # arrays of one call


def _columns(shapes: Sequence[Shape], axis: int) -> dict[str, int]:
    """The attributes: the axis and what lies inside it are the columns."""
    rows = math.prod(shapes[0][:axis])
    cols = {f"cols{i}": math.prod(shape[axis:]) for i, shape in enumerate(shapes)}
    return {"rows": rows, "count": len(shapes), **cols}


def _checked(shapes: Sequence[Shape], axis: int, what: str) -> int:
    rank = len(shapes[0])
    require(-rank <= axis < rank, f"{what}: axis {axis} does not exist in arrays of shape {shapes[0]}")
    at = axis % rank
    for shape in shapes[1:]:
        same = len(shape) == rank and shape[:at] == shapes[0][:at] and shape[at + 1 :] == shapes[0][at + 1 :]
        require(same, f"{what}: shapes {shapes[0]} and {shape} differ beyond axis {axis}")
    return at


@placed
def concat(arrays: Sequence[Array], axis: int = 1, *, version: str = "auto", device: str = "auto") -> Floats:
    """The arrays one after the other along an axis."""
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise ArgumentError("concat takes a list of one or more arrays")
    parts: list[Floats] = [float32(a, f"arrays[{i}]") for i, a in enumerate(arrays)]
    axis = _checked([p.shape for p in parts], axis, "concat")
    kernels = Kernels(version, device)
    while len(parts) > 1:
        some, parts = parts[:_MOST], parts[_MOST:]
        a = _columns([p.shape for p in some], axis)
        shape = (*some[0].shape[:axis], sum(p.shape[axis] for p in some), *some[0].shape[axis + 1 :])
        inputs = {f"x{i}": p.reshape(-1) for i, p in enumerate(some)}
        if math.prod(shape):
            joined = kernels.call("concat_forward", a, inputs, {"y": (math.prod(shape),)})[0].reshape(shape)
        else:
            joined = np.empty(shape, np.float32)
        parts.insert(0, joined)
    return parts[0].copy() if len(arrays) == 1 else parts[0]


@placed
def concat_backward(
    dy: Array, sizes: Sequence[int], axis: int = 1, *, version: str = "auto", device: str = "auto"
) -> list[Floats]:
    """The gradients of concat's arrays, whose sizes along the axis are given."""
    dy = float32(dy, "dy")
    axis = _checked([dy.shape], axis, "concat_backward")
    lengths = [positive(s, "concat_backward: a size", minimum=0) for s in sizes]
    require(sum(lengths) == dy.shape[axis], f"concat_backward: the sizes {lengths} do not add up to dy's {dy.shape[axis]}")
    require(len(lengths) <= _MOST, f"concat_backward: at most {_MOST} arrays at once, not {len(lengths)}")
    shapes = [(*dy.shape[:axis], length, *dy.shape[axis + 1 :]) for length in lengths]
    if not dy.size:
        return [np.empty(shape, np.float32) for shape in shapes]
    a = _columns(shapes, axis)
    filled: dict[str, tuple[int, ...]] = {f"dx{i}": (math.prod(shape),) for i, shape in enumerate(shapes) if math.prod(shape)}
    found = dict(zip(filled, Kernels(version, device).call("concat_backward", a, {"dy": dy.reshape(-1)}, filled), strict=True))
    return [found[f"dx{i}"].reshape(s) if f"dx{i}" in found else np.empty(s, np.float32) for i, s in enumerate(shapes)]


def _product(a: Shape, b: Shape, what: str) -> dict[str, int]:
    masks = len(a) == len(b) and len(a) > 1 and b == (a[0], 1, *a[2:])
    require(a == b or masks, f"{what}: b must have a's shape {a}, or one channel of it, not {b}")
    if a == b:
        return {"outer": 1, "C": 1, "inner": math.prod(a), "b_channels": 1}
    return {"outer": a[0], "C": a[1], "inner": math.prod(a[2:]), "b_channels": b[1]}


@placed
def multiply(a: Array, b: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """a * b, of equal shapes, or b a mask with one channel."""
    a, b = float32(a, "a"), float32(b, "b")
    attributes = _product(a.shape, b.shape, "multiply")
    if not a.size:
        return np.empty_like(a)
    inputs = {"a": a.reshape(-1), "b": b.reshape(-1)}
    return Kernels(version, device).call("multiply_forward", attributes, inputs, {"y": (a.size,)})[0].reshape(a.shape)


@placed
def multiply_backward(dy: Array, a: Array, b: Array, *, version: str = "auto", device: str = "auto") -> tuple[Floats, Floats]:
    """(da, db) of multiply; the db of a mask is summed over the channels."""
    dy, a, b = float32(dy, "dy"), float32(a, "a"), float32(b, "b")
    attributes = _product(a.shape, b.shape, "multiply_backward")
    require(dy.shape == a.shape, f"multiply_backward: dy has shape {dy.shape}, but a has shape {a.shape}")
    if not a.size:
        return np.zeros_like(a), np.zeros_like(b)
    inputs = {"dy": dy.reshape(-1), "a": a.reshape(-1), "b": b.reshape(-1)}
    shapes: dict[str, tuple[int, ...]] = {"da": (a.size,), "db": (b.size,)}
    da, db = Kernels(version, device).call("multiply_backward", attributes, inputs, shapes)
    return da.reshape(a.shape), db.reshape(b.shape)


@placed
def depth_to_space(x: Array, block_size: int = 2, *, order: str = "dcr", version: str = "auto", device: str = "auto") -> Floats:
    """block_size² channels become one channel of a larger map; order "dcr" (block-major) or "crd" (PyTorch's pixel_shuffle)."""
    x = float32(x, "x", 4)
    b = positive(block_size, "block_size")
    n, deep, h, w = x.shape
    require(deep % (b * b) == 0, f"depth_to_space: {deep} channels are not a multiple of block_size² = {b * b}")
    return _depth_to_space(x, (n, deep // (b * b), h, w), b, order, False, version, device)


@placed
def depth_to_space_backward(
    dy: Array, block_size: int = 2, *, order: str = "dcr", version: str = "auto", device: str = "auto"
) -> Floats:
    """dx of depth_to_space: its inverse, space to depth."""
    dy = float32(dy, "dy", 4)
    b = positive(block_size, "block_size")
    n, c, h, w = dy.shape
    require(h % b == 0 and w % b == 0, f"depth_to_space_backward: dy {dy.shape} is no multiple of block_size={b}")
    return _depth_to_space(dy, (n, c, h // b, w // b), b, order, True, version, device)


def _depth_to_space(
    x: Floats, low: tuple[int, int, int, int], b: int, order: str, inverse: bool, version: str, device: str
) -> Floats:
    require(order in ("dcr", "crd"), f"depth_to_space: unknown order {order!r}; expected dcr or crd")
    n, c, h, w = low
    shape = (n, c * b * b, h, w) if inverse else (n, c, h * b, w * b)
    if not x.size:
        return np.empty(shape, np.float32)
    a = {"N": n, "C": c, "H": h, "W": w, "block": b, "inverse": int(inverse), "order": order, "layout": "nchw"}
    kernels = Kernels(version, device)
    chosen = kernels.pick("depth_to_space", a)
    a["layout"] = layouts(chosen)[0]
    return kernels.call("depth_to_space", a, {"x": x}, {"y": shape}, version=chosen)[0]


@placed
def flatten(x: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """All axes but the first become one; the numbers stay where they are."""
    x = float32(x, "x")
    require(x.ndim > 0, "flatten: x needs a batch axis")
    Kernels(version, device)  # a version or device that is not there is an error here too
    return x.reshape(len(x), math.prod(x.shape[1:]))


@placed
def flatten_backward(dy: Array, x_shape: Shape, *, version: str = "auto", device: str = "auto") -> Floats:
    """dx of flatten for an x of that shape."""
    dy = float32(dy, "dy")
    shape = tuple(x_shape)
    flat = (shape[0], math.prod(shape[1:])) if shape else ()
    require(bool(shape) and dy.shape == flat, f"flatten_backward: dy has shape {dy.shape}, flatten of {shape} has {flat}")
    Kernels(version, device)
    return dy.reshape(shape)
