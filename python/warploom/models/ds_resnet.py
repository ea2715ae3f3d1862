"""DSResNet: depth and mask of a foreground, from a background with and without it."""

from warploom.ground.arrays import positive
from warploom.layers import Add, BatchNorm2d, Concat, Conv2d, Identity, Latent, MaxPool2d, ReLU, Upsample
from warploom.model import Model
from warploom.models.blocks import TORCH_INIT, size_pair
from warploom.models.objective import Objective, Preset
from warploom.models.registry import network
from warploom.network.graph import Input, Tensor


def _conv1(x: Tensor, channels: int, name: str) -> Tensor:
    return Conv2d(channels, 1, **TORCH_INIT, name=name)(x)


def _residual(x: Tensor, channels: int, name: str) -> Tensor:
    """Twice convolution, ReLU, batch norm in this order; plus a 1x1 convolution of the input; no activation afterwards."""
    h = x
    for i in (1, 2):
        h = Conv2d(channels, 3, padding=1, **TORCH_INIT, name=f"{name}.conv{i}")(h)
        h = BatchNorm2d(name=f"{name}.bn{i}")(ReLU(name=f"{name}.relu{i}")(h))
    return Add(name=f"{name}.add")([h, _conv1(x, channels, f"{name}.shortcut")])


def _pool(x: Tensor, name: str) -> Tensor:
    return MaxPool2d(2, name=name)(x)


def _up(x: Tensor, channels: int, skip: Tensor | list[Tensor], name: str) -> Tensor:
    """A decoder stage; from two skips a 1x1 convolution makes one."""
    h = Upsample(2, "bilinear", name=f"{name}.up")(_conv1(x, channels, f"{name}.reduce"))
    if isinstance(skip, list):
        skip = _conv1(Concat(name=f"{name}.pair")(skip), channels, f"{name}.joint")
    return _residual(Concat(name=f"{name}.cat")([h, skip]), channels, name)


def objective() -> Objective:
    """Twice the RMSE of the depth, cross-entropy and twice the Dice loss of the mask; SGD, a tenth of the rate after 3 epochs."""
    return Objective(
        losses=(
            ("RMSE", {"weight": 2.0, "eps": 1e-6, "from_logits": True, "output": 0}),
            ("BCEWithLogits", {"output": 1}),
            ("Dice", {"weight": 2.0, "smooth": 1e-6, "from_logits": True, "output": 1}),
        ),
        optimizer=("SGD", {"lr": 0.1, "momentum": 0.9}),
        batch_size=16,
        epochs=10,
        data="composites",
        schedule=("MultiStepLR", {"milestones": (3,), "gamma": 0.1}),
        targets=("depth", "mask"),
    )


QUICK = Preset(
    "Adam, small batches and a rate that ends at 0",
    {
        "optimizer": ("Adam", {"lr": 1e-3, "betas": (0.9, 0.99)}),
        "schedule": ("CosineLR", {"warmup": 0.05, "per": "step"}),
        "batch_size": 4,
        "epochs": 2,
    },
)


@network(objective, quick=QUICK)
def dsresnet(size: int | tuple[int, int] = 224, width: int = 16) -> Model:
    """Two images 3x224x224 (background; with foreground) -> logits of depth and mask, 1x224x224 each; 10,343,490 parameters.

    Names: bg.enc1, bg.enc2, bg_fg.enc1, bg_fg.enc2, common.join.conv, common.enc1 … common.enc4, then depth.dec5 … depth.dec1,
    depth.head, and the same for mask; a stage holds conv1, bn1, conv2, bn2 and shortcut, a decoder stage also reduce and (dec2,
    dec1) joint. The outputs are named depth and mask. width: channels of the first stage; every later one has twice as many.
    """
    positive(width, "dsresnet: width")
    shape = (3, *size_pair(size, 32, "dsresnet"))
    inputs = [Input(shape, name="bg"), Input(shape, name="bg_fg")]
    first, second = [], []
    for x in inputs:
        first.append(_residual(x, width, f"{x.name}.enc1"))
        second.append(_residual(_pool(first[-1], f"{x.name}.enc2.pool"), 2 * width, f"{x.name}.enc2"))
    halves = [_pool(full, f"common.join.pool_{x.name}") for full, x in zip(second, inputs, strict=True)]
    h = _conv1(Concat(name="common.join.cat")(halves), 2 * width, "common.join.conv")
    kept = []
    for i, channels in enumerate((4 * width, 8 * width, 16 * width, 32 * width), start=1):
        kept.append(_residual(h, channels, f"common.enc{i}"))
        if i < 4:
            h = _pool(kept[-1], f"common.enc{i + 1}.pool")
    latent = Latent(name="latent")(kept[3])
    outputs = []
    widths = [width << i for i in (4, 3, 2, 1, 0)]
    for task in ("depth", "mask"):
        h = latent
        skips: list[Tensor | list[Tensor]] = [kept[2], kept[1], kept[0], second, first]
        for level, channels, skip in zip((5, 4, 3, 2, 1), widths, skips, strict=True):
            h = _up(h, channels, skip, f"{task}.dec{level}")
        outputs.append(Identity(name=task)(_conv1(h, 1, f"{task}.head")))
    return Model(inputs, outputs, name="dsresnet")
