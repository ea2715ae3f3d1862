"""Depth to space in both element orders, and back; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1, 1, 1),
    "pair": (2, 3, 4, 5, 2),
    "prime": (1, 7, 3, 11, 3),
    "channels": (2, 33, 4, 4, 2),
    "one_pixel": (5, 4, 1, 1, 2),
    "wide": (1, 1, 3, 65, 4),
    "vector": (1, 16, 8, 8, 2),
    "blocks": (1, 2, 2, 3, 5),
    "nothing": (0, 2, 3, 3, 2),
}
CASES = [
    (
        "depth_to_space",
        f"{name}_{order}_{layout}{'_inverse' * inverse}",
        {"N": n, "C": c, "H": h, "W": w, "block": block, "order": order, "layout": layout, "inverse": inverse},
    )
    for name, (n, c, h, w, block) in SHAPES.items()
    for order in ("dcr", "crd", "phases")
    for layout in ("nchw", "nhwc")
    for inverse in (0, 1)
]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    return {"x": rng.standard_normal(a["N"] * a["C"] * a["H"] * a["W"] * a["block"] ** 2)}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    """wide[n, c, h * block + i, w * block + j] = deep[n, k, h, w], one (i, j) and channel at a time."""
    a = attributes
    n, c, h, w, block = (a[k] for k in ("N", "C", "H", "W", "block"))
    if a["order"] == "phases":  # the phases' whole maps one after the other: dcr with its phases moved to the front
        inner = (n, block**2, c, h, w) if a["layout"] == "nchw" else (n, h, w, block**2, c)
        front = (1, 0, 2, 3, 4) if a["layout"] == "nchw" else (3, 0, 1, 2, 4)
        x = inputs["x"]
        if not a["inverse"]:
            x = x.reshape([inner[i] for i in front]).transpose(np.argsort(front))
        y = reference(entry, a | {"order": "dcr"}, {"x": x.reshape(-1)})["y"]
        return {"y": y.reshape(inner).transpose(front) if a["inverse"] else y}
    deep_shape, wide_shape = (n, c * block**2, h, w), (n, c, h * block, w * block)
    shape = wide_shape if a["inverse"] else deep_shape
    x = inputs["x"]
    x = x.reshape(shape) if a["layout"] == "nchw" else x.reshape(*(shape[i] for i in (0, 2, 3, 1))).transpose(0, 3, 1, 2)
    y = np.empty(deep_shape if a["inverse"] else wide_shape)
    for i in range(block):
        for j in range(block):
            for channel in range(c):
                k = (i * block + j) * c + channel if a["order"] == "dcr" else channel * block**2 + i * block + j
                if a["inverse"]:
                    y[:, k] = x[:, channel, i::block, j::block]
                else:
                    y[:, channel, i::block, j::block] = x[:, k]
    return {"y": y if a["layout"] == "nchw" else y.transpose(0, 2, 3, 1)}


def tolerance(entry: str, attributes: Attributes) -> float:
    return 0.0  # moves bits


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    """One direction is the gradient of the other: of sum(x * other(z)) with respect to z."""
    inputs["z"] = np.zeros_like(inputs["x"])
    other = attributes | {"inverse": 1 - attributes["inverse"]}
    return lambda t: float((reference("depth_to_space", other, {"x": t["z"]})["y"].reshape(-1) * t["x"]).sum()), {"y": "z"}


GRADIENTS = {"depth_to_space": _scalar}
