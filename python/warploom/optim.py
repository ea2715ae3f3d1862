"""Optimisers: what an update does with a gradient. The arithmetic runs on the device."""

from typing import Any, ClassVar

from warploom._arrays import number
from warploom.errors import ArgumentError, DTypeError


class Optimizer:
    """Base. Hyperparameters are attributes; changing one between steps takes effect at the next step."""

    kind: ClassVar[str] = ""
    hyper: ClassVar[tuple[str, ...]] = ()  # numbers that may change while training

    def config(self) -> dict[str, Any]:
        """What Session takes."""
        return {"kind": self.kind, **self.values()}

    def values(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.hyper}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items() if k != 'kind')})"


class SGD(Optimizer):
    """PyTorch's SGD: d = g + weight_decay * w; v = momentum * v + d; w -= lr * (d + momentum * v if nesterov else v)."""

    kind = "sgd"
    hyper = ("lr", "momentum", "weight_decay")

    def __init__(self, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> None:
        self.lr = number(lr, "SGD: lr", 0.0)
        self.momentum = number(momentum, "SGD: momentum", 0.0)
        self.weight_decay = number(weight_decay, "SGD: weight_decay", 0.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ArgumentError("SGD: nesterov needs a momentum greater than 0")

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nesterov": self.nesterov}


BY_NAME: dict[str, type[Optimizer]] = {"sgd": SGD}


def get(optimizer: "str | Optimizer") -> Optimizer:
    """An optimiser from its name, or itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        if optimizer not in BY_NAME:
            raise ArgumentError(f"unknown optimizer {optimizer!r}; expected one of {', '.join(BY_NAME)}")
        return BY_NAME[optimizer]()
    raise DTypeError(f"optimizer must be a name or a warploom.optim object, not {type(optimizer).__name__}")
