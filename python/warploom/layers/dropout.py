"""Layers that leave things out at random while training, and do nothing elsewhere."""

from typing import Any

from warploom.ground.arrays import number
from warploom.network.graph import Layer


class Dropout(Layer):
    """In training each element is 0 with probability p, else divided by 1 - p; at prediction and evaluation the identity.

    What falls out is drawn from the model's seed, the layer's name, the sample's place in the batch and the number of steps taken
    so far: the same on every device and version, and the same after going on from a checkpoint. Gradients without an update
    (Model.gradients) draw as the next step will. Source: https://jmlr.org/papers/v15/srivastava14a.html.
    """

    op = "dropout"
    drawn_as = ""

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.p = number(p, f"{type(self).__name__}: p", 0.0, 1.0)

    def attributes(self) -> dict[str, Any]:
        return {"p": self.p}


class Dropout2d(Dropout):
    """Dropout of whole channels of a map (C, H, W): all of a channel's pixels go or stay. Source: https://arxiv.org/abs/1411.4280."""

    def attributes(self) -> dict[str, Any]:
        return {"p": self.p, "whole_channels": 1}
