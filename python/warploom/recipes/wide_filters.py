"""Wide filters: k-means of patches as they are, a quarter of an image wide, applied to whitened images; maxima over regions.

Learnt from whitened patches so wide, filters would be noise: whitening brings up fine detail, which never repeats. Of patches
that are not whitened they are coarse shapes, and the whitened image still tells where those have edges.
Sources: Knyazev, Barth and Martinetz, Recursive autoconvolution for unsupervised learning of convolutional neural networks,
2017; Coates, Lee and Ng 2011.
"""

import numpy as np

from warploom.features.clusters import spherical_kmeans
from warploom.features.patches import contrast_normalised, sample_patches
from warploom.ground.array_types import Array
from warploom.ground.arrays import number
from warploom.layers import Conv2d, Latent, Multiply, ReLU, SignedSqrt
from warploom.model import Model
from warploom.network.graph import Input
from warploom.recipes import parts
from warploom.recipes.registry import Progress, recipe

_FOR_THRESHOLDS = 4_000  # patches


@recipe("wide filters from patches as they are, on whitened images, maxima over regions", "Knyazev, Barth and Martinetz 2017")
def wide_filters(
    images: Array,
    *,
    filters: int = 1024,
    patch: int = 9,  # the paper's 13 are worse here: docs/features.md
    patches: int = 200_000,
    iterations: int = 10,
    whitening: int = 7,
    eps: float = 0.01,
    active: float = 0.1,
    regions: int = 4,
    root: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """filters: even; patch: their side, odd; patches: that they are learnt from; whitening: side of the window in which images
    are whitened, odd; eps: what is added to its variances; active: the share of places where a filter gives anything; regions:
    the maxima are over so many windows in height and width; root: their square roots."""
    parts.require_pairs(filters, "filters")
    parts.require_odd(patch=patch, whitening=whitening)
    active, shape = number(active, "active", 0.0, 1.0), (images.shape[1], patch, patch)
    weights: parts.Weights = {}
    x = Input(images.shape[1:], name="image")
    h = parts.whitened_image(x, images, whitening, eps, seed, weights, progress)
    progress("filters", 0.0)
    found = spherical_kmeans(
        contrast_normalised(sample_patches(images, patch, patches, seed), parts.CONTRAST), filters, iterations=iterations,
        seed=seed, mirror=shape, progress=lambda share: progress("filters", share),
    )  # fmt: skip
    some = parts.patches_of(Model(x, h), weights, images, patch, _FOR_THRESHOLDS, seed + 1)
    squares = np.einsum("ij,ij->i", some, some)
    level = float(squares.mean())
    matches = (some @ found.T) / np.sqrt(squares + level)[:, None]
    _, length = parts.inverse_norm(h, patch, level, "length", weights)
    h = Conv2d(filters, patch, padding=patch // 2, bias=False, name="filters")(h)
    weights["filters.weight"] = found.reshape(filters, *shape)
    h = parts.regional_maxima(Multiply(name="length.normalised")(h, length), regions, "regions")
    # After the maxima, where there are fewer places; one for all, as a filter and its mirror image must be alike.
    h = parts.fixed(Conv2d(filters, 1, groups=filters, name="threshold"))(h)
    weights["threshold.weight"] = np.ones((filters, 1, 1, 1), np.float32)
    weights["threshold.bias"] = np.full(filters, -np.quantile(matches, 1.0 - active), np.float32)
    h = ReLU(name="codes")(h)
    h = SignedSqrt(name="root")(h) if root else h
    h = Latent(name="features")(parts.sum_of_pairs(h, "pairs", weights))
    return parts.filled(Model(x, h, name="wide_filters"), weights)
