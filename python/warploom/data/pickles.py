"""The Python layout of CIFAR-10: pickles, read by an unpickler that can build nothing but the few things those files hold.

A pickle may call any function it names. Here every name but the handful in the official files is refused, and those few stand for
harmless records of what was asked for: no NumPy object is built by the pickle itself.
"""

import io
import pickle
from typing import Any

import numpy as np

from warploom.errors import DataError
from warploom.ground.array_types import Array

_LIMIT = 200_000_000  # bytes; an official file has 31 million


class _DType:
    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("an encoding other than latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file holds")
        return _ALLOWED[module, name]


def _key(dictionary: dict[Any, Any], name: str) -> Any:
    return dictionary.get(name.encode(), dictionary.get(name))


def load_batch(content: bytes, what: str) -> tuple[Array, Array]:
    """(images [N, 3, 32, 32] uint8, labels) of one batch file."""
    if len(content) > _LIMIT:
        raise DataError(f"{what} has {len(content):,} bytes; a CIFAR-10 batch has about 31 million: it is not one")
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        data, labels = _key(batch, "data"), _key(batch, "labels")
        raw = data.raw.encode("latin1") if isinstance(data.raw, str) else bytes(data.raw)
        rows, columns = data.shape
        if data.dtype.code not in ("u1", "|u1", "uint8"):
            raise ValueError(f"pixels of type {data.dtype.code!r}, expected uint8")
        if columns != 3072 or len(raw) != rows * columns or len(labels) != rows:
            raise ValueError(
                f"{len(raw):,} pixel bytes and {len(labels):,} labels for shape {data.shape}, expected rows of 3,072"
            )
        pixels = np.frombuffer(raw, np.uint8)
        images = (pixels.reshape(columns, rows).T if data.fortran else pixels).reshape(-1, 3, 32, 32)
        values = np.array(labels, dtype=np.int64)
        if rows and not 0 <= values.min() <= values.max() <= 9:
            raise ValueError("labels outside 0 to 9")
    except Exception as error:  # a damaged pickle can fail in any way, but only inside this function
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{what} ({len(content):,} bytes) is damaged, cut short or no CIFAR-10 batch ({reason}); "
            "the official file has about 31 million bytes"
        ) from error
    return np.ascontiguousarray(images), values
