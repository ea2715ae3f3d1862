"""Activations besides ReLU, LeakyReLU and Sigmoid; formulas, defaults and argument names are PyTorch's."""

from typing import Any, ClassVar

from warploom.errors import ArgumentError
from warploom.ground.arrays import number
from warploom.network.graph import Layer


class _Activation(Layer):
    op = "activation"
    kind: ClassVar[str] = ""
    drawn_as = ""

    def attributes(self) -> dict[str, Any]:
        return {"kind": self.kind}


class Tanh(_Activation):
    """tanh(x)."""

    kind = "tanh"


class SiLU(_Activation):
    """x * sigmoid(x), also called Swish. Source: https://arxiv.org/abs/1702.03118."""

    kind = "silu"
    stem = "silu"


class ELU(_Activation):
    """x where positive, else alpha * (exp(x) - 1); alpha is not negative. Source: https://arxiv.org/abs/1511.07289."""

    kind = "elu"

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = number(alpha, "ELU: alpha", 0.0)

    def attributes(self) -> dict[str, Any]:
        return {"kind": "elu", "negative_slope": self.alpha}


class GELU(_Activation):
    """x * Phi(x), Phi the normal distribution's; approximate="tanh": x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))).

    Source: https://arxiv.org/abs/1606.08415.
    """

    kind = "gelu"

    def __init__(self, approximate: str = "none", *, name: str | None = None) -> None:
        super().__init__(name)
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"GELU: unknown approximate {approximate!r}; expected none or tanh")
        self.approximate = approximate

    def attributes(self) -> dict[str, Any]:
        return {"kind": "gelu" if self.approximate == "none" else "gelu_tanh"}


class ExpKernel(_Activation):
    """exp((x - 1) / sigma²): the Gaussian kernel of two unit vectors whose product is x, sigma its width; 1 where they are equal.

    Source: Mairal, End-to-end kernel learning with supervised convolutional kernel networks, https://arxiv.org/abs/1605.06265.
    """

    kind = "exp"
    stem = "exp_kernel"

    def __init__(self, sigma: float = 0.6, *, name: str | None = None) -> None:
        super().__init__(name)
        self.sigma = number(sigma, "ExpKernel: sigma", 1e-3)

    def attributes(self) -> dict[str, Any]:
        return {"kind": "exp", "negative_slope": 1.0 / self.sigma**2}


class SignedSqrt(_Activation):
    """sign(x) * sqrt(|x|): makes the few large values of pooled codes smaller. Its gradient at 0 is taken as 0."""

    kind = "signed_sqrt"
    stem = "signed_sqrt"


class InverseSqrt(_Activation):
    """1 / sqrt(max(x, 0) + eps): of a sum of squares, what its vector is multiplied by to have length one."""

    kind = "rsqrt"
    stem = "inverse_sqrt"

    def __init__(self, eps: float = 1e-6, *, name: str | None = None) -> None:
        super().__init__(name)
        self.eps = number(eps, "InverseSqrt: eps", 1e-30)

    def attributes(self) -> dict[str, Any]:
        return {"kind": "rsqrt", "negative_slope": self.eps}
