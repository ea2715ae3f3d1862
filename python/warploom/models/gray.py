"""The autoencoder for gray images of 256x256, with skips, residual blocks or groups on request."""

import math
from typing import Any

from warploom.ground.arrays import positive
from warploom.layers import Add, BatchNorm2d, Concat, Conv2d, ConvTranspose2d, Latent, LeakyReLU, Sigmoid
from warploom.model import Model
from warploom.models.blocks import size_pair
from warploom.models.objective import Objective, Preset
from warploom.models.registry import network
from warploom.network.graph import Input, Tensor

SLOPE = 0.2
_INIT: dict[str, Any] = {"init": "he_normal_fan_out", "gain": 1 / math.sqrt(1 + SLOPE**2)}  # Kaiming normal for this slope


def _residual(x: Tensor, name: str) -> Tensor:
    """LR(x + BN conv LR BN conv x), without biases: a batch norm follows."""
    h = x
    for i in (1, 2):
        h = Conv2d(x.shape[0], 3, padding=1, bias=False, **_INIT, name=f"{name}.conv{i}")(h)
        h = BatchNorm2d(name=f"{name}.bn{i}")(h)
        if i == 1:
            h = LeakyReLU(SLOPE, name=f"{name}.act1")(h)
    return LeakyReLU(SLOPE, name=f"{name}.act2")(Add(name=f"{name}.add")([x, h]))


def objective() -> Objective:
    """Mean squared error and a tenth of 1 - SSIM, Adam, the rate halved on plateaus."""
    return Objective(
        losses=(("MSE", {}), ("SSIM", {"window": 11, "weight": 0.1})),
        optimizer=("Adam", {"lr": 1e-4, "clip_norm": 1.0}),
        batch_size=16,
        epochs=100,
        data="images",
        schedule=("PlateauLR", {"factor": 0.5, "patience": 10}),
    )


QUICK = Preset(
    "a larger rate that ends at 0, and small batches",
    {
        "optimizer": ("Adam", {"lr": 2e-3, "betas": (0.9, 0.99), "clip_norm": 1.0}),
        "schedule": ("CosineLR", {"warmup": 0.05, "per": "step"}),
        "batch_size": 4,
        "epochs": 4,
    },
)


@network(objective, quick=QUICK)
def gray_autoencoder(
    skips: bool = False,
    residual: bool = False,
    groups: int = 1,
    size: int | tuple[int, int] = 256,
    in_channels: int = 1,
    width: int = 64,
) -> Model:
    """1x256x256 -> latent 64x16x16 -> 1x256x256 in [0, 1]; 1,838,913 parameters.

    skips: the encoder's first three maps are put behind the decoder's of the same size (2,495,297 parameters). residual: a
    residual block after every encoder stage and before every step of the decoder (5,087,041; with skips 10,390,081). groups: of
    every convolution but the first and the last (921,409 with 2). width: channels of the first stage and of the latent.
    """
    positive(width, "gray_autoencoder: width")
    x = h = Input((in_channels, *size_pair(size, 16, "gray_autoencoder")), name="image")
    kept: list[Tensor] = []
    for i, channels in enumerate((width, 2 * width, 4 * width, width), start=1):
        last = i == 4
        h = Conv2d(
            channels, 4, stride=2, padding=1, groups=1 if i == 1 else groups, bias=last, **_INIT, name=f"enc{i}.conv"
        )(h)  # fmt: skip
        if not last:
            h = LeakyReLU(SLOPE, name=f"enc{i}.act")(BatchNorm2d(name=f"enc{i}.bn")(h))
        if residual:
            h = _residual(h, f"enc{i}_res")
        kept.append(h)
    h = Latent(name="latent")(h)
    for i, channels in enumerate((4 * width, 2 * width, width, in_channels), start=1):
        last = i == 4
        if residual:
            h = _residual(h, f"dec{i}_res")
        h = ConvTranspose2d(
            channels, 4, stride=2, padding=1, groups=1 if last else groups, bias=last, **_INIT, name=f"dec{i}.conv"
        )(h)  # fmt: skip
        if not last:
            h = LeakyReLU(SLOPE, name=f"dec{i}.act")(BatchNorm2d(name=f"dec{i}.bn")(h))
            if skips:
                h = Concat(name=f"cat{i}")([h, kept[3 - i]])
    return Model(x, Sigmoid(name="sigmoid")(h), name="gray_autoencoder")
