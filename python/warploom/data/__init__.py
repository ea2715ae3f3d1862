"""Data: CIFAR-10, patches of photographs, folders of images, .npy and .npz files."""

from pathlib import Path

from warploom.data import arrays, cifar, folder, patches
from warploom.data.dataset import Dataset
from warploom.errors import DataError
from warploom.ground.array_types import Shape
from warploom.ground.atomic import expanded
from warploom.ground.lazy import Lazy

__all__ = ["Dataset", "Lazy", "cifar10", "load", "patches"]

cifar10 = cifar.load


def load(source: str = "auto", *, data_dir: str | Path | None = None, shape: Shape = (3, 32, 32), seed: int = 0) -> Dataset:
    """Data by name or path, as images of shape (C, H, W).

    "cifar10"; "patches"; "auto" (CIFAR-10 if it is there or can be downloaded, else patches, saying so); a folder (of images,
    or with CIFAR-10 in it); a .npy or .npz file.
    """
    if source in ("auto", "cifar10", "patches"):
        if tuple(shape) != (3, 32, 32):
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
        found = cifar.find(path) if tuple(shape) == (3, 32, 32) else None
        return found if found is not None else folder.load(path, shape)
    if path.suffix in (".npy", ".npz"):
        return arrays.load(path, shape)
    if path.exists():
        raise DataError(f"{path} is no kind of data known here; expected a folder, a .npy or a .npz file")
    raise DataError(
        f"there is no data {source!r}: expected auto, cifar10, patches, or the path of a folder, a .npy or a .npz file"
    )
