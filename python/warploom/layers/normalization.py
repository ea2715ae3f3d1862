"""Layers that normalise."""

from typing import Any

from warploom.ground.array_types import Shape
from warploom.ground.arrays import number, positive
from warploom.ground.parameters import ParameterSpec
from warploom.network.graph import Layer


class BatchNorm2d(Layer):
    """Batch normalisation per channel, with gain and offset.

    Training uses the batch's own mean and variance and moves the running ones by `momentum` towards them (the unbiased variance);
    prediction and evaluation use the running ones. Frozen with `trainable = False`, gain and offset stay, but training still
    normalises by the batch and moves the running statistics, as in PyTorch. The running statistics are buffers: part of the state
    dict, but not parameters.
    """

    op = "batch_norm"
    drawn_as = ""

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.eps = number(eps, "BatchNorm2d: eps", 0.0)
        self.momentum = number(momentum, "BatchNorm2d: momentum", 0.0, 1.0)

    def attributes(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "eps": self.eps}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        channels = (shapes[0][0],)
        return [
            ParameterSpec("weight", channels, "ones"),
            ParameterSpec("bias", channels),
            ParameterSpec("running_mean", channels, trainable=False, buffer=True),
            ParameterSpec("running_var", channels, "ones", trainable=False, buffer=True),
        ]


class RMSNorm(Layer):
    """x / sqrt(mean(x²) + eps) over everything but the batch, without a gain."""

    op = "rms_norm"
    stem = "rms_norm"
    drawn_as = ""

    def __init__(self, eps: float = 1e-6, *, name: str | None = None) -> None:
        super().__init__(name)
        self.eps = number(eps, "RMSNorm: eps", 0.0)

    def attributes(self) -> dict[str, Any]:
        return {"eps": self.eps}


class GroupNorm(Layer):
    """Each sample's channels in `num_groups` groups, normalised over a group's channels and positions.

    Then a gain and an offset per channel, unless affine is False. Training and prediction compute the same: the statistics
    are the sample's own, and the variance the biased one, as in PyTorch. Source: https://arxiv.org/abs/1803.08494.
    """

    op = "group_norm"
    drawn_as = ""

    def __init__(self, num_groups: int, eps: float = 1e-5, affine: bool = True, *, name: str | None = None) -> None:
        super().__init__(name)
        self.num_groups = positive(num_groups, f"{type(self).__name__}: num_groups")
        self.eps = number(eps, f"{type(self).__name__}: eps", 0.0)
        self.affine = bool(affine)

    def attributes(self) -> dict[str, Any]:
        return {"groups": self.num_groups, "eps": self.eps}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        if not self.affine:
            return []
        channels = (shapes[0][0],)
        return [ParameterSpec("weight", channels, "ones"), ParameterSpec("bias", channels)]


class LayerNorm(GroupNorm):
    """Each sample normalised over all its axes, then a gain and an offset per channel: GroupNorm with one group.

    Of vectors (C,) this is PyTorch's LayerNorm(C). Of maps (C, H, W) it normalises as PyTorch's LayerNorm((C, H, W)), but
    its gain has C numbers, not C * H * W, so that it does not depend on the size of the image; affine=False is the same in both.
    Source: https://arxiv.org/abs/1607.06450.
    """

    def __init__(self, eps: float = 1e-5, affine: bool = True, *, name: str | None = None) -> None:
        super().__init__(1, eps, affine, name=name)
