"""Images in .npy and .npz files."""

from pathlib import Path

import numpy as np

from warploom.data.bombs import checked_zip
from warploom.data.dataset import Dataset, check_values
from warploom.errors import DataError
from warploom.ground.array_types import Array, Shape

_TRAIN_KEYS, _TEST_KEYS = ("train", "x_train", "images"), ("test", "x_test")
_TEST_SHARE = 10


def load(path: Path, shape: Shape, *, split: float | None = None) -> Dataset:
    """uint8, or float32 in [0, 1]; NCHW or NHWC, told apart by the shape (C, H, W) the model takes.

    .npz: "train" (or "x_train", "images") and, if it has one, "test" (or "x_test"); an archive of one array is that array. Where
    there is no test part, the last tenth (or the share `split`) is kept for it; split=0 keeps all together.
    """
    arrays = read_arrays(path)
    train: Array | None
    test: Array | None
    if path.suffix == ".npy" or len(arrays) == 1:
        train, test = next(iter(arrays.values())), None
    else:
        train = next((arrays[k] for k in _TRAIN_KEYS if k in arrays), None)
        test = next((arrays[k] for k in _TEST_KEYS if k in arrays), None)
    if train is None:
        found = f"the arrays {', '.join(arrays)}" if arrays else "no arrays"
        raise DataError(f"{path} holds {found}; expected one named train (or x_train, images)")
    images = check_values(to_nchw(train, shape, str(path)), str(path))
    if test is not None and split is None:
        return Dataset(path.stem, images, check_values(to_nchw(test, shape, f"{path} (test)"), f"{path} (test)"))
    if test is not None:
        images = np.concatenate([images, check_values(to_nchw(test, shape, f"{path} (test)"), f"{path} (test)")])
    share = 1.0 / _TEST_SHARE if split is None else split
    if not 0.0 <= share < 1.0:
        raise DataError(f"split must be at least 0 and less than 1, not {share:g}: it is the share that is for testing")
    if not share:
        return Dataset(path.stem, images, images[:0], notes=[f"{path.name}: {len(images):,} images"])
    if len(images) < 2:
        raise DataError(f"{path} holds {len(images)} image(s); expected at least 2, one of them for testing")
    kept = max(1, len(images) // _TEST_SHARE if split is None else round(share * len(images)))
    note = f"{path.name}: the last {kept:,} of {len(images):,} images are for testing"
    return Dataset(path.stem, images[:-kept], images[-kept:], notes=[note])


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz file by their names; of a .npy file the one that it is, mapped, as "images"."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        if path.suffix == ".npy":
            return {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
        checked_zip(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for a damaged file
        text = " ".join(str(error).split())[:200]  # NumPy quotes what it has read, however long
        reason = "no numbers, or Python objects, which are never loaded" if "pickle" in text else text
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) is damaged, cut short or no {path.suffix} file of numbers ({reason})"
        ) from error


def to_nchw(array: Array, shape: Shape, what: str) -> Array:
    """[N, C, H, W] from that or from [N, H, W, C] or, with one channel, [N, H, W]."""
    c, h, w = shape
    if array.shape[1:] == (c, h, w):
        result = array
    elif array.shape[1:] == (h, w, c):
        result = array.transpose(0, 3, 1, 2)
    elif c == 1 and array.shape[1:] == (h, w):
        result = array[:, None]
    else:
        raise DataError(f"{what} has shape {array.shape}; the model takes (N, {c}, {h}, {w}) or (N, {h}, {w}, {c})")
    if not len(result):
        raise DataError(f"{what} holds no image")
    return result if isinstance(result, np.memmap) and result.flags.c_contiguous else np.ascontiguousarray(result)
