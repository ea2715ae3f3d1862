"""Dropout in float64, with Philox 4x32-10 in plain integers; cases for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from philox import philox

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1), "vector": (3, 1, 131), "aligned_vector": (2, 1, 512), "map": (2, 5, 12), "odd_map": (3, 7, 33),
    "many_channels": (2, 37, 9), "long": (1, 2, 4099), "pixel": (3, 5, 1), "nothing": (0, 3, 4), "aligned": (2, 16, 64),
}  # fmt: skip
SEED, STREAM, STEP = 0x1234_5678_9ABC_DEF0, 0xCAFE_F00D, 41


def _case(name: str, keep: float, layout: str, whole: int = 0) -> tuple[str, str, Attributes]:
    n, c, inner = SHAPES[name]
    label = f"{name}_{layout}_{keep}{'_whole' if whole else ''}"
    attributes = {"N": n, "C": c, "inner": inner, "layout": layout, "keep": keep, "whole_channels": whole}
    return "dropout", label, attributes | {"seed": SEED, "stream": STREAM}


CASES = [
    *(_case(name, 0.75, layout) for layout in ("nchw", "nhwc") for name in SHAPES),
    *(_case("map", keep, "nhwc") for keep in (0.0, 0.5, 0.9)),
    (*_case("map", 1.0, "nhwc")[:2], _case("map", 1.0, "nhwc")[2] | {"_refused": "keep is a probability below 1"}),
    *(_case(name, 0.5, layout, whole=1) for layout in ("nchw", "nhwc") for name in ("map", "odd_map", "many_channels")),
]


def mask(shape: tuple[int, int, int], keep: float, whole: int, seed: int, stream: int, step: int) -> Array:
    """[N, C, inner] of 0 and 1."""
    n, c, inner = shape
    row, i = np.arange(n * c)[:, None], np.arange(inner)[None, :]
    if whole:
        i = np.zeros_like(i)
    row, i = np.broadcast_arrays(row, i)
    words = np.stack(philox([i // 4, row, np.full_like(row, step), np.full_like(row, stream)], (seed & 0xFFFFFFFF, seed >> 32)))
    chosen = np.take_along_axis(words, (i % 4)[None], axis=0)[0]
    return (chosen < np.uint64(int(float(np.float32(keep)) * 2**32))).reshape(shape).astype(float)


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    count = attributes["N"] * attributes["C"] * attributes["inner"]
    return {"x": rng.standard_normal(count), "step": np.array([STEP], np.int32)}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    n, c, inner = a["N"], a["C"], a["inner"]
    step = int(inputs["step"].reshape(-1)[0])
    stays = mask((n, c, inner), a["keep"], a["whole_channels"], a["seed"], a["stream"], step)
    if a["layout"] == "nhwc":
        stays = stays.transpose(0, 2, 1)
    keep = float(np.float32(a["keep"]))
    return {"y": inputs["x"].reshape(-1) * stays.reshape(-1) * (1.0 / keep if keep else 0.0)}


GRADIENTS: dict[str, Any] = {}  # linear in x: the gradient is the same call on dy
