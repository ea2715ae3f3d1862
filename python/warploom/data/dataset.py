"""What every source of data gives."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.lazy import Lazy


@dataclass(repr=False)
class Dataset:
    """Images for training and for testing: NCHW, uint8 or float32 in [0, 1]."""

    name: str
    train: Array
    test: Array
    train_labels: Array | None = None
    test_labels: Array | None = None
    notes: list[str] = field(default_factory=list)  # sentences a user should read
    train_files: list[str] = field(default_factory=list)  # of a folder: the file of every image, from the folder on
    test_files: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # the names of the labels

    @property
    def images(self) -> Array:
        """All of them: those for training, then those for testing."""
        return np.concatenate([self.train, self.test]) if len(self.test) else self.train

    @property
    def labels(self) -> Array | None:
        """Of `images`: class numbers, or None."""
        if self.train_labels is None or self.test_labels is None:
            return self.train_labels
        return np.concatenate([self.train_labels, self.test_labels])

    @property
    def files(self) -> list[str]:
        """Of `images`, where they come from a folder."""
        return [*self.train_files, *self.test_files]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train.shape[1:]))
        parts = [f"{len(self.train):,} training and {len(self.test):,} test images of {shape}, {self.train.dtype}"]
        if self.train_labels is not None:
            parts.append(f"{len(self.classes)} classes" if self.classes else "with labels")
        return f"<Dataset {self.name!r}: {'; '.join([*parts, *self.notes])}>"

    def limited(self, limit: int | None, test_limit: int | None = None) -> "Dataset":
        """The first `limit` images for training and the first `test_limit` for testing (None: as many as for training)."""
        if limit is None and test_limit is None:
            return self
        test = limit if test_limit is None else test_limit

        def cut(a: Array | None, count: int | None) -> Array | None:
            return a if a is None else a[:count]

        return Dataset(
            self.name, self.train[:limit], self.test[:test], cut(self.train_labels, limit), cut(self.test_labels, test),
            self.notes, self.train_files[:limit], self.test_files[:test], self.classes,
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Changes with the shape or any byte of the training images: tells whether a run goes on with the data it began with."""
        return fingerprint([self.train])


def fingerprint(arrays: Sequence[Array]) -> str:
    """Shape and type of the first, and a checksum of all."""
    crc = 0
    for array in arrays:
        for source in array.sources() if isinstance(array, Lazy) else [array]:
            for start in range(0, len(source), 4096):
                crc = zlib.crc32(np.ascontiguousarray(source[start : start + 4096]).tobytes(), crc)
    shape = "x".join(map(str, arrays[0].shape))
    return f"{shape}-{arrays[0].dtype}-{crc:08x}"


def check_values(images: Array, what: str, first: int = 0) -> Array:
    """uint8 as it is; float32 must lie in [0, 1] and be free of NaN. first: the number of the first image, for errors."""
    if images.dtype == np.uint8:
        return images
    if images.dtype != np.float32:
        raise DataError(f"{what} holds {images.dtype}; expected uint8, or float32 in [0, 1]: convert it and save it again")
    for start in range(0, len(images), 4096):
        part = images[start : start + 4096]
        low, high = float(part.min(initial=0.0)), float(part.max(initial=0.0))
        if not (np.isfinite(low) and np.isfinite(high)):  # NaN is the lowest and the highest value
            row = int(np.argwhere(~np.isfinite(part))[0][0])
            kind = "NaN" if np.isnan(part[row]).any() else "infinity"
            raise DataError(f"{what} holds {kind} in image {first + start + row}; clean the data first")
        if low < 0.0 or high > 1.0:
            raise DataError(f"{what} holds values from {low:g} to {high:g}; expected float32 in [0, 1] or uint8: scale it first")
    return images
