"""Parameters: the trained arrays that layers own, and how a layer asks for one."""

from dataclasses import dataclass
from typing import Protocol

from warploom.ground.array_types import Floats, Shape


@dataclass(frozen=True)
class ParameterSpec:
    """What a layer asks for: shape in PyTorch's order and how it starts."""

    suffix: str  # "weight" becomes "<layer name>.weight"
    shape: Shape
    init: str = "zeros"
    fan_in: int = 0
    fan_out: int = 0
    gain: float = 1.0
    trainable: bool = True
    buffer: bool = False  # part of the state, but neither trained nor counted: running statistics


class Holder(Protocol):
    """What may hold a parameter's value on a device: an engine."""

    def read(self, parameter: "Parameter") -> Floats: ...


class Parameter:
    """A trained array. Networks made of the same layer share it: whichever engine changed it last holds its value."""

    def __init__(self, spec: ParameterSpec) -> None:
        self.spec = spec
        self.trainable = spec.trainable
        self.pristine = True  # neither trained nor loaded: a new seed may redraw it
        self.stamp = 0  # grows with every change; 0: no value yet
        self._value: Floats | None = None
        self._holder: Holder | None = None

    def held_by(self, holder: Holder, *, pristine: bool = False) -> None:
        """The holder has changed the value."""
        self.stamp += 1
        self.pristine = pristine
        self._holder, self._value = holder, None

    def set(self, value: Floats) -> None:
        self.stamp += 1
        self.pristine = False
        self._holder, self._value = None, value

    def value(self) -> Floats:
        """The current value; only once stamp > 0."""
        if self._value is None:
            assert self._holder is not None
            self._value = self._holder.read(self)
        return self._value

    def release(self, holder: Holder) -> None:
        """The holder goes away: keep what only it knows."""
        if self._holder is holder:
            self.value()
            self._holder = None
