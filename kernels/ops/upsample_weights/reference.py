"""The four 2x2 phases of a 3x3 convolution after a nearest upsample by two, and the adjoint, in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {"one": (1, 1), "few": (3, 5), "rgb": (3, 64), "prime": (17, 13), "square": (32, 32), "tall": (257, 2)}
CASES = [
    (
        "upsample_weights",
        f"{name}_{layout}{'_adjoint' * adjoint}",
        {"C_out": c_out, "C_in": c_in, "layout": layout, "adjoint": adjoint},
    )
    for name, (c_out, c_in) in SHAPES.items()
    for layout in ("oihw", "ohwi", "hwio")
    for adjoint in (0, 1)
]
TAPS = {0: ((0,), (1, 2)), 1: ((0, 1), (2,))}  # phase: the taps of three that fall on each of two
AXES = {"oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1), "hwio": (2, 3, 1, 0)}


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    return {"x": rng.standard_normal((16 if a["adjoint"] else 9) * a["C_out"] * a["C_in"])}


def _logical(a: Attributes, t: Array, side: int) -> Array:
    axes = AXES[a["layout"]]
    shape = (a["C_out"], a["C_in"], side, side)
    return t.reshape([shape[i] for i in axes]).transpose(np.argsort(axes))


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a, axes = attributes, AXES[attributes["layout"]]
    two = (0, 1)
    places = [(2 * i + j, u, v, k, m) for i, j, u, v in product(two, two, two, two) for k in TAPS[i][u] for m in TAPS[j][v]]
    if not a["adjoint"]:
        w = _logical(a, inputs["x"], 3)
        phases = np.zeros((4, *w.shape[:2], 2, 2))
        for p, u, v, k, m in places:
            phases[p, :, :, u, v] += w[:, :, k, m]
        return {"y": phases.transpose(0, *(1 + i for i in axes))}
    phases = np.stack([_logical(a, part, 2) for part in inputs["x"].reshape(4, -1)])
    w = np.zeros((*phases.shape[1:3], 3, 3))
    for p, u, v, k, m in places:
        w[:, :, k, m] += phases[p, :, :, u, v]
    return {"y": w.transpose(axes)}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    """One direction is the gradient of the other: of sum(x * other(z)) with respect to z."""
    other = attributes | {"adjoint": 1 - attributes["adjoint"]}
    inputs["z"] = np.zeros((16 if other["adjoint"] else 9) * attributes["C_out"] * attributes["C_in"])
    return lambda t: float((reference("upsample_weights", other, {"x": t["z"]})["y"].reshape(-1) * t["x"]).sum()), {"y": "z"}


GRADIENTS = {"upsample_weights": _scalar}
