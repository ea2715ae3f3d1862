"""Three networks side by side, whose features tell different things: a kernel network, a dictionary, an autoencoder's filters."""

from collections.abc import Sequence

from warploom.ground.array_types import Array
from warploom.layers import Concat, Flatten, Latent
from warploom.model import Model
from warploom.network.graph import Input
from warploom.recipes.kernel_network import kernel_network
from warploom.recipes.patch_autoencoder import denoising
from warploom.recipes.registry import Progress, recipe
from warploom.recipes.whitened_dictionary import whitened_dictionary


@recipe("kernel_network, whitened_dictionary and denoising side by side", "as those three")
def joined(
    images: Array,
    *,
    filters: Sequence[int] = (256, 1024),
    pools: Sequence[int] = (2, 6),
    centres: int = 1600,
    patches: int = 400_000,
    iterations: int = 10,
    epochs: int = 8,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """filters, pools: of the kernel network's layers, filters even; centres: of the dictionary, even, and so many filters of
    the autoencoder; patches: that the centres are learnt from, half as many for the others; iterations: of k-means; epochs: of
    the autoencoder."""
    half = -(-patches // 2)
    members = {
        "kernel_network": kernel_network(
            images, filters=filters, pools=pools, patches=half, iterations=iterations, root=True, seed=seed, progress=progress
        ),
        "whitened_dictionary": whitened_dictionary(
            images, centres=centres, patches=patches, iterations=iterations, seed=seed, progress=progress
        ),
        "denoising": denoising(images, filters=centres, patches=half, epochs=epochs, seed=seed, progress=progress),
    }
    x = Input(images.shape[1:], name="image")
    features = []
    for name, member in members.items():
        for layer in member.layers:
            layer.name = f"{name}.{layer.name}"
        features.append(Flatten(name=f"{name}.row")(member(x)))
    together = Latent(name="features")(Concat(name="joined")(features))
    return Model(x, together, name="joined", latent=together)  # each member marks its own too
