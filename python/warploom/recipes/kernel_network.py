"""Convolutional kernel network: each layer compares patches with filters by a Gaussian kernel; filters by spherical k-means.

A layer takes patches p of its input, with the length |p|, and gives

    |p| K^-1/2 [k(z_1 p / |p|), ..., k(z_n p / |p|)],   k(u) = exp((u - 1) / sigma²),   K = k(Z Z^T),

the projection of the patch in the kernel's feature space onto its filters z, and then Gaussian pooling. Both are linear, so
pooling goes first, and K^-1/2 meets a map with fewer places. Images are whitened first: the 3x3 patches of a whitened image are
patches of the image seen through one filter.

Filters come in mirrored pairs, in later layers too, where a mirrored patch also has the maps of each pair exchanged; what
the pairs have in common is summed (parts.sum_of_pairs): mirrored training images for nothing.
Sources: Mairal 2016, https://arxiv.org/abs/1605.06265; Mairal, Koniusz, Harchaoui and Schmid 2014,
https://arxiv.org/abs/1406.3332.
"""

from collections.abc import Sequence

import numpy as np

from warploom.errors import ArgumentError
from warploom.features.clusters import spherical_kmeans
from warploom.ground.array_types import Array, Floats
from warploom.layers import Conv2d, ExpKernel, Latent, Multiply, SignedSqrt
from warploom.model import Model
from warploom.network.graph import Input, Tensor
from warploom.recipes import parts
from warploom.recipes.registry import Progress, recipe

_PLACES = 3  # of the features in height and width


@recipe("patches compared with filters by a Gaussian kernel, layer upon layer; no gradient is computed", "Mairal 2016")
def kernel_network(
    images: Array,
    *,
    filters: Sequence[int] = (64, 1024),
    pools: Sequence[int] = (2,),
    window: int = 3,
    sigma: float = 0.6,
    patches: int = 200_000,
    iterations: int = 10,
    whitening: int = 7,
    eps: float = 0.01,
    root: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """filters, pools: of each layer, filters even; the last pool may be left out for one that leaves three places in the longer
    side: 6 for images of 32x32; window: side of its patches, odd; sigma: width of the kernel; patches: how
    many the filters are learnt from; whitening: side of the window in which images are whitened, odd; eps: what is added to
    its variances; root: the square roots of the features, with their signs."""
    require(filters, pools)
    parts.require_odd(window=window, whitening=whitening)
    weights: parts.Weights = {}
    x = Input(images.shape[1:], name="image")
    h = parts.whitened_image(x, images, whitening, eps, seed, weights, progress)
    for number, count in enumerate(filters, 1):
        name = f"layer{number}"
        progress(f"filters of layer {number}", 0.0)
        rows = parts.patches_of(Model(x, h), weights, images, window, patches, seed + number)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8)
        found = spherical_kmeans(
            rows, count, iterations=iterations, seed=seed + number,
            mirror=(h.shape[0], window, window) if number == 1 else (h.shape[0] // 2, 2, window, window),
            progress=lambda share, n=number: progress(f"filters of layer {n}", share),  # type: ignore[misc]
        )  # fmt: skip
        pool = pools[number - 1] if number <= len(pools) else -(-max(h.shape[1:]) // _PLACES)
        h = _layer(h, found, window, sigma, pool, name, weights)
    h = parts.sum_of_pairs(h, "pairs", weights)
    h = Latent(name="features")(SignedSqrt(name="root")(h) if root else h)
    return parts.filled(Model(x, h, name="kernel_network"), weights)


def require(filters: Sequence[int], pools: Sequence[int]) -> None:
    """ArgumentError where there is no such network."""
    if not filters or len(pools) not in (len(filters), len(filters) - 1):
        raise ArgumentError(f"filters {filters} and pools {pools} must be lists of equal length, one number for each layer")
    parts.require_pairs(filters, "filters")


def _layer(x: Tensor, filters: Floats, window: int, sigma: float, pool: int, name: str, weights: parts.Weights) -> Tensor:
    count = len(filters)
    squares, inverse = parts.inverse_norm(x, window, 1e-6, f"{name}.norm", weights)
    h = Conv2d(count, window, padding=window // 2, bias=False, name=f"{name}.filters")(x)
    weights[f"{name}.filters.weight"] = filters.reshape(count, x.shape[0], window, window)
    h = ExpKernel(sigma, name=f"{name}.kernel")(Multiply(name=f"{name}.cosine")(h, inverse))
    length = Multiply(name=f"{name}.length")(squares, inverse)  # |p|² / |p|
    h = parts.gaussian_pool(Multiply(name=f"{name}.code")(h, length), pool, f"{name}.pool", weights)
    gram = np.exp((filters.astype(np.float64) @ filters.T - 1.0) / sigma**2)
    weights[f"{name}.projection.weight"] = parts.inverse_root(gram.astype(np.float32), 1e-3)[:, :, None, None]
    return Conv2d(count, 1, bias=False, name=f"{name}.projection")(h)
