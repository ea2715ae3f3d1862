"""What several recipes are built of: layers with fixed weights, norms of patches, Gaussian pooling, sums over mirrored pairs."""

import numpy as np

from warploom.ground.array_types import Floats
from warploom.layers import AvgPool2d, Conv2d, InverseSqrt, Layer, Multiply
from warploom.model import Model
from warploom.network.graph import Tensor

Weights = dict[str, Floats]  # of layers with fixed or learnt weights, by parameter name


def fixed(layer: Layer) -> Layer:
    """What no training changes."""
    layer.trainable = False
    return layer


def inverse_norm(x: Tensor, window: int, eps: float, name: str, weights: Weights, *, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two maps [1, H, W]: share * the sum of x² over all channels and window x window pixels, and 1 / sqrt(that + eps)."""
    squares = Multiply(name=f"{name}.square")(x, x)
    total = fixed(Conv2d(1, window, padding=window // 2, bias=False, name=f"{name}.sum"))(squares)
    weights[f"{name}.sum.weight"] = np.full((1, x.shape[0], window, window), share, np.float32)
    return total, InverseSqrt(eps, name=f"{name}.inverse")(total)


def quadrants(x: Tensor, name: str) -> Tensor:
    """[C, 2, 2]: the means over the four quarters of the map; those of an odd side share their middle row or column."""
    size = ((x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2)
    stride = (max(1, x.shape[1] - size[0]), max(1, x.shape[2] - size[1]))
    return AvgPool2d(size, stride, name=name)(x)


def gaussian_pool(x: Tensor, factor: int, name: str, weights: Weights) -> Tensor:
    """[C, H / factor, W / factor]: a Gaussian of deviation factor / sqrt(2), 2 factor + 1 wide, at every factor-th pixel.

    Source: Mairal 2016 (kernel networks), whose pooling it is.
    """
    channels = x.shape[0]
    pool = Conv2d(channels, 2 * factor + 1, stride=factor, padding=factor, groups=channels, bias=False, name=name)
    places = np.arange(-factor, factor + 1, dtype=np.float64)
    bell = np.exp(-(places**2) / factor**2)
    window = np.outer(bell, bell) / bell.sum() ** 2
    weights[f"{name}.weight"] = np.broadcast_to(window, (channels, 1, *window.shape)).astype(np.float32).copy()
    return fixed(pool)(x)


def sum_of_pairs(x: Tensor, name: str, weights: Weights) -> Tensor:
    """[C * W, H, 1] from [C, H, W] whose channels come in pairs of a filter and its mirror image.

    Of each pair: half the first, plus half the second with left and right exchanged. An image and its mirror image have the same
    features then. A linear classifier trained on the mirrored images too has equal weights for what is added here, so nothing
    of it is lost, the training set need not be doubled, and there are half as many features.
    """
    channels, _, width = x.shape
    weight = np.zeros((channels // 2, width, 2, 1, width), np.float32)
    for j in range(width):
        weight[:, j, 0, 0, j] = 0.5
        weight[:, j, 1, 0, width - 1 - j] = 0.5
    weights[f"{name}.weight"] = weight.reshape(-1, 2, 1, width)
    layer = Conv2d(channels // 2 * width, (1, width), groups=channels // 2, bias=False, name=name)
    return fixed(layer)(x)


def inverse_root(matrix: Floats, eps: float) -> Floats:
    """(matrix + eps)^-1/2 of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix.astype(np.float64) + eps * np.eye(len(matrix)))
    root: Floats = ((vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T).astype(np.float32)
    return root


def filled(model: Model, weights: Weights) -> Model:
    """The model with these weights, all of them."""
    model.load_state_dict(weights)
    return model
