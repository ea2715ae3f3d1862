"""A bias per channel and an activation in float64; cases for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle import activation

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1), "nchw": (3, 5, 12), "nhwc": (36, 5, 1), "nhwc_aligned": (130, 32, 1), "nchw_aligned": (2, 4, 1024),
    "few_channels": (1001, 3, 1), "prime": (2, 7, 131), "wide": (3, 1025, 1), "small_maps": (3, 33, 4), "nothing": (0, 3, 4),
    "odd_planes": (2, 3, 4099),
}  # fmt: skip
KINDS = {"none": 0.0, "relu": 0.0, "leaky_relu": 0.1, "sigmoid": 0.0}
CASES = [
    (
        "bias_activation",
        f"{name}_{kind}{'' if bias else '_no_bias'}",
        {"outer": outer, "C": c, "inner": inner, "activation": kind, "negative_slope": slope, "_bias": bias},
    )
    for bias in (True, False)
    for kind, slope in KINDS.items()
    for name, (outer, c, inner) in SHAPES.items()
    if (bias and kind == "relu") or name in ("nchw", "nhwc", "nhwc_aligned")
]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    t = {"x": rng.standard_normal((a["outer"], a["C"], a["inner"]))}
    return t | ({"bias": rng.standard_normal(a["C"])} if a["_bias"] else {})


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    x = inputs["x"].reshape(a["outer"], a["C"], a["inner"])
    bias = inputs["bias"][:, None] if "bias" in inputs else 0.0
    return {"y": activation(x + bias, a["activation"], a["negative_slope"])}


GRADIENTS: dict[str, Any] = {}  # its gradient is that of the activation, and a sum over the channel
