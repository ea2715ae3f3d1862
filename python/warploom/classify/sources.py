"""Where features come from: blocks of rows, in order, as often as they are asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from warploom.errors import DataError, DTypeError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import numbers
from warploom.ground.atomic import expanded

_BLOCK_BYTES = 64 << 20


class Source(Protocol):
    """Features [n, d] that need not be in memory."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def blocks(self, rows: int) -> Iterator[Array]:
        """All rows in order, at most so many at a time, of any float type."""
        ...


class _InMemory:
    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape = (len(array), array.shape[1])

    def blocks(self, rows: int) -> Iterator[Array]:
        for start in range(0, len(self.array), rows):
            yield self.array[start : start + rows]


class NpyFile:
    """A .npy file, read in blocks: what was read is not kept, as the pages of a memory map would be."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)
        try:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            assert isinstance(mapped, np.memmap)
        except (OSError, ValueError, AssertionError) as error:
            raise DataError(f"{self.path} is missing, damaged or no .npy file of numbers ({str(error)[:200]})") from error
        if mapped.ndim < 2 or mapped.dtype.kind != "f" or not mapped.flags.c_contiguous:
            raise DataError(f"{self.path} holds {mapped.dtype} of shape {mapped.shape}; expected floats [n, features] in C order")
        self.dtype, self._offset = mapped.dtype, mapped.offset
        self.shape = (len(mapped), int(np.prod(mapped.shape[1:])))

    def blocks(self, rows: int) -> Iterator[Array]:
        count, width = self.shape
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for start in range(0, count, rows):
                wanted = min(rows, count - start) * width
                block = np.fromfile(file, self.dtype, wanted)
                if len(block) < wanted:
                    raise DataError(f"{self.path} was cut short while it was read")
                yield block.reshape(-1, width)


def as_source(features: Any, what: str = "features") -> Source:
    """An array, the path of a .npy file or a Source as a Source."""
    if isinstance(features, (str, Path)):
        return NpyFile(features)
    if hasattr(features, "blocks") and hasattr(features, "shape"):
        found: Source = features
        return found
    array = numbers(features, what)
    if array.ndim < 2 or array.dtype.kind not in "fuib":
        raise DTypeError(f"{what} must be numbers [n, d], not {array.dtype} of shape {array.shape}")
    return _InMemory(array.reshape(len(array), -1))


def rows_at_once(width: int) -> int:
    """Rows of a block of some 64 MB."""
    return max(64, _BLOCK_BYTES // (4 * max(1, width)))


def float_blocks(source: Source, what: str = "features") -> Iterator[tuple[int, Floats]]:
    """(first row, float32 [rows, d]). DataError for what is no number, and for more or fewer rows than announced."""
    start, (count, width) = 0, source.shape
    for block in source.blocks(rows_at_once(width)):
        values: Floats = np.ascontiguousarray(block, dtype=np.float32).reshape(len(block), -1)
        if values.shape[1] != width:
            raise DataError(f"{what} have {values.shape[1]} values in row {start}, and {width} were announced")
        if not np.isfinite(values).all():
            row = start + int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(f"{what} hold NaN or infinity in row {row}")
        yield start, values
        start += len(values)
    if start != count:
        raise DataError(f"{what} gave {start:,} rows, and {count:,} were announced")


def in_memory(source: Source) -> Floats:
    """All rows, float32 [n, d]; an array that is one already is not copied."""
    if isinstance(source, _InMemory) and source.array.dtype == np.float32 and source.array.flags.c_contiguous:
        for _ in float_blocks(source):  # looks at each value
            pass
        return source.array
    rows = np.empty(source.shape, np.float32)
    for start, block in float_blocks(source):
        rows[start : start + len(block)] = block
    return rows
