"""The Python layout of CIFAR-10: pickles, read by an unpickler that can build nothing but the few things those files hold.

Only the instructions of the official files are carried out; every name but the handful in those files is refused, and those few
stand for harmless records of what was asked for: no NumPy object is built by the pickle itself.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.unpickling import Restricted

_LIMIT = 200_000_000  # bytes; an official file has 31 million
_WORDS = 200  # characters of a reason that is passed on
_STEPS = (
    "PROTO FRAME STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST LIST APPEND "
    "APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS MARK POP POP_MARK GET BINGET LONG_BINGET "
    "PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
)


class _DType:
    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state


class _Unpickler(Restricted):
    file = "CIFAR-10 file"
    steps = _STEPS

    def __init__(self, content: bytes) -> None:
        self._room = 2 * len(content)  # bytes that may be encoded: each again and again would be without bound
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): lambda *_: _Array(),
            ("numpy", "dtype"): lambda *given: _DType(*given),
            ("_codecs", "encode"): self._encode,
        }
        super().__init__(io.BytesIO(content), allowed, (_Array, _DType))

    def _encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("an encoding other than latin1")
        self._room -= len(text)
        if self._room < 0:
            raise pickle.UnpicklingError("it says more than it holds")
        return text.encode("latin1")


def _key(dictionary: dict[Any, Any], name: str) -> Any:
    return dictionary.get(name.encode(), dictionary.get(name))


def load_batch(content: bytes, what: str) -> tuple[Array, Array]:
    """(images [N, 3, 32, 32] uint8, labels) of one batch file."""
    if len(content) > _LIMIT:
        raise DataError(f"{what} has {len(content):,} bytes; a CIFAR-10 batch has about 31 million: it is not one")
    try:
        batch = _Unpickler(content).load()
        data, labels = _key(batch, "data"), _key(batch, "labels")
        if not isinstance(data.raw, (str, bytes)) or type(labels) is not list or any(type(v) is not int for v in labels):
            raise ValueError("pixels that are no bytes, or labels that are no numbers")
        raw = data.raw.encode("latin1") if isinstance(data.raw, str) else data.raw
        rows, columns = data.shape
        if data.dtype.code not in ("u1", "|u1", "uint8"):
            raise ValueError(f"pixels of type {data.dtype.code!r}, expected uint8")
        if type(rows) is not int or columns != 3072 or len(raw) != rows * columns or len(labels) != rows:
            raise ValueError(
                f"{len(raw):,} pixel bytes and {len(labels):,} labels for shape {data.shape}, expected rows of 3,072"
            )
        pixels = np.frombuffer(raw, np.uint8)
        images = (pixels.reshape(columns, rows).T if data.fortran else pixels).reshape(-1, 3, 32, 32)
        values = np.array(labels, dtype=np.int64)
        if rows and not 0 <= values.min() <= values.max() <= 9:
            raise ValueError("labels outside 0 to 9")
    except Exception as error:  # a damaged pickle can fail in any way, but only inside this function
        reason = (str(error) or type(error).__name__)[:_WORDS]
        raise DataError(
            f"{what} ({len(content):,} bytes) is damaged, cut short or no CIFAR-10 batch ({reason}); "
            "the official file has about 31 million bytes"
        ) from error
    return np.ascontiguousarray(images), values
