"""CIFAR-10 in its official binary and Python layouts, from a folder, from the official archive, or downloaded."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from warploom.data.bombs import Bounded
from warploom.data.dataset import Dataset
from warploom.data.pickles import load_batch
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.atomic import read_whole

URL = "https://www.cs.toronto.edu/~kriz/"
ARCHIVES = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PIXELS = 3072
_RECORD = 1 + _PIXELS  # a label byte, then 1,024 bytes each of red, green and blue
_OFFICIAL = 10_000  # records in every official file
_TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
_TEST = "test_batch"

Read = Callable[[str], bytes | None]  # a file's bytes by its base name, None if it is not there


def cache_dir() -> Path:
    """Where downloads are kept: $WARPLOOM_CACHE, else the system's place for caches."""
    import os

    import pooch

    return Path(os.environ.get("WARPLOOM_CACHE") or pooch.os_cache("warploom"))


def load(data_dir: str | Path | None = None, *, download: bool = True) -> Dataset:
    """All of CIFAR-10. With data_dir: from there, and nowhere else unless `download` fetches it there. Without: from the cache,
    downloaded into it if need be."""
    if data_dir is not None:
        found = find(Path(data_dir))
        if found is None:
            raise DataError(
                f"no CIFAR-10 in {data_dir}: looked for data_batch_1.bin, data_batch_1, the folders cifar-10-batches-bin "
                f"and cifar-10-batches-py, and {' or '.join(ARCHIVES)}; without --data-dir it is downloaded into the cache"
            )
        return found
    cache = cache_dir()
    found = find(cache) if cache.is_dir() else None
    if found is None and download:
        found = find(_download(cache).parent)
    if found is None:
        raise DataError(f"no CIFAR-10 in the cache {cache}")
    return found


def find(folder: Path) -> Dataset | None:
    """The data set in a folder: loose files, the official sub-folders, or an official archive; None if nothing of it is there."""
    if folder.is_file():
        return _from_archive(folder) if folder.name in ARCHIVES else None
    for place in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            if any((place / f"{name}{suffix}").is_file() for name in [*_TRAIN, _TEST]):
                return _read(str(place), suffix, lambda name, place=place: _bytes(place / name))  # type: ignore[misc]
    for name in ARCHIVES:
        if (folder / name).is_file():
            return _from_archive(folder / name)
    return None


def _bytes(path: Path) -> bytes | None:
    try:
        return read_whole(path) if path.is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _from_archive(path: Path) -> Dataset:
    """Read to its very end: gzip's checksum of all stands there, behind what tar takes for the end."""
    files: dict[str, bytes] = {}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=(bounded := Bounded(unpacked, path)), mode="r|") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name.removesuffix(".bin") in (*_TRAIN, _TEST) and member.size <= 2 * _OFFICIAL * _RECORD:
                    content = archive.extractfile(member)
                    if content is not None:
                        bounded.take(member.size)
                        files[name] = content.read()
            while bounded.read(1 << 20):
                pass
    except DataError:
        raise
    except Exception as error:  # gzip, zlib and tarfile each have their own, and damage can lead anywhere
        raise DataError(
            f"{path} is damaged or cut short ({error}; {path.stat().st_size:,} bytes): delete it and download it again"
        ) from error
    return _read(str(path), ".bin" if "binary" in path.name else "", files.get)


