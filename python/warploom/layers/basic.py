"""Layers without parameters: pooling, upsampling, activations, and the mark of the latent."""

from typing import Any

from warploom.errors import ArgumentError
from warploom.ground.array_types import Sizes
from warploom.ground.arrays import number, pair
from warploom.network.graph import Layer


class MaxPool2d(Layer):
    """Maximum of each window, without padding; stride defaults to the window. What fills no window is dropped."""

    op = "max_pool2d"
    drawn_as = "pooling"

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, *, name: str | None = None) -> None:
        super().__init__(name)
        self.kernel_size = pair(kernel_size, f"{type(self).__name__}: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, f"{type(self).__name__}: stride")

    def attributes(self) -> dict[str, Any]:
        return {"kernel": list(self.kernel_size), "stride": list(self.stride)}


class AvgPool2d(MaxPool2d):
    """Mean of each window, without padding; stride defaults to the window. What fills no window is dropped."""

    op = "avg_pool2d"


class Upsample(Layer):
    """Enlarges by whole factors; mode "nearest", or "bilinear" with half-pixel centres (PyTorch's align_corners=False)."""

    op = "upsample"
    drawn_as = "enlarging"

    def __init__(self, scale_factor: Sizes = 2, mode: str = "nearest", *, name: str | None = None) -> None:
        super().__init__(name)
        if mode not in ("nearest", "bilinear"):
            raise ArgumentError(f"Upsample: unknown mode {mode!r}; expected nearest or bilinear")
        self.scale_factor = pair(scale_factor, "Upsample: scale_factor")
        self.mode = mode

    def attributes(self) -> dict[str, Any]:
        return {"scale": list(self.scale_factor), "mode": self.mode}


class ReLU(Layer):
    """max(x, 0)."""

    op = "activation"
    stem = "relu"
    drawn_as = ""

    def attributes(self) -> dict[str, Any]:
        return {"kind": "relu"}


class LeakyReLU(Layer):
    """x where positive, else negative_slope * x."""

    op = "activation"
    stem = "leaky_relu"
    drawn_as = ""

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name)
        self.negative_slope = number(negative_slope, "LeakyReLU: negative_slope", 0.0)

    def attributes(self) -> dict[str, Any]:
        return {"kind": "leaky_relu", "negative_slope": self.negative_slope}


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    op = "activation"
    drawn_as = ""

    def attributes(self) -> dict[str, Any]:
        return {"kind": "sigmoid"}


class Identity(Layer):
    """The same value under a name of its own; costs nothing."""

    op = "identity"
    drawn_as = ""


class Latent(Identity):
    """Marks its input as the latent: Model.encoder ends here, and Model.encode returns it."""

    marks_latent = True
