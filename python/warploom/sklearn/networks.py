"""The networks that an estimator makes for data where it is given none."""

import math

from warploom.ground.array_types import Shape
from warploom.ground.arrays import positive
from warploom.layers import Conv2d, Flatten, Latent, Linear, MaxPool2d, ReLU, Reshape, Upsample
from warploom.model import Model
from warploom.network.graph import Input

_HIDDEN = 64  # of the layers beside a vector's latent
_WIDTH = 32  # channels of the first convolution


def network_for(shape: Shape, components: int | None) -> Model:
    """An autoencoder of vectors (n,) or images (C, H, W) with so many latent values; None: a quarter of the input's."""
    count = positive(max(1, math.prod(shape) // 4) if components is None else components, "n_components")
    return _of_vectors(shape[0], count) if len(shape) == 1 else _of_images(shape, count)


def _of_vectors(features: int, components: int) -> Model:
    x = Input((features,), name="x")
    h = ReLU()(Linear(_HIDDEN, name="enc1")(x))
    z = Latent()(Linear(components, name="enc2")(h))
    h = ReLU()(Linear(_HIDDEN, name="dec1")(z))
    return Model(x, Linear(features, name="dec2")(h), name="vector_autoencoder")


def _of_images(shape: Shape, components: int) -> Model:
    """Halved as often as the sides allow, twice at most; then a vector."""
    channels, height, width = shape
    halvings = 0
    while halvings < 2 and not (height | width) % 2 ** (halvings + 1) and min(height, width) > 2 ** (halvings + 1):
        halvings += 1
    x = h = Input(shape, name="x")
    for i in range(halvings + 1):
        h = ReLU()(Conv2d(_WIDTH * 2**i, 3, padding=1, name=f"conv{i + 1}")(h))
        h = MaxPool2d(2)(h) if i < halvings else h
    inner = h.shape
    z = Latent()(Linear(components, name="latent_in")(Flatten()(h)))
    h = Reshape(inner)(ReLU()(Linear(math.prod(inner), name="latent_out")(z)))
    for i in range(halvings, 0, -1):
        h = ReLU()(Conv2d(_WIDTH * 2 ** (i - 1), 3, padding=1, name=f"deconv{i + 1}")(Upsample(2)(h)))
    return Model(x, Conv2d(channels, 3, padding=1, name="deconv1")(h), name="image_autoencoder")
