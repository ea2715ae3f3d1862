"""Training objectives. Each compares one output with one target; several may be given, and are summed by weight."""

from collections.abc import Sequence
from typing import Any, ClassVar

from warploom._arrays import number, positive
from warploom.errors import ArgumentError, DTypeError


class Loss:
    """Base: which output is compared with which target, and the weight in the sum."""

    kind: ClassVar[str] = ""

    def __init__(self, weight: float = 1.0, *, output: int = 0, target: int | None = None) -> None:
        self.weight = number(weight, f"{type(self).__name__}: weight", 0.0)
        self.output = positive(output, f"{type(self).__name__}: output", minimum=0)
        self.target = self.output if target is None else positive(target, f"{type(self).__name__}: target", minimum=0)

    def config(self) -> dict[str, Any]:
        """What Session takes."""
        return {"kind": self.kind, "output": self.output, "target": self.target, "weight": self.weight}


class MSE(Loss):
    """Mean of the squared difference over all elements; gradient 2/N times the difference."""

    kind = "mse"


BY_NAME: dict[str, type[Loss]] = {"mse": MSE}


def get(loss: "str | Loss | Sequence[str | Loss]", outputs: int) -> list[Loss]:
    """Losses from a name (one for every output), an object, or a list (names stand for the output at their place)."""
    if isinstance(loss, str):
        return [_by_name(loss, i) for i in range(outputs)]
    items = list(loss) if isinstance(loss, Sequence) else [loss]
    found = [_by_name(item, i) if isinstance(item, str) else item for i, item in enumerate(items)]
    for item in found:
        if not isinstance(item, Loss):
            raise DTypeError(f"loss must be a name, a warploom.losses object or a list of them, not {type(item).__name__}")
        if item.output >= outputs:
            raise ArgumentError(
                f"{type(item).__name__}: output={item.output}, but the model has {outputs} output(s), counted from 0"
            )
    if not found:
        raise ArgumentError("loss must not be an empty list")
    return found


def _by_name(name: str, output: int) -> Loss:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown loss {name!r}; expected one of {', '.join(BY_NAME)}")
    return BY_NAME[name](output=output)
