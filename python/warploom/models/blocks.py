"""What several networks are built of. Every block names its layers "<block>.<layer>"."""

from typing import Any

from warploom.errors import ArgumentError
from warploom.ground.arrays import pair
from warploom.layers import BatchNorm2d, Conv2d, ReLU
from warploom.network.graph import Tensor

# PyTorch's default initialisation: uniform within 1/sqrt(fan-in), weights and biases.
TORCH_INIT: dict[str, Any] = {"init": "uniform_fan_in", "bias_init": "uniform_fan_in"}


def conv_bn(x: Tensor, channels: int, kernel: int, name: str, *, relu: bool = True) -> Tensor:
    """<name>.conv, <name>.bn and, if asked for, <name>.relu."""
    h = Conv2d(channels, kernel, padding=(kernel - 1) // 2, **TORCH_INIT, name=f"{name}.conv")(x)
    h = BatchNorm2d(name=f"{name}.bn")(h)
    return ReLU(name=f"{name}.relu")(h) if relu else h


def size_pair(size: int | tuple[int, int], divisor: int, what: str) -> tuple[int, int]:
    """(height, width), which must be multiples of the divisor: the network halves and doubles them."""
    height, width = pair(size, f"{what}: size")
    if height % divisor or width % divisor:
        raise ArgumentError(f"{what}: height and width must be multiples of {divisor}, not {height}x{width}")
    return height, width
