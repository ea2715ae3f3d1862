"""Layers that convolve."""

from typing import Any, Literal

from warploom.errors import ArgumentError
from warploom.ground.array_types import Shape, Sizes
from warploom.ground.arrays import number, pair, positive
from warploom.ground.arrays import padding as sides
from warploom.ground.parameters import ParameterSpec
from warploom.network.graph import Layer

INITS = ("zeros", "ones", "he_normal", "he_uniform", "glorot_uniform", "uniform_fan_in", "he_normal_fan_out")


def weight_and_bias(
    shape: Shape, fan_in: int, fan_out: int, init: str, gain: float, bias: int | None, bias_init: str
) -> list[ParameterSpec]:
    """The weight and, where `bias` says how many, the biases. he_normal_fan_out is He normal by the fan-out."""
    spread = fan_out if init == "he_normal_fan_out" else fan_in
    kind = "he_normal" if init == "he_normal_fan_out" else init
    specs = [ParameterSpec("weight", shape, kind, spread, fan_out, gain)]
    if bias is not None:
        specs.append(ParameterSpec("bias", (bias,), bias_init, fan_in, fan_out))
    return specs


def check_init(init: str, what: str) -> str:
    if init not in INITS:
        raise ArgumentError(f"{what}: unknown init {init!r}; expected one of {', '.join(INITS)}")
    return init


class _Convolution(Layer):
    """What a convolution and a transposed one share."""

    def _configure(
        self, out_channels: int, kernel_size: Sizes, stride: Sizes, groups: int, bias: bool, starts: tuple[str, float, str]
    ) -> None:
        kind = type(self).__name__
        self.init, self.bias_init = check_init(starts[0], kind), check_init(starts[2], kind)
        self.gain = number(starts[1], f"{kind}: gain", 0.0)
        self.out_channels = positive(out_channels, f"{kind}: out_channels")
        self.kernel_size = pair(kernel_size, f"{kind}: kernel_size")
        self.stride = pair(stride, f"{kind}: stride")
        self.groups = positive(groups, f"{kind}: groups")
        self.bias = bool(bias)

    def _channels(self, shapes: list[Shape]) -> int:
        channels = shapes[0][0]
        if channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"{self}: groups={self.groups} must divide the channels in ({channels}) and out ({self.out_channels})"
            )
        return channels


class Conv2d(_Convolution):
    """2-D convolution. padding: a number, (height, width), (top, bottom, left, right), or "same", which at stride 1 keeps the
    size; input channels are inferred.

    weight [out_channels, in_channels / groups, kernel height, kernel width], bias [out_channels]. init: zeros, ones, he_normal
    (by the fan-in), he_normal_fan_out, he_uniform, glorot_uniform, uniform_fan_in (PyTorch's own), times gain.
    """

    op = "conv2d"
    drawn_as = "convolution"

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | Literal["same"] = 0,
        groups: int = 1,
        bias: bool = True,
        *,
        init: str = "he_normal",
        gain: float = 1.0,
        bias_init: str = "zeros",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._configure(out_channels, kernel_size, stride, groups, bias, (init, gain, bias_init))
        self.padding = self._same() if padding == "same" else sides(padding, "Conv2d: padding")

    def _same(self) -> tuple[int, int, int, int]:
        """Of an even kernel the bottom and the right side get the odd row and column, as in PyTorch."""
        if self.stride != (1, 1):
            raise ArgumentError(f'Conv2d: padding="same" keeps the size, and stride {self.stride} does not: pass numbers')
        (top, bottom), (left, right) = ((k - 1 - k // 2, k // 2) for k in self.kernel_size)
        return top, bottom, left, right

    def attributes(self) -> dict[str, Any]:
        return {"stride": list(self.stride), "padding": list(self.padding), "groups": self.groups}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        per_group = self._channels(shapes) // self.groups
        area = self.kernel_size[0] * self.kernel_size[1]
        shape = (self.out_channels, per_group, *self.kernel_size)
        fan_in, fan_out = per_group * area, self.out_channels // self.groups * area
        bias = self.out_channels if self.bias else None
        return weight_and_bias(shape, fan_in, fan_out, self.init, self.gain, bias, self.bias_init)


class ConvTranspose2d(_Convolution):
    """Transposed 2-D convolution: the input gradient of a convolution, as an operation that enlarges.

    Output size: (input - 1) * stride - 2 * padding + kernel + output_padding. weight [in_channels, out_channels / groups, kernel
    height, kernel width], bias [out_channels]. The fan-in is counted as PyTorch does, from the weight's second axis.
    """

    op = "conv_transpose2d"
    drawn_as = "enlarging"

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        *,
        init: str = "he_normal",
        gain: float = 1.0,
        bias_init: str = "zeros",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._configure(out_channels, kernel_size, stride, groups, bias, (init, gain, bias_init))
        self.padding = pair(padding, "ConvTranspose2d: padding", minimum=0)
        self.output_padding = pair(output_padding, "ConvTranspose2d: output_padding", minimum=0)
        if any(extra >= step for extra, step in zip(self.output_padding, self.stride, strict=True)):
            raise ArgumentError(
                f"ConvTranspose2d: output_padding {self.output_padding} must be smaller than the stride {self.stride}"
            )

    def attributes(self) -> dict[str, Any]:
        lists = {key: list(getattr(self, key)) for key in ("stride", "padding", "output_padding")}
        return {**lists, "groups": self.groups}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        channels = self._channels(shapes)
        area = self.kernel_size[0] * self.kernel_size[1]
        shape = (channels, self.out_channels // self.groups, *self.kernel_size)
        fan_in, fan_out = self.out_channels // self.groups * area, channels // self.groups * area
        bias = self.out_channels if self.bias else None
        return weight_and_bias(shape, fan_in, fan_out, self.init, self.gain, bias, self.bias_init)


class Linear(Layer):
    """y = x weightᵀ + bias, on inputs of one axis (Flatten makes one).

    weight [out_features, in_features], bias [out_features].
    """

    op = "linear"
    drawn_as = "linear"

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        *,
        init: str = "he_normal",
        gain: float = 1.0,
        bias_init: str = "zeros",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.out_features = positive(out_features, "Linear: out_features")
        self.bias = bool(bias)
        self.init = check_init(init, "Linear")
        self.bias_init = check_init(bias_init, "Linear")
        self.gain = number(gain, "Linear: gain", 0.0)

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        if len(shapes[0]) != 1:
            raise ArgumentError(f"{self} takes values of one axis, not {shapes[0]}: put a Flatten layer before it")
        features, bias = shapes[0][0], self.out_features if self.bias else None
        shape = (self.out_features, features)
        return weight_and_bias(shape, features, self.out_features, self.init, self.gain, bias, self.bias_init)
