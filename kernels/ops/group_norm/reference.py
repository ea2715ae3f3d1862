"""Group and layer normalisation in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

# (N, C, inner, groups)
SHAPES = {
    "one": (1, 1, 5, 1), "small": (2, 6, 12, 3), "one_group": (3, 5, 7, 1), "each_channel": (2, 4, 9, 4),
    "vector": (3, 130, 1, 2), "vector_layer": (5, 64, 1, 1), "aligned": (2, 32, 64, 8), "odd": (2, 33, 35, 11),
    "wide": (1, 70, 3, 2), "long": (1, 2, 4099, 1),
    "slices": (1, 8, 4100, 2), "many": (70, 4, 3, 2), "nothing": (0, 4, 3, 2), "few": (2, 12, 300, 4),
}  # fmt: skip


def _cases(entry: str, **more: Any) -> list[tuple[str, str, Attributes]]:
    return [
        (entry, f"{name}_{layout}", {"N": n, "C": c, "inner": inner, "groups": groups, "layout": layout} | more)
        for layout in ("nchw", "nhwc")
        for name, (n, c, inner, groups) in SHAPES.items()
    ]


def _one(entry: str, name: str, **more: Any) -> tuple[str, str, Attributes]:
    return entry, name, {"N": 2, "C": 6, "inner": 10, "groups": 2, "layout": "nhwc"} | more


CASES = [
    *_cases("group_norm_forward", eps=1e-5),
    _one("group_norm_forward", "plain", eps=1e-5, _affine=False),
    _one("group_norm_forward", "zeros", eps=1e-3, _std=0.0),
    _one("group_norm_forward", "offset", eps=1e-5, _mean=30.0),
    _one("group_norm_forward", "five_groups", eps=1e-5, groups=5, _refused="must divide"),
    *_cases("group_norm_backward"),
    _one("group_norm_backward", "plain", _affine=False),
    _one("group_norm_backward", "offset", _mean=5.0),
]


def _split(a: Attributes, x: Array) -> Array:
    """[N, groups, channels of a group, inner], whatever the layout."""
    n, c, inner = a["N"], a["C"], a["inner"]
    x = x.reshape(n, inner, c).transpose(0, 2, 1) if a["layout"] == "nhwc" else x.reshape(n, c, inner)
    return x.reshape(n, a["groups"], c // a["groups"], inner)


def _join(a: Attributes, x: Array) -> Array:
    n, c, inner = a["N"], a["C"], a["inner"]
    x = x.reshape(n, c, inner)
    return (x.transpose(0, 2, 1) if a["layout"] == "nhwc" else x).reshape(-1)


def _statistics(x: Array, eps: float) -> tuple[Array, Array]:
    mean = x.mean(axis=(2, 3), keepdims=True)
    return mean, 1.0 / np.sqrt(((x - mean) ** 2).mean(axis=(2, 3), keepdims=True) + eps)


def _per_channel(a: Attributes, values: Array | None, missing: float) -> Array:
    full = np.full(a["C"], missing) if values is None else values
    return full.reshape(1, a["groups"], -1, 1)


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    count = a["N"] * a["C"] * a["inner"]
    x = a.get("_mean", 0.0) + a.get("_std", 2.0) * rng.standard_normal(count)
    t = {"x": x}
    affine = a.get("_affine", True)
    if affine:
        t["gamma"] = 1.0 + 0.5 * rng.standard_normal(a["C"])
    if entry == "group_norm_forward":
        return t | ({"beta": rng.standard_normal(a["C"])} if affine else {})
    mean, inv_std = _statistics(_split(a, x), 1e-5)
    return t | {"dy": rng.standard_normal(count), "mean": mean.reshape(-1), "inv_std": inv_std.reshape(-1)}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    a, t = attributes, inputs
    x, gamma = _split(a, t["x"]), _per_channel(a, t.get("gamma"), 1.0)
    if entry == "group_norm_forward":
        mean, inv_std = _statistics(x, a["eps"])
        y = (x - mean) * inv_std * gamma + _per_channel(a, t.get("beta"), 0.0)
        return {"y": _join(a, y), "mean": mean.reshape(-1), "inv_std": inv_std.reshape(-1)}
    shape = (a["N"], a["groups"], 1, 1)
    mean, inv_std, dy = t["mean"].reshape(shape), t["inv_std"].reshape(shape), _split(a, t["dy"])
    normal = (x - mean) * inv_std
    g = dy * gamma
    dx = inv_std * (g - g.mean(axis=(2, 3), keepdims=True) - normal * (g * normal).mean(axis=(2, 3), keepdims=True))
    return {
        "dx": _join(a, dx),
        "dgamma": (dy * normal).sum(axis=(0, 3)).reshape(-1),
        "dbeta": dy.sum(axis=(0, 3)).reshape(-1),
    }


def magnitude(entry: str, attributes: Attributes, inputs: Tensors) -> dict[str, float]:
    """What errors are measured by, where terms cancel: x - mean against x, dx against its terms."""
    if not inputs["x"].size:
        return {}
    x, inv = _split(attributes, inputs["x"]), None
    largest = float(np.nanmax(np.abs(x)))
    if entry == "group_norm_forward":
        _, inv = _statistics(np.nan_to_num(x), attributes["eps"])
        gain = float(np.nanmax(np.abs(inputs.get("gamma", np.ones(1)))))
        return {"y": largest * float(inv.max()) * gain + 1.0, "mean": largest}
    inv_std, gain = float(np.nanmax(inputs["inv_std"])), float(np.nanmax(np.abs(inputs.get("gamma", np.ones(1)))))
    dy = float(np.nanmax(np.abs(inputs["dy"])))
    return {"dx": dy * gain * inv_std * (1.0 + largest * inv_std), "dgamma": dy * (1.0 + largest * inv_std) * 10.0}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    a = attributes

    def scalar(t: Tensors) -> float:
        x = _split(a, t["x"])
        mean, inv_std = _statistics(x, 1e-5)
        y = (x - mean) * inv_std * _per_channel(a, t.get("gamma"), 1.0) + _per_channel(a, t.get("beta"), 0.0)
        return float((y * _split(a, t["dy"])).sum())

    return scalar, {"dx": "x"} | ({"dgamma": "gamma"} if "gamma" in inputs else {})


GRADIENTS = {"group_norm_backward": _scalar}
