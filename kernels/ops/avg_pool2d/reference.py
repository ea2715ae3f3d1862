"""Average pooling without padding in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {  # N, C, H, W, KH, KW, stride_h, stride_w
    "one": (1, 1, 1, 1, 1, 1, 1, 1),
    "halves": (2, 3, 4, 6, 2, 2, 2, 2),
    "floor": (1, 5, 7, 5, 2, 2, 2, 2),
    "overlap": (1, 3, 8, 8, 3, 3, 2, 2),
    "slide": (2, 4, 7, 7, 3, 3, 1, 1),
    "unequal": (1, 2, 9, 10, 2, 3, 1, 2),
    "gaps": (1, 3, 9, 9, 2, 2, 3, 3),
    "channels": (1, 33, 6, 6, 2, 2, 2, 2),
    "whole_map": (3, 17, 5, 5, 5, 5, 1, 1),
    "vector": (2, 16, 33, 31, 2, 2, 2, 2),
    "line": (1, 4, 1, 9, 1, 3, 1, 1),
    "aligned": (1, 8, 16, 64, 2, 2, 2, 2),
    "global": (2, 64, 7, 7, 7, 7, 7, 7),
    "nothing": (0, 2, 4, 4, 2, 2, 2, 2),
    "thirds": (1, 5, 9, 12, 3, 3, 3, 3),
    "tall": (1, 3, 40, 3, 4, 2, 4, 1),
}
NAMES = ("N", "C", "H", "W", "KH", "KW", "stride_h", "stride_w")


def _attributes(shape: tuple[int, ...], layout: str) -> Attributes:
    a: Attributes = dict(zip(NAMES, shape, strict=True)) | {"layout": layout}
    return a | {"OH": (a["H"] - a["KH"]) // a["stride_h"] + 1, "OW": (a["W"] - a["KW"]) // a["stride_w"] + 1}


CASES = [
    (entry, f"{name}_{layout}", _attributes(shape, layout))
    for entry in ("avg_pool2d_forward", "avg_pool2d_backward")
    for name, shape in SHAPES.items()
    for layout in ("nchw", "nhwc")
]
CASES += [
    ("avg_pool2d_forward", "too_large", _attributes((1, 1, 2, 2, 3, 3, 1, 1), "nchw") | {"_refused": "larger than the input"})
]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a, backward = attributes, entry == "avg_pool2d_backward"
    size = a["N"] * a["C"] * (a["OH"] * a["OW"] if backward else a["H"] * a["W"])
    return {"dy" if backward else "x": rng.standard_normal(size)}


def _logical(a: Attributes, t: Array, h: int, w: int) -> Array:
    """As [N, C, h, w], whatever the layout."""
    if a["layout"] == "nchw":
        return t.reshape(a["N"], a["C"], h, w)
    return t.reshape(a["N"], h, w, a["C"]).transpose(0, 3, 1, 2)


def _stored(a: Attributes, t: Array) -> Array:
    return t if a["layout"] == "nchw" else t.transpose(0, 2, 3, 1)


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    forward = entry == "avg_pool2d_forward"
    big = _logical(a, inputs["x"], a["H"], a["W"]) if forward else np.zeros((a["N"], a["C"], a["H"], a["W"]))
    small = np.zeros((a["N"], a["C"], a["OH"], a["OW"])) if forward else _logical(a, inputs["dy"], a["OH"], a["OW"])
    for oh in range(a["OH"]):
        for ow in range(a["OW"]):
            top, left = oh * a["stride_h"], ow * a["stride_w"]
            window = big[:, :, top : top + a["KH"], left : left + a["KW"]]
            if forward:
                small[:, :, oh, ow] = window.mean(axis=(2, 3))
            else:
                window += small[:, :, oh, ow][:, :, None, None] / (a["KH"] * a["KW"])
    return {"y": _stored(a, small)} if forward else {"dx": _stored(a, big)}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    a = attributes
    inputs["x"] = np.zeros(a["N"] * a["C"] * a["H"] * a["W"])
    return lambda t: float((reference("avg_pool2d_forward", a, t)["y"].reshape(-1) * t["dy"]).sum()), {"dx": "x"}


GRADIENTS = {"avg_pool2d_backward": _scalar}
