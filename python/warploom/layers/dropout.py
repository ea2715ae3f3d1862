"""Layers that leave things out while training, at random or all but the largest, and do nothing elsewhere."""

from typing import Any

from warploom.errors import ArgumentError
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


class WinnerTakeAll(Layer):
    """In training each map (C, H, W) keeps its largest value alone, and of a channel's maps in the batch only a share stays, at
    least one: those with the largest values. All else is 0. At prediction and evaluation the identity.

    The elements of a vector are maps of one place, of which a share of the batch stays. Of equal values the first stays; a NaN
    counts as larger than all. A shard of several workers chooses among its own samples. Put it behind a ReLU: what an
    autoencoder learns then are filters that each matter to few images. Source: Makhzani and Frey 2015,
    https://arxiv.org/abs/1409.2752 (spatial sparsity, and lifetime sparsity of 5 %).
    """

    op = "winner_take_all"
    drawn_as = ""

    def __init__(self, share: float = 0.05, *, name: str | None = None) -> None:
        super().__init__(name)
        self.share = number(share, "WinnerTakeAll: share", 0.0, 1.0)
        if not self.share:
            raise ArgumentError("WinnerTakeAll: share must be above 0: it is the part of a batch that a channel may describe")

    def attributes(self) -> dict[str, Any]:
        return {"share": self.share}
