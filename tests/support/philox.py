"""Philox4x32-10, the counter-based generator of the operations that draw (Salmon et al. 2011), for their references."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def philox(counter: list[Array], key: tuple[int, int]) -> list[Array]:
    """The four words of the blocks with those counters (four arrays of uint64 that hold 32-bit words)."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(word, np.uint64) & low for word in counter]
    k0, k1 = key
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c
