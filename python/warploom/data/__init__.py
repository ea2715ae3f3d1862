"""Data: CIFAR-10, patches of photographs, folders of images, .npy and .npz files."""

import os
import warnings
from pathlib import Path

from warploom.data import arrays, cifar, folder, patches
from warploom.data.dataset import Dataset
from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.ground.array_types import Shape
from warploom.ground.arrays import pair
from warploom.ground.atomic import expanded
from warploom.ground.augmented import augmented
from warploom.ground.lazy import Lazy

__all__ = ["Dataset", "Lazy", "augmented", "cifar10", "load", "patches"]

cifar10 = cifar.load


_OWN_SHAPE = (3, 32, 32)  # of CIFAR-10 and patches, and of folders where nothing else is asked for


def load(
    source: str | Path = "auto", *, data_dir: str | Path | None = None, shape: Shape | None = None, seed: int = 0,
    size: int | tuple[int, int] | None = None, split: float | None = None, skip_bad: bool = False, sizing: str | None = None,
) -> Dataset:  # fmt: skip
    """Data by name or path, as images of shape (C, H, W), by default (3, 32, 32).

    source: "cifar10"; "patches"; "auto" (CIFAR-10 if it is there or can be downloaded, else patches, saying so); a folder (of
    images, or with CIFAR-10 in it); a .npy or .npz file. size: the side, or (height, width), of RGB images: short for
    shape=(3, height, width).

    Of folders and files: split is the share of the images that is for testing, 0 keeps all together; None uses the parts that are
    there (train and test), else a tenth. Of folders: skip_bad leaves out files that cannot be read (else one error names them
    all); the Dataset has the files' names, and labels where the images lie in class folders. sizing: what a note says about
    another size, where images are shrunk.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise DTypeError(f"load() takes a name or a path, not {type(source).__name__}: arrays are passed to fit() as they are")
    asked = shape is not None or size is not None
    if size is not None:
        if shape is not None:
            raise ArgumentError("size and shape say the same: pass one of them")
        shape = (3, *pair(size, "size"))
    shape = _OWN_SHAPE if shape is None else tuple(shape)
    source = str(source)
    if source in ("auto", "cifar10", "patches"):
        if split is not None:
            raise DataError(f"{source} has a training and a test part of its own: leave out split")
        if shape != _OWN_SHAPE:
            raise DataError(
                f"--data {source} has 3x32x32 images, but the model takes {'x'.join(map(str, shape))}: pass a folder or a file"
            )
        if source == "patches":
            return patches.load(seed)
        try:
            return cifar.load(data_dir)
        except DataError as error:
            if source == "cifar10" or data_dir is not None:
                raise
            fallback = patches.load(seed)
            fallback.notes.insert(0, f"training on patches instead of CIFAR-10: {error}")
            return fallback
    if data_dir is not None:
        raise DataError(f"--data-dir is where CIFAR-10 is, but --data {source} is data of its own: leave one of them out")
    path = expanded(source)
    if path.is_dir():
        found = cifar.find(path) if shape == _OWN_SHAPE and split is None else None
        if found is not None:
            return found
        hint = "pass size=... for another size" if sizing is None else sizing
        loaded = folder.load(path, shape, split=split, skip_bad=skip_bad, sizing=hint)
        if not asked and loaded.notes[-1].endswith(hint):
            warnings.warn(f"{path}: {loaded.notes[-1]}", UserWarning, stacklevel=2)
        return loaded
    if path.suffix in (".npy", ".npz"):
        return arrays.load(path, shape, split=split)
    if path.exists():
        raise DataError(f"{path} is no kind of data known here; expected a folder, a .npy or a .npz file")
    raise DataError(
        f"there is no data {source!r}: expected auto, cifar10, patches, or the path of a folder, a .npy or a .npz file"
    )


def taken(asked: str, name: str) -> str:
    """The source as a run notes it down, of data of that name: what stood in for CIFAR-10 is what the run goes on with."""
    return name if (asked, name) == ("auto", "patches") else asked
