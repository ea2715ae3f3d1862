"""Arrays whose rows are computed when they are asked for: augmentation and normalisation that fit() runs beside the device."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Array, Shape


class Lazy(ABC):
    """Base: set shape (with the number of samples first) and dtype (float32 or uint8), and override rows().

    fit() sets `epoch` before each pass. rows() must depend on nothing but the row numbers and the epoch, so that a resumed run
    sees the same data.
    """

    shape: Shape
    dtype: "np.dtype[Any]"
    epoch: int = 0

    @abstractmethod
    def rows(self, indices: NDArray[np.int64]) -> Array:
        """Those samples, C-contiguous, as [len(indices), ...]."""

    def sources(self) -> list[Array]:
        """The arrays it is computed from: what tells whether the data have changed."""
        return []

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        return self.rows(np.arange(len(self))[key])


class Head(Lazy):
    """`count` rows of another one, `source`, the first ones or those from `start` on."""

    def __init__(self, source: Lazy, count: int, start: int = 0) -> None:
        self.source, self.start = source, start
        self.shape, self.dtype = (max(0, min(count, len(source) - start)), *source.shape[1:]), source.dtype

    def sources(self) -> list[Array]:
        return self.source.sources()

    def rows(self, indices: NDArray[np.int64]) -> Array:
        self.source.epoch = self.epoch
        return self.source.rows(indices + self.start)


class Cycled(Lazy):
    """The rows of an array over and over, until there are `count`."""

    def __init__(self, array: Array, count: int) -> None:
        self._array = array
        self.shape, self.dtype = (count, *array.shape[1:]), array.dtype

    def sources(self) -> list[Array]:
        return [self._array]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        result: Array = self._array[indices % len(self._array)]
        return result


class Normalized(Lazy):
    """uint8 images as float32 (value / 255 - mean) / deviation, per channel."""

    def __init__(self, images: Array, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        self._images = images
        self.shape, self.dtype = images.shape, np.dtype(np.float32)
        places = (1, -1, *[1] * (images.ndim - 2))
        self._scale = (1.0 / (255.0 * np.array(deviation))).astype(np.float32).reshape(places)
        self._shift = (np.array(mean) / np.array(deviation)).astype(np.float32).reshape(places)

    def sources(self) -> list[Array]:
        return [self._images]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        result: Array = self._images[indices] * self._scale - self._shift
        return result
