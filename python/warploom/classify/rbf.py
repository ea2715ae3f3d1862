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


def kernel_weights(variances: Doubles, whitening: float) -> Floats:
    """Of the components [p]; the mean squared distance of a row from the mean becomes 1."""
    if not variances.max() > 1e-20:
        raise DataError("the features are the same in every row: there is nothing to tell classes by")
    weights = variances ** (-whitening / 2)
    found: Floats = (weights / np.sqrt((variances * weights**2).sum())).astype(np.float32)
    return found


def kernel_of(components: Floats, variances: Doubles, whitening: float, gamma: float, landmarks: int, seed: int) -> Kernel:
    """Landmarks are rows, drawn without replacement."""
    w = kernel_weights(variances, whitening)
    chosen = np.random.default_rng(seed).choice(len(components), min(landmarks, len(components)), replace=False)
    return Kernel(w, np.ascontiguousarray(components[np.sort(chosen)] * w), gamma)


class Nystroem:
    """Ridge regression on a kernel's features: rows are added, and every penalty is solved from their sums."""

    def __init__(self, kernel: Kernel, classes: int) -> None:
        self.kernel, m = kernel, len(kernel.landmarks)
        # In double, products of float32 kernel values are exact and their sums nearly: what small penalties leave over is small.
        self._products, self._targets = np.zeros((m, m), order="F"), np.zeros((m, classes))
        self._sums, self._target_sums, self._rows = np.zeros(m), np.zeros(classes), 0
        self._landmarks = kernel.of_weighted(kernel.landmarks).astype(np.float64).T  # K_mm, in the products' order
        for jitter in (_JITTER, 30 * _JITTER, 1000 * _JITTER):
            self._landmarks[np.diag_indices(m)] = 1.0 + jitter * m**0.5
            try:
                linalg().cholesky(self._landmarks, lower=True, check_finite=False)
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
        """After add(), before solve()."""
        self.target_mean = self._target_sums / self._rows
        self._b = (self._targets - np.outer(self._sums, self.target_mean)) / self._rows

    def solve(self, penalty: float) -> Floats | None:
        """Weights [m, k] on the kernel's values; None where rounding forbids this penalty.

        In the features L^-1 k, K_mm = L LT, it is (L^-1 S L^-T / n + penalty) v = L^-1 b, with S the sum of k kT; the weights on
        k are w = L^-T v, and so (S / n + penalty K_mm) w = b: one factorisation, and nothing is brought into those features.
        """
        matrix = self._products / self._rows
        for start in range(0, len(matrix), 512):  # in parts: no third matrix
            matrix[:, start : start + 512] += penalty * self._landmarks[:, start : start + 512]
        found = cholesky_solve(matrix, self._b, 0.0, overwrite=True)
        return None if found is None else found.astype(np.float32)

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
