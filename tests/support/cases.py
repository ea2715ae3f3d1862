"""The one list of cases (operation, shape, FLOPs) that tests and benchmarks read; long because it is the only one.

SMALL holds the shapes that break kernels: one pixel, odd, prime, one past a tile, every kernel size, stride, padding, grouping.
LONG goes past what one grid dimension can hold. MODELS holds every convolution of the model zoo (zoo.py) at its real size;
`reduced` shrinks a case to a few output pixels, so that it can run on the emulated device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import zoo
from activations import ACTIVATIONS

CONV_ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "conv2d_backward_bias", "conv2d_backward")
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One shape of one family of operations. `attributes` are those of kernels/ops.h, as _core.call takes them."""

    family: str  # conv2d, max_pool2d, upsample, activation, or the name of an operation that has no backward entry
    name: str
    values: tuple[tuple[str, Any], ...]
    layer: str = field(default="", compare=False)  # where the model zoo uses it

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return dict(self.values)

    @property
    def entries(self) -> tuple[str, ...]:
        if self.family == "conv2d":
            return CONV_ENTRIES
        if self.family in ("max_pool2d", "upsample", "activation"):
            return (f"{self.family}_forward", f"{self.family}_backward")
        return (self.family,)

    def flops(self, entry: str) -> int:
        """Multiplications and additions of the plain definition; 0 where moving data is all there is to do."""
        a = self.attributes
        if self.family == "conv2d":
            pixels = a["N"] * a["C_out"] * a["OH"] * a["OW"]
            product = 2 * pixels * (a["C_in"] // a["groups"]) * a["KH"] * a["KW"]
            return {"conv2d_backward_bias": pixels, "conv2d_backward": 2 * product + pixels}.get(entry, product)
        count = a.get("count", 0)
        return {"mse_loss": 5 * count, "sgd_update": 4 * count, "add": count}.get(self.family, 0)

    def elements(self, entry: str) -> int:
        """Elements that must be read or written at least once: the bytes of a roofline, divided by four."""
        return sum(size for _, size in tensor_sizes(self.family, self.attributes, entry))

    @property
    def work(self) -> int:
        """The heaviest entry's FLOPs, or elements touched: what decides on which devices a test runs the case."""
        heaviest = max(self.flops(entry) for entry in self.entries if entry != "conv2d_backward")
        return max(heaviest, max(self.elements(entry) for entry in self.entries))


def tensor_sizes(family: str, a: dict[str, Any], entry: str) -> list[tuple[str, int]]:
    if family == "conv2d":
        x = a["N"] * a["C_in"] * a["H"] * a["W"] // a.get("upsample", 1) ** 2
        y = a["N"] * a["C_out"] * (a["OH"] // a.get("pool", 1)) * (a["OW"] // a.get("pool", 1))
        w = a["C_out"] * (a["C_in"] // a["groups"]) * a["KH"] * a["KW"]
        parts = {
            "conv2d_forward": [("x", x), ("w", w), ("y", y)],
            "conv2d_backward_input": [("dy", y), ("w", w), ("dx", x)],
            "conv2d_backward_weight": [("dy", y), ("x", x), ("dw", w)],
            "conv2d_backward_bias": [("dy", y), ("db", a["C_out"])],
            "conv2d_backward": [("dy", y), ("x", x), ("w", w), ("dx", x), ("dw", w), ("db", a["C_out"])],
        }
        return parts[entry]
    if family == "max_pool2d":
        x, y = a["N"] * a["C"] * a["H"] * a["W"], a["N"] * a["C"] * a["OH"] * a["OW"]
        return [("x", x), ("y", y), ("index", y)]
    if family == "upsample":
        x = a["N"] * a["C"] * a["H"] * a["W"]
        return [("x", x), ("y", x * a["scale_h"] * a["scale_w"])]
    if family in ("layout_convert", "gather_images"):
        return [("x", a["N"] * a["C"] * a["H"] * a["W"]), ("y", a["N"] * a["C"] * a["H"] * a["W"])]
    buffers = {"activation": 2 if entry.endswith("forward") else 3, "mse_loss": 3, "sgd_update": 5, "add": 3, "advance_cursor": 0}
    return [(str(i), a.get("count", 0)) for i in range(buffers[family])]


# ---- Makers ----


def conv(
    x: Sizes, c_out: int, k: int | Sizes, *, stride: int | Sizes = 1, pad: int | Sizes = 0, groups: int = 1, layer: str = ""
) -> Case:
    """x is (N, C_in, H, W); pad an int, (h, w) or (top, bottom, left, right)."""
    n, c_in, height, width = x
    kh, kw = (k, k) if isinstance(k, int) else k
    sh, sw = (stride, stride) if isinstance(stride, int) else stride
    p = (pad,) * 4 if isinstance(pad, int) else pad if len(pad) == 4 else (pad[0], pad[0], pad[1], pad[1])
    oh, ow = (height + p[0] + p[1] - kh) // sh + 1, (width + p[2] + p[3] - kw) // sw + 1
    assert min(oh, ow) > 0, "an empty output"
    assert c_in % groups == c_out % groups == 0, "groups must divide the channels"
    values = {
        "N": n, "C_in": c_in, "H": height, "W": width, "C_out": c_out, "KH": kh, "KW": kw, "stride_h": sh, "stride_w": sw,
        "pad_top": p[0], "pad_bottom": p[1], "pad_left": p[2], "pad_right": p[3], "groups": groups, "OH": oh, "OW": ow,
        "activation": "none", "negative_slope": 0.0, "pool": 1, "upsample": 1,
    }  # fmt: skip
    padding = f"p{p[0]}" if len(set(p)) == 1 else "p" + ".".join(map(str, p))
    strides = f"s{sh}" if sh == sw else f"s{sh}.{sw}"
    name = f"conv_{n}x{c_in}x{height}x{width}_to{c_out}_k{kh}x{kw}_{strides}_{padding}" + (f"_g{groups}" if groups > 1 else "")
    return Case("conv2d", name, tuple(values.items()), layer)


def fused(case: Case, *, activation: str = "none", slope: float = 0.0, pool: int = 1, upsample: int = 1) -> Case:
    """`case` with work folded in. Its H and W stay those of the convolution's input, so they must be multiples of `upsample`."""
    a = case.attributes | {"activation": activation, "negative_slope": slope, "pool": pool, "upsample": upsample}
    assert a["H"] % upsample == a["W"] % upsample == 0, "the upsampled size must be a multiple of the scale"
    parts = [f"up{upsample}"] * (upsample > 1) + [activation] * (activation != "none") + [f"pool{pool}"] * (pool > 1)
    return Case("conv2d", "_".join([case.name, *parts]), tuple(a.items()), case.layer)


def after(case: Case, activation: str, slope: float = 0.0) -> Case:
    """The convolution whose input is the output of that activation, of which the gradient of the input takes the slopes along."""
    values = tuple((case.attributes | {"x_activation": activation, "x_slope": slope}).items())
    return Case("conv2d", f"{case.name}_after_{activation}", values, case.layer)


def with_db(case: Case) -> Case:
    """The convolution whose gradient of the weights takes db along."""
    return Case("conv2d", f"{case.name}_with_db", (*case.values, ("with_db", 1)), case.layer)


def precise(case: Case, precision: str) -> Case:
    """The convolution with its operands in another precision than float32: tf32, bf16, fp16."""
    assert case.family == "conv2d"
    values = tuple((case.attributes | {"precision": precision}).items())
    return Case("conv2d", f"{case.name}_{precision}", values, case.layer)


def stored(case: Case, x: str = "f32", y: str = "f32") -> Case:
    """The convolution with its maps x and y (and dx, dy) stored as f32, bf16 or f16."""
    values = tuple((case.attributes | {"x_type": x, "y_type": y}).items())
    return Case("conv2d", f"{case.name}_x{x}_y{y}", values, case.layer)


def stored_flat(case: Case, dtype: str) -> Case:
    """An elementwise operation on maps stored in 16 bits."""
    return Case(case.family, f"{case.name}_{dtype}", (*case.values, ("type", dtype)))


def pool(x: Sizes, k: int | Sizes, stride: int | Sizes | None = None, layer: str = "") -> Case:
    n, c, height, width = x
    kh, kw = (k, k) if isinstance(k, int) else k
    sh, sw = (kh, kw) if stride is None else (stride, stride) if isinstance(stride, int) else stride
    values = {
        "N": n, "C": c, "H": height, "W": width, "KH": kh, "KW": kw, "stride_h": sh, "stride_w": sw,
        "OH": (height - kh) // sh + 1, "OW": (width - kw) // sw + 1,
    }  # fmt: skip
    return Case("max_pool2d", f"pool_{n}x{c}x{height}x{width}_k{kh}x{kw}_s{sh}.{sw}", tuple(values.items()), layer)


def upsample(x: Sizes, scale: int | Sizes, mode: str = "nearest", layer: str = "") -> Case:
    n, c, height, width = x
    sh, sw = (scale, scale) if isinstance(scale, int) else scale
    values = {"N": n, "C": c, "H": height, "W": width, "scale_h": sh, "scale_w": sw, "mode": mode}
    return Case("upsample", f"upsample_{mode}_{n}x{c}x{height}x{width}_by{sh}.{sw}", tuple(values.items()), layer)


def activation(count: int, kind: str, slope: float = 0.0) -> Case:
    return Case("activation", f"{kind}_{count}", (("count", count), ("kind", kind), ("negative_slope", slope)))


def mse(count: int, samples: int = 1, weight: float = 1.0) -> Case:
    return Case("mse_loss", f"mse_{count}_w{weight:g}", (("count", count), ("samples", samples), ("weight", weight)))


def sgd(count: int, nesterov: int = 0) -> Case:
    return Case("sgd_update", f"sgd_{count}" + "_nesterov" * nesterov, (("count", count), ("nesterov", nesterov)))


def add(count: int) -> Case:
    return Case("add", f"add_{count}", (("count", count),))


def convert(x: Sizes, source: str, target: str) -> Case:
    n, c, height, width = x
    values = (("N", n), ("C", c), ("H", height), ("W", width), ("from", source), ("to", target))
    return Case("layout_convert", f"convert_{source}_{target}_{n}x{c}x{height}x{width}", values)


def gather(n: int, x: Sizes, rows: int, dtype: str, target: str) -> Case:
    images, c, height, width = x
    scale = 1 / 255 if dtype == "u8" else 1.0
    values = {
        "N": n, "C": c, "H": height, "W": width, "images_count": images, "rows": rows,
        "dtype": dtype, "scale": scale, "to": target,
    }  # fmt: skip
    return Case("gather_images", f"gather_{n}of{images}x{c}x{height}x{width}_{dtype}_{target}", tuple(values.items()))


# ---- Small cases ----


def _small_convs() -> Iterator[Case]:
    yield conv((1, 1, 1, 1), 1, 1)  # one of everything
    yield conv((1, 1, 1, 1), 1, 3, pad=1)  # one pixel, eight taps outside
    yield conv((1, 3, 1, 1), 5, 3, pad=1)
    yield conv((3, 17, 1, 1), 13, 1)
    for c in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17):  # channels on both sides of vector widths
        yield conv((1, c, 5, 7), 18 - c, 3, pad=1)
    yield conv((3, 3, 9, 9), 8, 3, pad=1)
    yield conv((2, 8, 6, 6), 3, 3, pad=1)
    yield conv((1, 4, 33, 31), 3, 3, pad=1)  # one past a tile of 32, one short of it
    yield conv((1, 3, 17, 17), 33, 3, pad=1)
    yield conv((2, 33, 8, 8), 17, 3, pad=1)
    yield conv((1, 65, 5, 5), 9, 3, pad=1)  # one past 64 input channels
    yield conv((1, 9, 5, 5), 65, 3, pad=1)
    yield conv((1, 8, 4, 4), 129, 3, pad=1)  # one past a GEMM tile of 128 rows
    yield conv((3, 4, 7, 7), 4, 3, pad=1)
    yield conv((1, 5, 13, 11), 7, 3)  # no padding, prime sizes
    yield conv((1, 2, 129, 3), 2, 3, pad=1)  # tall and wide
    yield conv((1, 2, 3, 131), 2, 3, pad=1)
    for k in (1, 2, 4, 5, 7):
        yield conv((2, 3, 9, 8), 5, k, pad=k // 2)
    yield conv((1, 3, 8, 9), 4, (1, 3), pad=(0, 1))
    yield conv((1, 3, 8, 9), 4, (5, 2), pad=(2, 1, 0, 1))
    yield conv((1, 2, 7, 7), 3, 7)  # the kernel is as large as the image
    yield conv((1, 3, 12, 12), 3, 11, groups=3)  # SSIM's window
    for k, stride, p in ((3, 2, 1), (4, 2, 1), (5, 2, 2), (1, 2, 0), (2, 2, 0), (3, 3, 1), (7, 3, 2), (2, 3, 0)):
        yield conv((2, 3, 10, 11), 6, k, stride=stride, pad=p)  # 1/2, 2/3: some inputs are never read
    yield conv((1, 4, 11, 14), 5, 3, stride=(2, 1), pad=1)
    yield conv((1, 4, 14, 11), 5, 3, stride=(1, 3), pad=1)
    yield conv((1, 3, 6, 7), 4, 3, pad=(0, 2, 1, 0))  # asymmetric padding
    yield conv((2, 3, 7, 6), 4, 4, stride=2, pad=(1, 2, 0, 3))
    yield conv((1, 5, 3, 3), 2, 3, pad=(2, 3, 4, 2))  # whole output rows that see padding only
    yield conv((2, 6, 7, 5), 4, 3, pad=1, groups=2)
    yield conv((1, 9, 6, 6), 15, 3, pad=1, groups=3)
    yield conv((2, 7, 6, 6), 7, 3, pad=1, groups=7)  # depthwise
    yield conv((1, 16, 5, 5), 16, 3, pad=1, groups=16)
    yield conv((1, 5, 8, 8), 10, 3, stride=2, pad=1, groups=5)  # depthwise, two outputs a channel
    yield conv((1, 8, 8, 8), 4, 4, stride=2, pad=1, groups=2)
    yield conv((1, 16, 8, 8), 32, 1)
    yield conv((5, 12, 1, 1), 20, 1)  # a linear layer
    yield conv((1, 32, 12, 12), 32, 3, pad=1)
    yield conv((3, 16, 16, 16), 16, 3, pad=1)
    yield conv((1, 6, 20, 20), 6, 5, pad=2)


def _small_fusions() -> Iterator[Case]:
    plain = [
        conv((2, 3, 6, 8), 5, 3, pad=1),
        conv((1, 16, 12, 12), 8, 3, pad=1),
        conv((2, 8, 4, 4), 3, 3, pad=1),
        conv((1, 5, 9, 7), 4, 1),
    ]
    for case in plain:
        yield fused(case, activation="relu")
        yield fused(case, activation="leaky_relu", slope=0.25)
        yield fused(case, activation="sigmoid")
        yield fused(case, activation="relu", pool=2)
        yield fused(case, pool=2)
    # signed_sqrt and rsqrt have no largest slope, so nothing bounds what a sum's rounding becomes: they stand alone below, and
    # fused in tests/features.
    for kind, slope in ((kind, known.fused) for kind, known in ACTIVATIONS.items() if known.fused is not None):
        yield fused(conv((2, 3, 6, 8), 5, 3, pad=1), activation=kind, slope=slope)
        yield fused(conv((1, 24, 7, 9), 18, 1), activation=kind, slope=slope)
        if kind != "exp":  # of whole numbers it has many ties, and rounding chooses the pool's maximum among them
            yield fused(conv((1, 16, 12, 12), 8, 3, pad=1), activation=kind, slope=slope, pool=2)
    yield fused(conv((1, 4, 9, 11), 6, 5, stride=2, pad=2), activation="leaky_relu", slope=0.125)
    yield fused(conv((1, 6, 6, 6), 6, 3, pad=1, groups=3), activation="relu")
    yield fused(conv((1, 3, 9, 9), 4, 3, pad=1), activation="relu", pool=3)
    yield fused(conv((1, 3, 7, 9), 4, 3, pad=1), activation="relu", pool=2)  # floor: a row and a column fall away
    for case in [conv((2, 3, 6, 8), 5, 3, pad=1), conv((1, 16, 16, 16), 8, 3, pad=1), conv((1, 17, 10, 6), 3, 3, pad=1)]:
        yield fused(case, upsample=2)
        yield fused(case, activation="relu", upsample=2)
    few = [conv((2, 32, 6, 10), 3, 3, pad=1), conv((1, 16, 2, 2), 1, 3, pad=1), conv((1, 16, 14, 6), 4, 5, pad=(1, 2, 3, 0))]
    for case in few:
        yield fused(case, upsample=2)  # few outputs: the last layer of an autoencoder
        yield fused(case, activation="sigmoid")
        yield fused(case, activation="leaky_relu", slope=0.25, upsample=2)
    yield fused(conv((1, 4, 6, 6), 4, 3, pad=1), activation="relu", pool=2, upsample=2)
    yield fused(conv((1, 4, 6, 6), 4, 3, pad=1), activation="relu", upsample=3)


def _halo_tiles() -> Iterator[Case]:
    """What decides how v7 lays its boxes of 128 pixels and walks through them: maps smaller and larger than a box, of one pixel
    too; chunks of channels that end early; halos of every kernel; pools; the phases of a stride and of an upsample."""
    for high, wide in ((1, 1), (5, 7), (8, 8), (33, 31)):
        yield conv((2, 32, high, wide), 40, 3, pad=1)
    yield conv((7, 20, 3, 2), 33, 1)
    yield conv((1, 64, 11, 6), 70, 5, pad=2)
    yield conv((1, 16, 9, 12), 32, 7, pad=3)
    yield conv((1, 32, 4, 4), 32, 3, pad=3)  # taps that meet nothing but zeros
    yield conv((1, 36, 6, 7), 32, 3, pad=(0, 2, 1, 0))
    yield conv((1, 36, 5, 9), 32, 2)
    yield conv((2, 136, 16, 16), 130, 3, pad=1)  # several chunks, the last one short, and several tiles of channels
    yield conv((101, 32, 8, 16), 72, 1)  # blocks enough for 128 columns
    yield conv((9, 36, 12, 20), 68, (3, 2), pad=1)  # runs of boxes that meet in a second pass
    yield conv((1, 40, 6, 6), 36, 4, pad=2)  # sixteen taps: groups of three, the last one short
    yield conv((5, 100, 12, 9), 36, 5, pad=2)  # nine groups of taps, runs of several boxes
    yield fused(conv((2, 16, 8, 8), 64, 3, pad=1), activation="relu")
    yield fused(conv((3, 32, 10, 6), 48, 3, pad=1), activation="relu", pool=2)
    yield fused(conv((2, 32, 7, 5), 47, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2)
    yield fused(conv((1, 32, 2, 34), 32, 3, pad=1), pool=2)
    yield fused(conv((5, 32, 2, 2), 32, 3, pad=1), activation="relu", pool=2)
    yield fused(conv((2, 32, 8, 12), 40, 3, pad=1), upsample=2)
    yield fused(conv((2, 64, 6, 2), 32, 3, pad=1), activation="sigmoid", upsample=2)
    yield fused(conv((3, 72, 34, 4), 16, 3, pad=1), upsample=2)
    yield fused(conv((1, 33, 4, 6), 200, 3, pad=1), upsample=2)  # several chunks of each phase, the last one short
    for kernel in (
        1,
        3,
        4,
        5,
    ):  # the gradient of the input has a phase with no tap at all where the kernel is smaller than the stride
        yield conv((2, 40, 12, 9), 36, kernel, stride=2, pad=kernel // 2)


def _few_outputs() -> Iterator[Case]:
    """What decides how v5's kernel for few outputs lays its boxes, of at most 128 source pixels, and adds its columns up: 1 to 4
    outputs; up to 32 and up to 64 columns; one box, boxes of whole rows and of parts, so many that a bound stands for them;
    several images a box; steps that end early; borders; phases of a stride, some without a tap."""
    yield conv((3, 32, 1, 1), 2, 3, pad=1)
    yield conv((2, 36, 5, 7), 1, 3, pad=1)
    yield conv((1, 36, 33, 31), 3, 3, pad=1)
    yield conv((2, 132, 12, 16), 4, 3, pad=1)
    yield conv((1, 32, 3, 300), 2, 3, pad=1)
    yield conv((1, 32, 2, 5000), 1, (1, 3), pad=(0, 1))  # more than 64 boxes
    yield conv((1, 32, 2300, 1), 1, (2, 1))
    yield conv((230, 32, 1, 1), 3, 3, pad=1)  # two images a box
    yield conv((430, 32, 2, 2), 3, 2, pad=1)  # four, the last box half empty
    yield conv((1, 32, 4, 4), 3, 3, pad=5)  # outputs of nothing but padding
    yield conv((1, 32, 2, 2), 1, 2, pad=(1, 20, 30, 9))  # boxes of nothing but padding
    yield conv((1, 36, 9, 12), 4, 3, pad=(0, 2, 1, 0))
    yield conv((1, 40, 13, 17), 2, 5, pad=2)  # 50 columns
    yield conv((1, 64, 19, 19), 1, 7, pad=3)
    yield conv((1, 32, 10, 21), 4, 4, pad=(1, 2, 2, 0))  # 64 columns
    yield conv((1, 48, 4, 70), 1, (1, 64), pad=(0, 31))  # a tap's reach is half a box
    yield fused(conv((2, 36, 12, 9), 3, 3, pad=1), activation="sigmoid")
    yield fused(conv((2, 64, 32, 32), 3, 3, pad=1), upsample=2)  # three boxes of whole rows, as in the last layer for CIFAR-10
    yield fused(conv((1, 36, 66, 70), 3, 3, pad=1), activation="leaky_relu", slope=0.25, upsample=2)
    yield fused(conv((1, 132, 10, 34), 1, 3, pad=1), activation="sigmoid", upsample=2)
    yield fused(conv((2, 32, 2, 2), 4, 3, pad=1), activation="relu", upsample=2)
    yield fused(conv((1, 32, 6, 8), 2, 4, pad=(1, 2, 2, 0)), upsample=2)
    yield fused(conv((1, 32, 12, 44), 3, 3, pad=(0, 1, 2, 1)), upsample=2)
    yield fused(conv((1, 32, 38, 40), 1, 5, pad=2), upsample=2)
    for channels in (1, 2, 3, 4):  # the gradient of the input
        yield conv((2, channels, 9, 11), 36, 3, pad=1)
        yield conv((1, channels, 34, 46), 32, 4, stride=2, pad=1)
    yield conv((1, 3, 33, 31), 40, 3, pad=1)
    yield conv((1, 3, 1, 1), 32, 3, pad=1)
    yield conv((210, 1, 3, 3), 32, 3, stride=2, pad=1)  # two images a box
    yield conv((1, 3, 17, 40), 132, 3, stride=2, pad=1)
    yield conv((1, 3, 7, 6), 32, 4, stride=2, pad=(1, 2, 0, 3))
    yield conv((1, 2, 21, 20), 36, 5, stride=(3, 1), pad=2)
    yield conv((1, 1, 40, 41), 32, 4, stride=4)
    yield conv((1, 2, 44, 44), 32, 4, stride=4)  # more outputs than a box holds, of few enough pixels
    yield conv((1, 4, 10, 13), 32, 2, stride=3)  # phases without a tap
    yield conv((1, 2, 40, 90), 32, 2, stride=37)  # a stride longer than a box
    yield conv((1, 1, 12, 400), 32, (1, 5), stride=(2, 7), pad=(0, 3))
    yield conv((1, 1, 3, 9000), 32, (1, 4), stride=(1, 2), pad=(0, 1))  # more than 64 boxes


def _tensor_core_tiles() -> Iterator[Case]:
    """What only large tiles and long sums come by: many steps of k, ragged edges of a large tile, sums split over many blocks."""
    yield conv((1, 32, 80, 161), 66, 1)  # more than 100 tiles of 128 x 128; so in the gradient of the next one's input
    yield conv((1, 96, 80, 161), 32, 1)
    yield conv((1, 64, 9, 9), 72, 3, pad=1)  # whole steps within a tap, two of them
    yield conv((1, 32, 9, 8), 68, 3, stride=2, pad=1)
    yield conv((2, 64, 8, 8), 5, 3, pad=1)
    yield conv((1, 36, 9, 9), 132, 3, pad=1)  # a step over the edge of a tap, in vectors of four
    yield conv((2, 32, 9, 9), 96, 3, pad=1, groups=2)
    yield conv((3, 20, 21, 20), 160, 3, pad=1)
    yield fused(conv((1, 32, 10, 12), 80, 3, pad=1), activation="leaky_relu", slope=0.25, upsample=2)
    yield fused(conv((1, 64, 6, 8), 64, 4, pad=(1, 2, 2, 0)), upsample=2)
    yield fused(conv((3, 33, 6, 10), 35, 3, pad=1), activation="sigmoid", upsample=2)  # 3x5 pixels, channels past a tile of 32
    yield fused(conv((1, 64, 2, 2), 40, 3, pad=1), activation="relu", upsample=2)  # one pixel, whole steps of k both ways


def _few_channels() -> Iterator[Case]:
    """What decides how v5's kernels for up to 4 channels on one side lay their boxes of 128 pixels, the rows of the map under
    them and the sums: maps narrower and wider than a box, windows of every reach, steps of two, tiles of the other channels."""
    yield conv((2, 3, 32, 32), 72, 3, pad=1)  # two tiles of channels, one of them short
    yield conv((3, 3, 33, 31), 10, 3, pad=1)
    yield conv((1, 1, 5, 300), 24, 3, pad=1)  # a row takes three boxes
    yield conv((1, 4, 70, 1), 36, 3, pad=1)
    yield conv((2, 3, 10, 14), 64, 1)
    yield conv((1, 1, 20, 20), 33, 7, pad=3)  # two steps of k, tf32: four
    yield conv((1, 4, 21, 20), 130, 4, stride=2, pad=(1, 2, 0, 3))  # the longest sum
    yield conv((2, 1, 34, 30), 68, 4, stride=2, pad=1)
    yield conv((1, 2, 23, 29), 20, 5, stride=2, pad=2)
    yield conv((1, 3, 12, 12), 16, 3, pad=(0, 9, 7, 0))  # windows that meet nothing but zeros
    yield conv((300, 3, 8, 8), 17, 3, pad=1)  # runs of many boxes
    yield fused(conv((2, 3, 16, 24), 72, 3, pad=1), activation="relu", pool=2)
    yield fused(conv((1, 4, 19, 27), 21, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2)  # a row and a column fall away
    yield fused(conv((1, 2, 37, 35), 16, 5, stride=2, pad=2), pool=2)
    yield fused(conv((1, 3, 9, 21), 40, 3, pad=1), activation="sigmoid")
    for outputs in (1, 2, 3, 4):
        yield conv((1, 24, 9, 11), outputs, 3, pad=1)
        yield fused(conv((1, 20, 18, 22), outputs, 3, pad=1), upsample=2)
    yield conv((2, 72, 9, 150), 3, 3, pad=1)
    yield conv((1, 66, 13, 12), 4, (5, 3), pad=(2, 1, 0, 3))
    yield conv((1, 35, 12, 10), 3, 1)
    yield fused(conv((2, 130, 20, 36), 3, 3, pad=1), upsample=2)
    yield fused(conv((1, 16, 34, 18), 2, (2, 5), pad=(1, 0, 3, 1)), upsample=2)
    yield fused(conv((150, 17, 16, 16), 3, 3, pad=1), upsample=2)


def _small_others() -> Iterator[Case]:
    for x, k, stride in (
        ((1, 1, 2, 2), 2, None), ((2, 3, 4, 6), 2, None), ((1, 5, 7, 5), 2, None), ((3, 17, 9, 9), 3, None),
        ((1, 3, 8, 8), 3, 2), ((2, 4, 7, 7), 3, 1), ((1, 2, 9, 10), (2, 3), (1, 2)), ((1, 3, 9, 9), 2, 3),
        ((1, 33, 6, 6), 2, None), ((1, 1, 5, 5), 5, None), ((1, 4, 1, 9), (1, 3), (1, 1)), ((2, 16, 33, 31), 2, None),
    ):  # fmt: skip
        yield pool(x, k, stride)
    for mode in ("nearest", "bilinear"):
        for x, scale in (
            ((1, 1, 1, 1), 2), ((1, 3, 1, 5), 2), ((2, 3, 5, 7), 2), ((1, 17, 4, 4), 2), ((1, 2, 3, 5), 3),
            ((1, 2, 4, 3), (2, 4)),
            ((3, 4, 1, 1), 5), ((1, 4, 17, 16), 2), ((1, 2, 3, 3), (1, 2)), ((1, 3, 2, 2), 1), ((1, 32, 8, 8), 2),
        ):  # fmt: skip
            yield upsample(x, scale, mode)
    for count in (1, 2, 31, 257, 4099):
        for kind, slope in (("relu", 0.0), ("leaky_relu", 0.25), ("leaky_relu", 0.1), ("sigmoid", 0.0), ("none", 0.0)):
            if count in (257, 4099) or kind == "relu":
                case = activation(count, kind, slope)
                yield replace(case, name=f"{case.name}_{slope:g}") if kind == "leaky_relu" else case
        for kind, known in ACTIVATIONS.items():
            if count in (31, 4099) and kind not in ("none", "relu", "leaky_relu", "sigmoid"):
                yield activation(count, kind, known.number)
    for count, samples, weight in ((1, 1, 1.0), (3, 1, 1.0), (257, 4, 1.0), (1024, 1, 0.5), (12289, 64, 3.0), (70001, 7, 1.0)):
        yield mse(count, samples, weight)
    for count in (1, 3, 259, 5003):
        yield sgd(count)
        yield sgd(count, nesterov=1)
        yield add(count)
    for x in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 17, 3, 3), (3, 4, 33, 31), (1, 33, 8, 8), (2, 1, 4, 5), (1, 70, 1, 1)):
        for source, target in (("nchw", "nhwc"), ("nhwc", "nchw"), ("nchw", "nchw"), ("nhwc", "nhwc")):
            if source != target or x == (2, 3, 5, 7):
                yield convert(x, source, target)
    for dtype in ("u8", "f32"):
        for target in ("nchw", "nhwc"):
            yield gather(3, (7, 3, 5, 6), 9, dtype, target)
            yield gather(1, (1, 1, 1, 1), 1, dtype, target)
            yield gather(5, (6, 4, 8, 8), 5, dtype, target)
    for step in (1, 64):
        yield Case("advance_cursor", f"advance_{step}", (("step", step),))


def _long() -> Iterator[Case]:
    """Cases past what one grid dimension, one block or one short reduction can hold; little work each."""
    yield conv((2, 131_072, 1, 1), 4, 1)  # the reduction of liae.dense1
    yield conv((70_001, 1, 1, 1), 1, 1)  # grid.y and grid.z end at 65,535
    yield conv((1, 70_001, 1, 1), 2, 1)
    yield conv((1, 2, 1, 1), 70_001, 1)
    yield conv((1, 1, 70_001, 1), 1, (3, 1), pad=(1, 0))
    yield conv((1, 70_001, 1, 1), 70_001, 1, groups=70_001)
    yield conv((300, 3, 9, 9), 4, 3, pad=1)  # a long sum for the weight gradient
    yield pool((70_001, 1, 2, 2), 2)
    yield pool((1, 70_001, 2, 2), 2)
    yield pool((1, 1, 140_002, 2), 2)
    yield upsample((70_001, 1, 1, 1), 2)
    yield upsample((1, 70_001, 1, 1), 2, "bilinear")
    yield convert((70_001, 2, 1, 1), "nchw", "nhwc")
    yield convert((1, 70_001, 1, 2), "nhwc", "nchw")
    yield gather(70_001, (3, 2, 1, 1), 70_001, "u8", "nhwc")
    for count in (1_048_577,):
        yield activation(count, "relu")
        yield mse(count)
        yield sgd(count)
        yield add(count)


# ---- The model zoo ----


def _zoo_convs(n: int = 0) -> Iterator[Case]:
    """n: a batch size instead of the model's own."""
    for layer, batch, (c_in, c_out, k, stride, pad, size, groups) in zoo.rows():
        yield conv((n or batch, c_in, size, size), c_out, k, stride=stride, pad=pad, groups=groups, layer=layer)


def reduced(case: Case, budget: int = 12_000_000) -> Case:
    """The convolution on the largest square of at most 6 output pixels a side whose work fits; if even one pixel is too much work
    (weights of many megabytes), with half the channels, until it fits."""
    a = case.attributes
    pad = (a["pad_top"], a["pad_bottom"], a["pad_left"], a["pad_right"])
    sides = [(1, side) for side in range(min(6, a["OH"]), 2, -1)] + [(2, 2)] * (a["OH"] > 1) + [(2, 1), (1, 1)]
    c_in, c_out = a["C_in"], a["C_out"]
    while True:
        for n, side in sides:
            height = max((side - 1) * a["stride_h"] + a["KH"] - pad[0] - pad[1], 1)
            x = (n, c_in, height, height)
            small = conv(x, c_out, a["KH"], stride=a["stride_h"], pad=pad, groups=a["groups"], layer=case.layer)
            if small.work <= budget:
                return small
        c_in, c_out = (c_in // 2, c_out) if c_in > c_out else (c_in, c_out // 2)


def rebatched(case: Case, n: int) -> Case:
    """The same layer with another batch size; what has no batch in its attributes stays as it is."""
    if case.family == "conv2d":
        a = case.attributes
        shape, stride = (n, a["C_in"], a["H"], a["W"]), (a["stride_h"], a["stride_w"])
        pad = (a["pad_top"], a["pad_bottom"], a["pad_left"], a["pad_right"])
        plain = conv(shape, a["C_out"], (a["KH"], a["KW"]), stride=stride, pad=pad, groups=a["groups"], layer=case.layer)
        return fused(plain, activation=a["activation"], slope=a["negative_slope"], pool=a["pool"], upsample=a["upsample"])
    if "N" not in case.attributes:
        return case
    values = tuple((k, n if k == "N" else v) for k, v in case.values)
    return replace(case, name=f"{case.name}_b{n}", values=values)


def unique(cases: Iterator[Case] | list[Case]) -> list[Case]:
    return list({case.name: case for case in cases}.values())


SMALL_CONVS = unique(_small_convs())
SMALL_FUSIONS = unique(_small_fusions())
SMALL_OTHERS = unique(_small_others())
SMALL = SMALL_CONVS + SMALL_FUSIONS + SMALL_OTHERS
LONG = unique(_long())
PRECISIONS = ("bf16", "fp16", "tf32")
TENSOR_CORE_TILES = [precise(case, p) for case in _tensor_core_tiles() for p in PRECISIONS]
FEW_CHANNELS = [precise(case, p) for case in _few_channels() for p in PRECISIONS]
FEW_OUTPUTS = [precise(case, p) for case in unique(_few_outputs()) for p in PRECISIONS]
HALO_TILES = [precise(case, p) for case in _halo_tiles() for p in PRECISIONS]
PRECISE = [precise(case, p) for case in SMALL_CONVS + SMALL_FUSIONS for p in PRECISIONS]
MODELS = list(_zoo_convs())
MODELS_SINGLE = unique(_zoo_convs(1))  # real sizes, one image
MODELS_REDUCED = unique([reduced(case) for case in MODELS])
_CIFAR10_CONVS = [case for case in MODELS if case.layer.startswith("cifar10.")]
CIFAR10 = [
    *_CIFAR10_CONVS,
    *(replace(fused(case, activation="relu"), layer=f"{case.layer}+relu") for case in _CIFAR10_CONVS[:4]),
    pool((64, 256, 32, 32), 2, layer="cifar10.pool1"),
    pool((64, 128, 16, 16), 2, layer="cifar10.pool2"),
    upsample((64, 128, 8, 8), 2, layer="cifar10.upsample1"),
    upsample((64, 256, 16, 16), 2, layer="cifar10.upsample2"),
    replace(activation(64 * 256 * 32 * 32, "relu"), layer="cifar10.relu1"),
    replace(mse(64 * 3 * 32 * 32, 64), layer="cifar10.loss"),
    replace(sgd(751_875), layer="cifar10.update"),
    replace(gather(64, (50_000, 3, 32, 32), 50_000, "u8", "nhwc"), layer="cifar10.gather"),
]
_ALL = [*SMALL, *LONG, *PRECISE, *TENSOR_CORE_TILES, *FEW_CHANNELS, *FEW_OUTPUTS, *HALO_TILES]
_ALL += [*MODELS_REDUCED, *MODELS_SINGLE, *MODELS, *CIFAR10]
_ALL += [precise(case, p) for case in MODELS_REDUCED for p in PRECISIONS]
BY_NAME = {case.name: case for case in _ALL}


def find(name: str) -> Case:
    if name not in BY_NAME:
        raise KeyError(f"no case is called {name!r}; see tests/support/cases.py")
    return BY_NAME[name]
