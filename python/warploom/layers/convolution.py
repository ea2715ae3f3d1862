"""Layers that convolve."""

from typing import Any

from warploom._arrays import padding as sides
from warploom._arrays import pair, positive
from warploom._typing import Shape, Sizes
from warploom.errors import ArgumentError
from warploom.layers.base import Layer, ParameterSpec

INITS = ("zeros", "ones", "he_normal", "he_uniform", "glorot_uniform", "uniform_fan_in")


class Conv2d(Layer):
    """2-D convolution. padding: a number, (height, width) or (top, bottom, left, right); input channels are inferred.

    weight [out_channels, in_channels / groups, kernel height, kernel width], bias [out_channels].
    """

    op = "conv2d"

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        *,
        init: str = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if init not in INITS:
            raise ArgumentError(f"Conv2d: unknown init {init!r}; expected one of {', '.join(INITS)}")
        self.out_channels = positive(out_channels, "Conv2d: out_channels")
        self.kernel_size = pair(kernel_size, "Conv2d: kernel_size")
        self.stride = pair(stride, "Conv2d: stride")
        self.padding = sides(padding, "Conv2d: padding")
        self.groups = positive(groups, "Conv2d: groups")
        self.bias = bool(bias)
        self.init = init

    def config(self) -> dict[str, Any]:
        return {
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "groups": self.groups,
            "bias": self.bias,
            "init": self.init,
        }

    def attributes(self) -> dict[str, Any]:
        return {"stride": list(self.stride), "padding": list(self.padding), "groups": self.groups}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        channels = shapes[0][0]
        if channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"{self}: groups={self.groups} must divide the channels in ({channels}) and out ({self.out_channels})"
            )
        area = self.kernel_size[0] * self.kernel_size[1]
        per_group = channels // self.groups
        fan_in, fan_out = per_group * area, self.out_channels // self.groups * area
        specs = [ParameterSpec("weight", (self.out_channels, per_group, *self.kernel_size), self.init, fan_in, fan_out)]
        if self.bias:
            specs.append(ParameterSpec("bias", (self.out_channels,), fan_in=fan_in, fan_out=fan_out))
        return specs
