"""Pooling and upsampling."""

from typing import Any

import numpy as np

from warploom.errors import DTypeError
from warploom.ground.array_types import Array, Floats, Shape, Sizes
from warploom.ground.arrays import as_array, float32, pair, require
from warploom.ground.hardware import layouts
from warploom.interop import Array as DeviceArray
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed


def _pool_attributes(x: Shape, kernel: tuple[int, int], stride: tuple[int, int], what: str = "max_pool2d") -> dict[str, Any]:
    n, c, h, w = x
    require(min(x) > 0, f"{what}: x {x} must not be empty")
    require(kernel[0] <= h and kernel[1] <= w, f"{what}: the window {kernel[0]}x{kernel[1]} is larger than the input {h}x{w}")
    oh, ow = (h - kernel[0]) // stride[0] + 1, (w - kernel[1]) // stride[1] + 1
    return {
        "N": n, "C": c, "H": h, "W": w, "KH": kernel[0], "KW": kernel[1], "stride_h": stride[0], "stride_w": stride[1],
        "OH": oh, "OW": ow,
    }  # fmt: skip


@placed
def max_pool2d(
    x: Array, kernel_size: Sizes, *, stride: Sizes | None = None, version: str = "auto", device: str = "auto"
) -> tuple[Floats, Array]:
    """(y, index): the maximum of every window and its place in its plane, row * width + column (int32; the first wins)."""
    x = float32(x, "x", 4)
    kernel = pair(kernel_size, "kernel_size")
    a = _pool_attributes(x.shape, kernel, kernel if stride is None else pair(stride, "stride"))
    shape = (a["N"], a["C"], a["OH"], a["OW"])
    y, index = Kernels(version, device).call("max_pool2d_forward", a, {"x": x}, {"y": shape, "index": shape})
    return y, index


@placed
def max_pool2d_backward(
    dy: Array, index: Array, shape: Shape, *, kernel_size: Sizes | None = None, stride: Sizes | None = None,
    version: str = "auto", device: str = "auto",
) -> Floats:  # fmt: skip
    """dx of max_pool2d for an input of `shape`. The windows are read off the index where kernel_size is not given."""
    dy = float32(dy, "dy", 4)
    on_device = isinstance(index, DeviceArray)
    index = index if on_device else as_array(index, "index")
    if index.dtype.kind not in "iu":
        raise DTypeError(f"index must hold integers, as max_pool2d returns them, not {index.dtype}")
    require(index.shape == dy.shape, f"index has shape {index.shape}, but dy has shape {dy.shape}")
    require(
        len(shape) == 4 and tuple(shape[:2]) == dy.shape[:2] and shape[2] >= dy.shape[2] and shape[3] >= dy.shape[3],
        f"max_pool2d_backward: an input of shape {tuple(shape)} cannot be pooled to {dy.shape}",
    )
    planes = int(shape[2]) * int(shape[3])
    require(
        on_device or bool(((index >= 0) & (index < planes)).all()),
        f"index must lie between 0 and {planes - 1} (rows x columns of the input)",
    )
    require(
        not on_device or kernel_size is not None, "max_pool2d_backward: pass kernel_size, for an index on a device is not read"
    )
    require(not on_device or index.dtype == np.int32, f"index must be int32, as max_pool2d returns it, not {index.dtype}")
    if kernel_size is not None:
        kernel = pair(kernel_size, "kernel_size")
        steps = kernel if stride is None else pair(stride, "stride")
    else:
        (kh, sh), (kw, sw) = (
            _window(shape[axis], dy.shape[axis], at, axis) for axis, at in ((2, index // shape[3]), (3, index % shape[3]))
        )
        kernel, steps = (kh, kw), (sh, sw)
    a = _pool_attributes((int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3])), kernel, steps)
    require(
        (a["OH"], a["OW"]) == dy.shape[2:],
        f"max_pool2d_backward: these windows give {a['OH']}x{a['OW']} outputs, dy has {dy.shape}",
    )
    inputs = {"dy": dy, "index": index if on_device else np.ascontiguousarray(index, dtype=np.int32)}
    return Kernels(version, device).call("max_pool2d_backward", a, inputs, {"dx": tuple(shape)})[0]


