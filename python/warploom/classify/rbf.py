"""An RBF classifier for many rows: principal components, landmarks (Nyström), and ridge regression on targets of +1 and -1.

exp(-gamma |x - c|^2) to m landmarks c, multiplied by K_mm^-1/2, are features whose products approximate those of the RBF kernel
(Williams and Seeger 2000); ridge regression on them takes m^2 numbers of memory, however many rows there are. Whitening divides
components by a power of their deviation: 0 leaves distances as they are, 1 gives all components the same weight.
"""

from dataclasses import dataclass

import numpy as np

from warploom.classify.gram import Doubles, cholesky_solve, linalg
from warploom.errors import DataError
from warploom.ground.array_types import Array, Floats

GAMMAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # over the mean squared distance of a row from the mean
WHITENINGS = (0.0, 0.5, 1.0)
PENALTIES = tuple(10.0**-e for e in (3, 4, 5, 6, 7))
_JITTER = 1e-5  # of K_mm, whose smallest eigenvalues are rounding; times sqrt(m), as that grows
_ROWS = 2048


@dataclass
class Kernel:
    """exp(-gamma |w x - c|^2) of components x [p], with weights w [p] and landmarks c [m, p]."""

    weights: Floats
    landmarks: Floats
    gamma: float

    def of_weighted(self, x: Floats) -> Floats:
        squares = np.einsum("mp,mp->m", self.landmarks, self.landmarks, dtype=np.float32)
        distances: Floats = x @ self.landmarks.T
        distances *= -2.0
        distances += squares
        distances += np.einsum("np,np->n", x, x, dtype=np.float32)[:, None]
        np.maximum(distances, 0.0, out=distances)
        distances *= np.float32(-self.gamma)
        return np.exp(distances, out=distances)

    def __call__(self, components: Floats) -> Floats:
        """[n, m] of components [n, p]."""
        return self.of_weighted(components * self.weights)


def kernel_of(components: Floats, variances: Doubles, whitening: float, gamma: float, landmarks: int, seed: int) -> Kernel:
    """Landmarks are rows, drawn without replacement; weights make the mean squared distance of a row from the mean 1."""
    if not variances[0] > 1e-20:
        raise DataError("the features are the same in every row: there is nothing to tell classes by")
    weights = variances ** (-whitening / 2)
    weights /= np.sqrt((variances * weights**2).sum())
    chosen = np.random.default_rng(seed).choice(len(components), min(landmarks, len(components)), replace=False)
    w = weights.astype(np.float32)
    return Kernel(w, np.ascontiguousarray(components[np.sort(chosen)] * w), gamma)


class Nystroem:
    """Ridge regression on a kernel's features: rows are added, and every penalty is solved from their sums."""

    def __init__(self, kernel: Kernel, classes: int) -> None:
        self.kernel, m = kernel, len(kernel.landmarks)
        # In double, products of float32 kernel values are exact and their sums nearly: close() multiplies errors by 1/jitter.
        self._products, self._targets = np.zeros((m, m), order="F"), np.zeros((m, classes))
        self._sums, self._target_sums, self._rows = np.zeros(m), np.zeros(classes), 0
        mm = kernel.of_weighted(kernel.landmarks).astype(np.float64)
        for jitter in (_JITTER, 30 * _JITTER, 1000 * _JITTER):
            mm[np.diag_indices(m)] = 1.0 + jitter * m**0.5
            try:
                self._factor = linalg().cholesky(mm, lower=True, check_finite=False)
                break
            except linalg().LinAlgError:
                continue
        else:
            raise DataError("the landmarks are too much alike for a kernel: the rows hardly differ")

    def add(self, components: Floats, y: Array) -> None:
        """Rows [n, p] and targets [n, k]."""
        for start in range(0, len(components), _ROWS):
            k, t = self.kernel(components[start : start + _ROWS]), y[start : start + _ROWS]
            self._products = linalg().blas.dsyrk(
                1.0, k.T.astype(np.float64, order="F"), 1.0, self._products, trans=0, lower=1, overwrite_c=1
            )
            self._targets += k.T @ t.astype(np.float32)
            self._sums += k.sum(axis=0, dtype=np.float64)
            self._target_sums += t.sum(axis=0)
        self._rows += len(components)

    def close(self) -> None:
        """After add(), before solve(): brings the sums into the features' space, L^-1 (sum k kT) L^-T with K_mm = L LT."""
        full = self._products.copy()
        for i in range(0, len(full), 512):  # the upper triangle, which is 0 until now, in parts
            full[: i + 512, i : i + 512] += np.tril(full[i : i + 512, : i + 512], i - 1).T
        triangular = linalg().solve_triangular
        half = triangular(self._factor, full, lower=True, overwrite_b=True, check_finite=False)
        self._a = triangular(self._factor, half.T, lower=True, check_finite=False) / self._rows
        self.target_mean = self._target_sums / self._rows
        centred = (self._targets - np.outer(self._sums, self.target_mean)) / self._rows
        self._b = triangular(self._factor, centred, lower=True, check_finite=False)

    def solve(self, penalty: float) -> Floats | None:
        """Weights [m, k] on the kernel's values; None where rounding forbids this penalty."""
        found = cholesky_solve(self._a, self._b, penalty)
        if found is None:
            return None
        weights: Floats = (
            linalg().solve_triangular(self._factor, found, lower=True, trans="T", check_finite=False).astype(np.float32)
        )
        return weights

    def decisions(self, components: Floats, weights: list[Floats]) -> list[Floats]:
        """[n, k] for each of several weights; the kernel is computed once."""
        return [d + self.target_mean.astype(np.float32) for d in kernel_products(self.kernel, components, weights)]


def kernel_products(kernel: Kernel, components: Floats, weights: list[Floats]) -> list[Floats]:
    """K(components, landmarks) @ w for each w, in parts of the rows."""
    made = [np.empty((len(components), w.shape[1]), np.float32) for w in weights]
    for start in range(0, len(components), _ROWS):
        k = kernel(components[start : start + _ROWS])
        for whole, w in zip(made, weights, strict=True):
            whole[start : start + len(k)] = k @ w
    return made
