"""Draws from Gaussians in float64, with Philox 4x32-10 in plain integers; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from philox import philox

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1), "vector": (3, 131, 1), "aligned_vector": (2, 64, 1), "map": (2, 5, 12), "odd_map": (3, 7, 33),
    "long": (1, 2, 4099), "nothing": (0, 3, 4),
}  # fmt: skip
SEED, STREAM, STEP = 0x1234_5678_9ABC_DEF0, 0xCAFE_F00D, 41


def _case(entry: str, name: str, layout: str, draws: int = 1) -> tuple[str, str, Attributes]:
    n, c, inner = SHAPES[name]
    attributes = {"N": n, "C": c, "inner": inner, "layout": layout, "draws": draws, "seed": SEED, "stream": STREAM}
    return entry, f"{name}_{layout}{'' if draws else '_mean'}", attributes


ENTRIES = ("gaussian_sample", "gaussian_sample_backward")
CASES = [
    *(_case(entry, name, layout) for entry in ENTRIES for layout in ("nchw", "nhwc") for name in SHAPES),
    *(_case(entry, "odd_map", layout, draws=0) for entry in ENTRIES for layout in ("nchw", "nhwc")),
]


def normal(count: int, seed: int, stream: int, step: int) -> Array:
    """The first `count` draws: Box and Muller's method."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    rest = [np.full_like(block, step), np.full_like(block, stream)]
    words = np.stack(philox([block, block >> np.uint64(32), *rest], (seed & 0xFFFFFFFF, seed >> 32)))
    pairs = words.T.reshape(-1, 2)
    u = ((pairs[:, 0] >> np.uint64(9)).astype(float) + 0.5) / 2**23
    quarter = (pairs[:, 1] >> np.uint64(30)).astype(float)
    place = (((pairs[:, 1] >> np.uint64(7)) & np.uint64(0x7FFFFF)).astype(float) + 0.5) / 2**23
    angle, radius = np.pi / 2 * (quarter + place - 0.5), np.sqrt(-2.0 * np.log(u))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    count = attributes["N"] * attributes["C"] * attributes["inner"]
    given = {"x": rng.standard_normal(2 * count)}
    if attributes["draws"]:
        given["step"] = np.array([STEP], np.int32)
    if entry == "gaussian_sample_backward":
        given["dy"] = rng.standard_normal(count)
    return given


def _sample(a: Attributes, inputs: Tensors) -> tuple[Array, Array, Array]:
    """Means, deviations and draws, [N, C, inner]."""
    n, c, inner = a["N"], a["C"], a["inner"]
    x = inputs["x"].reshape((n, inner, 2 * c) if a["layout"] == "nhwc" else (n, 2 * c, inner))
    x = x.transpose(0, 2, 1) if a["layout"] == "nhwc" else x
    drawn = np.zeros((n, c, inner))
    if a["draws"]:
        step = int(inputs["step"].reshape(-1)[0])
        drawn = normal(n * c * inner, a["seed"], a["stream"], step).reshape(n, c, inner)
    return x[:, :c], np.exp(0.5 * x[:, c:]), drawn


def _laid_out(a: Attributes, value: Array) -> Array:
    return (value.transpose(0, 2, 1) if a["layout"] == "nhwc" else value).reshape(-1)


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    mean, deviation, drawn = _sample(attributes, inputs)
    if entry == "gaussian_sample":
        return {"y": _laid_out(attributes, mean + deviation * drawn)}
    n, c, inner = mean.shape
    dy = inputs["dy"].reshape((n, inner, c) if attributes["layout"] == "nhwc" else (n, c, inner))
    dy = dy.transpose(0, 2, 1) if attributes["layout"] == "nhwc" else dy
    return {"dx": _laid_out(attributes, np.concatenate([dy, 0.5 * dy * deviation * drawn], axis=1))}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    def scalar(t: Tensors) -> float:
        return float((reference("gaussian_sample", attributes, t)["y"] * t["dy"].reshape(-1)).sum())

    return scalar, {"dx": "x"}


GRADIENTS = {"gaussian_sample_backward": _scalar}
