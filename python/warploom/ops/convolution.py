"""Convolution, transposed convolution and linear, all by the convolution entries of the kernel sets."""

from typing import Any

from warploom.ground.array_types import Array, Floats, Shape, Sizes
from warploom.ground.arrays import LARGEST, float32, pair, positive, require
from warploom.ground.arrays import padding as sides
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed

PRECISIONS = ("fp32", "fp32-exact", "tf32", "bf16", "fp16")


def _precision(precision: str | None, version: str) -> dict[str, str]:
    """None: exact sums of products, unless a version is asked for by name, which then computes float32 in its own way."""
    if precision is None:
        precision = "fp32-exact" if version == "auto" else "fp32"
    require(precision in PRECISIONS, f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return {"precision": precision}


def _conv_attributes(x: Shape, w: Shape, stride: Sizes, padding: Sizes, groups: int, what: str = "conv2d") -> dict[str, Any]:
    """The attributes of a convolution of x [N, C, H, W] by w [O, C/groups, KH, KW], all checked."""
    n, c, h, width = x
    o, c_group, kh, kw = w
    sh, sw = pair(stride, "stride")
    top, bottom, left, right = sides(padding)
    groups = positive(groups, "groups")
    require(min(*x, *w) > 0, f"{what}: x {x} and weight {w} must not be empty")
    require(c % groups == 0 and o % groups == 0, f"{what}: groups={groups} must divide the channels in ({c}) and out ({o})")
    require(
        c_group * groups == c,
        f"{what}: weight {w} with groups={groups} wants {c_group * groups} input channels, but x has {c}",
    )
    oh, ow = (h + top + bottom - kh) // sh + 1, (width + left + right - kw) // sw + 1
    require(max(h + top + bottom, width + left + right) <= LARGEST, f"{what}: the padding {padding} is too large")
    require(
        h + top + bottom >= kh and width + left + right >= kw,
        f"{what}: the kernel {kh}x{kw} is larger than the padded input {h + top + bottom}x{width + left + right}",
    )
    return {
        "N": n, "C_in": c, "H": h, "W": width, "C_out": o, "KH": kh, "KW": kw, "stride_h": sh, "stride_w": sw,
        "pad_top": top, "pad_bottom": bottom, "pad_left": left, "pad_right": right, "groups": groups, "OH": oh, "OW": ow,
    }  # fmt: skip


def _bias(bias: object, channels: int) -> Floats | None:
    if bias is None:
        return None
    b = float32(bias, "bias", 1)
    require(b.shape == (channels,), f"bias has shape {b.shape}, but there are {channels} output channels")
    return b


@placed
def conv2d(
    x: Array, weight: Array, bias: Array | None = None, *, stride: Sizes = 1, padding: Sizes = 0, groups: int = 1,
    version: str = "auto", device: str = "auto", precision: str | None = None,
) -> Floats:  # fmt: skip
    """2-D convolution. padding: a number, (height, width) or (top, bottom, left, right).

    precision: "fp32-exact" sums products and nothing else: an output depends on the pixels in its window alone, and its error
    is float32's for them. "fp32" lets the version use schemes with fewer multiplications (Winograd), which mix neighbouring
    windows: a pixel that is NaN, infinite or 1e4 times as large as its neighbours spoils the outputs around it too. "tf32",
    "bf16" and "fp16" round the operands, on versions with tensor cores. None: "fp32-exact", or "fp32" where a version is asked
    for by name.
    """
    x, weight = float32(x, "x", 4), float32(weight, "weight", 4)
    a = _conv_attributes(x.shape, weight.shape, stride, padding, groups) | _precision(precision, version)
    inputs = {"x": x, "w": weight}
    b = _bias(bias, a["C_out"])
    if b is not None:
        inputs["bias"] = b
    shape = (a["N"], a["C_out"], a["OH"], a["OW"])
    return Kernels(version, device).call("conv2d_forward", a, inputs, {"y": shape}, weights=("w",))[0]


@placed
def conv2d_backward(
    dy: Array, x: Array, weight: Array, *, stride: Sizes = 1, padding: Sizes = 0, groups: int = 1,
    version: str = "auto", device: str = "auto", precision: str | None = None,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """(dx, dweight, dbias) of conv2d; precision as there."""
    dy, x, weight = float32(dy, "dy", 4), float32(x, "x", 4), float32(weight, "weight", 4)
    a = _conv_attributes(x.shape, weight.shape, stride, padding, groups, "conv2d_backward") | _precision(precision, version)
    expected = (a["N"], a["C_out"], a["OH"], a["OW"])
    require(dy.shape == expected, f"conv2d_backward: dy has shape {dy.shape}, but the convolution's output is {expected}")
    kernels = Kernels(version, device)
    shapes = {"dx": x.shape, "dw": weight.shape, "db": (a["C_out"],)}
    weights = ("w", "dw")
    for v in kernels.candidates:
        if kernels.takes(v, "conv2d_backward", a):
            dx, dw, db = kernels.call("conv2d_backward", a, {"dy": dy, "x": x, "w": weight}, shapes, weights=weights, version=v)
            return dx, dw, db
        if kernels.takes(v, "conv2d_backward_input", a):
            break
    dx = _conv_backward_input(kernels, a, dy, weight)
    dw = _conv_backward_weight(kernels, a, dy, x, weight.shape)
    return dx, dw, _conv_backward_bias(kernels, a, dy)


def _conv_backward_input(kernels: Kernels, a: dict[str, Any], dy: Array, weight: Array) -> Floats:
    shape = (a["N"], a["C_in"], a["H"], a["W"])
    return kernels.call("conv2d_backward_input", a, {"dy": dy, "w": weight}, {"dx": shape}, weights=("w",))[0]


def _conv_backward_weight(kernels: Kernels, a: dict[str, Any], dy: Array, x: Array, shape: Shape) -> Floats:
    return kernels.call("conv2d_backward_weight", a, {"dy": dy, "x": x}, {"dw": shape}, weights=("dw",))[0]


def _conv_backward_bias(kernels: Kernels, a: dict[str, Any], dy: Array) -> Floats:
    return kernels.call("conv2d_backward_bias", a, {"dy": dy}, {"db": (a["C_out"],)})[0]


def _transposed(x: Shape, w: Shape, stride: Sizes, padding: Sizes, output_padding: Sizes, groups: int) -> dict[str, Any]:
    """The attributes of the convolution from the output to the input: a transposed convolution is its input gradient."""
    n, c, h, width = x
    c_in, o_group, kh, kw = w
    sh, sw = pair(stride, "stride")
    top, bottom, left, right = sides(padding)
    ph, pw = pair(output_padding, "output_padding", minimum=0)
    groups = positive(groups, "groups")
    what = "conv_transpose2d"
    require(c_in == c, f"{what}: weight {w} wants {c_in} input channels, but x has {c}")
    require(ph < sh and pw < sw, f"{what}: output_padding ({ph}, {pw}) must be smaller than the stride ({sh}, {sw})")
    oh, ow = (h - 1) * sh - top - bottom + kh + ph, (width - 1) * sw - left - right + kw + pw
    require(min(oh, ow) > 0, f"{what}: padding {padding} leaves nothing of the output ({oh}x{ow})")
    return _conv_attributes((n, o_group * groups, oh, ow), w, (sh, sw), (top, bottom, left, right), groups, what)


@placed
def conv_transpose2d(
    x: Array, weight: Array, bias: Array | None = None, *, stride: Sizes = 1, padding: Sizes = 0, output_padding: Sizes = 0,
    groups: int = 1, version: str = "auto", device: str = "auto", precision: str | None = None,
) -> Floats:  # fmt: skip
    """Transposed 2-D convolution; weight [C_in, C_out/groups, KH, KW]; precision as in conv2d."""
    x, weight = float32(x, "x", 4), float32(weight, "weight", 4)
    a = _transposed(x.shape, weight.shape, stride, padding, output_padding, groups) | _precision(precision, version)
    b = _bias(bias, a["C_in"])
    kernels = Kernels(version, device)
    y = _conv_backward_input(kernels, a, x, weight)
    if b is None:
        return y
    view = {"outer": y.shape[0], "C": y.shape[1], "inner": y.shape[2] * y.shape[3]}
    flat = kernels.call("bias_activation", view, {"x": y.reshape(-1), "bias": b}, {"y": (y.size,)})[0]
    return flat.reshape(y.shape)


@placed
def conv_transpose2d_backward(
    dy: Array, x: Array, weight: Array, *, stride: Sizes = 1, padding: Sizes = 0, output_padding: Sizes = 0, groups: int = 1,
    version: str = "auto", device: str = "auto", precision: str | None = None,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """(dx, dweight, dbias) of conv_transpose2d; precision as in conv2d."""
    dy, x, weight = float32(dy, "dy", 4), float32(x, "x", 4), float32(weight, "weight", 4)
    a = _transposed(x.shape, weight.shape, stride, padding, output_padding, groups) | _precision(precision, version)
    expected = (a["N"], a["C_in"], a["H"], a["W"])
    require(dy.shape == expected, f"conv_transpose2d_backward: dy has shape {dy.shape}, but the output is {expected}")
    kernels = Kernels(version, device)
    dx = kernels.call("conv2d_forward", a, {"x": dy, "w": weight}, {"y": x.shape}, weights=("w",))[0]
    dw = _conv_backward_weight(kernels, a, x, dy, weight.shape)
    channels = dy.shape[1]
    per_channel = _conv_attributes(dy.shape, (channels, channels, 1, 1), 1, 0, 1)  # a bias gradient knows only the output
    return dx, dw, _conv_backward_bias(kernels, per_channel, dy)


@placed
def linear(x: Array, weight: Array, bias: Array | None = None, *, version: str = "auto", device: str = "auto") -> Floats:
    """y = x weightᵀ + bias; x [N, I], weight [O, I]."""
    x, weight = float32(x, "x", 2), float32(weight, "weight", 2)
    require(
        x.shape[1] == weight.shape[1], f"linear: weight {weight.shape} wants {weight.shape[1]} features, but x has {x.shape[1]}"
    )
    y = conv2d(x.reshape(*x.shape, 1, 1), weight.reshape(*weight.shape, 1, 1), bias, version=version, device=device)
    return y.reshape(y.shape[:2])


@placed
def linear_backward(
    dy: Array, x: Array, weight: Array, *, version: str = "auto", device: str = "auto"
) -> tuple[Floats, Floats, Floats]:
    """(dx, dweight, dbias) of linear."""
    dy, x, weight = (float32(v, what, 2) for v, what in ((dy, "dy"), (x, "x"), (weight, "weight")))
    fits = x.shape[1] == weight.shape[1] and dy.shape == (x.shape[0], weight.shape[0])
    require(fits, f"linear_backward: dy {dy.shape}, x {x.shape} and weight {weight.shape} do not fit: (N, O), (N, I) and (O, I)")
    dy, x, weight = (v.reshape(*v.shape, 1, 1) for v in (dy, x, weight))
    dx, dw, db = conv2d_backward(dy, x, weight, version=version, device=device)
    return dx.reshape(dx.shape[:2]), dw.reshape(dw.shape[:2]), db
