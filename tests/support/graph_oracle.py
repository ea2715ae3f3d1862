"""A whole network in NumPy float64: forward, mean squared error and the gradients of every parameter, from Graph.describe().

Each operation is its forward function and the way a gradient goes back through it, on top of oracle.py. It knows nothing of
plans, fusions or layouts, so it can judge all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
from numpy.typing import NDArray

Array = NDArray[Any]
Node = dict[str, Any]
Back = Callable[[Array], tuple[list[Array], list[Array]]]  # dy -> (gradients of the inputs, of the parameters)


def _conv2d(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    a = node["attributes"]
    how = {"stride": tuple(a.get("stride", (1, 1))), "pad": tuple(a.get("padding", (0,) * 4)), "groups": a.get("groups", 1)}
    x, w, *bias = *inputs, *parameters

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        dx, dw, db = oracle.conv2d_backward(dy, x, w, **how)
        return [dx], [dw, db][: len(parameters)]

    return oracle.conv2d(x, w, *bias, **how), back


def _conv_transpose2d(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    a = node["attributes"]
    pad, stride = a.get("padding", (0, 0)), tuple(a.get("stride", (1, 1)))
    how = {"stride": stride, "pad": (pad[0], pad[0], pad[1], pad[1]), "groups": a.get("groups", 1)}
    x, w, *bias = *inputs, *parameters
    shape = (len(x), *node["output_shapes"][0])
    y = oracle.conv2d_backward(x, np.zeros(shape), w, **how)[0]  # the adjoint of the convolution that goes the other way
    if bias:
        y = y + bias[0][:, None, None]

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        _, dw, _ = oracle.conv2d_backward(x, dy, w, **how)
        return [oracle.conv2d(dy, w, **how)], [dw, dy.sum(axis=(0, 2, 3))][: len(parameters)]

    return y, back


def _linear(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    x, w, *bias = *inputs, *parameters
    return x @ w.T + (bias[0] if bias else 0.0), lambda dy: ([dy @ w], [dy.T @ x, dy.sum(axis=0)][: len(parameters)])


def _batch_norm(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    x, (gamma, beta, mean, var) = inputs[0], parameters
    axes = (0, 2, 3)[: x.ndim - 1]
    wide = (slice(None), *(None,) * (x.ndim - 2))
    if training:
        mean, var = x.mean(axis=axes), x.var(axis=axes)
    inv_std = 1.0 / np.sqrt(var + node["attributes"].get("eps", 1e-5))
    xhat = (x - mean[wide]) * inv_std[wide]

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        dgamma, dbeta, g = (dy * xhat).sum(axis=axes), dy.sum(axis=axes), dy * gamma[wide]
        if training:
            g = g - g.mean(axis=axes)[wide] - xhat * (g * xhat).mean(axis=axes)[wide]
        nothing = np.zeros_like(mean)
        return [g * inv_std[wide]], [dgamma, dbeta, nothing, nothing]

    return xhat * gamma[wide] + beta[wide], back


def _rms_norm(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    x = inputs[0]
    axes = tuple(range(1, x.ndim))
    r = 1.0 / np.sqrt((x * x).mean(axis=axes, keepdims=True) + node["attributes"].get("eps", 1e-6))
    return x * r, lambda dy: ([r * dy - x * r**3 * (dy * x).mean(axis=axes, keepdims=True)], [])


def _group_norm(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    x, groups = inputs[0], node["attributes"].get("groups", 1)
    wide = (None, slice(None), *([None] * (x.ndim - 2)))
    split = (len(x), groups, -1)
    mean = x.reshape(split).mean(axis=2, keepdims=True)
    inv_std = 1.0 / np.sqrt(x.reshape(split).var(axis=2, keepdims=True) + node["attributes"].get("eps", 1e-5))
    normal = ((x.reshape(split) - mean) * inv_std).reshape(x.shape)
    gamma, beta = parameters if parameters else (np.ones(x.shape[1]), np.zeros(x.shape[1]))
    axes = (0, *range(2, x.ndim))

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        g, n = (dy * gamma[wide]).reshape(split), normal.reshape(split)
        dx = inv_std * (g - g.mean(axis=2, keepdims=True) - n * (g * n).mean(axis=2, keepdims=True))
        return [dx.reshape(x.shape)], [(dy * normal).sum(axis=axes), dy.sum(axis=axes)] if parameters else []

    return normal * gamma[wide] + beta[wide], back


def _max_pool2d(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    a = node["attributes"]
    y, index = oracle.max_pool2d(inputs[0], tuple(a["kernel"]), tuple(a["stride"]))
    return y, lambda dy: ([oracle.max_pool2d_backward(dy, index, inputs[0].shape)], [])


def _avg_pool2d(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    a, channels = node["attributes"], inputs[0].shape[1]
    w = np.full((channels, 1, *a["kernel"]), 1.0 / np.prod(a["kernel"]))
    how = {"stride": tuple(a["stride"]), "groups": channels}
    return oracle.conv2d(inputs[0], w, **how), lambda dy: ([oracle.conv2d_backward(dy, inputs[0], w, **how)[0]], [])


def _upsample(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    scale, mode = tuple(node["attributes"]["scale"]), node["attributes"]["mode"]
    return oracle.upsample(inputs[0], scale, mode), lambda dy: ([oracle.upsample_backward(dy, scale, mode)], [])


def _activation(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    kind, slope = node["attributes"]["kind"], node["attributes"].get("negative_slope", 0.0)
    y = oracle.activation(inputs[0], kind, slope)
    at = inputs[0] if oracle.ACTIVATIONS[kind].from_input else y
    return y, lambda dy: ([oracle.activation_backward(dy, at, kind, slope)], [])


def _identity(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    return inputs[0], lambda dy: ([dy], [])


def _concat(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    ends = np.cumsum([x.shape[1] for x in inputs])[:-1]
    return np.concatenate(inputs, axis=1), lambda dy: (np.split(dy, ends, axis=1), [])


def _add(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    return sum(inputs[1:], inputs[0]), lambda dy: ([dy] * len(inputs), [])


def _multiply(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    a, b = inputs

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        db = dy * a
        return [dy * b, db if b.shape == a.shape else db.sum(axis=1, keepdims=True)], []

    return a * b, back


def _depth_to_space(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    n, deep, h, w = inputs[0].shape
    k, order = node["attributes"]["block"], node["attributes"]["order"]
    split = (n, k, k, deep // k**2, h, w) if order == "dcr" else (n, deep // k**2, k, k, h, w)
    axes = (0, 3, 4, 1, 5, 2) if order == "dcr" else (0, 1, 4, 2, 5, 3)
    y = inputs[0].reshape(split).transpose(axes)

    def back(dy: Array) -> tuple[list[Array], list[Array]]:
        return [dy.reshape(y.shape).transpose(np.argsort(axes)).reshape(inputs[0].shape)], []

    return y.reshape(n, deep // k**2, h * k, w * k), back


def _reshape(node: Node, inputs: list[Array], parameters: list[Array], training: bool) -> tuple[Array, Back]:
    x = inputs[0]
    return x.reshape(len(x), *node["output_shapes"][0]), lambda dy: ([dy.reshape(x.shape)], [])


OPERATIONS: dict[str, Callable[[Node, list[Array], list[Array], bool], tuple[Array, Back]]] = {
    "conv2d": _conv2d, "conv_transpose2d": _conv_transpose2d, "linear": _linear, "batch_norm": _batch_norm, "rms_norm": _rms_norm,
    "group_norm": _group_norm, "max_pool2d": _max_pool2d, "avg_pool2d": _avg_pool2d, "upsample": _upsample,
    "activation": _activation, "identity": _identity,
    "concat": _concat, "add": _add, "multiply": _multiply, "depth_to_space": _depth_to_space, "reshape": _reshape,
}  # fmt: skip


class Network:
    """A graph's description with parameter values, computed in float64."""

    def __init__(self, description: dict[str, Any], parameters: dict[str, Array]) -> None:
        self.description = description
        self.parameters = [np.asarray(parameters[p["name"]], float) for p in description["parameters"]]

    def _forward(self, inputs: list[Array], training: bool) -> tuple[dict[int, Array], list[Back]]:
        values = {v: np.asarray(x, float) for v, x in zip(self.description["inputs"], inputs, strict=True)}
        backs = []
        for node in self.description["nodes"]:
            weights = [self.parameters[p] for p in node["parameters"]]
            y, back = OPERATIONS[node["op"]](node, [values[v] for v in node["inputs"]], weights, training)
            values[node["outputs"][0]] = y
            backs.append(back)
        return values, backs

    def predict(self, inputs: list[Array], training: bool = False) -> list[Array]:
        values, _ = self._forward(inputs, training)
        return [values[v] for v in self.description["outputs"]]

    def gradients(self, inputs: list[Array], targets: list[Array], training: bool = True) -> tuple[float, dict[str, Array]]:
        """(the sum of the outputs' mean squared errors, its gradients by parameter name)."""
        values, backs = self._forward(inputs, training)
        dvalues: dict[int, Array] = {}
        loss = 0.0
        for v, target in zip(self.description["outputs"], targets, strict=True):
            value, gradient = oracle.mse_loss(values[v], np.asarray(target, float))
            loss += value
            dvalues[v] = dvalues.get(v, 0.0) + gradient
        dparameters = [np.zeros_like(p) for p in self.parameters]
        for node, back in zip(reversed(self.description["nodes"]), reversed(backs), strict=True):
            dy = dvalues.pop(node["outputs"][0], None)
            if dy is None:
                continue
            dinputs, dweights = back(dy)
            for v, d in zip(node["inputs"], dinputs, strict=True):
                dvalues[v] = dvalues.get(v, 0.0) + d
            for p, d in zip(node["parameters"], dweights, strict=True):
                dparameters[p] += d
        names = [p["name"] for p in self.description["parameters"]]
        return loss, dict(zip(names, dparameters, strict=True))
