"""Root-mean-square normalisation of rows in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1), "row": (1, 17), "short_rows": (37, 3), "prime": (7, 131), "aligned": (5, 512), "one_past": (3, 1025),
    "many_short": (1025, 8), "long": (2, 70_001), "longest": (1, 131_072), "nothing": (0, 5),
}  # fmt: skip
CASES = [
    *(("rms_norm_forward", name, {"rows": rows, "cols": cols, "eps": 1e-6}) for name, (rows, cols) in SHAPES.items()),
    ("rms_norm_forward", "zeros", {"rows": 3, "cols": 40, "eps": 1e-4, "_std": 0.0}),
    ("rms_norm_forward", "huge", {"rows": 3, "cols": 40, "eps": 1e-4, "_std": 1e20}),
    *(("rms_norm_backward", name, {"rows": rows, "cols": cols}) for name, (rows, cols) in SHAPES.items()),
    ("rms_norm_backward", "offset", {"rows": 3, "cols": 300, "_mean": 5.0}),
]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    shape = (attributes["rows"], attributes["cols"])
    x = attributes.get("_mean", 0.0) + attributes.get("_std", 2.0) * rng.standard_normal(shape)
    if entry == "rms_norm_forward":
        return {"x": x}
    return {"x": x, "dy": rng.standard_normal(shape), "inv_rms": _inv_rms(x, 1e-6)}


def _inv_rms(x: Array, eps: float) -> Array:
    return 1.0 / np.sqrt((x**2).mean(axis=1) + eps)


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    shape = (attributes["rows"], attributes["cols"])
    x = inputs["x"].reshape(shape)
    if entry == "rms_norm_forward":
        inv = _inv_rms(x, attributes["eps"])
        return {"y": x * inv[:, None], "inv_rms": inv}
    dy, inv = inputs["dy"].reshape(shape), inputs["inv_rms"][:, None]
    return {"dx": inv * (dy - x * inv**2 * (dy * x).mean(axis=1, keepdims=True))}


def magnitude(entry: str, attributes: Attributes, inputs: Tensors) -> dict[str, float]:
    """dx is a difference of terms of this size."""
    if entry == "rms_norm_forward" or not inputs["dy"].size:
        return {}
    return {"dx": float(np.nanmax(np.abs(inputs["dy"])) * np.nanmax(inputs["inv_rms"]))}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    def scalar(t: Tensors) -> float:
        x = t["x"].reshape(attributes["rows"], attributes["cols"])
        return float((x * _inv_rms(x, 1e-6)[:, None] * t["dy"].reshape(x.shape)).sum())

    return scalar, {"dx": "x"}


GRADIENTS = {"rms_norm_backward": _scalar}
