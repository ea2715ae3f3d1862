"""The CIFAR-10 autoencoder: five convolutions around a latent of 8,192 values."""

from warploom.errors import ArgumentError
from warploom.layers import Conv2d, Latent, MaxPool2d, ReLU, Upsample
from warploom.model import Model
from warploom.models.blocks import size_pair
from warploom.models.objective import Objective, Preset
from warploom.models.registry import network
from warploom.network.graph import Input

# Gains of the first and the last convolution, by name of the initialisation.
INITS = {"he": (1.0, 1.0), "balanced": (0.1, 2.0)}

# Small batches, since an image costs nearly the same in one of 16 as in one of 64, and a rate that ends at 0.
SHARP = Preset(
    "Adam and a balanced start: a good picture in minutes on a CPU",
    {
        "optimizer": ("Adam", {"lr": 2e-3, "betas": (0.9, 0.99)}),
        "schedule": ("CosineLR", {"warmup": 0.05, "per": "step"}),
        "batch_size": 16,
        "epochs": 2,
    },
    {"init": "balanced"},
)


def objective() -> Objective:
    """Mean squared error, plain SGD."""
    return Objective(
        losses=(("MSE", {}),),
        optimizer=("SGD", {"lr": 1e-3}),
        batch_size=64,
        epochs=20,
        data="images",
    )


@network(objective, sharp=SHARP)
def cifar10_autoencoder(size: int | tuple[int, int] = 32, init: str = "he") -> Model:
    """3x32x32 -> latent 128x8x8 -> 3x32x32; 751,875 parameters conv1.weight … conv5.bias, zero bias.

    size: of the images, a multiple of 4; the latent has a quarter of it.
    init: "he" is the specification's, He normal everywhere: outputs start with a deviation of 0.45. "balanced" starts conv1 at a
    tenth of that and conv5 at twice: outputs start near zero, and the weights of all layers are about equally large, so that an
    optimizer whose steps do not depend on the gradient's size (Adam) changes every layer by the same share.
    """
    if init not in INITS:
        raise ArgumentError(f"cifar10_autoencoder: unknown init {init!r}; expected one of {', '.join(INITS)}")
    first, last = INITS[init]
    x = Input((3, *size_pair(size, 4, "cifar10_autoencoder")), name="image")
    h = ReLU(name="relu1")(Conv2d(256, 3, padding=1, gain=first, name="conv1")(x))
    h = MaxPool2d(2, name="pool1")(h)
    h = ReLU(name="relu2")(Conv2d(128, 3, padding=1, name="conv2")(h))
    h = MaxPool2d(2, name="pool2")(h)
    h = Latent(name="latent")(h)
    h = ReLU(name="relu3")(Conv2d(128, 3, padding=1, name="conv3")(h))
    h = Upsample(2, name="up1")(h)
    h = ReLU(name="relu4")(Conv2d(256, 3, padding=1, name="conv4")(h))
    h = Upsample(2, name="up2")(h)
    y = Conv2d(3, 3, padding=1, gain=last, name="conv5")(h)
    return Model(x, y, name="cifar10_autoencoder")
