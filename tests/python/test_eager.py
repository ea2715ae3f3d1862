"""warploom.ops: NumPy in and out, against the float64 oracle; and the sentences for wrong arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracle
import pytest
import warploom as wl
from warploom.ground import hardware

RNG = np.random.default_rng(7)
Array = Any


def arrays(*shapes: tuple[int, ...]) -> list[Array]:
    return [RNG.integers(-3, 4, shape).astype(np.float32) for shape in shapes]


def close(got: Array, expected: Array) -> None:
    assert got.dtype == np.float32
    assert got.shape == np.shape(expected)
    error = np.abs(got - expected).max(initial=0.0)
    assert not error > 2e-4 * (1 + np.abs(expected).max(initial=0.0)), error


def _targets() -> list[Any]:
    found = [("cpu", "cpu")] if any(d["name"] == "cpu" and d["usable"] for d in hardware.devices()) else []
    kinds = {d["name"]: d["versions"] for d in hardware.devices() if d["usable"]}
    found += [("emulated", v) for v in kinds.get("emulated", [])]
    gpu = [pytest.param("cuda:0", v, marks=pytest.mark.gpu) for v in kinds.get("cuda:0", [])]
    return [*found, *gpu]


@pytest.mark.parametrize(("device", "version"), _targets())
class TestAgainstOracle:
    @pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, (0, 1), 1), ((1, 2), (1, 0, 2, 1), 2)])
    def test_conv2d(self, device: str, version: str, stride: Any, padding: Any, groups: int) -> None:
        x, w, b = arrays((2, 4, 7, 6), (6, 4 // groups, 3, 3), (6,))
        pair = stride if isinstance(stride, tuple) else (stride, stride)
        p = (padding,) * 4 if isinstance(padding, int) else (padding[0], padding[0], padding[1], padding[1])
        pad = padding if isinstance(padding, tuple) and len(padding) == 4 else p
        on = {"device": device, "version": version}
        y = wl.ops.conv2d(x, w, b, stride=stride, padding=padding, groups=groups, **on)
        close(y, oracle.conv2d(x, w, b, stride=pair, pad=pad, groups=groups))
        (dy,) = arrays(y.shape)
        got = wl.ops.conv2d_backward(dy, x, w, stride=stride, padding=padding, groups=groups, **on)
        for a, e in zip(got, oracle.conv2d_backward(dy, x, w, stride=pair, pad=pad, groups=groups), strict=True):
            close(a, e)

    @pytest.mark.parametrize("groups", [1, 2])
    def test_conv_transpose2d(self, device: str, version: str, groups: int) -> None:
        x, w, b = arrays((2, 4, 5, 4), (4, 3, 3, 3), (3 * groups,))
        on = {"device": device, "version": version, "stride": 2, "padding": 1, "groups": groups}
        y = wl.ops.conv_transpose2d(x, w, b, output_padding=1, **on)
        assert y.shape == (2, 3 * groups, 10, 8)
        zeros = np.zeros(y.shape)
        expected, _, _ = oracle.conv2d_backward(x, zeros, w, stride=(2, 2), pad=(1, 1, 1, 1), groups=groups)
        close(y, expected + b[:, None, None])
        (dy,) = arrays(y.shape)
        dx, dw, db = wl.ops.conv_transpose2d_backward(dy, x, w, output_padding=1, **on)
        close(dx, oracle.conv2d(dy, w, stride=(2, 2), pad=(1, 1, 1, 1), groups=groups))
        close(dw, oracle.conv2d_backward(x, dy, w, stride=(2, 2), pad=(1, 1, 1, 1), groups=groups)[1])
        close(db, dy.sum((0, 2, 3)))

    def test_linear(self, device: str, version: str) -> None:
        x, w, b, dy = arrays((3, 7), (5, 7), (5,), (3, 5))
        on = {"device": device, "version": version}
        close(wl.ops.linear(x, w, b, **on), x @ w.T + b)
        for a, e in zip(wl.ops.linear_backward(dy, x, w, **on), (dy @ w, dy.T @ x, dy.sum(0)), strict=True):
            close(a, e)

    @pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, 2), (2, 1), ((3, 2), (2, 3))])
    def test_max_pool2d(self, device: str, version: str, kernel: Any, stride: Any) -> None:
        (x,) = arrays((2, 3, 7, 8))
        k = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        s = k if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
        on = {"device": device, "version": version}
        y, index = wl.ops.max_pool2d(x, kernel, stride=stride, **on)
        expected, places = oracle.max_pool2d(x, k, s)
        close(y, expected)
        np.testing.assert_array_equal(index, places)
        (dy,) = arrays(y.shape)
        dx = oracle.max_pool2d_backward(dy, places, x.shape)
        close(wl.ops.max_pool2d_backward(dy, index, x.shape, **on), dx)  # windows read off the index
        close(wl.ops.max_pool2d_backward(dy, index, x.shape, kernel_size=kernel, stride=stride, **on), dx)

    @pytest.mark.parametrize("mode", ["nearest", "bilinear"])
    def test_upsample(self, device: str, version: str, mode: str) -> None:
        (x,) = arrays((2, 3, 4, 5))
        on: dict[str, Any] = {"mode": mode, "device": device, "version": version}
        y = wl.ops.upsample(x, (2, 3), **on)
        close(y, oracle.upsample(x, (2, 3), mode))
        (dy,) = arrays(y.shape)
        close(wl.ops.upsample_backward(dy, x.shape, **on), oracle.upsample_backward(dy, (2, 3), mode))

    def test_pointwise(self, device: str, version: str) -> None:
        x, dy = arrays((3, 5, 2), (3, 5, 2))
        on = {"device": device, "version": version}
        for kind, slope in (("relu", 0.0), ("leaky_relu", 0.2), ("sigmoid", 0.0)):
            forward, backward = getattr(wl.ops, kind), getattr(wl.ops, f"{kind}_backward")
            extra = (slope,) if kind == "leaky_relu" else ()
            y = oracle.activation(x.astype(float), kind, slope)
            close(forward(x, *extra, **on), y)
            close(backward(dy, x, *extra, **on), oracle.activation_backward(dy, y, kind, slope))
        close(wl.ops.add(x, dy, **on), x + dy)
        loss, grad = wl.ops.mse_loss(x, dy, **on)
        value, gradient = oracle.mse_loss(x, dy)
        assert loss == pytest.approx(value, rel=1e-6)
        close(grad, gradient)


X, W = np.zeros((1, 3, 5, 5), np.float32), np.zeros((4, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: wl.ops.conv2d(X.astype(float), W), TypeError, "x must be float32, not float64"),
        (lambda: wl.ops.conv2d([1.0], W), TypeError, "x must be a NumPy array, not list"),
        (lambda: wl.ops.conv2d(X[0], W), ValueError, "x must have 4 dimensions, not 3"),
        (lambda: wl.ops.conv2d(X, W[:, :2]), ValueError, "wants 2 input channels, but x has 3"),
        (lambda: wl.ops.conv2d(X, W, groups=2), ValueError, "groups=2 must divide the channels in (3)"),
        (lambda: wl.ops.conv2d(X, W, np.zeros(3, np.float32)), ValueError, "bias has shape (3,), but there are 4"),
        (lambda: wl.ops.conv2d(X[:, :, :2], W), ValueError, "the kernel 3x3 is larger than the padded input 2x5"),
        (lambda: wl.ops.conv2d(X, W, padding=(1, 2, 3)), ValueError, "padding must be a number, (height, width)"),
        (lambda: wl.ops.conv2d(X, W, stride=0), ValueError, "stride must be at least 1"),
        (lambda: wl.ops.conv2d(X, W, version="v99"), ValueError, "unknown version 'v99'"),
        (lambda: wl.ops.conv2d(X, W, device="gpu"), ValueError, "unknown device 'gpu'"),
        (lambda: wl.ops.conv2d_backward(X, X, W), ValueError, "dy has shape (1, 3, 5, 5), but the convolution's output"),
        (lambda: wl.ops.max_pool2d(X, 6), ValueError, "window 6x6 is larger than the input 5x5"),
        (lambda: wl.ops.max_pool2d_backward(X, X, (1, 3, 9, 9)), TypeError, "index must hold integers"),
        (lambda: wl.ops.upsample(X, 2, mode="cubic"), ValueError, "unknown mode 'cubic'"),
        (lambda: wl.ops.upsample_backward(X, (1, 3, 2, 2)), ValueError, "no whole multiple"),
        (lambda: wl.ops.add(X, W), ValueError, "they must be equal"),
        (lambda: wl.ops.mse_loss(X, W), ValueError, "prediction has shape"),
        (lambda: wl.ops.conv_transpose2d(X, W), ValueError, "wants 4 input channels, but x has 3"),
        (lambda: wl.ops.conv_transpose2d(X, W[:3], output_padding=1), ValueError, "must be smaller than the stride"),
    ],
)
def test_wrong_arguments(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_empty_pointwise() -> None:
    assert wl.ops.relu(np.zeros((0, 3), np.float32)).shape == (0, 3)
