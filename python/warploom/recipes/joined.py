"""Networks side by side, whose features tell different things: two kernel networks and a dictionary."""

from collections.abc import Sequence

from warploom.ground.array_types import Array
from warploom.layers import Concat, Flatten, Latent
from warploom.model import Model
from warploom.network.graph import Input
from warploom.recipes import parts
from warploom.recipes.kernel_network import kernel_network, require
from warploom.recipes.registry import Progress, recipe
from warploom.recipes.whitened_dictionary import whitened_dictionary


@recipe("two kernel_networks and a whitened_dictionary side by side", "as those")
def joined(
    images: Array,
    *,
    filters: Sequence[int] = (256, 1024),
    wide: Sequence[int] = (64, 2048),
    pools: Sequence[int] = (2,),
    centres: int = 1600,
    patches: int = 400_000,
    iterations: int = 10,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """filters, wide: of the layers of one kernel network and of the other, even; pools: of both, as there; centres: of the
    dictionary, even; patches: that the centres are learnt from, half as many for the others; iterations: of k-means."""
    for layers in (filters, wide):  # before minutes of learning
        require(layers, pools)
    parts.require_pairs(centres, "centres")
    network = {"pools": pools, "patches": -(-patches // 2), "iterations": iterations, "seed": seed}
    members = {
        "large": kernel_network(images, filters=filters, progress=progress, **network),
        "wide": kernel_network(images, filters=wide, progress=progress, **network),
        "dictionary": whitened_dictionary(
            images, centres=centres, patches=patches, iterations=iterations, seed=seed, progress=progress
        ),
    }
    x = Input(images.shape[1:], name="image")
    features = []
    for name, member in members.items():
        for layer in member.layers:
            layer.name = f"{name}.{layer.name}"
        features.append(Flatten(name=f"{name}.row")(member(x)))
    together = Latent(name="features")(Concat(name="joined")(features))
    return Model(x, together, name="joined", latent=together)  # each member marks its own too
