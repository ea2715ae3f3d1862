"""Two UNets: per-pixel classes from an image.

Stages: <stage>.pool (encoder, from the second stage on), <stage>.conv, <stage>.bn, <stage>.relu; an enlarging step is a bare
transposed convolution `upconv<k>`, whose output is put before the encoder's map of the same size in `cat<k>`.
"""

from warploom.layers import Concat, Conv2d, ConvTranspose2d, Latent, MaxPool2d
from warploom.model import Model
from warploom.models.blocks import TORCH_INIT, conv_bn, size_pair
from warploom.models.objective import Objective, Preset
from warploom.models.registry import network
from warploom.network.graph import Input, Tensor


def _down(x: Tensor, channels: int, name: str) -> Tensor:
    return conv_bn(MaxPool2d(2, name=f"{name}.pool")(x), channels, 3, name)


def _up(x: Tensor, skip: Tensor, channels: int, level: int) -> Tensor:
    """The decoder's step to a level: enlarged to the skip's channels, then both, then a stage."""
    up = ConvTranspose2d(
        skip.shape[0], 3, stride=2, padding=1, output_padding=1, **TORCH_INIT, name=f"upconv{level}"
    )(x)  # fmt: skip
    return conv_bn(Concat(name=f"cat{level}")([up, skip]), channels, 3, f"dec{level}")


def _unet(h: Tensor, encoder: tuple[int, int, int], bottleneck: int, decoder: tuple[int, int, int]) -> Tensor:
    enc1 = conv_bn(h, encoder[0], 3, "enc1")
    enc2 = _down(enc1, encoder[1], "enc2")
    enc3 = _down(enc2, encoder[2], "enc3")
    h = Latent(name="latent")(_down(enc3, bottleneck, "bneck"))
    h = _up(h, enc3, decoder[0], 3)
    h = _up(h, enc2, decoder[1], 2)
    return _up(h, enc1, decoder[2], 1)


def objective() -> Objective:
    """Per-pixel softmax cross-entropy, Adam, the rate halved after epochs 20 and 80."""
    return Objective(
        losses=(("CrossEntropy", {}),),
        optimizer=("Adam", {"lr": 1e-3}),
        batch_size=32,
        epochs=100,
        data="segmentation",
        schedule=("MultiStepLR", {"milestones": (20, 80), "gamma": 0.5}),
        targets=("labels",),
    )


def _quick(epochs: int, batch_size: int) -> Preset:
    """More and smaller steps at a larger rate, which ends at 0."""
    return Preset(
        "a larger rate that ends at 0, and small batches",
        {
            "optimizer": ("Adam", {"lr": 5e-3, "betas": (0.9, 0.99)}),
            "schedule": ("CosineLR", {"warmup": 0.05, "per": "step"}),
            "batch_size": batch_size,
            "epochs": epochs,
        },
    )


@network(objective, quick=_quick(16, 8))
def unet_small(size: int | tuple[int, int] = 128, in_channels: int = 3, classes: int = 32) -> Model:
    """3x128x128 -> bottleneck 64x16x16 -> logits 32x128x128; 63,972 parameters."""
    x = Input((in_channels, *size_pair(size, 8, "unet_small")), name="image")
    h = _unet(x, (4, 8, 32), 64, (32, 8, 16))
    return Model(x, Conv2d(classes, 1, **TORCH_INIT, name="conv")(h), name="unet_small")


@network(objective, quick=_quick(3, 4))
def unet_large(size: int | tuple[int, int] = 88, in_channels: int = 3, classes: int = 256) -> Model:
    """3xHxW -> bottleneck 112xH/8xW/8 -> logits 256xHxW, H and W multiples of 8; 290,188 parameters.

    in_channels=48 (293,068 parameters) takes an image of 4 times the size, folded.
    """
    x = h = Input((in_channels, *size_pair(size, 8, "unet_large")), name="image")
    for i, channels in enumerate((64, 64, 32)):
        h = conv_bn(h, channels, 1, f"prep{i}")
    h = conv_bn(_unet(h, (8, 28, 56), 112, (56, 28, 48)), 64, 3, "dec0")
    for i in (1, 2, 3):
        h = conv_bn(h, 64, 1, f"conv_p{i}", relu=i < 3)
    return Model(x, Conv2d(classes, 1, **TORCH_INIT, name="conv")(h), name="unet_large")
