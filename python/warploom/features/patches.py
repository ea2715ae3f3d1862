"""Patches of images: drawn at random, centred, of equal contrast, mirrored. A patch is a row of C * size * size numbers."""

import numpy as np

from warploom.errors import ArgumentError
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import positive


def sample_patches(images: Array, size: int, count: int, seed: int = 0) -> Floats:
    """`count` patches [count, C * size * size] at random places of random images [N, C, H, W], which may hold one more than once.

    uint8 images are scaled to [0, 1]. The order inside a row is channels, rows, columns.
    """
    if images.ndim != 4 or not len(images):
        raise ArgumentError(f"sample_patches expects images of shape (N, C, H, W), not {images.shape}")
    size, count = positive(size, "size"), positive(count, "count")
    _, channels, height, width = images.shape
    if size > min(height, width):
        raise ArgumentError(f"patches of {size}x{size} do not fit into images of {height}x{width}")
    rng = np.random.default_rng(seed)
    # Sorted by image, so that a large array is read from end to end; places stay independent of the image.
    n = np.sort(rng.integers(0, len(images), count))
    top, left = rng.integers(0, height - size + 1, count), rng.integers(0, width - size + 1, count)
    out = np.empty((count, channels * size * size), np.float32)
    windows = np.arange(size)
    for start in range(0, count, 8192):
        part = slice(start, start + 8192)
        rows, columns = top[part, None] + windows, left[part, None] + windows
        taken = images[
            n[part, None, None, None], np.arange(channels)[:, None, None], rows[:, None, :, None], columns[:, None, None]
        ]
        out[part] = taken.reshape(len(taken), -1)
    if images.dtype == np.uint8:
        out /= 255.0
    return out


def centred(patches: Floats) -> Floats:
    """Each patch minus its mean."""
    centre: Floats = patches - patches.mean(axis=1, keepdims=True)
    return centre


def contrast_normalised(patches: Floats, eps: float = 10.0 / 255.0**2) -> Floats:
    """Each patch minus its mean, over sqrt(variance + eps); of values in [0, 1]. Source: Coates, Lee and Ng 2011."""
    centre = centred(patches)
    centre /= np.sqrt(np.mean(centre * centre, axis=1, keepdims=True) + eps)
    return centre


def mirrored(patches: Floats, shape: Shape) -> Floats:
    """Left and right exchanged in rows that hold (C, H, W), or (pairs, 2, H, W): then both maps of a pair change places too,
    as those of a filter and of its mirror image do when the image is mirrored."""
    turned = patches.reshape(-1, *shape)[..., ::-1]
    if len(shape) == 4:
        turned = turned[:, :, ::-1]
    return np.ascontiguousarray(turned).reshape(len(patches), -1)
