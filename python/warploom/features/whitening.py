"""ZCA whitening: the linear map after which all directions of the data vary alike, and which changes them least."""

from dataclasses import dataclass

import numpy as np

from warploom.errors import ArgumentError
from warploom.features.patches import mirrored
from warploom.ground.array_types import Floats, Shape


@dataclass(frozen=True)
class Whitening:
    """x becomes (x - mean) matrix; the matrix is symmetric."""

    mean: Floats  # [D]
    matrix: Floats  # [D, D]

    def __call__(self, rows: Floats) -> Floats:
        return np.asarray((rows - self.mean) @ self.matrix, np.float32)


def fit_whitening(rows: Floats, eps: float = 0.1, *, mirror: Shape | None = None) -> Whitening:
    """From samples [N, D]: matrix = V (S + eps)^-1/2 V^T of their covariance V S V^T.

    eps keeps directions that hardly vary, which are mostly noise, from being blown up. mirror: (C, H, W) of a row; the mirrored
    samples count too, so that whitening and mirroring may be exchanged. Sources: Bell and Sejnowski 1997; Coates, Lee and
    Ng 2011.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise ArgumentError(f"whitening is learnt from at least two rows, got an array of shape {rows.shape}")
    if not eps > 0:
        raise ArgumentError(f"eps must be positive, got {eps}")
    mean = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), 65536):  # sums of a float32 product stay short
        part = rows[start : start + 65536] - mean.astype(np.float32)
        covariance += part.T @ part
    covariance /= len(rows)
    if mirror is not None:
        index = mirrored(np.arange(rows.shape[1], dtype=np.float32)[None], mirror)[0].astype(int)
        mean = (mean + mean[index]) / 2
        covariance = (covariance + covariance[np.ix_(index, index)]) / 2
    values, vectors = np.linalg.eigh(covariance)
    matrix = (vectors / np.sqrt(np.maximum(values, 0.0) + eps)) @ vectors.T
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))
