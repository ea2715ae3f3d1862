"""Batch norm and RMS norm."""

from typing import Any

import numpy as np

from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import float32, number, require
from warploom.ground.hardware import layouts
from warploom.interop import Array as DeviceArray
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed


def _views(kernels: Kernels, shape: tuple[int, ...], entry: str) -> tuple[str, dict[str, Any]]:
    """The version, and maps as it sees them: [outer, C, inner]."""
    n, c, h, w = shape
    as_nchw, as_nhwc = {"outer": n, "C": c, "inner": h * w}, {"outer": n * h * w, "C": c, "inner": 1}
    version = kernels.pick(entry, {**as_nchw, "training": 0})
    return version, as_nchw if layouts(version)[0] == "nchw" else as_nhwc


def _vector(value: object, channels: int, what: str) -> Floats:
    array = float32(value, what, 1)
    require(array.shape == (channels,), f"{what} has shape {array.shape}, but there are {channels} channels")
    return array


@placed
def batch_norm(
    x: Array, gamma: Array | None, beta: Array | None, running_mean: Array, running_var: Array, *, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5, version: str = "auto", device: str = "auto",
) -> Floats:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * gamma + beta per channel.

    training: by the batch's own statistics, and running_mean and running_var, which must be float32 arrays, are moved in place by
    `momentum` towards its mean and unbiased variance. Else by the running ones.
    """
    x = float32(x, "x", 4)
    channels = x.shape[1]
    optional = {"gamma": gamma, "beta": beta}
    inputs: dict[str, Array] = {"x": x, **{k: _vector(v, channels, k) for k, v in optional.items() if v is not None}}
    running = {"running_mean": running_mean, "running_var": running_var}
    inputs.update((name, _vector(value, channels, name)) for name, value in running.items())
    require(x.size > 0, f"batch_norm: x {x.shape} must not be empty")
    count = x.size // channels
    require(not training or count > 1, "batch_norm: training needs more than one value per channel")
    kernels = Kernels(version, device)
    chosen, view = _views(kernels, x.shape, "batch_norm_forward")
    a = {**view, "training": int(training), "momentum": number(momentum, "momentum", 0.0, 1.0), "eps": number(eps, "eps", 0.0)}
    wanted = {"y": x.shape, "running_mean": (channels,), "running_var": (channels,)}
    y, *moved = kernels.call("batch_norm_forward", a, inputs, wanted if training else {"y": x.shape}, version=chosen)
    for value, new in zip(running.values(), moved, strict=False):
        _move(value, new)
    return y


def _move(value: Any, new: Any) -> None:
    """value[...] = new, wherever the two lie."""
    if isinstance(value, DeviceArray):
        value.assign(new)
    else:
        np.copyto(value, new.numpy() if isinstance(new, DeviceArray) else new)


@placed
def batch_norm_backward(
    dy: Array, x: Array, gamma: Array | None, running_mean: Array, running_var: Array, *, training: bool = False,
    eps: float = 1e-5, version: str = "auto", device: str = "auto",
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """(dx, dgamma, dbeta) of batch_norm. training: the statistics are x's own; else the running ones, which are constants."""
    dy, x = float32(dy, "dy", 4), float32(x, "x", 4)
    require(dy.shape == x.shape, f"batch_norm_backward: dy has shape {dy.shape}, but x has shape {x.shape}")
    require(x.size > 0, f"batch_norm_backward: x {x.shape} must not be empty")
    channels = x.shape[1]
    inputs: dict[str, Any] = {"dy": dy, "x": x}
    mean: Any
    variance: Any
    small = number(eps, "eps", 0.0)
    kernels = Kernels(version, device)
    if training and isinstance(x, DeviceArray):
        inputs["mean"], inputs["inv_std"] = _statistics(kernels, x, small)
    elif training:
        mean, variance = x.mean((0, 2, 3), dtype=np.float64), x.var((0, 2, 3), dtype=np.float64)
    else:
        mean, variance = (_vector(v, channels, w) for v, w in ((running_mean, "running_mean"), (running_var, "running_var")))
    if "mean" not in inputs:
        inputs["mean"] = mean if isinstance(mean, DeviceArray) else mean.astype(np.float32)
        on_host = variance.numpy() if isinstance(variance, DeviceArray) else variance
        inputs["inv_std"] = (1.0 / np.sqrt(on_host.astype(np.float64) + small)).astype(np.float32)
    if gamma is not None:
        inputs["gamma"] = _vector(gamma, channels, "gamma")
    chosen, view = _views(kernels, x.shape, "batch_norm_backward")
    shapes = {"dx": x.shape, "dgamma": (channels,), "dbeta": (channels,)}
    dx, dgamma, dbeta = kernels.call("batch_norm_backward", {**view, "training": int(training)}, inputs, shapes, version=chosen)
    return dx, dgamma, dbeta


def _statistics(kernels: Kernels, x: Floats, eps: float) -> list[Array]:
    """Mean and 1 / standard deviation of each channel, on the device where x lies: by the forward entry."""
    channels = x.shape[1]
    chosen, view = _views(kernels, x.shape, "batch_norm_forward")
    unused = {name: np.zeros(channels, np.float32) for name in ("running_mean", "running_var")}
    wanted: dict[str, tuple[int, ...]] = {"y": x.shape, "mean": (channels,), "inv_std": (channels,)}
    a = {**view, "training": 1, "eps": eps}
    return kernels.call("batch_norm_forward", a, {"x": x, **unused}, wanted, version=chosen)[1:]


@placed
def rms_norm(x: Array, *, eps: float = 1e-6, version: str = "auto", device: str = "auto") -> Floats:
    """x / sqrt(mean(x²) + eps), the mean over everything but the first axis."""
    return _rms_norm(x, eps, Kernels(version, device))[0]


@placed
def rms_norm_backward(dy: Array, x: Array, *, eps: float = 1e-6, version: str = "auto", device: str = "auto") -> Floats:
    """dx of rms_norm."""
    dy = float32(dy, "dy")
    kernels = Kernels(version, device)
    _, inv_rms = _rms_norm(x, eps, kernels)
    require(dy.shape == x.shape, f"rms_norm_backward: dy has shape {dy.shape}, but x has shape {x.shape}")
    rows = {"rows": x.shape[0], "cols": x.size // x.shape[0]}
    inputs = {"dy": dy.reshape(-1), "x": float32(x, "x").reshape(-1), "inv_rms": inv_rms}
    return kernels.call("rms_norm_backward", rows, inputs, {"dx": (x.size,)})[0].reshape(x.shape)


def _rms_norm(x: Array, eps: float, kernels: Kernels) -> tuple[Floats, Floats]:
    x = float32(x, "x")
    require(x.ndim > 1 and x.size > 0, f"rms_norm: x {x.shape} needs a batch axis and at least one value")
    a = {"rows": x.shape[0], "cols": x.size // x.shape[0], "eps": number(eps, "eps", 0.0)}
    y, inv_rms = kernels.call("rms_norm_forward", a, {"x": x.reshape(-1)}, {"y": (x.size,), "inv_rms": (x.shape[0],)})
    return y.reshape(x.shape), inv_rms
