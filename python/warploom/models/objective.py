"""What a specification says about training its network: losses, optimizer, batch and data, as plain values."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from warploom import losses, optim

Part = tuple[str, dict[str, Any]]  # the name of a class, and its arguments


@dataclass(frozen=True)
class Preset:
    """Another recipe for the same network: what it changes of the specification's."""

    about: str  # a few words for people
    changes: dict[str, Any]  # fields of the Objective
    arguments: dict[str, Any] = field(default_factory=dict)  # of the network's function


@dataclass(frozen=True)
class Objective:
    """How a model is trained by its specification. compile_arguments() makes the objects that Model.compile() takes.

    data: "images" (the target is the input); "segmentation" (an image and its map of class numbers); "composites" (a background
    and the background with a foreground; targets: depth and mask of the foreground); "faces" (two people; targets: the image and
    the mask of each, then the weight of each, a mask from 0 to 1 that multiplies prediction and target in the image losses).
    """

    DATA: ClassVar = ("images", "segmentation", "composites", "faces")

    losses: tuple[Part, ...]  # of warploom.losses
    optimizer: Part  # of warploom.optim
    batch_size: int
    epochs: int
    data: str
    schedule: Part | None = None  # of warploom.optim.schedules
    options: dict[str, Any] = field(default_factory=dict)  # what the specification offers beside, as arguments of the optimizer
    targets: tuple[str, ...] = ("image",)  # the arrays of y, in order

    def make_losses(self) -> list[Any]:
        """Fresh warploom.losses objects."""
        return [getattr(losses, name)(**arguments) for name, arguments in self.losses]

    def make_optimizer(self, **changes: Any) -> Any:
        """A fresh warploom.optim object; `changes` replace arguments."""
        name, arguments = self.optimizer
        return getattr(optim, name)(**{**arguments, **changes})

    def make_schedule(self) -> Any:
        """A fresh warploom.optim.schedules object, a callback for Model.fit(); None where the rate stays as it is."""
        if self.schedule is None:
            return None
        name, arguments = self.schedule
        return getattr(optim.schedules, name)(**arguments)

    def compile_arguments(self) -> dict[str, Any]:
        """For model.compile(**...)."""
        return {"optimizer": self.make_optimizer(), "loss": self.make_losses(), "batch_size": self.batch_size}
