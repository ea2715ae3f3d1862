"""k-means, spherical k-means, and the silhouette, on NumPy's matrix product. Same rows and seed: same bits on one machine."""

from collections.abc import Callable

import numpy as np

from warploom.errors import ArgumentError
from warploom.features.patches import mirrored
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import positive

Progress = Callable[[float], None]  # told the share that is done
_ROWS = 8192  # of a block


def kmeans(
    rows: Floats,
    count: int,
    *,
    iterations: int = 10,
    seed: int = 0,
    mirror: Shape | None = None,
    progress: Progress | None = None,
) -> Floats:
    """`count` centres [count, D] of rows [N, D], by Lloyd's algorithm from rows drawn at random.

    A centre that nobody is nearest to starts anew at a random row. mirror: (C, H, W) of a row, or what mirrored() takes; then the
    centres come in pairs, each odd one the mirrored one before it, as if the mirrored rows were there too.
    """
    return _lloyd(rows, count, iterations, seed, mirror, progress, spherical=False)


def spherical_kmeans(
    rows: Floats,
    count: int,
    *,
    iterations: int = 10,
    seed: int = 0,
    mirror: Shape | None = None,
    progress: Progress | None = None,
) -> Floats:
    """`count` unit vectors [count, D]: each row belongs to the one with the largest product, each is its rows' weighted sum.

    Source: Coates and Ng, Learning feature representations with k-means, 2012. mirror: as in kmeans().
    """
    return _lloyd(rows, count, iterations, seed, mirror, progress, spherical=True)


def _lloyd(
    rows: Floats, count: int, iterations: int, seed: int, mirror: Shape | None, progress: Progress | None, *, spherical: bool
) -> Floats:
    count, iterations = positive(count, "count"), positive(iterations, "iterations")
    if rows.ndim != 2 or len(rows) < count:
        raise ArgumentError(f"{count} centres need at least as many rows; got an array of shape {rows.shape}")
    if mirror is not None and count % 2:
        raise ArgumentError(f"with mirror the centres come in pairs: count must be even, not {count}")
    own = count if mirror is None else count // 2
    rng = np.random.default_rng(seed)
    if spherical:
        centres = rng.standard_normal((own, rows.shape[1])).astype(np.float32)
    else:
        centres = np.ascontiguousarray(rows[rng.choice(len(rows), own, replace=False)], np.float32)
    for step in range(iterations):
        if spherical:
            centres = _unit(centres)
        sums, members = _assign(rows, centres, mirror, spherical)
        centres = sums if spherical else (sums / np.maximum(members, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(members == 0)
        centres[empty] = rows[rng.choice(len(rows), len(empty), replace=False)]
        if progress is not None:
            progress((step + 1) / iterations)
    if spherical:
        centres = _unit(centres)
    if mirror is None:
        return centres
    return np.stack([centres, mirrored(centres, mirror)], 1).reshape(count, -1)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _assign(rows: Floats, centres: Floats, mirror: Shape | None, spherical: bool) -> tuple[Floats, Array]:
    """The (weighted) sum of each centre's rows, and how many they are; rows nearest to a mirrored centre are mirrored."""
    own = len(centres)
    every = centres if mirror is None else np.concatenate([centres, mirrored(centres, mirror)])
    half = 0.0 if spherical else 0.5 * np.einsum("ij,ij->i", every, every)

    def block(start: int) -> tuple[Floats, Array]:
        part = rows[start : start + _ROWS]
        scores = part @ every.T
        scores -= half
        nearest = scores.argmax(axis=1)
        if spherical:
            part = part * scores[np.arange(len(part)), nearest, None]
        if mirror is not None:
            turned = nearest >= own
            part = np.where(turned[:, None], mirrored(part, mirror), part)
            nearest = np.where(turned, nearest - own, nearest)
        order = np.argsort(nearest, kind="stable")
        members = np.bincount(nearest, minlength=own)
        there = np.flatnonzero(members)
        sums = np.zeros_like(centres)
        sums[there] = np.add.reduceat(part[order], np.concatenate([[0], np.cumsum(members[there])[:-1]]), axis=0)
        return sums, members

    sums, members = np.zeros_like(centres), np.zeros(own, np.int64)
    for start in range(0, len(rows), _ROWS):
        some, each = block(start)
        sums += some
        members += each
    return sums, members


def silhouette(rows: Floats, labels: Array, *, limit: int = 2000, seed: int = 0) -> float:
    """The mean silhouette in [-1, 1] of rows [N, D] in clusters, of at most `limit` rows drawn at random.

    Of a row: (b - a) / max(a, b), a the mean distance to the others of its cluster and b to the nearest other cluster; 0
    where it is alone. Source: Rousseeuw 1987.
    """
    if len(rows) > limit:
        chosen = np.random.default_rng(seed).choice(len(rows), limit, replace=False)
        rows, labels = rows[chosen], np.asarray(labels)[chosen]
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ArgumentError("a silhouette needs at least two clusters")
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * (rows.astype(np.float64) @ rows.T), 0.0))
    np.fill_diagonal(distances, 0.0)
    totals = distances @ np.eye(len(names))[index]
    own = counts[index]
    inside = totals[np.arange(len(rows)), index] / np.maximum(own - 1, 1)
    means = totals / counts
    means[np.arange(len(rows)), index] = np.inf
    outside = means.min(axis=1)
    value = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-30)
    return float(np.mean(np.where(own > 1, value, 0.0)))
