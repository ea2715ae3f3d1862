"""Winner-take-all sparsity in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES = {
    "one": (1, 1, 1), "vector": (7, 131, 1), "map": (5, 6, 12), "odd_map": (3, 7, 33), "pixel": (33, 5, 1), "long": (2, 3, 4099),
    "many_channels": (4, 300, 9), "many_samples": (600, 2, 3), "nothing": (0, 3, 4),
}  # fmt: skip


def _case(name: str, keep: int, layout: str, **more: Any) -> tuple[str, str, Attributes]:
    n, c, inner = SHAPES[name]
    label = "_".join([name, layout, str(keep), *(key.strip("_") for key in more)])
    return "winner_take_all_forward", label, {"N": n, "C": c, "inner": inner, "layout": layout, "keep": keep, **more}


def _gradient(name: str, layout: str) -> tuple[str, str, Attributes]:
    n, c, inner = SHAPES[name]
    return "winner_take_all_backward", f"{name}_{layout}", {"N": n, "C": c, "inner": inner, "layout": layout}


CASES = [
    *(_case(name, keep, layout) for layout in ("nchw", "nhwc") for name in SHAPES for keep in (1, 2)),
    *(_case("many_samples", keep, layout) for layout in ("nchw", "nhwc") for keep in (300, 599, 600, 1000)),
    *(_case(name, 2, layout, _ties=3) for layout in ("nchw", "nhwc") for name in ("map", "many_samples", "pixel")),
    *(_case("map", 2, layout, _zeros=True) for layout in ("nchw", "nhwc")),
    (*_case("map", 0, "nhwc")[:2], _case("map", 0, "nhwc")[2] | {"_refused": "at least one winner of a channel stays"}),
    *(_gradient(name, layout) for layout in ("nchw", "nhwc") for name in SHAPES),
]


def _maps(x: Array, a: Attributes) -> Array:
    """[N, C, inner]."""
    shape = (a["N"], a["C"], a["inner"])
    return x.reshape(shape) if a["layout"] == "nchw" else x.reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1)


def _stored(maps: Array, a: Attributes) -> Array:
    return (maps if a["layout"] == "nchw" else maps.transpose(0, 2, 1)).reshape(-1)


def winners(maps: Array, keep: int) -> Array:
    """[N, C]: the position of a winner that stays, -1 - position of one that does not."""
    if not maps.size:
        return np.zeros(maps.shape[:2], np.int64)
    order = np.where(np.isnan(maps), np.inf, maps)  # a NaN is larger than all, and an infinity than the rest: two passes
    order = np.where(np.isposinf(maps), np.finfo(float).max, order)
    at = order.argmax(axis=2)
    values = np.take_along_axis(order, at[:, :, None], 2)[:, :, 0]
    rank = np.argsort(np.argsort(-values, axis=0, kind="stable"), axis=0)
    return np.where(rank < keep, at, -1 - at)


def _left(maps: Array, winners: Array) -> Array:
    stays = np.arange(maps.shape[2]) == winners[:, :, None]
    return np.where(stays, maps, 0.0)


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    shape = (attributes["N"], attributes["C"], attributes["inner"])
    maps = rng.standard_normal(shape)
    if "_ties" in attributes:
        maps = rng.integers(0, attributes["_ties"], shape).astype(float)
    if "_zeros" in attributes:
        maps = np.where(rng.random(shape) < 0.5, -0.0, 0.0)
    if entry == "winner_take_all_forward":
        return {"x": _stored(maps, attributes)}
    found = winners(rng.standard_normal(shape), max(1, shape[0] // 2))
    return {"dy": _stored(maps, attributes), "winners": found.astype(np.int32).reshape(-1)}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a = attributes
    if entry == "winner_take_all_forward":
        maps = _maps(inputs["x"], a)
        found = winners(maps, a["keep"])
        return {"y": _stored(_left(maps, found), a), "winners": found.reshape(-1)}
    return {"dx": _stored(_left(_maps(inputs["dy"], a), inputs["winners"].reshape(a["N"], a["C"])), a)}


def tolerance(entry: str, attributes: Attributes) -> float:
    return 0.0  # moves bits


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    """Of maps whose winners are those that the case was given: larger where they stay than where they do not."""
    a = attributes
    found = inputs["winners"].reshape(a["N"], a["C"]).astype(int)
    keep = max(1, a["N"] // 2)
    maps = np.zeros((a["N"], a["C"], a["inner"]))
    at = np.where(found < 0, -1 - found, found)[:, :, None]
    np.put_along_axis(maps, at, np.where(found < 0, 5.0, 10.0)[:, :, None], 2)
    inputs["x"] = _stored(maps, a)
    forward = {**a, "keep": keep}
    return lambda t: float((reference("winner_take_all_forward", forward, t)["y"] * t["dy"].reshape(-1)).sum()), {"dx": "x"}


GRADIENTS = {"winner_take_all_backward": _scalar}
