"""Activations, addition and losses: operations that look at one element at a time."""

import math

import numpy as np

from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import float32, number, require
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed


def _activation(kind: str, x: Array, slope: float, version: str, device: str) -> Floats:
    x = float32(x, "x")
    if not x.size:
        return np.empty_like(x)
    a = {"count": x.size, "kind": kind, "negative_slope": slope}
    y = Kernels(version, device).call("activation_forward", a, {"x": x.reshape(-1)}, {"y": (x.size,)})[0]
    return y.reshape(x.shape)


def _activation_backward(kind: str, dy: Array, y: Array, slope: float, what: str, version: str, device: str) -> Floats:
    dy, y = float32(dy, "dy"), float32(y, what)
    require(dy.shape == y.shape, f"{kind}_backward: dy has shape {dy.shape}, but {what} has shape {y.shape}")
    if not dy.size:
        return np.empty_like(dy)
    a = {"count": dy.size, "kind": kind, "negative_slope": slope}
    inputs = {"dy": dy.reshape(-1), "y": y.reshape(-1)}
    return Kernels(version, device).call("activation_backward", a, inputs, {"dx": (dy.size,)})[0].reshape(dy.shape)


@placed
def relu(x: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """max(x, 0)."""
    return _activation("relu", x, 0.0, version, device)


@placed
def relu_backward(dy: Array, x: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """dx of relu; x may be its input or its output."""
    return _activation_backward("relu", dy, x, 0.0, "x", version, device)


@placed
def leaky_relu(x: Array, negative_slope: float = 0.01, *, version: str = "auto", device: str = "auto") -> Floats:
    """x where positive, else negative_slope * x."""
    return _activation("leaky_relu", x, number(negative_slope, "negative_slope", 0.0), version, device)


@placed
def leaky_relu_backward(
    dy: Array, x: Array, negative_slope: float = 0.01, *, version: str = "auto", device: str = "auto"
) -> Floats:
    """dx of leaky_relu; x may be its input or its output."""
    return _activation_backward("leaky_relu", dy, x, number(negative_slope, "negative_slope", 0.0), "x", version, device)


@placed
def sigmoid(x: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """1 / (1 + exp(-x))."""
    return _activation("sigmoid", x, 0.0, version, device)


@placed
def sigmoid_backward(dy: Array, x: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """dx of sigmoid for its input x."""
    y = sigmoid(x, version=version, device=device)
    return _activation_backward("sigmoid", dy, y, 0.0, "x", version, device)


@placed
def mse_loss(prediction: Array, target: Array, *, version: str = "auto", device: str = "auto") -> tuple[float, Floats]:
    """(mean of (prediction - target)² over all elements, its gradient by the prediction)."""
    prediction, target = float32(prediction, "prediction"), float32(target, "target")
    require(prediction.shape == target.shape, f"mse_loss: prediction has shape {prediction.shape}, target {target.shape}")
    require(prediction.size > 0, "mse_loss: the arrays are empty")
    count = math.prod(prediction.shape)
    a = {"count": count, "samples": prediction.shape[0] if prediction.ndim else 1, "weight": 1.0}
    inputs = {"prediction": prediction.reshape(-1), "target": target.reshape(-1)}
    loss, grad = Kernels(version, device).call("mse_loss", a, inputs, {"loss": (1,), "grad": (count,)})
    return float(loss[0]), grad.reshape(prediction.shape)


@placed
def add(a: Array, b: Array, *, version: str = "auto", device: str = "auto") -> Floats:
    """a + b, of equal shapes."""
    a, b = float32(a, "a"), float32(b, "b")
    require(a.shape == b.shape, f"add: a has shape {a.shape}, b has shape {b.shape}; they must be equal")
    if not a.size:
        return np.empty_like(a)
    inputs = {"a": a.reshape(-1), "b": b.reshape(-1)}
    return Kernels(version, device).call("add", {"count": a.size}, inputs, {"y": (a.size,)})[0].reshape(a.shape)


@placed
def add_backward(dy: Array, a: Array, b: Array, *, version: str = "auto", device: str = "auto") -> tuple[Floats, Floats]:
    """(da, db) of add: dy goes to both as it is."""
    dy = float32(dy, "dy")
    require(np.shape(a) == np.shape(b) == dy.shape, f"add_backward: dy has shape {dy.shape}, a {np.shape(a)}, b {np.shape(b)}")
    Kernels(version, device)  # a version or device that is not there is an error here too
    return dy.copy(), dy.copy()
