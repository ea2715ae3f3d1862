"""The latent space in two dimensions, and the way from one image to another through it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Floats
from warploom.model import Model

_ENOUGH = 10  # images for t-SNE


def flat(latents: Floats) -> Floats:
    """[N, ...] as [N, D], not finite values as 0."""
    result: Floats = np.nan_to_num(latents.reshape(len(latents), -1), posinf=0.0, neginf=0.0)
    return result


def pca(vectors: Floats, count: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """([N, count], the share of the variance of each): principal components by the Gram matrix, since N is smaller than D.

    The sign of a component is such that its largest entry is positive: the same picture every time.
    """
    centred = vectors - vectors.mean(0)
    values, rows = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    order = np.argsort(values)[::-1][:count]
    kept = np.clip(values[order], 0.0, None)
    placed = rows[:, order] * np.sqrt(kept)
    placed *= np.where(np.abs(placed).max(0) > placed.max(0), -1.0, 1.0)
    total = float(np.clip(values, 0.0, None).sum())
    shares: NDArray[np.float64] = kept / total if total > 0 else np.zeros(len(kept))
    if placed.shape[1] < count:  # fewer images than components
        placed = np.pad(placed, ((0, 0), (0, count - placed.shape[1])))
        shares = np.pad(shares, (0, count - len(shares)))
    return placed, shares


def tsne(vectors: Floats) -> NDArray[np.float64] | str:
    """[N, 2] by t-SNE (van der Maaten and Hinton 2008) on the first 50 principal components, or a sentence on why not."""
    if len(vectors) < _ENOUGH:
        return f"For t-SNE at least {_ENOUGH} images are needed."
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        return "With scikit-learn installed (pip install scikit-learn) t-SNE stands here too."
    reduced, _ = pca(vectors, min(50, len(vectors) - 1))
    if not reduced.any():
        return "All images have the same latent: there is no t-SNE of them."
    made: Any = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):  # several threads cost more than they bring for so few points
        warnings.simplefilter("ignore")  # of its numerics; the picture shows what came of it
        placed: NDArray[np.float64] = np.asarray(made.fit_transform(reduced), np.float64)
    return placed if np.isfinite(placed).all() else "No finite places were found for these latents by t-SNE."


def pairs_to_join(count: int, labels: NDArray[np.int64] | None, wanted: int = 3) -> list[tuple[int, int]]:
    """Pairs of different images, of different classes where these are known."""
    found: list[tuple[int, int]] = []
    free = list(range(count))
    while len(found) < wanted and len(free) > 1:
        first = free.pop(0)
        other = next((i for i in free if labels is None or labels[i] != labels[first]), free[0])
        free.remove(other)
        found.append((first, other))
    return found


def between(decoder: Model, latents: Floats, pairs: Sequence[tuple[int, int]], steps: int) -> Floats:
    """[pairs, steps, C, H, W]: what is decoded on the straight line from one latent to the other."""
    shares = np.linspace(0.0, 1.0, steps, dtype=np.float32).reshape(-1, *[1] * (latents.ndim - 1))
    points = [latents[a] * (1.0 - shares) + latents[b] * shares for a, b in pairs]
    made: Floats = decoder.predict(np.concatenate(points).astype(np.float32))
    return made.reshape(len(pairs), steps, *made.shape[1:])
