"""Autoencoders of whitened patches, trained by gradient descent, whose filters then look at every place of an image.

The code of a patch u is relu(W u + b), a linear layer decodes it. Two recipes differ in what keeps the code from being a copy:
*winner_take_all* lets each filter describe only the few patches of a batch that excite it most (lifetime sparsity: the
competition of Makhzani and Frey's convolutional network, on patches instead of maps); *denoising* has the code restore a patch
from a noisy one. Both may be combined.

What is left of the autoencoder is its dictionary, the patches that the decoder adds up (rows of W look for them beside one
another, which blurs them): a filter of length 1 each, whose threshold is the value that a given share of the patches exceeds,
each patch divided by about its length, so that strong edges do not drown the rest.
Means of regions and their roots are the features, as of the whitened dictionary. Each filter stands beside its mirror image
(parts.sum_of_pairs), and patches are mirrored at random while it is learnt.
Sources: Makhzani and Frey 2015, https://arxiv.org/abs/1409.2752; Vincent, Larochelle, Lajoie, Bengio and Manzagol 2010,
https://jmlr.org/papers/v11/vincent10a.html; other thresholds than the learnt b: Coates and Ng 2011, The importance of encoding
versus training with sparse coding and vector quantization.
"""

import numpy as np

from warploom.features.patches import mirrored
from warploom.features.whitening import Whitening
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import number, positive
from warploom.ground.augmented import augmented
from warploom.layers import Conv2d, Flatten, Linear, Multiply, ReLU, Reshape, WinnerTakeAll
from warploom.model import Model
from warploom.network.graph import Input
from warploom.optim import Adam
from warploom.optim.schedules import CosineLR
from warploom.recipes import parts
from warploom.recipes.registry import Progress, recipe

_BATCH = 256
_FOR_THRESHOLDS = 20_000  # patches


@recipe("an autoencoder of whitened patches, each filter for the few that excite it most", "Makhzani and Frey 2015")
def winner_take_all(
    images: Array,
    *,
    filters: int = 1600,
    patch: int = 6,
    patches: int = 200_000,
    share: float = 0.05,
    noise: float = 0.0,
    epochs: int = 8,
    learning_rate: float = 1e-3,
    active: float = 0.1,
    eps: float = 0.1,
    regions: int = 2,
    root: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """filters: even, half of them learnt, half their mirror images; patch: side of a patch; patches: how many are learnt from;
    share: of a batch that a filter may describe; noise: its standard deviation, where a whitened patch's is below 1; epochs,
    learning_rate: of Adam (no epoch: random filters, the control); active: the share of patches that excite a filter
    afterwards; eps: of the whitening; regions: the means are over so many windows in height and width; root: the square root
    of the means."""
    parts.require_pairs(filters, "filters")
    active = number(active, "active", 0.0, 1.0)
    rows, whitening, shape = parts.whitened_rows(images, patch, patches, eps, seed, progress)
    learnt = directions(
        rows, shape, filters // 2, share=share, noise=noise, epochs=epochs, learning_rate=learning_rate, seed=seed,
        progress=progress,
    )  # fmt: skip
    some = rows[:: -(-len(rows) // _FOR_THRESHOLDS)]
    squares = np.einsum("ij,ij->i", some, some)
    level = float(squares.mean())
    matches = (some @ learnt.T) / np.sqrt(squares + level)[:, None]
    thresholds = np.quantile(matches, 1.0 - active, axis=0).astype(np.float32)
    pairs = np.stack([learnt, mirrored(learnt, shape)], 1).reshape(filters, -1)
    return network(images.shape[1:], whitening, level, pairs, thresholds.repeat(2), patch, regions, root)


@recipe("an autoencoder of whitened patches that restores noisy ones", "Vincent and others 2010")
def denoising(
    images: Array,
    *,
    filters: int = 1600,
    patch: int = 6,
    patches: int = 200_000,
    noise: float = 0.5,
    epochs: int = 8,
    learning_rate: float = 1e-3,
    active: float = 0.1,
    eps: float = 0.1,
    regions: int = 2,
    root: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """As winner_take_all, with noise, and every filter may describe every patch."""
    return winner_take_all(
        images, filters=filters, patch=patch, patches=patches, share=1.0, noise=noise, epochs=epochs,
        learning_rate=learning_rate, active=active, eps=eps, regions=regions, root=root, seed=seed, progress=progress,
    )  # fmt: skip


def directions(
    rows: Floats, shape: Shape, count: int, *, share: float, noise: float, epochs: int, learning_rate: float, seed: int,
    progress: Progress,
) -> Floats:  # fmt: skip
    """[count, C * patch * patch], each of length 1: what the decoder makes patches of that shape of."""
    x = Input(shape, name="patch")
    code = ReLU(name="code")(Linear(count, name="encoder")(Flatten(name="row")(x)))
    code = WinnerTakeAll(share, name="winners")(code) if share < 1.0 else code
    model = Model(x, Reshape(shape, name="decoded")(Linear(rows.shape[1], name="decoder")(code)), name="patch_autoencoder")
    model.compile(optimizer=Adam(lr=learning_rate), loss="mse", seed=seed)
    if positive(epochs, "epochs", minimum=0):
        given, wanted = augmented(rows.reshape(-1, *shape), flip=True, noise=noise, seed=seed)
        model.fit(given, wanted, epochs, callbacks=[CosineLR(), parts.Told(epochs, progress)], batch_size=_BATCH, verbose=False)
    weights = model.state_dict()["decoder.weight"].T
    found: Floats = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-8)
    return found


def network(
    shape: Shape, whitening: Whitening, level: float, filters: Floats, thresholds: Floats, patch: int, regions: int, root: bool
) -> Model:
    """The network of a whitening and filters [K, C * patch * patch] in mirrored pairs, for images of this shape.

    level: what is added to the squared length of a whitened patch, by whose root it is divided."""
    weights: parts.Weights = {}
    x = Input(shape, name="image")
    u = parts.whitened_patches(x, whitening, patch, 0.0, weights)
    _, length = parts.inverse_norm(u, 1, level, "length", weights)
    codes = Conv2d(len(filters), 1, name="filters")(Multiply(name="length.normalised")(u, length))
    weights["filters.weight"], weights["filters.bias"] = filters[:, :, None, None], -thresholds
    return parts.filled(Model(x, parts.pooled_codes(codes, regions, root, weights), name="patch_filters"), weights)
