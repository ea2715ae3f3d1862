"""Images to use a network on, from any source, streamed: named, of known size, labelled where labels are known.

    source = open_images("photos")                      # a folder, CIFAR-10, one image, .npy, .npz, arrays
    for batch in source.batches(64, size=(32, 32)):     # in the source's order; nothing is kept
        batch.images, batch.names, batch.sizes, batch.labels

Files are decoded by threads a few images ahead; a folder is never in memory as a whole. If a file cannot be read, all files that
cannot are named in one error, after the others were looked at; with skip_bad they are left out.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from warploom import data
from warploom.data import cifar, folder
from warploom.data.arrays import read_arrays
from warploom.data.dataset import Dataset, check_values
from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.ground.array_types import Array
from warploom.ground.arrays import numbers, positive
from warploom.ground.atomic import expanded
from warploom.ground.layouts import to_nchw
from warploom.inference import pixels

PARTS = ("auto", "all", "train", "test")
FITS = ("crop", "stretch", "own")
_TEST_EVERY = 10
_BATCH_BYTES = 64 << 20  # of pixels: a batch of large images is smaller than it was asked for
_TRAIN = (("train", "y_train"), ("x_train", "y_train"), ("images", "labels"), ("x", "y"), ("data", "labels"))  # in .npz files
_TEST = (("test", "y_test"), ("x_test", "y_test"))

Size: TypeAlias = tuple[int, int]  # (height, width)


@dataclass
class Batch:
    """Images of one size, one after the other in the source."""

    images: Array  # [n, C, H, W], uint8 or float32 in [0, 1]
    indices: NDArray[np.int64]  # places in the source
    names: list[str]
    sizes: list[Size]  # of the images before they were fitted
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Images:
    """A source. A selection of it is a source too: select(), limited()."""

    title: str  # for people
    names: list[str]  # a file's path from the folder on; "test/00017" of arrays
    labels: NDArray[np.int64] | None  # class numbers
    classes: list[str]  # names of the classes; empty where they have none
    notes: list[str]  # sentences a user should read
    channels: int
    skip_bad: bool
    _read: Callable[[int, Size | None, bool], tuple[Array, Size]]  # place, size, stretch
    _places: NDArray[np.int64]  # of these images in what _read knows
    files: list[Path] | None = None  # where each image is a file
    _block: Callable[[NDArray[np.int64], Size | None], Array | None] | None = None  # many at once, where nothing is to be changed

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        known = f", {len(self.classes) or int(self.labels.max()) + 1} classes" if self.labels is not None else ""
        return f"<Images {self.title!r}: {len(self):,}{known}>"

    def read(self, index: int, *, size: Size | None = None, fit: str = "crop") -> Array:
        """One image [C, H, W]; size and fit as batches() takes them."""
        _check_fit(fit)
        return self._read(int(self._places[index]), None if fit == "own" else size, fit == "stretch")[0]

    def select(self, indices: Any) -> "Images":
        """Those images, by number or by a mask, in that order."""
        chosen = np.arange(len(self))[indices]
        labels = None if self.labels is None else self.labels[chosen]
        files = None if self.files is None else [self.files[i] for i in chosen]
        return replace(self, names=[self.names[i] for i in chosen], labels=labels, files=files, _places=self._places[chosen])

    def without_labels(self) -> "Images":
        return replace(self, labels=None, classes=[])

    def limited(self, limit: int | None) -> "Images":
        return self if limit is None or limit >= len(self) else self.select(slice(0, limit))

    def readable(self, skipped: list[str]) -> "Images":
        """Those that can be read, found by reading each once; the names of the others go to skipped.
        For what must know beforehand how many images there are."""
        found = [batch.indices for batch in replace(self, skip_bad=True).batches(fit="own", skipped=skipped)]
        return self.select(np.concatenate(found)) if skipped else self

    def batches(
        self, batch_size: int = 64, *, size: Size | None = None, fit: str = "crop", skipped: list[str] | None = None
    ) -> Iterator[Batch]:
        """All images, at most batch_size at a time, fewer where the next one has another size or they are large.

        size: (height, width) to bring each image to: fit="crop" cuts it to these proportions first, as training does, "stretch"
        does not; "own" leaves every size as it is, and so does size=None. skipped: takes the names that skip_bad leaves out.
        DataError names all files that cannot be read, once the others have been looked at: what was made of the batches before is
        to be dropped.
        """
        _check_fit(fit)
        positive(batch_size, "batch_size")
        wanted = None if fit == "own" else size
        start = 0
        while self._block is not None and start < len(self):
            places = self._places[start : start + batch_size]
            block = self._block(places, wanted)
            if block is None:
                break
            found_sizes = [(block.shape[2], block.shape[3])] * len(block)
            rows = np.arange(start, start + len(block))
            names = self.names[start : start + len(block)]
            yield Batch(block, rows, names, found_sizes, None if self.labels is None else self.labels[rows])
            start += len(block)
        waiting: list[tuple[int, Array, Size]] = []
        errors: list[DataError] = []
        for index, found in _ahead(start, len(self), lambda i: self._read(int(self._places[i]), wanted, fit == "stretch")):
            if isinstance(found, DataError):
                if self.files is None:  # an array is wrong as a whole
                    raise found
                errors.append(found)
                if skipped is not None:
                    skipped.append(self.names[index])
                continue
            if errors and not self.skip_bad:
                continue  # only looked at
            image, original = found
            if waiting and (image.shape != waiting[0][1].shape or image.dtype != waiting[0][1].dtype):
                yield self._batch(waiting)
                waiting = []
            waiting.append((index, image, original))
            if len(waiting) >= min(batch_size, max(1, _BATCH_BYTES // image.nbytes)):
                yield self._batch(waiting)
                waiting = []
        if errors and (not self.skip_bad or len(errors) == len(self)):
            folder.no_bad(errors, skippable=len(errors) < len(self))
        if waiting:
            yield self._batch(waiting)

    def _batch(self, waiting: Sequence[tuple[int, Array, Size]]) -> Batch:
        indices = np.array([w[0] for w in waiting], np.int64)
        return Batch(
            np.stack([w[1] for w in waiting]), indices, [self.names[i] for i in indices], [w[2] for w in waiting],
            None if self.labels is None else self.labels[indices],
        )  # fmt: skip


def _check_fit(fit: str) -> None:
    if fit not in FITS:
        raise ArgumentError(f"unknown fit {fit!r}; expected one of {', '.join(FITS)}")


def _ahead(start: int, count: int, read: Callable[[int], Any]) -> Iterator[tuple[int, Any]]:
    """(i, read(i) or its DataError) from start on, in order; threads read a few images ahead, no more: they may be large."""

    def safely(index: int) -> Any:
        try:
            return read(index)
        except DataError as error:
            return error

    workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        futures: deque[Future[Any]] = deque()
        try:
            for index in range(start, count):
                while index + len(futures) < count and len(futures) <= 2 * workers:
                    futures.append(pool.submit(safely, index + len(futures)))
                yield index, futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def open_images(
    source: Any, *, channels: int = 3, part: str = "all", data_dir: str | Path | None = None, skip_bad: bool = False,
    limit: int | None = None, seed: int = 0,
) -> Images:  # fmt: skip
    """Images from a folder (class sub-folders are labels), the folder, archive or name of CIFAR-10, "patches", an image file,
    a .npy or .npz file, a list of image files, or an array.

    channels: of the network; grey and RGB become each other, arrays may have any number if it is this one. part: "train" or
    "test" of sources that have such parts (else, as in training: every tenth file of a folder, the last tenth of an array, is for
    testing); "auto" is the test part of a source that has one, and all of any other. limit: the first so many. seed: of patches.
    Arrays: NCHW, NHWC, NHW, or one image as CHW, HWC, HW; uint8, or floats in [0, 1]; .npy files stay on the disk. DataError
    where there is nothing to read.
    """
    if part not in PARTS:
        raise ArgumentError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
    return _opened(source, positive(channels, "channels"), part, data_dir, skip_bad, seed).limited(limit)


def _opened(source: Any, channels: int, part: str, data_dir: str | Path | None, skip_bad: bool, seed: int) -> Images:
    if isinstance(source, Dataset):
        return _of_dataset(source, channels, part)
    paths = isinstance(source, (str, os.PathLike))
    listed = isinstance(source, (list, tuple))
    if not paths and not (listed and all(isinstance(s, (str, os.PathLike)) for s in source)):
        if listed and not all(hasattr(s, "__array__") or hasattr(s, "__array_interface__") for s in source):
            raise DTypeError("a list of images is one of files, or of arrays of one shape")
        return _of_arrays("array", [("", numbers(source, "images"), None)], channels, part)
    if listed:
        return _of_files("files", [expanded(s) for s in source], None, channels, part, skip_bad)
    if str(source) in ("auto", "cifar10", "patches"):
        return _of_dataset(data.load(str(source), data_dir=data_dir, seed=seed), channels, part)
    if data_dir is not None:
        raise DataError(f"--data-dir is where CIFAR-10 is, but {source} is data of its own: leave one of them out")
    path = expanded(source)
    if path.is_dir() or path.name in cifar.ARCHIVES:
        found = cifar.find(path)
        if found is not None:
            return _of_dataset(found, channels, part)
    if path.is_dir():
        return _of_folder(path, channels, part, skip_bad)
    if path.suffix in (".npy", ".npz"):
        return _of_arrays(path.name, _named_arrays(path), channels, part)
    if path.suffix.lower() in folder.SUFFIXES and path.is_file():
        return _of_files(path.name, [path], path.parent, channels, part, skip_bad)
    if path.exists():
        known = ", ".join(s[1:] for s in folder.SUFFIXES)
        raise DataError(f"{path} is no kind of images known here; expected a folder, a .npy or .npz file, or an image ({known})")
    raise DataError(f"there is no {str(source)!r}: expected a folder, an image, a .npy or .npz file, cifar10 or patches")


def _of_dataset(dataset: Dataset, channels: int, part: str) -> Images:
    parts = [("train", dataset.train, dataset.train_labels), ("test", dataset.test, dataset.test_labels)]
    part = _chosen(part, bool(len(dataset.train) and len(dataset.test)))
    made = _of_arrays(dataset.name, [p for p in parts if len(p[1])], channels, part)
    names = made.names
    if dataset.files:
        names = {"train": dataset.train_files, "test": dataset.test_files, "all": dataset.files}[part]
    return replace(made, classes=dataset.classes, notes=dataset.notes, names=names)


def _of_folder(root: Path, channels: int, part: str, skip_bad: bool) -> Images:
    divided = (root / "train").is_dir() and (root / "test").is_dir()
    part = _chosen(part, divided)
    roots = [root / "train", root / "test"] if divided else [root]
    files = [path for r in roots for path in folder.images_in(r)]
    classes, labels = folder.classes_of(files, roots)  # of both parts together: a class has one number
    made = replace(_of_files(root.resolve().name, files, root, channels, "all", skip_bad), labels=labels, classes=classes)
    if part != "all":
        made = made.select([f.is_relative_to(root / part) for f in files]) if divided else _tenth(made, part)
    notes = [f"{root}: {len(made):,} images" + (f", {len(classes)} classes: {folder.listed(classes)}" if classes else "")]
    return replace(made, notes=[*notes, *folder.other_files(root)])


def _chosen(part: str, divided: bool) -> str:
    """What "auto" means for a source that is divided into parts, or is not."""
    return part if part != "auto" else "test" if divided else "all"


def _no_part(title: str, part: str) -> DataError:
    return DataError(f"{title} holds one image: there is no {part} part; part all takes it (--part all)")


def _tenth(images: Images, part: str) -> Images:
    """Every tenth image is for testing, as where training finds no other parts."""
    tested = folder.spread(len(images), 1.0 / _TEST_EVERY)
    chosen = images.select(tested if part == "test" else ~tested)
    if not len(chosen):
        raise _no_part(images.title, part)
    return chosen


def _of_files(title: str, files: Sequence[Path], root: Path | None, channels: int, part: str, skip_bad: bool) -> Images:
    if not files:
        raise DataError("the list of image files is empty")
    if channels not in (1, 3):
        raise DataError(f"an image file gives 1 or 3 channels, but the network takes {channels}: use a .npy file")
    paths = list(files)

    def read(place: int, size: Size | None, stretch: bool) -> tuple[Array, Size]:
        if not paths[place].is_file():
            raise DataError(f"there is no file {paths[place]}")
        return folder.read_image(paths[place], channels, size, stretch=stretch)

    names = [str(p) if root is None else p.relative_to(root).as_posix() for p in paths]
    made = Images(title, names, None, [], [], channels, skip_bad, read, np.arange(len(paths)), paths)
    part = _chosen(part, False)
    return made if part == "all" else _tenth(made, part)


def _named_arrays(path: Path) -> list[tuple[str, Array, Array | None]]:
    """(part, images, labels) of a .npy or .npz file."""
    arrays = read_arrays(path)
    if path.suffix == ".npy" or len(arrays) == 1:
        return [("", next(iter(arrays.values())), None)]
    found = []
    for name, pairs in (("train", _TRAIN), ("test", _TEST)):
        pair = next((p for p in pairs if p[0] in arrays), None)
        if pair is not None:
            found.append((name, arrays[pair[0]], arrays.get(pair[1])))
    if not found:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'no arrays'}; expected images as train, test, x_train, x_test or images"
        )
    return found if len(found) > 1 else [("", *found[0][1:])]


def _of_arrays(title: str, parts: Sequence[tuple[str, Array, Array | None]], channels: int, part: str) -> Images:
    part = _chosen(part, len(parts) > 1)
    chosen = [p for p in parts if part == "all" or p[0] == part]
    if not chosen and len(parts) == 1:  # not divided: the last tenth is for testing, as in training
        whole = _of_arrays(title, parts, channels, "all")
        if len(whole) < 2:
            raise _no_part(title, part)
        first = len(whole) - max(1, len(whole) // _TEST_EVERY)
        return whole.select(slice(first, None) if part == "test" else slice(0, first))
    counts, names, labels = [], list[str](), list[Array]()
    for name, images, given in chosen:
        layout = pixels.layout(images, channels, title)
        pixels.check(images, layout, channels, title)
        counts.append(1 if layout[0] != "N" else len(images))
        if not counts[-1]:
            raise DataError(f"{title} holds no image")
        digits = max(5, len(str(counts[-1] - 1)))
        names += [f"{name}{'/' if name else ''}{i:0{digits}}" for i in range(counts[-1])]
        if given is not None:
            labels.append(pixels.labels(given, counts[-1], title))
    starts = np.cumsum([0, *counts])

    def read(place: int, size: Size | None, stretch: bool) -> tuple[Array, Size]:
        which = int(np.searchsorted(starts, place, side="right")) - 1
        images = chosen[which][1]
        view = to_nchw(images, pixels.layout(images, channels, title))[place - int(starts[which])]
        image = pixels.with_channels(pixels.values(view, title, place), channels, title)
        return pixels.fitted(image, size, stretch), (view.shape[1], view.shape[2])

    def block(places: NDArray[np.int64], size: Size | None) -> Array | None:
        parts = np.searchsorted(starts, places, side="right") - 1
        images, first = chosen[int(parts[0])][1], starts[parts[0]]
        view = to_nchw(images, pixels.layout(images, channels, title))
        if view.shape[1] != channels or size not in (None, view.shape[2:]) or images.dtype not in (np.uint8, np.float32):
            return None
        count = int(np.argmin(parts == parts[0])) or len(places)  # up to where another part begins
        try:
            return check_values(np.ascontiguousarray(view[places[:count] - first]), title)
        except DataError:  # which image it is, is found one by one
            return None

    joined = np.concatenate(labels) if labels and len(labels) == len(chosen) else None
    return Images(title, names, joined, [], [], channels, False, read, np.arange(len(names)), _block=block)


def require_labels(labels: object, what: str) -> None:
    """DataError where there are none."""
    if labels is None:
        raise DataError(
            f"the {what} have no labels: expected CIFAR-10, class sub-folders, or a .npz file with y_train and y_test"
        )
