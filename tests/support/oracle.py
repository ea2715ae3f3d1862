"""What every operation of kernels/ops.def must compute: an independent NumPy float64 reference.

Activations are NCHW, weights have PyTorch's shape [C_out, C_in/groups, KH, KW], whatever a version's own layout is. Nothing here
shares code or structure with the kernels: a convolution is a sum over its taps, a gradient is that sum read backwards. The
functions are tested in test_oracle.py by numerical gradients and, where torch is installed, against torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from activations import ACTIVATIONS
from numpy.typing import NDArray

Array = NDArray[Any]
Pad = tuple[int, int, int, int]  # top, bottom, left, right
Pair = tuple[int, int]
Tensors = dict[str, Array]


def _taps(stride: Pair, kernel: Pair, out: Pair):
    """For each kernel tap: its position and the slices of the padded input that it meets, one element per output pixel."""
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            rows = slice(kh, kh + stride[0] * (out[0] - 1) + 1, stride[0])
            columns = slice(kw, kw + stride[1] * (out[1] - 1) + 1, stride[1])
            yield kh, kw, rows, columns


def _pad(x: Array, pad: Pad, value: float = 0.0) -> Array:
    return np.pad(x, ((0, 0), (0, 0), pad[:2], pad[2:]), constant_values=value)


def conv2d(
    x: Array, w: Array, bias: Array | None = None, *, stride: Pair = (1, 1), pad: Pad = (0, 0, 0, 0), groups: int = 1
) -> Array:
    n, _, height, width = x.shape
    c_out, c_per_group, *kernel = w.shape
    out = ((height + pad[0] + pad[1] - kernel[0]) // stride[0] + 1, (width + pad[2] + pad[3] - kernel[1]) // stride[1] + 1)
    xp = _pad(x, pad).reshape(n, groups, c_per_group, height + pad[0] + pad[1], width + pad[2] + pad[3])
    wg = w.reshape(groups, c_out // groups, c_per_group, *kernel)
    by_tap = np.ascontiguousarray(np.moveaxis(wg, (3, 4), (0, 1)))
    y = np.zeros((n, groups, c_out // groups, out[0] * out[1]))
    for kh, kw, rows, columns in _taps(stride, kernel, out):
        y += by_tap[kh, kw] @ xp[..., rows, columns].reshape(n, groups, c_per_group, -1)
    y = y.reshape(n, c_out, *out)
    return y if bias is None else y + bias[:, None, None]


def conv2d_backward(dy: Array, x: Array, w: Array, *, stride: Pair = (1, 1), pad: Pad = (0, 0, 0, 0), groups: int = 1):
    """(dx, dw, db) of conv2d."""
    n, c_in, height, width = x.shape
    c_out, c_per_group, *kernel = w.shape
    out = dy.shape[2:]
    xp = _pad(x, pad).reshape(n, groups, c_per_group, height + pad[0] + pad[1], width + pad[2] + pad[3])
    wg = w.reshape(groups, c_out // groups, c_per_group, *kernel)
    dyg = np.asarray(dy, float).reshape(n, groups, c_out // groups, -1)
    by_tap = np.ascontiguousarray(np.moveaxis(wg, (3, 4), (0, 1)))
    dxp, dw_by_tap = np.zeros(xp.shape), np.zeros(by_tap.shape)
    for kh, kw, rows, columns in _taps(stride, kernel, out):
        dxp[..., rows, columns] += (by_tap[kh, kw].swapaxes(1, 2) @ dyg).reshape(n, groups, c_per_group, *out)
        dw_by_tap[kh, kw] = (dyg @ xp[..., rows, columns].reshape(n, groups, c_per_group, -1).swapaxes(2, 3)).sum(axis=0)
    dw = np.moveaxis(dw_by_tap, (0, 1), (3, 4))
    dx = dxp.reshape(n, c_in, *xp.shape[3:])[:, :, pad[0] : pad[0] + height, pad[2] : pad[2] + width]
    return dx, dw.reshape(w.shape), dy.sum(axis=(0, 2, 3))


def max_pool2d(x: Array, kernel: Pair, stride: Pair) -> tuple[Array, Array]:
    """(y, index): index is h * W + w of the maximum in its plane; the first of equal ones; a NaN beats every number."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    windows = windows.reshape(*windows.shape[:4], -1)
    best = windows.argmax(axis=-1)  # NumPy's rule is the same: first maximum, NaN wins
    rows = np.arange(windows.shape[2])[:, None] * stride[0] + best // kernel[1]
    columns = np.arange(windows.shape[3]) * stride[1] + best % kernel[1]
    return np.take_along_axis(windows, best[..., None], axis=-1)[..., 0], (rows * x.shape[3] + columns).astype(np.int32)


