"""The reference itself: numerical gradients by central differences on tiny shapes, and torch's answers where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
from activations import ACTIVATIONS, EXTREMES, of_the_core
from numpy.typing import NDArray

Array = NDArray[Any]
CONVS = [  # x, w, stride, pad, groups
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0, 0, 0), 1),
    ((2, 3, 5, 4), (2, 3, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    ((1, 2, 6, 5), (3, 2, 4, 2), (2, 3), (1, 0, 2, 1), 1),
    ((1, 4, 5, 5), (6, 2, 3, 3), (2, 2), (1, 1, 1, 1), 2),
    ((2, 3, 4, 4), (6, 1, 2, 2), (1, 1), (0, 1, 0, 1), 3),
    ((1, 2, 7, 7), (2, 2, 2, 2), (3, 3), (0, 0, 0, 0), 1),
]


def numerical(f: Callable[[Array], Any], x: Array, step: float = 1e-5) -> Array:
    gradient = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        moved = x.copy()
        moved[at] += step
        above = f(moved)
        moved[at] -= 2 * step
        gradient[at] = (above - f(moved)) / (2 * step)
    return gradient


def close(got: Array, expected: Array, tolerance: float = 1e-7) -> None:
    assert got.shape == expected.shape
    assert not (~(np.abs(got - expected) <= tolerance * (1 + np.abs(expected)))).any()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize(("x", "w", "stride", "pad", "groups"), CONVS)
def test_conv2d_gradients(rng: np.random.Generator, x: Any, w: Any, stride: Any, pad: Any, groups: int) -> None:
    x, w, bias = rng.standard_normal(x), rng.standard_normal(w), rng.standard_normal(w[0])
    how = {"stride": stride, "pad": pad, "groups": groups}
    dy = rng.standard_normal(oracle.conv2d(x, w, bias, **how).shape)
    dx, dw, db = oracle.conv2d_backward(dy, x, w, **how)
    close(dx, numerical(lambda v: (oracle.conv2d(v, w, bias, **how) * dy).sum(), x))
    close(dw, numerical(lambda v: (oracle.conv2d(x, v, bias, **how) * dy).sum(), w))
    close(db, numerical(lambda v: (oracle.conv2d(x, w, v, **how) * dy).sum(), bias))


def test_conv2d_by_its_definition(rng: np.random.Generator) -> None:
    """Every output written out as the nested sum that the word convolution stands for."""
    x, w, bias = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((6, 2, 3, 2)), rng.standard_normal(6)
    y = oracle.conv2d(x, w, bias, stride=(2, 1), pad=(1, 0, 2, 1), groups=2)
    xp = np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)))
    for n, o, i, j in np.ndindex(*y.shape):
        first = (o // 3) * 2
        patch = xp[n, first : first + 2, 2 * i : 2 * i + 3, j : j + 2]
        assert abs(y[n, o, i, j] - (patch * w[o]).sum() - bias[o]) < 1e-12


@pytest.mark.parametrize(("shape", "kernel", "stride"), [((2, 2, 4, 6), (2, 2), (2, 2)), ((1, 3, 7, 5), (3, 2), (2, 1))])
def test_max_pool2d_gradients(rng: np.random.Generator, shape: Any, kernel: Any, stride: Any) -> None:
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(float)  # no two equal: the maximum has a gradient
    y, index = oracle.max_pool2d(x, kernel, stride)
    dy = rng.standard_normal(y.shape)
    close(
        oracle.max_pool2d_backward(dy, index, x.shape),
        numerical(lambda v: (oracle.max_pool2d(v, kernel, stride)[0] * dy).sum(), x),
    )
    assert (np.take_along_axis(x.reshape(*shape[:2], -1), index.reshape(*shape[:2], -1), 2).reshape(y.shape) == y).all()


def test_max_pool2d_ties_and_nan() -> None:
    x = np.array([[[[1.0, 1.0, np.nan, 2.0], [1.0, 1.0, 3.0, 4.0]]]])
    y, index = oracle.max_pool2d(x, (2, 2), (2, 2))
    assert index.tolist() == [[[[0, 2]]]], "the first of equal values, and a NaN, win"
    assert y[0, 0, 0, 0] == 1.0
    assert np.isnan(y[0, 0, 0, 1])


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("shape", "scale"), [((1, 2, 3, 2), (2, 2)), ((2, 1, 1, 4), (3, 2)), ((1, 1, 2, 3), (1, 4))])
def test_upsample_gradients(rng: np.random.Generator, mode: str, shape: Any, scale: Any) -> None:
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(oracle.upsample(x, scale, mode).shape)
    close(oracle.upsample_backward(dy, scale, mode), numerical(lambda v: (oracle.upsample(v, scale, mode) * dy).sum(), x))


def test_every_activation_of_the_core_is_known_here(core: Any) -> None:
    assert list(ACTIVATIONS) == of_the_core(core), "tests/support/activations.py, against the lists in kernels/args.h"


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation_gradients(rng: np.random.Generator, kind: str) -> None:
    known, x = ACTIVATIONS[kind], rng.standard_normal(50)
    if kind == "signed_sqrt":  # infinitely steep at 0
        x += 0.2 * np.sign(x)
    dy, y = rng.standard_normal(50), known.value(x, known.number)
    at = x if known.from_input else y
    close(known.gradient(dy, at, known.number), numerical(lambda v: (known.value(v, known.number) * dy).sum(), x))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation_extremes(kind: str) -> None:
    x, known = np.array(EXTREMES, np.float32).astype(float), ACTIVATIONS[kind]
    np.testing.assert_allclose(oracle.activation(x, kind, known.number), known.extremes, rtol=1e-6, atol=1e-38)


def test_mse_gradients(rng: np.random.Generator) -> None:
    prediction, target = rng.standard_normal(12), rng.standard_normal(12)
    loss, grad = oracle.mse_loss(prediction, target, 3.0)
    assert abs(loss - 3.0 * np.mean((prediction - target) ** 2)) < 1e-12
    close(grad, numerical(lambda v: oracle.mse_loss(v, target, 3.0)[0], prediction))


@pytest.mark.parametrize(
    ("kind", "pool", "upsample"), [("relu", 2, 1), ("leaky_relu", 1, 2), ("sigmoid", 2, 2), ("none", 3, 1), ("relu", 1, 3)]
)
def test_fused_conv2d_gradients(rng: np.random.Generator, kind: str, pool: int, upsample: int) -> None:
    """The folded operations together, floor of the pool included: 6x8 outputs do not divide by 3 evenly everywhere."""
    a = {
        "stride_h": 1, "stride_w": 1, "pad_top": 1, "pad_bottom": 1, "pad_left": 1, "pad_right": 1, "groups": 1,
        "activation": kind, "negative_slope": 0.2, "pool": pool, "upsample": upsample,
    }  # fmt: skip
    x, w, bias = (
        rng.standard_normal((1, 2, 6 // upsample, 8 // upsample)),
        rng.standard_normal((3, 2, 3, 3)),
        rng.standard_normal(3),
    )
    dy = rng.standard_normal(oracle.fused_conv2d(a, x, w, bias)["y"].shape)
    dx, dw, db = oracle.fused_conv2d_backward(a, dy, x, w, bias)
    close(dx, numerical(lambda v: (oracle.fused_conv2d(a, v, w, bias)["y"] * dy).sum(), x))
    close(dw, numerical(lambda v: (oracle.fused_conv2d(a, x, v, bias)["y"] * dy).sum(), w))
    close(db, numerical(lambda v: (oracle.fused_conv2d(a, x, w, v)["y"] * dy).sum(), bias))


def test_sgd_by_hand() -> None:
    w, g, v = np.array([1.0]), np.array([0.5]), np.array([2.0])
    assert oracle.sgd_update(w, g, None, 0.1, 0.9, 0.2, False)[0] == pytest.approx(1.0 - 0.1 * (0.5 + 0.2))
    plain = oracle.sgd_update(w, g, v, 0.1, 0.9, 0.0, False)
    assert plain[1] == pytest.approx(0.9 * 2.0 + 0.5)
    assert plain[0] == pytest.approx(1.0 - 0.1 * 2.3)
    assert oracle.sgd_update(w, g, v, 0.1, 0.9, 0.0, True)[0] == pytest.approx(1.0 - 0.1 * (0.5 + 0.9 * 2.3))


# ---- Against torch ----


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed: the oracle is checked by numerical gradients alone")


@pytest.mark.parametrize(("x", "w", "stride", "pad", "groups"), CONVS)
def test_conv2d_as_torch(torch: Any, rng: np.random.Generator, x: Any, w: Any, stride: Any, pad: Any, groups: int) -> None:
    tx, tw, tb = (torch.tensor(rng.standard_normal(s), requires_grad=True) for s in (x, w, w[:1]))
    padded = torch.nn.functional.pad(tx, (pad[2], pad[3], pad[0], pad[1]))
    y = torch.nn.functional.conv2d(padded, tw, tb, stride=stride, groups=groups)
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    nx, nw, nb = (t.detach().numpy() for t in (tx, tw, tb))
    close(oracle.conv2d(nx, nw, nb, stride=stride, pad=pad, groups=groups), y.detach().numpy(), 1e-12)
    for got, tensor in zip(oracle.conv2d_backward(dy, nx, nw, stride=stride, pad=pad, groups=groups), (tx, tw, tb), strict=True):
        close(got, tensor.grad.numpy(), 1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_max_pool2d_as_torch(torch: Any, rng: np.random.Generator, kernel: int, stride: int) -> None:
    x = rng.integers(-2, 3, (2, 3, 7, 8)).astype(float)  # many ties
    tx = torch.tensor(x, requires_grad=True)
    ty, ti = torch.nn.functional.max_pool2d(tx, kernel, stride, return_indices=True)
    y, index = oracle.max_pool2d(x, (kernel, kernel), (stride, stride))
    close(y, ty.detach().numpy(), 0.0)
    assert (index == ti.numpy()).all()
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(dy))
    close(oracle.max_pool2d_backward(dy, index, x.shape), tx.grad.numpy(), 1e-12)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("scale", [(2, 2), (3, 2), (1, 5)])
def test_upsample_as_torch(torch: Any, rng: np.random.Generator, mode: str, scale: Any) -> None:
    x = rng.standard_normal((2, 3, 4, 5))
    tx = torch.tensor(x, requires_grad=True)
    how = {} if mode == "nearest" else {"align_corners": False}
    ty = torch.nn.functional.interpolate(tx, scale_factor=[float(s) for s in scale], mode=mode, **how)
    close(oracle.upsample(x, scale, mode), ty.detach().numpy(), 1e-12)
    dy = rng.standard_normal(tuple(ty.shape))
    ty.backward(torch.tensor(dy))
    close(oracle.upsample_backward(dy, scale, mode), tx.grad.numpy(), 1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_as_torch(torch: Any, rng: np.random.Generator, momentum: float, nesterov: bool) -> None:
    if nesterov and not momentum:
        pytest.skip("torch refuses Nesterov without momentum")
    w, v = rng.standard_normal(8), np.zeros(8)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum, weight_decay=0.01, nesterov=nesterov)
    for _ in range(4):
        g = rng.standard_normal(8)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        w, v = oracle.sgd_update(w, g, v, 0.1, momentum, 0.01, nesterov)
    close(w, parameter.detach().numpy(), 1e-12)