@placed
def avg_pool2d(
    x: Array, kernel_size: Sizes, *, stride: Sizes | None = None, version: str = "auto", device: str = "auto"
) -> Floats:
    """The mean of every window, without padding."""
    x = float32(x, "x", 4)
    kernel = pair(kernel_size, "kernel_size")
    a = _pool_attributes(x.shape, kernel, kernel if stride is None else pair(stride, "stride"), "avg_pool2d")
    shape = (a["N"], a["C"], a["OH"], a["OW"])
    return _in_layout(Kernels(version, device), "avg_pool2d_forward", a, {"x": x}, {"y": shape})


@placed
def avg_pool2d_backward(
    dy: Array, shape: Shape, kernel_size: Sizes, *, stride: Sizes | None = None, version: str = "auto", device: str = "auto"
) -> Floats:
    """dx of avg_pool2d for an input of `shape`."""
    dy = float32(dy, "dy", 4)
    require(len(shape) == 4, f"avg_pool2d_backward: shape must be that of a batch of maps, not {tuple(shape)}")
    kernel = pair(kernel_size, "kernel_size")
    whole = (int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]))
    a = _pool_attributes(whole, kernel, kernel if stride is None else pair(stride, "stride"), "avg_pool2d_backward")
    expected = (a["N"], a["C"], a["OH"], a["OW"])
    require(dy.shape == expected, f"avg_pool2d_backward: dy has shape {dy.shape}, but the output is {expected}")
    return _in_layout(Kernels(version, device), "avg_pool2d_backward", a, {"dy": dy}, {"dx": whole})


def _in_layout(
    kernels: Kernels, entry: str, a: dict[str, Any], inputs: dict[str, Array], outputs: dict[str, tuple[int, ...]]
) -> Floats:
    """A call of an entry that takes either layout: in the version's own."""
    chosen = kernels.pick(entry, {**a, "layout": "nchw"})
    return kernels.call(entry, {**a, "layout": layouts(chosen)[0]}, inputs, outputs, version=chosen)[0]


def _window(size: int, outputs: int, at: Array, axis: int) -> tuple[int, int]:
    """(kernel, stride) along one axis that explain an index: side by side where that fits, else windows that cover every case."""
    step = size // outputs
    first = np.arange(outputs).reshape([-1 if i == axis else 1 for i in range(4)]) * step
    if (size - step) // step + 1 == outputs and ((at >= first) & (at < first + step)).all():
        return step, step
    return size - outputs + 1, 1


def _upsample_attributes(x: Shape, scale: tuple[int, int], mode: str) -> dict[str, Any]:
    require(mode in ("nearest", "bilinear"), f"upsample: unknown mode {mode!r}; expected nearest or bilinear")
    require(min(x) > 0, f"upsample: x {x} must not be empty")
    n, c, h, w = x
    return {"N": n, "C": c, "H": h, "W": w, "scale_h": scale[0], "scale_w": scale[1], "mode": mode}


@placed
def upsample(x: Array, scale_factor: Sizes = 2, *, mode: str = "nearest", version: str = "auto", device: str = "auto") -> Floats:
    """Enlarges by whole factors; mode "nearest", or "bilinear" with half-pixel centres (PyTorch's align_corners=False)."""
    x = float32(x, "x", 4)
    sh, sw = pair(scale_factor, "scale_factor")
    a = _upsample_attributes(x.shape, (sh, sw), mode)
    n, c, h, w = x.shape
    return Kernels(version, device).call("upsample_forward", a, {"x": x}, {"y": (n, c, h * sh, w * sw)})[0]


@placed
def upsample_backward(dy: Array, shape: Shape, *, mode: str = "nearest", version: str = "auto", device: str = "auto") -> Floats:
    """dx of upsample for an input of `shape`."""
    dy = float32(dy, "dy", 4)
    shape = tuple(int(s) for s in shape)
    require(
        len(shape) == 4 and min(shape) > 0 and dy.shape[:2] == shape[:2]
        and dy.shape[2] % shape[2] == 0 and dy.shape[3] % shape[3] == 0,
        f"upsample_backward: dy has shape {dy.shape}, which is no whole multiple of the input {shape}",
    )  # fmt: skip
    a = _upsample_attributes(shape, (dy.shape[2] // shape[2], dy.shape[3] // shape[3]), mode)
    return Kernels(version, device).call("upsample_backward", a, {"dy": dy}, {"dx": shape})[0]
