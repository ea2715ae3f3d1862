"""Every activation in float64, and what the tests must know of it: the one place in the tests that lists them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
EXTREMES = (-np.inf, -100.0, -0.0, 0.0, 1e-40, 100.0, np.inf, np.nan)


@dataclass(frozen=True)
class Activation:
    """`at` of a gradient is the output, or with from_input the input. A number is negative_slope: a slope, alpha, r or eps."""

    value: Callable[[Array, float], Array]  # of x and the number
    gradient: Callable[[Array, Array, float], Array]  # of dy, at and the number
    extremes: tuple[float, ...]  # the values at EXTREMES, as PyTorch has them
    number: float = 0.0  # that it is tried with
    from_input: bool = False
    exact: bool = False  # whole numbers of whole numbers
    steep: bool = False  # its slope has no bound: a result may be larger than what it is made of
    fused: float | None = None  # the number that it is tried with behind a convolution; None: it is not, or cases.py does
    drawn: float | None = None  # the number in random networks; None: rounding may become large there


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def _silu_gradient(dy: Array, x: Array, _: float) -> Array:
    return dy * _sigmoid(x) * (1.0 + x * (1.0 - _sigmoid(x)))


def _normal(x: Array) -> Array:
    """The distribution function of the normal distribution."""
    return 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(np.asarray(x, float) / np.sqrt(2.0)))


def _bend(x: Array) -> Array:
    """What stands for the normal distribution in the approximation of GELU."""
    return np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))


def _gelu_tanh_gradient(dy: Array, x: Array, _: float) -> Array:
    inner = np.sqrt(2.0 / np.pi) * (1.0 + 3.0 * 0.044715 * x**2)
    return dy * (0.5 * (1.0 + _bend(x)) + 0.5 * x * (1.0 - _bend(x) ** 2) * inner)


def _rsqrt(x: Array, eps: float) -> Array:
    return 1.0 / np.sqrt(np.where(x < 0, 0.0, x) + eps)


def _signed_sqrt_gradient(dy: Array, y: Array, _: float) -> Array:
    return np.divide(dy * 0.5, np.abs(y), out=np.zeros_like(dy * 1.0), where=y != 0)


_ROOT, _INF, _NAN = float(np.sqrt(np.float64(np.float32(1e-40)))), np.inf, np.nan
_FLAT = (_NAN, 0.0, 0.0, 0.0, 0.0, 100.0, _INF, _NAN)  # x times a share that goes to 0: at -infinity -inf * 0
# At 0, relu and leaky_relu have the slope of the negative side; at NaN relu passes dy on and leaky_relu takes the slope.
ACTIVATIONS = {
    "none": Activation(lambda x, _: x * 1.0, lambda dy, y, _: dy * 1.0, EXTREMES, exact=True),
    "relu": Activation(
        lambda x, _: np.where(np.isnan(x) | (x > 0), x, 0.0), lambda dy, y, _: np.where(y <= 0, 0.0, dy),
        (0.0, 0.0, 0.0, 0.0, 1e-40, 100.0, _INF, _NAN), exact=True,
    ),
    "leaky_relu": Activation(
        lambda x, slope: np.where(x > 0, x, x * slope), lambda dy, y, slope: np.where(y > 0, dy, dy * slope),
        (-_INF, -25.0, 0.0, 0.0, 1e-40, 100.0, _INF, _NAN), number=0.25, exact=True, drawn=0.3,
    ),
    "sigmoid": Activation(
        lambda x, _: _sigmoid(x), lambda dy, y, _: dy * y * (1.0 - y), (0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, _NAN), drawn=0.0,
    ),
    "tanh": Activation(
        lambda x, _: np.tanh(x), lambda dy, y, _: dy * (1.0 - y * y), (-1.0, -1.0, 0.0, 0.0, 1e-40, 1.0, 1.0, _NAN),
        fused=0.0, drawn=0.0,
    ),
    "elu": Activation(
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
        lambda dy, y, alpha: np.where(y > 0, dy, dy * (y + alpha)),
        (-0.25, -0.25, 0.0, 0.0, 1e-40, 100.0, _INF, _NAN), number=0.25, fused=0.5, drawn=0.7,
    ),
    "exp": Activation(
        lambda x, r: np.exp(r * (x - 1.0)), lambda dy, y, r: dy * r * y,
        (0.0, *(math.exp(0.25 * (x - 1.0)) for x in EXTREMES[1:6]), _INF, _NAN),
        number=0.25, steep=True, fused=0.003, drawn=0.05,  # fused: its slope stays under 1 there
    ),
    "signed_sqrt": Activation(
        lambda x, _: np.sign(x) * np.sqrt(np.abs(x)), _signed_sqrt_gradient,
        (-_INF, -10.0, 0.0, 0.0, _ROOT, 10.0, _INF, _NAN), steep=True,
    ),
    "silu": Activation(lambda x, _: x * _sigmoid(x), _silu_gradient, _FLAT, from_input=True, fused=0.0, drawn=0.0),
    "gelu": Activation(
        lambda x, _: x * _normal(x), lambda dy, x, _: dy * (_normal(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)),
        _FLAT, from_input=True, fused=0.0, drawn=0.0,
    ),
    "gelu_tanh": Activation(
        lambda x, _: 0.5 * x * (1.0 + _bend(x)), _gelu_tanh_gradient, _FLAT, from_input=True, fused=0.0, drawn=0.0,
    ),
    "rsqrt": Activation(
        _rsqrt, lambda dy, x, eps: np.where(x <= 0, 0.0, -0.5 * dy * _rsqrt(x, eps) ** 3),
        (2.0, 2.0, 2.0, 2.0, 2.0, 1.0 / math.sqrt(100.25), 0.0, _NAN), number=0.25, from_input=True, steep=True, drawn=0.5,
    ),
}  # fmt: skip


def of_the_core(core: Any) -> list[str]:
    """The activations that the core knows, by what it says to another name."""
    graph = core.Graph("words")
    try:
        graph.node("activation", "a", [graph.input("x", (1,))], [], {"kind": "?"})
    except core.Error as error:
        return str(error).partition("expected one of ")[2].split(", ")
    raise AssertionError("the core takes an activation named '?'")
