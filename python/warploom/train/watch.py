"""Files behind memory-mapped data: whether they are still what they were when training began.

A file that is cut short under its map kills the process at the next read (SIGBUS); one that is overwritten in place is trained
on as if nothing had happened. So size and time of the last change are asked before and after every batch is cut (a few
microseconds), and some of its blocks are compared at the start of every epoch: writes through another map may leave the time.
A file that was replaced by another of its name is no matter: the map keeps the old one.
"""

import mmap
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom.errors import DataError
from warploom.ground.lazy import Lazy

_BLOCKS, _BLOCK = 64, 4096  # of a file, compared at the start of an epoch


@dataclass
class _File:
    """One mapped file."""

    map: mmap.mmap
    path: str
    need: int  # bytes that the map covers
    inode: tuple[int, int]
    changed: tuple[int, int]  # size, time of the last change
    blocks: int = 0  # their checksum


class Watch:
    """The files behind some arrays."""

    def __init__(self, arrays: Iterable[Any]) -> None:
        self._files: list[_File] = []
        seen: set[int] = set()
        for array in arrays:
            for source in _sources(array):
                found = _mapped(source)
                if found is None or id(found[0]) in seen:
                    continue
                seen.add(id(found[0]))
                try:
                    about = os.stat(found[1])
                except OSError:  # unlinked already: nobody else can write to it by name
                    continue
                self._files.append(
                    _File(found[0], found[1], len(found[0]), (about.st_dev, about.st_ino), (about.st_size, about.st_mtime_ns))
                )
        for file in self._files:
            self._require_whole(file)
            file.blocks = _some_blocks(file.map)

    def check(self) -> None:
        """DataError where a file has lost bytes or was written to."""
        for file in self._files:
            self._require_whole(file)
            try:
                about = os.stat(file.path)
            except OSError:
                continue  # deleted by name: the map keeps it
            if (about.st_dev, about.st_ino) == file.inode and (about.st_size, about.st_mtime_ns) != file.changed:
                raise DataError(_sentence(file.path))

    def check_contents(self) -> None:
        """The same, and that some of the bytes are what they were."""
        self.check()
        for file in self._files:
            if _some_blocks(file.map) != file.blocks:
                raise DataError(_sentence(file.path))

    @staticmethod
    def _require_whole(file: _File) -> None:
        if file.map.size() < file.need:
            raise DataError(
                f"{file.path} was cut short while it was trained on: bring it back, and go on from the last checkpoint"
            )


def of(arrays: Iterable[Any]) -> Watch:
    return Watch(arrays)


def _sentence(path: str) -> str:
    return (
        f"{path} was changed while it was trained on: bring the old data back and go on from the last checkpoint, or start anew "
        "with the new"
    )


def _sources(array: Any) -> list[Any]:
    if not isinstance(array, Lazy):
        return [array]
    return [s for source in array.sources() for s in _sources(source)]


def _mapped(array: Any) -> tuple[mmap.mmap, str] | None:
    """The map that an array or what it is a view of was made from, and the file's path; None for memory that is its own."""
    path = ""
    for _ in range(64):  # views of views
        if isinstance(array, np.memmap) and array.filename is not None:
            path = str(array.filename)
        if isinstance(array, mmap.mmap):
            return (array, path) if path else None
        array = getattr(array, "base", None)
        if array is None:
            return None
    return None


def _some_blocks(mapped: mmap.mmap) -> int:
    size, crc = len(mapped), 0
    step = max(_BLOCK, size // _BLOCKS)
    for start in range(0, size, step):
        crc = zlib.crc32(mapped[start : start + _BLOCK], crc)
    return crc
