"""What several recipes are built of: layers with fixed weights, norms of patches, Gaussian pooling, sums over mirrored pairs."""

from collections.abc import Sequence

import numpy as np

from warploom.callbacks import Callback
from warploom.errors import ArgumentError
from warploom.features.patches import contrast_normalised, sample_patches
from warploom.features.whitening import Whitening, fit_whitening
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import positive
from warploom.layers import AvgPool2d, Conv2d, InverseSqrt, Latent, Layer, MaxPool2d, Multiply, ReLU, SignedSqrt
from warploom.model import Model
from warploom.network.graph import Tensor
from warploom.recipes.registry import Progress

Weights = dict[str, Floats]  # of layers with fixed or learnt weights, by parameter name
CONTRAST = 10.0 / 255.0**2  # added to the variance of a patch, of values in [0, 1]
_PATCHES_OF_AN_IMAGE = 20  # at most: neighbouring ones say the same


def require_pairs(counts: int | Sequence[int], what: str) -> None:
    """ArgumentError where filters cannot come in mirrored pairs."""
    each = counts if isinstance(counts, Sequence) else (counts,)
    if any(positive(count, what) % 2 for count in each):
        many = f"each number of {what}" if isinstance(counts, Sequence) else what
        raise ArgumentError(f"the filters come in mirrored pairs: {many} must be even, not {counts}")


def require_odd(**sides: int) -> None:
    """ArgumentError where the side of a window is even."""
    for what, side in sides.items():
        if positive(side, what) % 2 == 0:
            raise ArgumentError(f"{what} must be odd, so that a window has a middle; got {side}")


class Told(Callback):
    """Passes on how far the training is."""

    def __init__(self, epochs: int, progress: Progress) -> None:
        self.epochs, self.epoch, self.progress = epochs, 0, progress

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.progress("autoencoder", (self.epoch + logs["samples"] / logs["total"]) / self.epochs)


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


