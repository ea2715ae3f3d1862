"""New pictures from a variational autoencoder."""

import numpy as np

from warploom.errors import ArgumentError
from warploom.ground import arrays
from warploom.ground.array_types import Floats
from warploom.layers import Sampling
from warploom.model import Model


def sample(model: Model, count: int, seed: int = 0) -> Floats:
    """What the decoder makes of `count` draws from the standard normal distribution: [count, C, H, W].

    The draws depend on the seed alone, and the first ones not on the count. ArgumentError where the network is not variational:
    the latents of others follow no distribution that one could draw from.
    """
    count, seed = arrays.positive(count, "count"), arrays.seed(seed)
    if not any(isinstance(layer, Sampling) for layer in model.layers):
        raise ArgumentError(
            f"model {model.name!r} has no Sampling layer, so its latents follow no known distribution: build it with "
            "models.autoencoder(variational=True)"
        )
    latents = np.random.default_rng(seed).standard_normal((count, *model.require_latent().shape)).astype(np.float32)
    made: Floats = model.decode(latents)
    return made