def _read(place: str, suffix: str, read: Read) -> Dataset:
    present = {name: content for name in [*_TRAIN, _TEST] if (content := read(name + suffix)) is not None}
    parse = _parse_binary if suffix else load_batch
    parts = {name: parse(content, f"{place}/{name}{suffix}") for name, content in present.items()}
    sizes = {name: len(labels) for name, (_, labels) in parts.items()}
    missing = [name for name in [*_TRAIN, _TEST] if name not in parts]
    # Either all files are official ones, or the set is a subset made on purpose: a mixture is a file missing or cut short.
    subset = all(size != _OFFICIAL for size in sizes.values())
    needed = [name for name in missing if not subset or name in (_TRAIN[0], _TEST)]
    if needed:
        names = ", ".join(f"{name}{suffix}" for name in needed)
        size = f" ({_OFFICIAL * _RECORD:,} bytes each)" if suffix else ""
        raise DataError(f"{place} lacks {names} of CIFAR-10{size}; there are {', '.join(sorted(n + suffix for n in parts))}")
    for name, count in sizes.items():
        if not subset and count != _OFFICIAL:
            expected = f"{_OFFICIAL * _RECORD:,} bytes ({_OFFICIAL:,} records)" if suffix else f"{_OFFICIAL:,} records"
            raise DataError(
                f"{place}/{name}{suffix} has {len(present[name]):,} bytes ({count:,} records); expected {expected}: copy it again"
            )
    train = [parts[name] for name in _TRAIN if name in parts]
    images, labels = np.concatenate([p[0] for p in train]), np.concatenate([p[1] for p in train])
    test_images, test_labels = parts[_TEST]
    notes = [f"CIFAR-10 from {place}"]
    if subset:
        notes[0] += (
            f": a subset of {len(images):,} training and {len(test_images):,} test images, not the official 50,000 and 10,000"
        )
    return Dataset("cifar10", images, test_images, labels, test_labels, notes, classes=list(CLASSES))


def _parse_binary(content: bytes, what: str) -> tuple[Array, Array]:
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{what} has {len(content):,} bytes; expected {_OFFICIAL * _RECORD:,} ({_OFFICIAL:,} records of {_RECORD:,} bytes): "
            "it is cut short or no CIFAR-10 file, copy it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CLASSES):
        bad = int(np.argmax(labels >= len(CLASSES)))
        raise DataError(
            f"{what} is damaged: record {bad} has label {labels[bad]}, expected 0 to {len(CLASSES) - 1}; copy it again"
        )
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), labels


def _download(folder: Path) -> Path:
    """The binary archive from its official place, checked; DataError where it cannot be had."""
    import pooch
    from pooch import HTTPDownloader

    name = "cifar-10-binary.tar.gz"
    pooch.get_logger().setLevel("WARNING")  # the bar says what happens
    print(f"downloading CIFAR-10 (170 MB) into {folder}", flush=True)
    try:
        return Path(
            pooch.retrieve(
                URL + name,
                known_hash=f"md5:{ARCHIVES[name]}",
                fname=name,
                path=folder,
                downloader=HTTPDownloader(progressbar=_Bar(name), timeout=20),
            )
        )
    except Exception as error:  # requests raises many kinds, pooch ValueError for a wrong checksum
        reason = "its checksum is wrong" if isinstance(error, ValueError) and "hash" in str(error) else _short(error)
        raise DataError(
            f"CIFAR-10 cannot be downloaded from {URL}{name} ({reason}); fetch it elsewhere and pass its folder as "
            "--data-dir, or train on --data patches"
        ) from error


def _short(error: BaseException) -> str:
    text = str(error).lower()
    if "resolve" in text or "resolution" in text or "unreachable" in text or "connect" in text or "proxy" in text:
        return "no network connection to it"
    return f"{type(error).__name__}: {str(error)[:120]}"


class _Bar:
    """A progress bar as pooch wants it, drawn by rich; quiet where there is no terminal."""

    def __init__(self, name: str) -> None:
        self.total = 0
        self._name = name
        self._progress: object | None = None

    def update(self, amount: int) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        if self._progress is None:
            bar = Progress(
                TextColumn(f"downloading {self._name}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            bar.add_task("", total=self.total)
            bar.start()
            self._progress = bar
        assert isinstance(self._progress, Progress)
        self._progress.update(self._progress.task_ids[0], advance=amount)

    def reset(self) -> None:
        from rich.progress import Progress

        if isinstance(self._progress, Progress):
            self._progress.reset(self._progress.task_ids[0])

    def close(self) -> None:
        from rich.progress import Progress

        if isinstance(self._progress, Progress):
            self._progress.stop()
            self._progress = None


def to_bytes(images: Array, labels: Array) -> bytes:
    """Records of the binary layout; what tests and tools write."""
    buffer = io.BytesIO()
    for image, label in zip(images, labels, strict=True):
        buffer.write(bytes([int(label)]) + np.ascontiguousarray(image, np.uint8).tobytes())
    return buffer.getvalue()
