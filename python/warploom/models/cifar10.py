"""The CIFAR-10 autoencoder: five convolutions around a latent of 8,192 values."""

from warploom.layers import Conv2d, Latent, MaxPool2d, ReLU, Upsample
from warploom.model import Model
from warploom.models.blocks import size_pair
from warploom.models.objective import Objective
from warploom.models.registry import network
from warploom.network.graph import Input


def objective() -> Objective:
    """Mean squared error, plain SGD."""
    return Objective(
        losses=(("MSE", {}),),
        optimizer=("SGD", {"lr": 1e-3}),
        batch_size=64,
        epochs=20,
        data="images",
    )


@network(objective)
def cifar10_autoencoder(size: int | tuple[int, int] = 32) -> Model:
    """3x32x32 -> latent 128x8x8 -> 3x32x32; 751,875 parameters conv1.weight … conv5.bias, He normal, zero bias.

    size: of the images, a multiple of 4; the latent has a quarter of it."""
    x = Input((3, *size_pair(size, 4, "cifar10_autoencoder")), name="image")
    h = ReLU(name="relu1")(Conv2d(256, 3, padding=1, name="conv1")(x))
    h = MaxPool2d(2, name="pool1")(h)
    h = ReLU(name="relu2")(Conv2d(128, 3, padding=1, name="conv2")(h))
    h = MaxPool2d(2, name="pool2")(h)
    h = Latent(name="latent")(h)
    h = ReLU(name="relu3")(Conv2d(128, 3, padding=1, name="conv3")(h))
    h = Upsample(2, name="up1")(h)
    h = ReLU(name="relu4")(Conv2d(256, 3, padding=1, name="conv4")(h))
    h = Upsample(2, name="up2")(h)
    y = Conv2d(3, 3, padding=1, name="conv5")(h)
    return Model(x, y, name="cifar10_autoencoder")
