"""Small files that ask for a lot of memory: refused before it is taken.

What a file may unpack to is ten times its own size and 100 MB on top: far more than photographs and arrays of numbers need.
"""

import contextlib
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from warploom.errors import DataError

_TIMES, _FREE = 10, 100_000_000
_LARGE = 20_000_000  # bytes of pixels; larger images are decoded one at a time, however many threads there are
_one_large = threading.Lock()


def room(size: int) -> int:
    """Bytes that a file of that size may unpack to."""
    return _TIMES * size + _FREE


def _refused(path: Path, what: str, wanted: int, size: int, way_out: str) -> DataError:
    return DataError(
        f"{path} ({size:,} bytes) {what} take {wanted / 1e6:,.0f} MB of memory, more than {_TIMES} times its size and "
        f"{_FREE // 1_000_000} MB: it looks like a decompression bomb; {way_out}"
    )


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[Any]:
    """A Pillow image whose pixels are not decoded yet; DataError where they would take too much."""
    from PIL import Image

    size = path.stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from 90 million pixels on; refused here where it is one
        image = Image.open(path)
    with image:
        width, height = image.size
        wanted = width * height * len(image.getbands()) * (2 if "16" in image.mode else 4 if image.mode in ("I", "F") else 1)
        if wanted > room(size):
            raise _refused(path, f"has {width:,}x{height:,} pixels, which", wanted, size, "make the image smaller")
        with _one_large if wanted > _LARGE else contextlib.nullcontext():
            yield image


def checked_zip(path: Path) -> None:
    """DataError where the arrays of an .npz file take too much, or are not as long as they say."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        wanted = sum(m.file_size for m in members)
        if wanted > room(size):
            raise _refused(path, "holds arrays that", wanted, size, "save it with numpy.savez, or as .npy")
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    _require_length(file, member)


def _require_length(file: Any, member: zipfile.ZipInfo) -> None:
    """ValueError where an array's header tells of more than there is: memory is taken by what it says."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{member.filename} has the version {version} of the format")
    shape, _, dtype = read(file)
    count = 1
    for length in shape:
        count *= int(length)
    if not dtype.hasobject and file.tell() + count * dtype.itemsize != member.file_size:
        raise ValueError(
            f"{member.filename} tells of {count * dtype.itemsize:,} bytes and has {member.file_size - file.tell():,}"
        )


class Bounded(io.RawIOBase):
    """A stream that gives so many bytes at most: DataError past them. For what unpacks while it is read."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path = stream, path
        self._size = path.stat().st_size
        self._left = room(self._size)

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1, /) -> bytes:
        data: bytes = self._stream.read(min(count, 1 << 20) if count >= 0 else 1 << 20)
        self.take(len(data))
        return data

    def take(self, count: int) -> None:
        """Counts bytes, those that are made of the ones read too."""
        self._left -= count
        if self._left < 0:
            way_out = "delete it and download it again"
            raise _refused(self._path, "unpacks to files that", room(self._size), self._size, way_out)
