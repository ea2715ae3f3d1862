"""Elementwise product and its gradient in float64, with a second factor of all channels or of one; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1), "nchw": (3, 5, 12), "nhwc": (36, 5, 1), "nhwc_aligned": (130, 32, 1), "nchw_aligned": (2, 4, 1024),
    "image_nchw": (2, 3, 35), "image_nhwc": (70, 3, 1), "wide": (3, 1025, 1), "prime": (2, 7, 131), "nothing": (0, 3, 4),
    "many_channels": (2, 260, 9),
}  # fmt: skip
CASES = [
    (entry, f"{name}_{'mask' if b == 1 else 'full'}", {"outer": outer, "C": c, "inner": inner, "b_channels": b})
    for entry in ("multiply_forward", "multiply_backward")
    for name, (outer, c, inner) in SHAPES.items()
    for b in sorted({1, c})
]
CASES += [
    ("multiply_backward", "no_a_mask", {"outer": 3, "C": 5, "inner": 12, "b_channels": 1, "_no_db": True}),
    ("multiply_backward", "no_a_full", {"outer": 3, "C": 5, "inner": 12, "b_channels": 5, "_no_db": True}),
    ("multiply_forward", "two", {"outer": 3, "C": 5, "inner": 2, "b_channels": 2, "_refused": "must be 1 or the 5 channels"}),
]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    t = {
        "a": rng.standard_normal((a["outer"], a["C"], a["inner"])),
        "b": rng.standard_normal((a["outer"], a["b_channels"], a["inner"])),
    }
    if entry == "multiply_backward":
        t["dy"] = rng.standard_normal(t["a"].shape)
        if a.get("_no_db"):
            del t["a"]
    return t


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    b = inputs["b"].reshape(a["outer"], a["b_channels"], a["inner"])
    shape = (a["outer"], a["C"], a["inner"])
    if entry == "multiply_forward":
        return {"y": inputs["a"].reshape(shape) * b}
    dy = inputs["dy"].reshape(shape)
    if "a" not in inputs:
        return {"da": dy * b}
    db = dy * inputs["a"].reshape(shape)
    return {"da": dy * b, "db": db.sum(axis=1, keepdims=True) if a["b_channels"] == 1 else db}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    if "a" not in inputs:
        inputs["a"] = np.ones_like(inputs["dy"])
    return lambda t: float((reference("multiply_forward", attributes, t)["y"] * t["dy"]).sum()), {"da": "a", "db": "b"}


GRADIENTS = {"multiply_backward": _scalar}
