"""float32 kept in half the bytes: float16 (11 bits, up to 65,504) and bfloat16 (8 bits, float32's range)."""

import numpy as np

from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats

DTYPES = ("fp32", "fp16", "bf16")
STORED = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}  # what safetensors calls them


def check_dtype(dtype: object) -> str:
    if dtype not in DTYPES:
        raise ArgumentError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return str(dtype)


def narrowed(array: Floats, dtype: str, name: str) -> Array:
    """The numbers rounded to the nearest of that type: float16, or bfloat16 as uint16 (its bits).

    DataError where a finite one becomes infinite."""
    if dtype == "fp16":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        _require_finite(half, array, dtype, name)
        return half
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)  # to nearest, ties to even
    found: Array = np.where(np.isnan(array), (bits >> np.uint32(16)) | np.uint32(0x40), rounded).astype(np.uint16)
    _require_finite(widened(found), array, dtype, name)
    return found


def widened(bits: Array) -> Floats:
    """bfloat16, given as its bits, as float32: the same numbers."""
    floats: Floats = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return floats


def rounded(array: Floats, dtype: str, name: str) -> Floats:
    """The numbers as they come back from a file of that type; DataError as in narrowed()."""
    if check_dtype(dtype) == "fp32":
        return array
    half = narrowed(array, dtype, name)
    return widened(half) if dtype == "bf16" else half.astype(np.float32)


def _require_finite(half: Array, array: Floats, dtype: str, name: str) -> None:
    if np.any(np.isinf(half) & np.isfinite(array)):
        largest = float(np.abs(array[np.isfinite(array)]).max())
        limit = "65,504; use bf16 or fp32" if dtype == "fp16" else "about 3.39e38; use fp32"
        raise DataError(f"{name} holds {largest:g}, which {dtype} cannot hold; its largest number is {limit}")