def whitened_image(x: Tensor, images: Array, side: int, eps: float, seed: int, weights: Weights, progress: Progress) -> Tensor:
    """The image through the middle rows of the ZCA matrix of its side x side patches, each pixel's mean of its window
    taken away."""
    progress("whitening", 0.0)
    side = min(side, (min(images.shape[2:]) - 1) // 2 * 2 + 1)  # odd, and inside the smallest images
    rows = sample_patches(images, side, 100_000, seed)
    rows -= rows.mean(axis=1, keepdims=True)
    channels, area = x.shape[0], side * side
    matrix = fit_whitening(rows, eps, mirror=(channels, side, side)).matrix
    centre = np.eye(channels * area) - 1.0 / (channels * area)
    middle = np.arange(channels) * area + area // 2
    weights["whitening.weight"] = (centre @ matrix)[:, middle].T.reshape(channels, channels, side, side).astype(np.float32)
    return Conv2d(channels, side, padding=side // 2, bias=False, name="whitening")(x)


def patches_of(model: Model, weights: Weights, images: Array, window: int, count: int, seed: int) -> Floats:
    """Patches of what the model makes of images, drawn at random; only as many images as are needed are run."""
    model.load_state_dict({name: value for name, value in weights.items() if name in model.named_parameters()})
    rng = np.random.default_rng(seed)
    needed = min(len(images), -(-count // _PATCHES_OF_AN_IMAGE))
    chosen = np.sort(rng.choice(len(images), needed, replace=False))
    found = []
    for start in range(0, needed, 500):
        some = chosen[start : start + 500]
        maps = model.predict(images[some], batch_size=50)
        share = count * (start + len(some)) // needed - count * start // needed
        found.append(sample_patches(maps, window, share, int(rng.integers(2**31))))
    return np.concatenate(found)


def whitened_rows(
    images: Array, patch: int, count: int, eps: float, seed: int, progress: Progress
) -> tuple[Floats, Whitening, Shape]:
    """Patches [count, C * patch * patch] of equal contrast, whitened; the whitening, which may be exchanged with mirroring; the
    shape of a patch."""
    shape = (images.shape[1], positive(patch, "patch"), patch)
    if min(images.shape[2:]) < patch + 1:
        raise ArgumentError(f"images of {images.shape[2]}x{images.shape[3]} are too small for patches of {patch}x{patch}")
    progress("drawing patches", 0.0)
    rows = contrast_normalised(sample_patches(images, patch, count, seed), CONTRAST)
    progress("whitening", 0.0)
    whitening = fit_whitening(rows, eps, mirror=shape)
    return whitening(rows), whitening, shape


def whitened_patches(x: Tensor, whitening: Whitening, patch: int, middle: Floats | float, weights: Weights) -> Tensor:
    """[C * patch * patch, H - patch + 1, W - patch + 1]: the patch at each place, of equal contrast, whitened, less `middle`."""
    width = x.shape[0] * patch * patch
    h = fixed(Conv2d(width, patch, bias=False, name="patches"))(x)
    weights["patches.weight"] = (np.eye(width) - 1.0 / width).astype(np.float32).reshape(width, x.shape[0], patch, patch)
    _, contrast = inverse_norm(h, 1, CONTRAST, "contrast", weights, share=1.0 / width)
    h = Multiply(name="contrast.normalised")(h, contrast)
    weights["whitening.weight"] = whitening.matrix.T.reshape(width, width, 1, 1)
    weights["whitening.bias"] = -(whitening.mean @ whitening.matrix) - middle
    return Conv2d(width, 1, name="whitening")(h)


def pooled_codes(codes: Tensor, regions: int, root: bool, weights: Weights) -> Tensor:
    """The features of codes of filters in mirrored pairs: what is positive, its regional means, their roots, both of a pair."""
    h = regional_means(ReLU(name="codes")(codes), regions, "regions")
    if root:
        h = SignedSqrt(name="root")(h)
    return Latent(name="features")(sum_of_pairs(h, "pairs", weights))


def regional_means(x: Tensor, regions: int, name: str) -> Tensor:
    """[C, regions, regions]: the means over equal windows spread evenly over the map; neighbours share rows and columns where its
    side is no multiple."""
    size, stride = zip(*(_window(side, regions) for side in x.shape[1:]), strict=True)
    return AvgPool2d(size, stride, name=name)(x)


def regional_maxima(x: Tensor, regions: int, name: str) -> Tensor:
    """[C, regions, regions]: the maxima over the windows of regional_means()."""
    size, stride = zip(*(_window(side, regions) for side in x.shape[1:]), strict=True)
    return MaxPool2d(size, stride, name=name)(x)


def _window(side: int, count: int) -> tuple[int, int]:
    """The length and the distance of `count` equal windows that cover `side` places."""
    if count == 1:
        return side, 1
    size = -(-side // count)
    while size < side and (side - size) % (count - 1):
        size += 1
    return size, max(1, (side - size) // (count - 1))


def gaussian_pool(x: Tensor, factor: int, name: str, weights: Weights) -> Tensor:
    """[C, ceil(H / factor), ceil(W / factor)]: a Gaussian of deviation factor / sqrt(2), 2 factor or 2 factor + 1 wide, at every
    factor-th pixel. The first place is as far from its border as the last from the other: the pooled map of a mirrored map is
    the mirrored pooled map, for which a pooling of 2 looks between the pixels.

    Source: Mairal 2016 (kernel networks), whose pooling it is.
    """
    channels = x.shape[0]
    bells, paddings = zip(*(_bell(side, factor) for side in x.shape[1:]), strict=True)
    size = (len(bells[0]), len(bells[1]))
    window = np.outer(*bells)
    weights[f"{name}.weight"] = np.broadcast_to(window, (channels, 1, *size)).astype(np.float32).copy()
    return fixed(Conv2d(channels, size, stride=factor, padding=paddings, groups=channels, bias=False, name=name))(x)


def _bell(side: int, factor: int) -> tuple[Array, int]:
    """The taps of a Gaussian, with the sum 1, and the padding, so that ceil(side / factor) places lie evenly on `side`."""
    reach = (-(-side // factor) - 1) * factor
    taps = 2 * factor + (reach - side) % 2
    places = np.arange(taps) - (taps - 1) / 2
    bell = np.exp(-(places**2) / factor**2)
    return bell / bell.sum(), (reach + taps - side) // 2


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