def max_pool2d_backward(dy: Array, index: Array, x_shape: tuple[int, ...]) -> Array:
    dx = np.zeros((x_shape[0] * x_shape[1], x_shape[2] * x_shape[3]))
    planes = np.arange(len(dx))[:, None]
    np.add.at(dx, (planes, index.reshape(len(dx), -1)), dy.reshape(len(dx), -1))
    return dx.reshape(x_shape)


def _interpolation(size: int, scale: int, mode: str) -> Array:
    """The matrix [size * scale, size] of a one-dimensional upsample. Bilinear: half-pixel centres, edges clamped."""
    m = np.zeros((size * scale, size))
    for i in range(size * scale):
        if mode == "nearest":
            m[i, i // scale] = 1.0
        else:
            position = max((i + 0.5) / scale - 0.5, 0.0)
            low = int(position)
            m[i, low] += 1.0 - (position - low)
            m[i, min(low + 1, size - 1)] += position - low
    return m


def _mixed(m: Array, x: Array, touched: Array) -> Array:
    """m @ x [..., I, W], where a NaN or an infinity reaches only the rows that it touches: elsewhere 0 * NaN is no product."""
    y = m @ np.where(np.isfinite(x), x, 0.0)
    for *front, i, w in np.argwhere(~np.isfinite(x)):
        for o in np.flatnonzero(touched[:, i]):
            y[(*front, o, w)] += m[o, i] * x[(*front, i, w)]
    return y


def _neighbours(size: int, scale: int, mode: str) -> Array:
    """Which inputs an output looks at: both neighbours where it interpolates, even if one has no weight; by factor 1 only one."""
    m = _interpolation(size, scale, mode) != 0
    for i in range(size * scale if mode == "bilinear" and scale > 1 else 0):
        low = int(max((i + 0.5) / scale - 0.5, 0.0))
        m[i, [low, min(low + 1, size - 1)]] = True
    return m


def upsample(x: Array, scale: Pair, mode: str = "nearest") -> Array:
    for axis in (2, 3):
        size, factor = x.shape[axis], scale[axis - 2]
        m = _mixed(_interpolation(size, factor, mode), np.moveaxis(x, axis, 2), _neighbours(size, factor, mode))
        x = np.moveaxis(m, 2, axis)
    return x


def upsample_backward(dy: Array, scale: Pair, mode: str = "nearest") -> Array:
    """A gradient reaches the inputs that had a share in its output."""
    for axis in (2, 3):
        m = _interpolation(dy.shape[axis] // scale[axis - 2], scale[axis - 2], mode).T
        dy = np.moveaxis(_mixed(m, np.moveaxis(dy, axis, 2), m != 0), 2, axis)
    return dy


def activation(x: Array, kind: str, number: float = 0.0) -> Array:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # a NaN stays one, silently
        return ACTIVATIONS[kind].value(x, number)


def activation_backward(dy: Array, at: Array, kind: str, number: float = 0.0) -> Array:
    """At the output; where an activation's gradient is from_input, at the input."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return ACTIVATIONS[kind].gradient(dy, at, number)


def mse_loss(prediction: Array, target: Array, weight: float = 1.0) -> tuple[float, Array]:
    difference = np.asarray(prediction, float) - target
    return weight * float(np.mean(difference**2)), weight * 2.0 / difference.size * difference


def sgd_update(
    w: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    scale: float = 1.0,
):
    """(w, velocity) afterwards; PyTorch's definition. The gradient is multiplied by `scale` first (clipping)."""
    d = scale * g + weight_decay * w
    if velocity is None:
        return w - lr * d, None
    velocity = momentum * velocity + d
    return w - lr * (d + momentum * velocity if nesterov else velocity), velocity


# ---- The same through the names of kernels/ops.def: attributes and tensors in, every output (and updated inout) out. ----


def conv_arguments(a: dict[str, Any]) -> dict[str, Any]:
    pad = (a["pad_top"], a["pad_bottom"], a["pad_left"], a["pad_right"])
    return {"stride": (a["stride_h"], a["stride_w"]), "pad": pad, "groups": a["groups"]}


def rounded(x: Array, precision: str) -> Array:
    """x as an operand of a tensor core: nearest bf16 or fp16, ties to even; nearest tf32, ties away from zero; else unchanged."""
    x = np.asarray(x, float)
    if precision == "fp16":
        return x.astype(np.float16).astype(float)
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    if precision == "bf16":
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    elif precision == "tf32":
        bits = (bits + 0x1000) & 0xFFFFE000
    else:
        return x
    return np.where(np.isfinite(x), bits.astype(np.uint32).view(np.float32).astype(float), x)


def operand_precision(a: dict[str, Any]) -> str:
    """What a convolution's operands are rounded to. Groups of up to 4 channels are no work for a matrix unit: float32."""
    small = a["groups"] > 1 and max(a["C_in"], a["C_out"]) // a["groups"] <= 4
    return "fp32" if small else a.get("precision", "fp32")


def fused_conv2d(a: dict[str, Any], x: Array, w: Array, bias: Array | None) -> dict[str, Any]:
    """pool(activation(conv(upsample(x)) + bias)) with everything the gradients need."""
    x, w = rounded(x, operand_precision(a)), rounded(w, operand_precision(a))
    scale = (a.get("upsample", 1),) * 2
    big = upsample(x, scale) if scale != (1, 1) else x
    active = activation(conv2d(big, w, bias, **conv_arguments(a)), a.get("activation", "none"), a.get("negative_slope", 0.0))
    pool = (a.get("pool", 1),) * 2
    y, index = max_pool2d(active, pool, pool) if pool != (1, 1) else (active, None)
    return {"x": big, "active": active, "y": y, "index": index}


def fused_conv2d_backward(a: dict[str, Any], dy: Array, x: Array, w: Array, bias: Array | None) -> tuple[Array, Array, Array]:
    forward = fused_conv2d(a, x, w, bias)
    if forward["index"] is not None:
        dy = max_pool2d_backward(dy, forward["index"], forward["active"].shape)
    dy = activation_backward(dy, forward["active"], a.get("activation", "none"), a.get("negative_slope", 0.0))
    operand = rounded(dy, operand_precision(a))
    dx, dw, _ = conv2d_backward(operand, forward["x"], rounded(w, operand_precision(a)), **conv_arguments(a))
    db = dy.sum(axis=(0, 2, 3))  # not a product: float32
    scale = a.get("upsample", 1)
    return (upsample_backward(dx, (scale, scale)) if scale > 1 else dx), dw, db


def _conv_backward_entry(a: dict[str, Any], t: Tensors) -> Tensors:
    dx, dw, db = fused_conv2d_backward(a, t["dy"], t["x"], t["w"], t.get("bias"))
    if "x_activation" in a:  # whose output x is
        dx = activation_backward(dx, t["x"], a["x_activation"], a["x_slope"])
    return {"dx": dx, "dw": dw, "db": db}


def _max_pool_forward(a: dict[str, Any], t: Tensors) -> Tensors:
    y, index = max_pool2d(t["x"], (a["KH"], a["KW"]), (a["stride_h"], a["stride_w"]))
    return {"y": y, "index": index}


def _mse(a: dict[str, Any], t: Tensors) -> Tensors:
    loss, grad = mse_loss(t["prediction"], t["target"], a["weight"])
    out = {"loss": np.array([loss]), "grad": grad}
    if "total" in t:
        out["total"] = t["total"] + np.array([loss * a["samples"], a["samples"]])
    return out


def _sgd(a: dict[str, Any], t: Tensors) -> Tensors:
    lr, momentum, weight_decay = (float(v) for v in t["hyper"])
    scale = float(t["scale"][0]) if "scale" in t else 1.0
    w, velocity = sgd_update(t["w"], t["g"], t.get("velocity"), lr, momentum, weight_decay, bool(a["nesterov"]), scale)
    return {"w": w} if velocity is None else {"w": w, "velocity": velocity}


def _layout_convert(a: dict[str, Any], t: Tensors) -> Tensors:
    if a["from"] == a["to"]:
        return {"y": t["x"]}
    shape = (a["N"], a["C"], a["H"], a["W"]) if a["from"] == "nchw" else (a["N"], a["H"], a["W"], a["C"])
    order = (0, 2, 3, 1) if a["to"] == "nhwc" else (0, 3, 1, 2)
    return {"y": t["x"].reshape(shape).transpose(order).reshape(-1)}


def _gather_images(a: dict[str, Any], t: Tensors) -> Tensors:
    start = int(t["cursor"].reshape(-1)[0])
    chosen = t["order"].reshape(-1)[start : start + a["N"]]
    x = t["images"].reshape(a["images_count"], a["C"], a["H"], a["W"])[chosen] * float(a["scale"])
    return {"x": (x.transpose(0, 2, 3, 1) if a["to"] == "nhwc" else x).reshape(-1)}


ENTRIES: dict[str, Callable[[dict[str, Any], Tensors], Tensors]] = {
    "conv2d_forward": lambda a, t: {"y": fused_conv2d(a, t["x"], t["w"], t.get("bias"))["y"]},
    "conv2d_backward_input": _conv_backward_entry,
    "conv2d_backward_weight": _conv_backward_entry,
    "conv2d_backward_bias": _conv_backward_entry,
    "conv2d_backward": _conv_backward_entry,
    "max_pool2d_forward": _max_pool_forward,
    "max_pool2d_backward": lambda a, t: {"dx": max_pool2d_backward(t["dy"], t["index"], (a["N"], a["C"], a["H"], a["W"]))},
    "upsample_forward": lambda a, t: {"y": upsample(t["x"], (a["scale_h"], a["scale_w"]), a["mode"])},
    "upsample_backward": lambda a, t: {"dx": upsample_backward(t["dy"], (a["scale_h"], a["scale_w"]), a["mode"])},
    "activation_forward": lambda a, t: {"y": activation(t["x"], a["kind"], a["negative_slope"])},
    "activation_backward": lambda a, t: {
        "dx": activation_backward(t["dy"], t["x" if ACTIVATIONS[a["kind"]].from_input else "y"], a["kind"], a["negative_slope"])
    },
    "mse_loss": _mse,
    "sgd_update": _sgd,
    "add": lambda a, t: {"y": t["a"] + t["b"]},
    "layout_convert": _layout_convert,
    "gather_images": _gather_images,
    "advance_cursor": lambda a, t: {"cursor": t["cursor"] + a["step"]},
}


def compute(entry: str, attributes: dict[str, Any], tensors: Tensors) -> Tensors:
    """Outputs of one entry in float64 (indices and cursors as integers)."""
    wide = {k: v.astype(np.float64) if v.dtype.kind in "fu" else v for k, v in tensors.items()}
    return ENTRIES[entry](attributes, wide)
