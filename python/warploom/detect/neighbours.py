"""The memory bank: latent vectors of normal images, and how far others are from the nearest of them.

The vectors of a latent map [K, h, w] are its h x w places, as in Roth et al., "Towards Total Recall in Industrial Anomaly
Detection" (PatchCore), 2022; those that are kept are a greedy k-centre of all (Sener and Savarese, "Active Learning for
Convolutional Neural Networks: A Core-Set Approach", 2018).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Floats

_PROJECTED = 64  # dimensions in which the k-centre is chosen: distances hardly change (Johnson and Lindenstrauss)
_BLOCK = 1 << 24  # distances in memory at once


@dataclass(frozen=True)
class Bank:
    """vectors: float32 [n, K], taken from the middle; middle: float32 [K], their mean, so that distances keep their digits."""

    vectors: Floats
    middle: Floats

    def distances(
        self, queries: Floats, neighbours: int, owners: NDArray[np.int64] | None = None, own: NDArray[np.int64] | None = None
    ) -> Floats:
        """[m]: the mean Euclidean distance of each query [m, K] from its nearest vectors.

        owners, own: the image that each vector, each query comes from; vectors of the query's own image do not count."""
        moved = queries - self.middle
        squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        result = np.empty(len(moved), np.float32)
        rows = max(1, _BLOCK // max(1, len(self.vectors)))
        for start in range(0, len(moved), rows):
            part = moved[start : start + rows]
            found = np.einsum("ij,ij->i", part, part)[:, None] + squares - np.float32(2) * (part @ self.vectors.T)
            if owners is not None and own is not None:
                found[own[start : start + rows, None] == owners] = np.inf
            count = min(neighbours, found.shape[1])
            nearest = np.argpartition(found, count - 1, axis=1)[:, :count]
            there = np.isfinite(np.take_along_axis(found, nearest, axis=1))  # fewer than asked for: the rest is the image's own
            # The product finds them; distances are those of differences, as the product leaves few digits of a small one.
            far = np.stack([np.linalg.norm(part - self.vectors[which], axis=1) for which in nearest.T], axis=1)
            result[start : start + rows] = np.where(there, far, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        return result


def bank_of(
    candidates: Floats, owners: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[Bank, NDArray[np.int64]]:
    """A bank of at most `count` of the candidates [m, K], and the image of each vector that was kept."""
    chosen = spread_out(candidates, count, rng) if len(candidates) > count else np.arange(len(candidates))
    kept = candidates[chosen]
    middle = kept.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Bank(kept - middle, middle), owners[chosen]


def spread_out(vectors: Floats, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of `count` vectors of which each is the farthest from those before it."""
    low = vectors - vectors.mean(axis=0)
    if low.shape[1] > _PROJECTED:
        low = low @ (rng.standard_normal((low.shape[1], _PROJECTED)) / np.sqrt(_PROJECTED)).astype(np.float32)
    squares = np.einsum("ij,ij->i", low, low)
    chosen = np.empty(count, np.int64)
    chosen[0] = int(squares.argmin())  # the most ordinary one
    nearest = np.full(len(low), np.inf, np.float32)
    for i in range(1, count):
        last = chosen[i - 1]
        np.minimum(nearest, squares + squares[last] - np.float32(2) * (low @ low[last]), out=nearest)
        nearest[last] = -np.inf  # not again, even where all are alike
        chosen[i] = int(nearest.argmax())
    return np.sort(chosen)
