"""A folder of images."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from warploom.data.bombs import opened_image
from warploom.data.dataset import Dataset
from warploom.errors import DataError
from warploom.ground.array_types import Array, Shape
from warploom.ground.pictures import eight_bits

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_TEST_EVERY = 10
_SHOWN = 10  # bad files that an error names
T = TypeVar("T")


def load(folder: Path, shape: Shape, *, split: float | None = None, skip_bad: bool = False, sizing: str = "") -> Dataset:
    """Every image below the folder, in the order of their paths, with its file's name and, from class folders, its label.

    Each is turned upright, made RGB (or grey for a model with one channel), cut to the middle part that has the model's
    proportions and resized to the model's size. split: the share that is for testing, spread evenly; 0 keeps all together. None:
    sub-folders train and test are what they say; without them every tenth image is for testing. skip_bad: files that cannot be
    read are left out, and said; else one error names them all. sizing: how to ask for another size, said where images shrink.
    """
    divided = (folder / "train").is_dir() and (folder / "test").is_dir()
    roots = [folder / "train", folder / "test"] if divided else [folder]
    every, notes = [images_in(root) for root in roots], other_files(folder)
    read, files, sizes, bad = read_all([p for part in every for p in part], shape, skip_bad)
    if bad:
        notes.append(f"{len(bad)} file{'s' if len(bad) > 1 else ''} that cannot be read left out: {listed(bad)}")
    own = divided and split is None
    if own:
        test = np.isin([str(p) for p in files], [str(p) for p in every[1]])
    else:
        test = spread(len(files), 1.0 / _TEST_EVERY if split is None else split)
    if test.all() or (split is None and not test.any()):
        raise DataError(f"{folder} holds {len(files)} readable image(s); expected at least 2, one of them for testing")
    classes, labels = classes_of(files, roots)
    count = int(test.sum())
    told = f"{len(files) - count:,} images in train, {count:,} in test" if own else f"{len(files):,} images"
    if count and not own:
        told += f", {count:,} of them, spread evenly, for testing"
    if classes:
        told += f"; {len(classes)} classes: {listed(classes)}"
    notes.insert(0, f"{folder}: {told}")
    notes += filter(None, [shrinking(sizes, shape, sizing)])
    names = [p.relative_to(folder).as_posix() for p in files]
    parts = [np.flatnonzero(~test), np.flatnonzero(test)]
    train_images, test_images = (np.stack([read[i] for i in p]) if len(p) else np.empty((0, *shape), np.uint8) for p in parts)
    train_labels, test_labels = (None if labels is None else labels[p] for p in parts)
    train_files, test_files = ([names[i] for i in p] for p in parts)
    return Dataset(
        folder.resolve().name, train_images, test_images, train_labels, test_labels, notes, train_files, test_files, classes
    )


def spread(count: int, share: float) -> NDArray[np.bool_]:
    """Which of so many are for testing: the last of every 1 / share, at least one where the share is not 0."""
    if not 0.0 <= share < 1.0:
        raise DataError(f"split must be at least 0 and less than 1, not {share:g}: it is the share that is for testing")
    whole = np.floor(np.arange(count + 1) * share + 1e-9)
    chosen: NDArray[np.bool_] = whole[1:] > whole[:-1]
    if share and count > 1 and not chosen.any():
        chosen[-1] = True
    return chosen


def classes_of(files: Sequence[Path], roots: Sequence[Path]) -> tuple[list[str], NDArray[np.int64] | None]:
    """The names of the first sub-folders, and which one each file lies in; none where files lie beside them, or in one only."""
    owners = []
    for path in files:
        root = next(r for r in roots if path.is_relative_to(r))
        inner = path.relative_to(root).parts
        owners.append(inner[0] if len(inner) > 1 else "")
    classes = sorted(set(owners))
    if len(classes) < 2 or "" in classes:
        return [], None
    return classes, np.array([classes.index(owner) for owner in owners], np.int64)


def listed(names: Sequence[str], shown: int = 8) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def shrinking(sizes: Sequence[tuple[int, int]], shape: Shape, sizing: str) -> str:
    """A sentence where most images lose pixels; "" where they do not. sizes: (height, width) of the files."""
    height, width = shape[1:]
    larger = [s for s in sizes if s[0] > height and s[1] > width]
    if 2 * len(larger) <= len(sizes):
        return ""
    h, w = sorted(larger, key=lambda size: size[::-1])[len(larger) // 2]
    return f"the images ({w}x{h} and the like) are shrunk to {width}x{height} pixels{'; ' if sizing else ''}{sizing}"


def images_in(folder: Path, lacking: str = "neither CIFAR-10 nor images") -> list[Path]:
    """The image files below a folder, sorted; hidden ones left out. lacking: what an error says is not there."""
    paths = [p for p in _files_in(folder) if p.suffix.lower() in SUFFIXES]
    if not paths:
        others = "".join(f": {sentence}, convert them first" for sentence in other_files(folder))
        raise DataError(f"{folder} holds {lacking} ({', '.join(s[1:] for s in SUFFIXES)}){others}")
    return paths


def other_files(folder: Path) -> list[str]:
    """A sentence that names what lies beside the images and is left out; none where there is nothing."""
    counts = Counter(p.suffix.lower() or "(no ending)" for p in _files_in(folder) if p.suffix.lower() not in SUFFIXES)
    if not counts:
        return []
    total = counts.total()
    return [f"{total:,} other file{'s' if total > 1 else ''} left out: {listed([f'{n:,} {s}' for s, n in counts.most_common()])}"]


def _files_in(folder: Path) -> list[Path]:
    try:
        found = (p for p in folder.rglob("*") if p.is_file())
        return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def read_each(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T | DataError]:
    """What `read` makes of every file, or the error it gave."""

    def one(path: Path) -> T | DataError:
        try:
            return read(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        return list(pool.map(one, paths))


def no_bad(errors: Sequence[DataError], *, skippable: bool = True) -> None:
    """One error that names every file that cannot be read."""
    if not errors:
        return
    way_out = "; or leave them out with --skip-bad (skip_bad=True)" if skippable else ""
    if len(errors) == 1:
        raise DataError(f"{errors[0]}{way_out.replace('them', 'it')}")
    shown = "; ".join(str(e).replace("; remove or replace it", "") for e in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    raise DataError(f"{len(errors)} files cannot be used: {shown}{more}: remove or replace them{way_out}")


def read_all(
    paths: list[Path], shape: Shape, skip_bad: bool = False
) -> tuple[list[Array], list[Path], list[tuple[int, int]], list[str]]:
    """(pixels [C, H, W], their files, the files' sizes as (height, width), the names of files that cannot be read)."""
    if shape[0] not in (1, 3):
        raise DataError(f"a folder of images gives 1 or 3 channels, but the model takes {shape[0]}; use a .npy file")
    channels, height, width = shape
    found = read_each(paths, lambda path: read_image(path, channels, (height, width)))
    errors = [e for e in found if isinstance(e, DataError)]
    if not skip_bad or len(errors) == len(found):
        no_bad(errors, skippable=len(errors) < len(found))
    kept = [(p, f) for p, f in zip(paths, found, strict=True) if not isinstance(f, DataError)]
    bad = [p.name for p, f in zip(paths, found, strict=True) if isinstance(f, DataError)]
    return [f[0] for _, f in kept], [p for p, _ in kept], [f[1] for _, f in kept], bad


def upright(opened: Any) -> Any:
    """An image that Pillow has opened, turned by its EXIF tag, in a mode of 8 bits a channel."""
    from PIL import ImageOps

    ImageOps.exif_transpose(opened, in_place=True)  # without a copy of all pixels
    return eight_bits(opened)


def fitted(image: Any, size: tuple[int, int], *, stretch: bool = False) -> Any:
    """A Pillow image at that (height, width): its middle part with these proportions, resized; stretch: all of it, resized."""
    from PIL import Image, ImageOps

    sides = (size[1], size[0])
    if stretch:
        return image.resize(sides, Image.Resampling.LANCZOS)
    return ImageOps.fit(image, sides, Image.Resampling.LANCZOS)


def read_image(
    path: Path, channels: int, size: tuple[int, int] | None = None, *, stretch: bool = False
) -> tuple[Array, tuple[int, int]]:
    """One image as uint8 [C, H, W] of that (height, width), and the one it has in the file. No size: as it is."""
    mode = "RGB" if channels == 3 else "L"
    try:
        with opened_image(path) as image:
            plain = upright(image)
            plain = plain if plain.mode == mode else plain.convert(mode)
            pixels = np.asarray(plain if size is None else fitted(plain, size, stretch=stretch), dtype=np.uint8)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(unreadable(path, error)) from error
    width, height = plain.size
    return (pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))), (height, width)


def unreadable(path: Path, error: Exception) -> str:
    """The sentence for a file that Pillow refuses; Pillow's own repeats the path."""
    reason = str(error).replace(f" '{path}'", "").replace(f" {str(path)!r}", "")
    try:
        size = f"{path} ({path.stat().st_size:,} bytes)"
    except OSError:  # gone since the folder was listed
        size = str(path)
    return f"{size} cannot be read as an image ({reason}); remove or replace it"
