"""Whitened dictionary: k-means on whitened patches, a triangle activation at every place, means over regions.

The triangle activation max(0, mean_k z_k - z_k) of the distances z_k = |u - c_k| needs all channels twice. With squares
it is linear: mean z² - z_k² = 2 u (c_k - c) - (|c_k|² - mean |c|²), c the mean centre; and where distances are alike,
mean z - z_k is that over twice their root mean square R(u), a number of the place: R² = |u - c|² + mean |c_k - c|². So
the code is a 1x1 convolution of (u - c) / R and 1 / R, and a ReLU: a plain network, whose large map is pooled as it
arises (conv2d_mean on the host).

Centres come in mirrored pairs, and what the pairs have in common is summed (parts.sum_of_pairs): mirrored training images
for nothing.
Sources: Coates, Lee and Ng, An analysis of single-layer networks, 2011; Coates and Ng 2012.
"""

import numpy as np

from warploom.features.clusters import kmeans
from warploom.features.whitening import Whitening
from warploom.ground.array_types import Array, Floats
from warploom.layers import Concat, Conv2d, Multiply
from warploom.model import Model
from warploom.network.graph import Input
from warploom.recipes import parts
from warploom.recipes.registry import Progress, recipe


@recipe("k-means on whitened patches, means over regions; no gradient is computed", "Coates, Lee and Ng 2011")
def whitened_dictionary(
    images: Array,
    *,
    centres: int = 1600,
    patch: int = 6,
    patches: int = 400_000,
    iterations: int = 10,
    eps: float = 0.5,
    threshold: float = 0.2,
    regions: int = 2,
    root: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """centres: even; patch: side of a patch; patches: how many the centres are learnt from; eps: of the whitening, of patches
    whose mean variance is 1; threshold: what is subtracted from the code before the ReLU; regions: the means are over so many
    windows in height and width; root: the square root of the means."""
    parts.require_pairs(centres, "centres")
    rows, whitening, shape = parts.whitened_rows(images, patch, patches, eps, seed, progress)
    found = kmeans(
        rows, centres, iterations=iterations, seed=seed, mirror=shape, progress=lambda share: progress("k-means", share)
    )
    return network(images.shape[1:], whitening, found, patch, threshold, regions, root)


def network(
    shape: tuple[int, ...], whitening: Whitening, centres: Floats, patch: int, threshold: float, regions: int, root: bool
) -> Model:
    """The network of a whitening and centres [K, C * patch * patch] in mirrored pairs, for images of this shape."""
    weights: parts.Weights = {}
    x = Input(shape, name="image")
    middle = centres.mean(axis=0)
    u = parts.whitened_patches(x, whitening, patch, middle, weights)
    offsets = centres - middle
    squares = np.einsum("ij,ij->i", offsets, offsets)
    _, distance = parts.inverse_norm(u, 1, float(squares.mean()), "distance", weights)
    near = Concat(name="near")(Multiply(name="distance.normalised")(u, distance), distance)
    codes = Conv2d(len(centres), 1, name="dictionary")(near)
    weights["dictionary.weight"] = np.concatenate([offsets, -(squares - squares.mean())[:, None] / 2], 1)[:, :, None, None]
    weights["dictionary.bias"] = np.full(len(centres), -threshold, np.float32)
    return parts.filled(Model(x, parts.pooled_codes(codes, regions, root, weights), name="whitened_dictionary"), weights)
