"""Batch normalisation in float64, its gradient, both in halves, and its folding into a convolution; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle import activation, activation_backward

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]


def _case(name: str, outer: int, c: int, inner: int, **more: Any) -> tuple[str, Attributes]:
    return name, {"outer": outer, "C": c, "inner": inner, "eps": 1e-5} | more


RELU = {"activation": "relu"}
LEAKY = {"activation": "leaky_relu", "negative_slope": 0.1}
SHAPES = [
    _case("nchw", 3, 5, 12, **RELU),
    _case("nhwc", 35, 6, 1, **LEAKY),
    _case("plain", 2, 4, 49),
    _case("sigmoid", 4, 3, 7, activation="sigmoid"),
    _case("two_values", 2, 3, 1),
    _case("two_values_in_a_map", 1, 2, 2, **RELU),
    _case("one_channel_nchw", 2, 1, 1000, **LEAKY),
    _case("one_channel_nhwc", 2000, 1, 1, **RELU),
    _case("few_channels_nhwc", 4097, 3, 1, **RELU),
    _case("four_channels_nchw", 2, 4, 64 * 33, **RELU),
    _case("many_channels_nhwc", 33, 257, 1, **RELU),
    _case("many_small_maps", 3, 131, 49, **LEAKY),
    _case("one_pixel_maps_nchw", 17, 64, 1, **RELU),
    _case("long_planes", 1, 2, 16387, **RELU),
    _case("many_images", 260, 3, 17, **RELU),
    _case("aligned_nhwc", 1024, 32, 1, **RELU),
    _case("aligned_nchw", 8, 8, 256, **LEAKY),
    _case("no_affine", 3, 5, 12, _without="gamma beta", **RELU),
    _case("no_gamma_nhwc", 40, 9, 1, _without="gamma"),
    _case("no_beta", 3, 4, 20, _without="beta", **LEAKY),
    _case("large_mean_nchw", 4, 3, 300, _mean=1000.0, _std=0.1, **RELU),
    _case("large_mean_nhwc", 1200, 5, 1, _mean=-1000.0, _std=0.1),
    _case("constant_channel", 2, 3, 50, _mean=3.0, _std=0.0, eps=1e-3),
    _case("tiny_values", 2, 3, 50, _std=1e-4),
]
TOO_FEW = [_case("one_value", 1, 3, 1, training=1, _refused="more than one value per channel")]


def _attributes(entry: str, a: Attributes, training: int) -> Attributes:
    if entry == "forward":
        return a | {"training": training, "momentum": 0.3}
    return {k: v for k, v in a.items() if k != "eps"} | {"training": training}


CASES = [
    *(
        (f"batch_norm_{entry}", f"{name}_{'training' if training else 'inference'}", _attributes(entry, a, training))
        for entry in ("forward", "backward")
        for training in (1, 0)
        for name, a in SHAPES
    ),
    *(("batch_norm_forward", name, a) for name, a in TOO_FEW),
    ("batch_norm_forward", "one_value_inference", _case("", 1, 3, 1, training=0)[1]),
    ("batch_norm_forward", "nothing_inference", _case("", 0, 3, 4, training=0)[1]),
    ("batch_norm_forward", "nothing_training", _case("", 0, 3, 4, training=1, _refused="more than one value per channel")[1]),
    ("batch_norm_backward", "nothing", {"outer": 0, "C": 3, "inner": 4, "training": 0}),
    *(
        ("batch_norm_fold", f"{name}{'_' * bool(without)}{without.replace(' ', '_')}", a | {"_without": without})
        for without in ("", "bias", "gamma beta", "bias gamma beta")
        for name, a in (_case("oihw", 1, 7, 27), _case("hwio", 27, 7, 1), _case("one", 1, 1, 1), _case("wide", 1, 65, 300))
    ),
]
# The halves, of a shard: the batch has `_others` more values per channel.
HALVES = ("batch_norm_moments", "batch_norm_apply", "batch_norm_gradient_sums", "batch_norm_gradient_apply")


def _half(entry: str, a: Attributes) -> Attributes:
    a = a | {"_others": 40}
    if entry == "batch_norm_apply":
        return a | {"momentum": 0.3}
    own = {"outer", "C", "inner"} | ({"activation", "negative_slope"} if "gradient" in entry else set())
    return {k: v for k, v in a.items() if k in own or (k.startswith("_") and (k != "_without" or entry == HALVES[3]))}


CASES += [
    *((entry, name, _half(entry, a)) for entry in HALVES for name, a in SHAPES),
    *((entry, "one_value", _half(entry, _case("", 1, 3, 1)[1])) for entry in HALVES),
    ("batch_norm_moments", "nothing", {"outer": 0, "C": 3, "inner": 4, "_refused": "at least one value per channel"}),
    ("batch_norm_apply", "one_value_running_stays", _case("", 1, 3, 1, _others=7, _without="running_mean running_var")[1]),
]
NO_NAN = {entry: {"y"} for entry in ("batch_norm_backward", *HALVES[2:])}  # y is NaN only where xhat is


def _wide(values: Array) -> Array:
    return values[None, :, None]


def _maps(a: Attributes, t: Array) -> Array:
    return t.reshape(a["outer"], a["C"], a["inner"])


def _beta(a: Attributes) -> Array:
    """Of the forward pass behind a backward case; far enough from 0 that no output sits on a kink."""
    return np.linspace(-0.51, 0.52, a["C"]) if a["C"] > 1 else np.array([0.1])


def _statistics(a: Attributes, x: Array, eps: float) -> tuple[Array, Array]:
    return x.mean(axis=(0, 2)), 1.0 / np.sqrt(x.var(axis=(0, 2)) + eps)


def _normalise(a: Attributes, x: Array, gamma: Array | None, beta: Array | None, mean: Array, inv_std: Array) -> Array:
    z = (x - _wide(mean)) * _wide(inv_std)
    z = z if gamma is None else z * _wide(gamma)
    z = z if beta is None else z + _wide(beta)
    return activation(z, a.get("activation", "none"), a.get("negative_slope", 0.0))


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    a = attributes
    c, shape = a["C"], (a["outer"], a["C"], a["inner"])
    gamma, beta = 1.0 + 0.3 * rng.standard_normal(c), 0.5 * rng.standard_normal(c)
    running = {"running_mean": 0.5 * rng.standard_normal(c), "running_var": 0.5 + rng.random(c)}
    if entry == "batch_norm_fold":
        t = {"w": rng.standard_normal(shape), "bias": rng.standard_normal(c), "gamma": gamma, "beta": beta, **running}
    else:
        mean, std = a.get("_mean", 0.3), a.get("_std", 1.5)
        x = mean * (1.0 + 0.1 * _wide(np.arange(c) % 3)) + std * rng.standard_normal(shape)
        x = x.astype(np.float32).astype(np.float64)  # statistics of what the entry will see
        t = {"x": x, "gamma": gamma}
        if entry == "batch_norm_moments":
            return {"x": x}
        if entry == "batch_norm_apply":
            t |= {"beta": beta, "moments": _moments(_batch(a, x)), **running}
        elif entry == "batch_norm_forward":
            t |= {"beta": beta, **running}
        elif entry in HALVES:
            t["mean"], t["inv_std"] = _statistics(a, _batch(a, x), 1e-5)
        elif a["training"]:
            t["mean"], t["inv_std"] = _statistics(a, x, 1e-5)
        else:
            t["mean"], t["inv_std"] = running["running_mean"] + mean, 1.0 / np.sqrt(running["running_var"] + 1e-5)
    for name in a.get("_without", "").split():
        t.pop(name, None)
    if entry in ("batch_norm_backward", *HALVES[2:]):
        t["dy"] = rng.standard_normal(shape)
        if a.get("activation", "none") != "none":
            t["y"] = _normalise(a, t["x"], t.get("gamma"), _beta(a), t["mean"], t["inv_std"])
    if entry == "batch_norm_gradient_sums":
        t.pop("gamma")
    if entry == "batch_norm_gradient_apply":
        share, others = _share(a), _others(a)
        y = _normalise(a, others, t.get("gamma"), _beta(a), t["mean"], t["inv_std"])
        rest = {"x": others, "dy": _others_dy(a), "y": y, "mean": t["mean"], "inv_std": t["inv_std"]}
        own, theirs = _gradient_sums(a, t)["sums"], _gradient_sums(a | {"outer": 1, "inner": a["_others"]}, rest)["sums"]
        t["sums"] = share * own + (1 - share) * theirs
    return t


def _others(a: Attributes) -> Array:
    """x of the other shards."""
    mean, std = a.get("_mean", 0.3), a.get("_std", 1.5)
    return mean + std * (0.2 + np.random.default_rng(7).standard_normal((1, a["C"], a["_others"])))


def _others_dy(a: Attributes) -> Array:
    return np.random.default_rng(8).standard_normal((1, a["C"], a["_others"]))


def _share(a: Attributes) -> float:
    """Of the batch, in this shard."""
    own = a["outer"] * a["inner"]
    return float(own / (own + a["_others"]))


def _batch(a: Attributes, x: Array) -> Array:
    """All values of a channel in a row: (1, C, values)."""
    c = a["C"]
    return np.concatenate([x.transpose(1, 0, 2).reshape(c, -1), _others(a).transpose(1, 0, 2).reshape(c, -1)], axis=1)[None]


def _forward(a: Attributes, t: Tensors) -> Tensors:
    x = _maps(a, t["x"])
    running_mean, running_var = t["running_mean"], t["running_var"]
    if a["training"]:
        count, momentum = a["outer"] * a["inner"], a["momentum"]
        mean, inv_std = _statistics(a, x, a["eps"])
        unbiased = x.var(axis=(0, 2)) * count / (count - 1)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * unbiased
    else:
        mean, inv_std = running_mean, 1.0 / np.sqrt(running_var + a["eps"])
    y = _normalise(a, x, t.get("gamma"), t.get("beta"), mean, inv_std)
    return {"y": y, "mean": mean, "inv_std": inv_std, "running_mean": running_mean, "running_var": running_var}


def _gradient_before_activation(a: Attributes, t: Tensors) -> Array:
    kind = a.get("activation", "none")
    return _maps(a, t["dy"] if kind == "none" else activation_backward(t["dy"], t["y"], kind, a.get("negative_slope", 0.0)))


def _backward(a: Attributes, t: Tensors) -> Tensors:
    g = _gradient_before_activation(a, t)
    xhat = (_maps(a, t["x"]) - _wide(t["mean"])) * _wide(t["inv_std"])
    dbeta, dgamma = g.sum(axis=(0, 2)), (g * xhat).sum(axis=(0, 2))
    slope = t["inv_std"] * t.get("gamma", 1.0)
    if a["training"]:
        count = a["outer"] * a["inner"]
        g = g - _wide(dbeta) / count - xhat * _wide(dgamma) / count
    return {"dx": _wide(slope) * g, "dgamma": dgamma, "dbeta": dbeta}


def _moments(x: Array) -> Array:
    mean = x.mean(axis=(0, 2))
    return np.concatenate([mean, ((x - _wide(mean)) ** 2).sum(axis=(0, 2)), [x[:, 0].size]])


def _apply(a: Attributes, t: Tensors) -> Tensors:
    c, momentum = a["C"], a.get("momentum", 0.1)
    mean, centred, count = t["moments"][:c], t["moments"][c:-1], t["moments"][-1]
    inv_std = 1.0 / np.sqrt(centred / count + a["eps"])
    y = _normalise(a, _maps(a, t["x"]), t.get("gamma"), t.get("beta"), mean, inv_std)
    moved = {}
    if "running_mean" in t:
        moved["running_mean"] = (1 - momentum) * t["running_mean"] + momentum * mean
        moved["running_var"] = (1 - momentum) * t["running_var"] + momentum * centred / (count - 1)
    return {"y": y, "mean": mean, "inv_std": inv_std, **moved}


def _gradient_sums(a: Attributes, t: Tensors) -> Tensors:
    g = _gradient_before_activation(a, t)
    sums, products = g.sum(axis=(0, 2)), (g * (_maps(a, t["x"]) - _wide(t["mean"]))).sum(axis=(0, 2))
    return {"sums": np.concatenate([sums, products]), "dgamma": products * t["inv_std"], "dbeta": sums}


def _gradient_apply(a: Attributes, t: Tensors) -> Tensors:
    c, count = a["C"], a["outer"] * a["inner"]
    g = _gradient_before_activation(a, t)
    xhat = (_maps(a, t["x"]) - _wide(t["mean"])) * _wide(t["inv_std"])
    g = g - _wide(t["sums"][:c]) / count - xhat * _wide(t["sums"][c:] * t["inv_std"]) / count
    return {"dx": _wide(t["inv_std"] * t.get("gamma", 1.0)) * g}


def _fold(a: Attributes, t: Tensors) -> Tensors:
    scale = t.get("gamma", 1.0) / np.sqrt(t["running_var"] + a["eps"])
    b_out = (t.get("bias", 0.0) - t["running_mean"]) * scale + t.get("beta", 0.0)
    return {"w_out": _maps(a, t["w"]) * _wide(scale), "b_out": b_out}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    made = {
        "batch_norm_forward": _forward,
        "batch_norm_backward": _backward,
        "batch_norm_moments": lambda a, t: {"moments": _moments(_maps(a, t["x"]))},
        "batch_norm_apply": _apply,
        "batch_norm_gradient_sums": _gradient_sums,
        "batch_norm_gradient_apply": _gradient_apply,
        "batch_norm_fold": _fold,
    }
    return made[entry](attributes, inputs)


def magnitude(entry: str, attributes: Attributes, inputs: Tensors) -> dict[str, float]:
    """dx is a difference of terms of the size of gamma * inv_std * g, the sums add as many terms as a channel has values."""
    if "dy" not in inputs or not inputs["dy"].size:
        return {}
    slope = float(np.nanmax(np.abs(inputs["inv_std"] * inputs.get("gamma", 1.0))))
    count = attributes["outer"] * attributes["inner"]
    centred = _maps(attributes, inputs["x"]) - _wide(inputs["mean"])
    xhat = float(np.nanmax(np.abs(centred * _wide(inputs["inv_std"]))))
    g = count**0.5 * float(np.nanmax(np.abs(inputs["dy"])))
    sums = max(g, g * float(np.nanmax(np.abs(centred))))
    return {"dx": slope * g / count**0.5, "dbeta": g, "dgamma": g * xhat, "sums": sums}


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    """sum(dy * y) with the statistics made anew from x (training) or held (inference)."""
    a = attributes
    inputs["beta"] = _beta(a)

    def scalar(t: Tensors) -> float:
        x = _maps(a, t["x"])
        mean, inv_std = _statistics(a, x, 1e-5) if a["training"] else (t["mean"], t["inv_std"])
        return float((_normalise(a, x, t.get("gamma"), t["beta"], mean, inv_std) * _maps(a, t["dy"])).sum())

    return scalar, {"dx": "x", "dbeta": "beta"} | ({"dgamma": "gamma"} if "gamma" in inputs else {})


def _scalar_of_batch(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    """The mean over the batch of the shards' sum(dy * y), with the statistics of all made anew; in the scale of this shard."""
    a = attributes
    inputs["beta"] = _beta(a)

    def scalar(t: Tensors) -> float:
        x = _maps(a, t["x"])
        statistics = _statistics(a, _batch(a, x), 1e-5)
        own = (_normalise(a, x, t.get("gamma"), t["beta"], *statistics) * _maps(a, t["dy"])).sum()
        theirs = (_normalise(a, _others(a), t.get("gamma"), t["beta"], *statistics) * _others_dy(a)).sum()
        return float(own + theirs * (1 - _share(a)) / _share(a))

    return scalar, {"dx": "x"}


GRADIENTS = {"batch_norm_backward": _scalar, "batch_norm_gradient_apply": _scalar_of_batch}
