"""Optimisers: what an update does with a gradient. The arithmetic runs on the device. Schedules are in `schedules`."""

from typing import Any, ClassVar

from warploom.errors import ArgumentError, DTypeError
from warploom.ground.arrays import number
from warploom.optim import schedules as schedules

BY_NAME: dict[str, "type[Optimizer]"] = {}  # filled by the classes themselves


class Optimizer:
    """Base. Hyperparameters are attributes; changing one between steps takes effect at the next step.

    clip_norm: the gradients of all parameters together are scaled down to this Euclidean norm where it is larger; 0 is off.

    ema: the decay of an exponential moving average of the trained weights, such as 0.999; 0 is off. The average is what the
    model evaluates, predicts with and saves; training goes on with the weights themselves. The first averages reach back over
    few steps: the decay of step n is at most n / (n + 9). Running statistics of batch norms are not averaged. Source:
    https://doi.org/10.1137/0330046.
    """

    kind: ClassVar[str] = ""
    hyper: ClassVar[tuple[str, ...]] = ()  # numbers that may change while training
    fixed: ClassVar[tuple[str, ...]] = ()  # what decides which kernels run

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            BY_NAME.setdefault(cls.kind, cls)

    def __init__(self, lr: float = 1e-3, weight_decay: float = 0.0, clip_norm: float = 0.0, ema: float = 0.0) -> None:
        self.lr = self._number("lr", lr)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.clip_norm = self._number("clip_norm", clip_norm)
        self.ema = self._ema = self._number("ema", ema, 1.0)
        if self.ema == 1.0:
            raise ArgumentError(
                f"{type(self).__name__}: ema must be less than 1, such as 0.999; with 1 the average would never move"
            )
        self._clips = self.clip_norm > 0

    def _number(self, name: str, value: object, high: float = float("inf")) -> float:
        return number(value, f"{type(self).__name__}: {name}", 0.0, high)

    def _betas(self, betas: object) -> tuple[float, float]:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{type(self).__name__}: betas must be two numbers such as (0.9, 0.999), not {betas!r}")
        first, second = (self._number("beta", b) for b in betas)
        if not (first < 1 and second < 1):
            raise ArgumentError(f"{type(self).__name__}: betas must be less than 1, not {betas!r}")
        return first, second

    def config(self) -> dict[str, Any]:
        """What Session takes."""
        self._clips = self.clip_norm > 0
        self._ema = self.ema
        average = {"ema": self.ema} if self.ema else {}
        return {"kind": self.kind, **self.values(), **{name: int(getattr(self, name)) for name in self.fixed}, **average}

    def values(self) -> dict[str, float]:
        """The numbers that may change, under the core's names."""
        values: dict[str, float] = {}
        for name in self.hyper:
            if name == "betas":
                values["beta1"], values["beta2"] = self.betas
            else:
                values[name] = getattr(self, name)
        if (self.clip_norm > 0) != self._clips:
            raise ArgumentError(
                f"{type(self).__name__}: clipping cannot be switched {'off' if self._clips else 'on'} while training; "
                "compile the model with clip_norm greater than 0 and change its value"
            )
        if self.ema != self._ema:
            raise ArgumentError(f"{type(self).__name__}: ema cannot be changed while training; compile the model again")
        if self._clips:
            values["max_norm"] = self.clip_norm
        return values

    betas: tuple[float, float]

    def __repr__(self) -> str:
        shown = [*self.hyper, *self.fixed, *(["clip_norm"] if self.clip_norm else []), *(["ema"] if self.ema else [])]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


class SGD(Optimizer):
    """PyTorch's SGD: d = g + weight_decay * w; v = momentum * v + d; w -= lr * (d + momentum * v if nesterov else v)."""

    kind = "sgd"
    hyper = ("lr", "momentum", "weight_decay")
    fixed = ("nesterov",)

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, ema)
        self.momentum = self._number("momentum", momentum)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ArgumentError("SGD: nesterov needs a momentum greater than 0")


class Adam(Optimizer):
    """PyTorch's Adam: weight_decay is added to the gradient."""

    kind = "adam"
    hyper = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, ema)
        self.betas = self._betas(betas)
        self.eps = self._number("eps", eps)


class AdamW(Adam):
    """PyTorch's AdamW: weights shrink by lr * weight_decay, apart from the gradient."""

    kind = "adamw"

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, ema=ema)


class RMSprop(Optimizer):
    """PyTorch's RMSprop (not centred). lr_keep < 1: learning-rate dropout, each element moves with this probability."""

    kind = "rmsprop"
    hyper = ("lr", "alpha", "eps", "weight_decay", "momentum", "lr_keep")

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        *,
        lr_keep: float = 1.0,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, ema)
        self.alpha = self._number("alpha", alpha, 1.0)
        self.eps = self._number("eps", eps)
        self.momentum = self._number("momentum", momentum)
        self.lr_keep = self._number("lr_keep", lr_keep, 1.0)


class AdaBelief(Optimizer):
    """m = b1 m + (1 - b1) g; s = b2 s + (1 - b2)(g - m)^2; w -= lr * m / (sqrt(s) + eps), eps outside the root.

    bias_correction divides m and s by 1 - beta^step, as the paper does. lr_keep as in RMSprop.
    """

    kind = "adabelief"
    hyper = ("lr", "betas", "eps", "weight_decay", "lr_keep")
    fixed = ("bias_correction",)

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        lr_keep: float = 1.0,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, ema)
        self.betas = self._betas(betas)
        self.eps = self._number("eps", eps)
        self.bias_correction = bool(bias_correction)
        self.lr_keep = self._number("lr_keep", lr_keep, 1.0)


class Lion(Optimizer):
    """w -= lr * (sign(b1 m + (1 - b1) g) + weight_decay * w), then m = b2 m + (1 - b2) g; one state.

    Every element moves by lr whatever the size of its gradient: lr is three to ten times smaller than Adam's, weight_decay
    as much larger. Source: https://arxiv.org/abs/2302.06675.
    """

    kind = "lion"
    hyper = ("lr", "betas", "weight_decay")

    def __init__(
        self,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, ema)
        self.betas = self._betas(betas)


def get(optimizer: "str | Optimizer") -> Optimizer:
    """An optimiser from its name, or itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        if optimizer not in BY_NAME:
            raise ArgumentError(f"unknown optimizer {optimizer!r}; expected one of {', '.join(BY_NAME)}")
        return BY_NAME[optimizer]()
    raise DTypeError(f"optimizer must be a name or a warploom.optim object, not {type(optimizer).__name__}")
