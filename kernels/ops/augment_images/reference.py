"""Images changed at random, in whole numbers and float64, with Philox 4x32-10 in plain integers; cases for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from philox import philox

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "small": (3, 3, 5, 7), "one": (1, 1, 1, 1), "square": (4, 3, 8, 8), "grey": (2, 1, 9, 6), "long": (2, 2, 3, 701),
    "many": (2, 5, 4, 4), "nothing": (0, 3, 4, 4),
}  # fmt: skip
SEED, STREAM, EPOCH, CURSOR, SPARE = 0x1234_5678_9ABC_DEF0, 0x6175_676D, 41, 2, 3
OFF = {"flip": 0, "shift": 0, "noise": 0.0, "cutout": 0}
SWITCHES = {"flip": 1, "shift": 2, "noise": 0.1, "cutout": 3}


def _case(name: str, dtype: str, layout: str, label: str, **changes: Any) -> tuple[str, str, Attributes]:
    n, c, h, w = SHAPES[name]
    unit = 255.0 if dtype == "u8" else 1.0
    attributes = {
        "N": n, "C": c, "H": h, "W": w, "images_count": n + SPARE, "rows": n + CURSOR + 1, "dtype": dtype,
        "scale": 1.0 / unit, "to": layout, "seed": SEED, **OFF, **changes,
    }  # fmt: skip
    attributes["noise"] *= unit
    return "augment_images", f"{name}_{dtype}_{layout}_{label}", attributes


def _some(mask: int) -> tuple[str, dict[str, Any]]:
    """Every combination of the switches has a number."""
    chosen = {k: v for i, (k, v) in enumerate(SWITCHES.items()) if mask >> i & 1}
    return "_".join(chosen) or "plain", chosen


def _whole(name: str) -> dict[str, Any]:
    """All switches, as far as they go on images of that shape."""
    side = min(SHAPES[name][2:])
    return SWITCHES | {"shift": min(2, side - 1), "cutout": min(3, side)}


CASES = [
    *(_case(name, dtype, to, "all", **_whole(name)) for name in SHAPES for dtype in ("f32", "u8") for to in ("nchw", "nhwc")),
    *(_case("small", dtype, "nhwc", _some(m)[0], **_some(m)[1]) for m in range(15) for dtype in ("f32", "u8")),
    _case("small", "f32", "nchw", "widest", flip=1, shift=4, cutout=5, noise=2.0),
    (
        *_case("small", "f32", "nchw", "far")[:2],
        _case("small", "f32", "nchw", "", shift=5)[2] | {"_refused": "shift must be less"},
    ),
    (*_case("small", "f32", "nchw", "big")[:2], _case("small", "f32", "nchw", "", cutout=6)[2] | {"_refused": "cutout at most"}),
    (*_case("small", "f32", "nchw", "loud")[:2], _case("small", "f32", "nchw", "", noise=-1)[2] | {"_refused": "not negative"}),
    (*_case("small", "f32", "nchw", "ints")[:2], _case("small", "i32", "nchw", "")[2] | {"_refused": "uint8 or float32"}),
]


def _blocks(count: int, number: int, epoch: int, stream: int, seed: int) -> Array:
    """[count, 4] words."""
    block = np.arange(count, dtype=np.uint64)
    rest = [np.full_like(block, value) for value in (number, epoch, stream)]
    return np.stack(philox([block, *rest], (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)), axis=1)


def _normal(count: int, *words: int) -> Array:
    """Box and Muller's method, as in kernels/ops/normal.h."""
    pairs = _blocks(-(-count // 4), *words).reshape(-1, 2)
    u = ((pairs[:, 0] >> np.uint64(9)).astype(float) + 0.5) / 2**23
    quarter = (pairs[:, 1] >> np.uint64(30)).astype(float)
    place = (((pairs[:, 1] >> np.uint64(7)) & np.uint64(0x7FFFFF)).astype(float) + 0.5) / 2**23
    angle, radius = np.pi / 2 * (quarter + place - 0.5), np.sqrt(-2.0 * np.log(u))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    shape, rows = (a["images_count"], a["C"], a["H"], a["W"]), a["rows"]
    images = rng.integers(0, 256, shape).astype(np.uint8) if a["dtype"] == "u8" else rng.random(shape)
    return {
        "images": images.reshape(-1), "order": rng.integers(0, shape[0], rows).astype(np.int32),
        "numbers": rng.integers(0, 2**31, rows).astype(np.int32), "cursor": np.array([CURSOR], np.int32),
        "epoch": np.array([EPOCH], np.int32),
    }  # fmt: skip


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    n, c, h, w = a["N"], a["C"], a["H"], a["W"]
    start, epoch = int(inputs["cursor"].reshape(-1)[0]), int(inputs["epoch"].reshape(-1)[0])
    noise, scale, shift, hole = float(np.float32(a["noise"])), float(np.float32(a["scale"])), a["shift"], a["cutout"]
    images = inputs["images"].reshape(a["images_count"], c, h, w).astype(float)
    x, y = np.empty((n, c, h, w)), np.empty((n, c, h, w))
    for i in range(n):
        number = int(inputs["numbers"].reshape(-1)[start + i])
        words = [[int(word) for word in block] for block in _blocks(2, number, epoch, STREAM, a["seed"])]
        image = images[int(inputs["order"].reshape(-1)[start + i])]
        down, right = (int(word) * (2 * shift + 1) // 2**32 - shift for word in words[0][1:3])
        if a["flip"] and words[0][0] >= 2**31:
            image, right = image[:, :, ::-1], -right
        padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
        y[i] = padded[:, shift + down : shift + down + h, shift + right : shift + right + w]
        x[i] = y[i]
        if noise:
            x[i] += noise * _normal(c * h * w, number, epoch, STREAM + 1, a["seed"]).reshape(c, h, w)
            x[i] = np.rint(np.clip(x[i], 0, 255)) if a["dtype"] == "u8" else x[i]
        top, left = words[1][0] * h // 2**32 - hole // 2, words[1][1] * w // 2**32 - hole // 2
        x[i, :, max(0, top) : max(0, top + hole), max(0, left) : max(0, left + hole)] = 0
    order = (0, 2, 3, 1) if a["to"] == "nhwc" else (0, 1, 2, 3)
    return {name: (scale * value).transpose(order).reshape(-1) for name, value in (("x", x), ("y", y))}


GRADIENTS: dict[str, Any] = {}  # data have none
