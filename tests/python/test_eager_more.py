"""Eager operations around the convolutions, against plain NumPy in float64 and, where it is installed, PyTorch's gradients."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import warploom as wl
from test_eager import _targets, close

RNG = np.random.default_rng(11)
Array = Any
SHAPE = (3, 5, 4, 6)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed: its gradients cannot be compared")


def torch_gradients(torch: Any, function: Any, dy: Array, *inputs: Array) -> tuple[Array, list[Array]]:
    tensors = [torch.tensor(a).double().requires_grad_() for a in inputs]
    y = function(*tensors)
    y.backward(torch.tensor(dy).double())
    return y.detach().numpy(), [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize(("device", "version"), _targets())
class TestAgainstTorch:
    @pytest.mark.parametrize("training", [True, False])
    def test_batch_norm(self, device: str, version: str, training: bool, torch: Any) -> None:
        on: dict[str, Any] = {"device": device, "version": version, "training": training}
        x, dy, gamma, beta, mean = normal(*SHAPE), normal(*SHAPE), normal(5), normal(5), normal(5)
        variance = RNG.uniform(0.5, 2, 5).astype(np.float32)
        running = [torch.tensor(mean).double(), torch.tensor(variance).double()]

        def truth(a: Any, g: Any, b: Any) -> Any:
            return torch.nn.functional.batch_norm(a, *running, g, b, training, 0.2, 1e-3)

        gradients = wl.ops.batch_norm_backward(dy, x, gamma, mean, variance, eps=1e-3, **on)
        y = wl.ops.batch_norm(x, gamma, beta, mean, variance, momentum=0.2, eps=1e-3, **on)
        right, expected = torch_gradients(torch, truth, dy, x, gamma, beta)
        close(y, right)
        for got, e in zip((*gradients, mean, variance), (*expected, *(r.numpy() for r in running)), strict=True):
            close(got, e)  # the running statistics have moved in place

    def test_rms_norm(self, device: str, version: str, torch: Any) -> None:
        on = {"device": device, "version": version, "eps": 1e-3}
        x, dy = normal(*SHAPE), normal(*SHAPE)
        right, (dx,) = torch_gradients(torch, lambda a: a / (a.square().mean((1, 2, 3), keepdim=True) + 1e-3).sqrt(), dy, x)
        close(wl.ops.rms_norm(x, **on), right)
        close(wl.ops.rms_norm_backward(dy, x, **on), dx)

    @pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, 1), ((1, 3), (2, 2))])
    def test_avg_pool2d(self, device: str, version: str, kernel: Any, stride: Any, torch: Any) -> None:
        on = {"device": device, "version": version, "stride": stride}
        x = normal(*SHAPE)
        y = wl.ops.avg_pool2d(x, kernel, **on)
        dy = normal(*y.shape)
        right, (dx,) = torch_gradients(torch, lambda a: torch.nn.functional.avg_pool2d(a, kernel, stride), dy, x)
        close(y, right)
        close(wl.ops.avg_pool2d_backward(dy, x.shape, kernel, **on), dx)


@pytest.mark.parametrize(("device", "version"), _targets())
class TestAgainstNumpy:
    @pytest.mark.parametrize("axis", [0, 1, -1])
    @pytest.mark.parametrize("count", [1, 2, 11])
    def test_concat(self, device: str, version: str, axis: int, count: int) -> None:
        on: dict[str, Any] = {"device": device, "version": version}
        arrays = []
        for i in range(count):
            shape = [2, 3, 4]
            shape[axis] = 1 + i % 3
            arrays.append(normal(*shape))
        joined = wl.ops.concat(arrays, axis, **on)
        np.testing.assert_array_equal(joined, np.concatenate(arrays, axis))
        if count <= 8:
            for got, a in zip(wl.ops.concat_backward(joined, [a.shape[axis] for a in arrays], axis, **on), arrays, strict=True):
                np.testing.assert_array_equal(got, a)

    def test_multiply(self, device: str, version: str) -> None:
        on: dict[str, Any] = {"device": device, "version": version}
        a, b, mask, dy = normal(*SHAPE), normal(*SHAPE), normal(3, 1, 4, 6), normal(*SHAPE)
        close(wl.ops.multiply(a, b, **on), a * b)
        close(wl.ops.multiply(a, mask.reshape(3, 1, 4, 6), **on), a * mask)
        for got, e in zip(wl.ops.multiply_backward(dy, a, b, **on), (dy * b, dy * a), strict=True):
            close(got, e)
        for got, e in zip(wl.ops.multiply_backward(dy, a, mask, **on), (dy * mask, (dy * a).sum(1, keepdims=True)), strict=True):
            close(got, e)

    @pytest.mark.parametrize("block", [1, 2, 3])
    def test_depth_to_space(self, device: str, version: str, block: int) -> None:
        on: dict[str, Any] = {"device": device, "version": version}
        n, c, h, w = 2, 3, 2, 4
        x = normal(n, c * block * block, h, w)
        views = {
            "dcr": x.reshape(n, block, block, c, h, w).transpose(0, 3, 4, 1, 5, 2),
            "crd": x.reshape(n, c, block, block, h, w).transpose(0, 1, 4, 2, 5, 3),
        }
        for order, view in views.items():
            y = wl.ops.depth_to_space(x, block, order=order, **on)
            np.testing.assert_array_equal(y, view.reshape(n, c, h * block, w * block))
            np.testing.assert_array_equal(wl.ops.depth_to_space_backward(y, block, order=order, **on), x)


def test_flatten_and_empty_arrays() -> None:
    assert wl.ops.flatten(normal(2, 3, 4)).shape == (2, 12)
    assert wl.ops.flatten(np.zeros((0, 3, 4), np.float32)).shape == (0, 12)
    empty = np.zeros((0, 4, 2, 2), np.float32)
    assert wl.ops.depth_to_space(empty).shape == (0, 1, 4, 4)
    assert wl.ops.multiply(empty, empty).shape == empty.shape
    assert wl.ops.concat([empty, empty]).shape == (0, 8, 2, 2)


X, V = np.zeros((2, 3, 4, 4), np.float32), np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wl.ops.batch_norm(X, V[:2], V, V, V), "gamma has shape (2,), but there are 3 channels"),
        (lambda: wl.ops.batch_norm(X[:1, :, :1, :1], V, V, V, V, training=True), "needs more than one value per channel"),
        (lambda: wl.ops.batch_norm_backward(X[:1], X, V, V, V), "dy has shape (1, 3, 4, 4)"),
        (lambda: wl.ops.rms_norm(V), "needs a batch axis"),
        (lambda: wl.ops.concat([]), "a list of one or more arrays"),
        (lambda: wl.ops.concat([X, X[:, :, :2]]), "differ beyond axis 1"),
        (lambda: wl.ops.concat([X], axis=4), "axis 4 does not exist"),
        (lambda: wl.ops.concat_backward(X, [1, 1]), "do not add up to dy's 3"),
        (lambda: wl.ops.multiply(X, X[:, :2]), "or one channel of it"),
        (lambda: wl.ops.depth_to_space(X), "3 channels are not a multiple of block_size² = 4"),
        (lambda: wl.ops.depth_to_space(X[:, :1], 1, order="abc"), "unknown order 'abc'"),
        (lambda: wl.ops.avg_pool2d(X, 5), "avg_pool2d: the window 5x5 is larger than the input 4x4"),
        (lambda: wl.ops.avg_pool2d_backward(X, (2, 3, 4, 4), 2), "but the output is (2, 3, 2, 2)"),
    ],
)
def test_wrong_arguments(call: Any, text: str) -> None:
    with pytest.raises(wl.ArgumentError, match=re.escape(text)):
        call()


def test_gradients_of_what_only_passes_numbers_on() -> None:
    x = normal(2, 3, 4)
    assert np.array_equal(wl.ops.flatten_backward(wl.ops.flatten(x), x.shape), x)
    assert all(np.array_equal(d, x) for d in wl.ops.add_backward(x, x, x))
    with pytest.raises(wl.errors.ArgumentError, match="flatten of"):
        wl.ops.flatten_backward(x, (2, 3, 4))
    with pytest.raises(wl.errors.ArgumentError, match="dy has shape"):
        wl.ops.add_backward(x, x[:1], x)


def test_every_operation_has_its_gradient_and_the_common_arguments() -> None:
    import inspect

    names = [name for name in wl.ops.__all__ if not name.endswith("_backward")]
    for name in names:
        parameters = inspect.signature(getattr(wl.ops, name)).parameters
        for word in ("version", "device"):
            assert parameters[word].kind is inspect.Parameter.KEYWORD_ONLY, f"{name} needs the keyword {word}"
            assert parameters[word].default == "auto"
        assert name.endswith("_loss") or f"{name}_backward" in wl.ops.__all__, f"{name} has no gradient"
