"""Images changed a little at random, differently in every epoch: flipped, shifted, with noise, with a square cut out.

The numbers that decide it depend on the seed, the epoch and the sample's number alone, and the host makes the pixels, beside the
device: so they have the same bits on every device, for every batch size and number of workers, and in a run that goes on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.errors import ArgumentError
from warploom.ground import arrays
from warploom.ground.array_types import Array
from warploom.ground.lazy import Lazy


@dataclass(frozen=True)
class _Changes:
    """What is done to an image."""

    flip: bool
    shift: int
    noise: float
    cutout: int
    seed: int

    def apply(self, images: Array, epoch: int, indices: NDArray[np.int64], *, damaged: bool) -> Array:
        """Those of the images [N, C, H, W], uint8 or float32. damaged: with noise and cut-out too."""
        height, width = images.shape[2:]
        drawn = self._drawn(epoch, indices)
        rows, columns = np.arange(height) + np.zeros((len(indices), 1), np.int64), np.arange(width)
        columns = columns + np.zeros((len(indices), 1), np.int64)
        if self.flip:
            columns = np.where(drawn[:, :1] < 0.5, columns[:, ::-1], columns)
        if self.shift:
            by = (drawn[:, 1:3] * (2 * self.shift + 1)).astype(np.int64) - self.shift
            rows, columns = _mirrored(rows + by[:, :1], height), _mirrored(columns + by[:, 1:], width)
        if self.flip or self.shift:
            channels = np.arange(images.shape[1])[None, :, None, None]
            made = images[indices[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]]
        else:
            made = images[indices]
        if damaged and self.noise:
            unit = 255.0 if made.dtype == np.uint8 else 1.0
            for image, index in zip(made, indices, strict=True):
                noise = np.random.Generator(self._stream(epoch, int(index) + 1)).standard_normal(image.shape, np.float32)
                noisy = image + np.float32(unit * self.noise) * noise
                image[:] = np.rint(np.clip(noisy, 0, 255)) if made.dtype == np.uint8 else noisy
        if damaged and self.cutout:
            starts = (drawn[:, 3:] * (height, width)).astype(np.int64) - self.cutout // 2
            for image, (y, x) in zip(made, starts, strict=True):
                image[:, max(0, y) : max(0, y + self.cutout), max(0, x) : max(0, x + self.cutout)] = 0
        return made

    def _stream(self, epoch: int, number: int) -> np.random.Philox:
        """0: of the numbers that decide; from 1 on: of a sample's noise."""
        return np.random.Philox(key=np.array([self.seed, epoch << 40 | number], dtype=np.uint64))

    def _drawn(self, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Five numbers in [0, 1) for each of the samples: Philox counts, so those of a sample have their place."""
        numbers = np.empty((len(indices), 5))
        stream = self._stream(epoch, 0)
        generator, start = np.random.Generator(stream), stream.state
        for place, index in enumerate(indices):
            stream.state = start
            stream.advance(2 * int(index))  # a count is four numbers
            numbers[place] = generator.random(5)
        return numbers


def _mirrored(positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Positions up to `size` - 1 beyond either end, mirrored at the first and the last pixel."""
    inside: NDArray[np.int64] = size - 1 - np.abs(size - 1 - np.abs(positions))
    return inside


class Augmented(Lazy):
    """Half of what augmented() gives: the network's input, or its target."""

    def __init__(self, images: Array, changes: _Changes, *, damaged: bool) -> None:
        self._images, self._changes, self._damaged = images, changes, damaged
        self.shape, self.dtype = images.shape, images.dtype

    def sources(self) -> list[Array]:
        return [self._images]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        return self._changes.apply(self._images, self.epoch, np.asarray(indices), damaged=self._damaged)


def augmented(
    images: Any, *, flip: bool = False, shift: int = 0, noise: float = 0.0, cutout: int = 0, seed: int = 0
) -> tuple[Augmented, Augmented]:
    """(inputs, targets) for fit(): the same images, changed anew in every epoch.

    images: [N, C, H, W], uint8 or float32, a memory map too. flip: left and right change places in half of them. shift: moved
    by up to so many pixels, mirrored at the edges, which is a crop of the mirrored image. These two are in inputs and targets.
    noise: Gaussian, its deviation with pixels from 0 to 1. cutout: a square of that side is 0, at the edges a part of it
    (https://arxiv.org/abs/1708.04552). These two are in the inputs only: the network learns to remove them.
    """
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise ArgumentError("augmented() takes images as an array [N, C, H, W] of uint8 or float32")
    side = min(images.shape[2:])
    changes = _Changes(
        bool(flip), arrays.positive(shift, "shift", minimum=0), arrays.number(noise, "noise", 0.0),
        arrays.positive(cutout, "cutout", minimum=0), arrays.seed(seed),
    )  # fmt: skip
    if changes.shift >= side or changes.cutout > side:
        raise ArgumentError(f"the images have {side} pixels on their short side: shift must be less, cutout at most that")
    return Augmented(images, changes, damaged=True), Augmented(images, changes, damaged=False)
