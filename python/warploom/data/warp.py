"""Random warps of images, a new one for every image and epoch, and the weight of a face from its mask."""

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Array
from warploom.ground.arrays import LARGEST_SEED
from warploom.ground.lazy import Lazy

_GRID = 5  # control points a side
_STRENGTH = 0.24  # standard deviation of their shifts, in cells of the grid
_LIMIT = 0.45  # of a cell: neighbours do not change places, so that nothing folds


def _curve(size: int) -> Array:
    """[size, _GRID]: weights of the control points at every pixel of a side (Catmull-Rom splines, ends repeated)."""
    at = np.linspace(0.0, _GRID - 1.0, size)
    cell = np.minimum(at.astype(int), _GRID - 2)
    t = at - cell
    weights = np.zeros((size, _GRID))
    parts = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
    for offset, part in zip((-1, 0, 1, 2), parts, strict=True):
        np.add.at(weights, (np.arange(size), np.clip(cell + offset, 0, _GRID - 1)), part / 2)
    return weights


class Warped(Lazy):
    """uint8 images [N, C, H, W] as float32 in [0, 1], warped: borders keep their place, the inside moves smoothly.

    count: rows; where it is more than N the images come again, each time warped in another way.
    """

    def __init__(self, images: Array, seed: int, count: int | None = None) -> None:
        self._images, self._seed = images, seed
        self.shape, self.dtype = (count or len(images), *images.shape[1:]), np.dtype(np.float32)
        self._columns, self._lines = _curve(images.shape[2]), _curve(images.shape[3])

    def sources(self) -> list[Array]:
        return [self._images]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        result = np.empty((len(indices), *self.shape[1:]), np.float32)
        for place, index in enumerate(indices.tolist()):
            result[place] = self._warp(self._images[index % len(self._images)], index)
        return result

    def _warp(self, image: Array, index: int) -> Array:
        key = np.array([self._seed & LARGEST_SEED, self.epoch << 32 | index], dtype=np.uint64)
        shifts = np.random.Generator(np.random.Philox(key=key)).normal(0.0, _STRENGTH, (2, _GRID, _GRID))
        shifts = np.clip(shifts, -_LIMIT, _LIMIT)
        shifts[:, [0, -1], :] = 0.0
        shifts[:, :, [0, -1]] = 0.0
        height, width = image.shape[1:]
        dy, dx = (self._columns @ s @ self._lines.T * (n - 1) / (_GRID - 1) for s, n in zip(shifts, (height, width), strict=True))
        y = np.clip(np.arange(height)[:, None] + dy, 0, height - 1)
        x = np.clip(np.arange(width)[None, :] + dx, 0, width - 1)
        top, left = np.minimum(y.astype(int), max(0, height - 2)), np.minimum(x.astype(int), max(0, width - 2))
        bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        v, u = (y - top).astype(np.float32), (x - left).astype(np.float32)
        pixels = image.astype(np.float32) / 255.0
        upper = pixels[:, top, left] * (1 - u) + pixels[:, top, right] * u
        lower = pixels[:, bottom, left] * (1 - u) + pixels[:, bottom, right] * u
        warped: Array = upper * (1 - v) + lower * v
        return warped


def _blur(size: int, sigma: float) -> Array:
    """[size, size]: a Gaussian along one side, the border's pixels repeated outside."""
    radius = int(np.ceil(4 * sigma))
    window = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    window /= window.sum()
    matrix = np.zeros((size, size))
    rows = np.arange(size)
    for offset, weight in zip(range(-radius, radius + 1), window, strict=True):
        np.add.at(matrix, (rows, np.clip(rows + offset, 0, size - 1)), weight)
    return matrix


def face_weights(masks: Array) -> Array:
    """2 * clip(blur(mask, sigma = resolution / 32), 0, 1/2) of uint8 masks [N, 1, H, W], as uint8 (255 is 1)."""
    height, width = masks.shape[2:]
    sigma = height / 32.0
    down, across = _blur(height, sigma), _blur(width, sigma).T
    weights = np.empty_like(masks)
    for i, mask in enumerate(masks[:, 0]):
        weights[i, 0] = np.rint(2.0 * np.clip(down @ mask @ across, 0.0, 127.5))
    return weights
