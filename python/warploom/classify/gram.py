"""Ridge regression on standardised features for many penalties, from one pass over the rows.

Wide is for more rows than features: it keeps the Gram matrix of the features. Tall is for fewer: it keeps the rows themselves and
solves for as many numbers as there are rows. Both standardise each feature and divide by sqrt(d), so that a row has the squared
length 1 on average and penalties mean the same for every number of features; features that never change count for nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Array, Floats
from warploom.ground.optional import needed

Doubles = NDArray[np.float64]
_PRECISE = 2048  # unknowns up to which double precision costs little
_OVER, _ROUNDS = 32, 5  # of the subspace iteration: vectors beside those that are wanted, and steps


def linalg() -> Any:
    return needed("scipy.linalg", "scikit-learn", "classify")


def cholesky_solve(a: Array, b: Array, penalty: float, *, overwrite: bool = False) -> Doubles | None:
    """(A + penalty I)^-1 B, of a symmetric A of which the lower triangle is read; None where rounding has made it indefinite.
    overwrite: A is not needed afterwards."""
    precise = a.dtype == np.float64 or len(a) <= _PRECISE
    matrix = np.require(a, np.float64 if precise else np.float32, ["F", "W"])
    if matrix is a and not overwrite:
        matrix = a.copy(order="F")
    matrix[np.diag_indices(len(a))] += penalty
    try:
        factor = linalg().cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except linalg().LinAlgError:
        return None
    solution: Doubles = linalg().cho_solve(factor, b.astype(matrix.dtype), check_finite=False).astype(np.float64)
    return solution if np.isfinite(solution).all() else None


class Sums(ABC):
    """Of rows: mean [d] and scale [d] of the features, z = (x - mean) * scale, and the components of z."""

    mean: Doubles
    scale: Doubles

    @abstractmethod
    def add(self, x: Floats, y: Array) -> None:
        """Rows [n, d] and targets [n, k]; x may be changed."""

    @abstractmethod
    def close(self) -> None:
        """After the last add() before what is wanted; more rows may be added afterwards, and it be closed again."""

    @abstractmethod
    def components(self, count: int, seed: int) -> tuple[Floats, Doubles]:
        """Directions of largest variance of z [d, count or fewer], and the variances, largest first."""


class Moments(Sums):
    """What both kinds share that solve for a linear classifier too: the mean of the targets [k]."""

    target_mean: Doubles

    def standardised(self, x: Floats) -> Floats:
        z: Floats = x - self.mean.astype(np.float32)
        z *= self.scale.astype(np.float32)
        return z

    @abstractmethod
    def solve(self, penalty: float) -> Doubles | None:
        """Weights [d, k] on z that minimise mean |z w - (y - target_mean)|^2 + penalty |w|^2; None where rounding forbids it."""


def _varying(directions: Array, variances: Doubles) -> tuple[Floats, Doubles]:
    """Those along which the rows vary by more than rounding, at least one."""
    count = max(1, int((variances > 1e-7 * variances[0]).sum()))
    return np.ascontiguousarray(directions[:, :count], dtype=np.float32), np.maximum(variances[:count], 1e-30)


def _leading(product: Callable[[Array], Array], width: int, count: int, seed: int) -> tuple[Array, Doubles]:
    """Eigenvectors [width, count] of a symmetric matrix, and their values, largest first: subspace iteration (Halko, Martinsson
    and Tropp 2011, algorithm 4.4). product: of the matrix with some vectors."""
    q = np.random.default_rng(seed).standard_normal((width, min(width, count + _OVER)), np.float32)
    for _ in range(_ROUNDS):
        q = np.linalg.qr(product(q))[0]
    values, small = np.linalg.eigh((q.T @ product(q)).astype(np.float64))
    return q @ small[:, ::-1][:, :count].astype(np.float32), values[::-1][:count]


def _scale(variance: Doubles) -> Doubles:
    never = variance <= 1e-10 * max(float(variance.max(initial=0.0)), 1e-30)
    return np.where(never, 0.0, 1.0 / np.sqrt(np.where(never, 1.0, variance) * len(variance)))


class Wide(Moments):
    """Keeps d x d sums, in float32 and for the lower triangle."""

    def __init__(self, width: int, classes: int) -> None:
        self._shift: Floats | None = None  # near the mean, so that nothing cancels
        self._products = np.zeros((width, width), np.float32, order="F")
        self._targets, self._sums, self._target_sums = np.zeros((width, classes)), np.zeros(width), np.zeros(classes)
        self._rows = 0

    def add(self, x: Floats, y: Array) -> None:
        if not len(x):
            return
        if self._shift is None:
            self._shift = x.mean(axis=0)
        x -= self._shift
        # The transpose of a C-contiguous x is in BLAS's own order: nothing is copied. Half of the sums are enough.
        self._products = linalg().blas.ssyrk(1.0, x.T, 1.0, self._products, trans=0, lower=1, overwrite_c=1)
        self._targets += x.T @ y.astype(np.float32)
        self._sums += x.sum(axis=0, dtype=np.float64)
        self._target_sums += y.sum(axis=0)
        self._rows += len(x)

    def close(self) -> None:
        assert self._shift is not None
        rows, mean, self.target_mean = self._rows, self._sums / self._rows, self._target_sums / self._rows
        self.mean = mean + self._shift
        self.scale = _scale(np.maximum(self._products.diagonal() / rows - mean**2, 0.0))
        self._a = self._products / np.float32(rows)
        for start in range(0, len(mean), 512):  # in parts: no third matrix
            part = slice(start, start + 512)
            self._a[:, part] -= np.outer(mean, mean[part]).astype(np.float32)
            self._a[:, part] *= np.outer(self.scale, self.scale[part]).astype(np.float32)
        self._b = (self._targets / rows - np.outer(mean, self.target_mean)) * self.scale[:, None]

    def solve(self, penalty: float) -> Doubles | None:
        return cholesky_solve(self._a, self._b, penalty)

    def components(self, count: int, seed: int) -> tuple[Floats, Doubles]:
        width = len(self._a)
        if width <= _PRECISE:
            values, vectors = linalg().eigh(self._a.astype(np.float64), lower=True, subset_by_index=[width - count, width - 1])
            return _varying(vectors[:, ::-1], values[::-1])

        def product(q: Array) -> Array:
            made: Array = linalg().blas.ssymm(1.0, self._a, np.asfortranarray(q), lower=1)
            return made

        return _varying(*_leading(product, width, count, seed))


class Tall(Moments):
    """Keeps all rows, and solves in their n x n products."""

    def __init__(self, width: int, classes: int) -> None:
        self._x: list[Floats] = []
        self._y: list[Array] = []

    def add(self, x: Floats, y: Array) -> None:
        if len(x):
            self._x.append(x)
            self._y.append(y)

    def close(self) -> None:
        x, y = np.concatenate(self._x), np.concatenate(self._y)
        self._x, self._y = [x], [y]
        self.mean, self.target_mean = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
        self.scale = _scale(x.var(axis=0, dtype=np.float64))
        self._z = self.standardised(x)
        self._k = (self._z @ self._z.T).astype(np.float64) / len(x)
        self._centred = (y - self.target_mean) / len(x)

    def solve(self, penalty: float) -> Doubles | None:
        found = cholesky_solve(self._k, self._centred, penalty)
        return None if found is None else (self._z.T @ found.astype(np.float32)).astype(np.float64)

    def components(self, count: int, seed: int) -> tuple[Floats, Doubles]:
        rows = len(self._k)
        count = min(count, rows)
        if rows <= _PRECISE or 2 * count > rows:
            values, vectors = linalg().eigh(self._k, subset_by_index=[rows - count, rows - 1])
            values, vectors = values[::-1], vectors[:, ::-1]
        else:
            products = self._k.astype(np.float32)
            vectors, values = _leading(lambda q: products @ q, rows, count, seed)
        vectors, values = _varying(vectors, np.maximum(values, 0.0))
        return np.ascontiguousarray(self._z.T @ (vectors / np.sqrt(values * rows)).astype(np.float32)), values


def moments_for(rows: int, width: int, classes: int) -> Moments:
    return Wide(width, classes) if rows >= width else Tall(width, classes)


class SideBySide(Sums):
    """Features of several networks in a row: each network's are standardised, have components of their own, and have the same
    share of a row's squared length, however many they are. What two networks both tell is not one component, and so counts twice;
    components of all together were less right (docs/features.md)."""

    def __init__(self, rows: int, widths: Sequence[int], classes: int) -> None:
        ends = np.cumsum(widths)
        self._parts = [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]
        self._moments = [moments_for(rows, width, classes) for width in widths]

    def add(self, x: Floats, y: Array) -> None:
        for part, moments in zip(self._parts, self._moments, strict=True):
            moments.add(x[:, part].copy(), y)

    def close(self) -> None:
        for moments in self._moments:
            moments.close()
        self.mean = np.concatenate([moments.mean for moments in self._moments])
        self.scale = np.concatenate([moments.scale for moments in self._moments]) / len(self._moments) ** 0.5

    def components(self, count: int, seed: int) -> tuple[Floats, Doubles]:
        """`count` of each network or fewer, one network after the other; 0 for the features of others."""
        found = [moments.components(min(count, len(moments.mean)), seed) for moments in self._moments]
        directions = np.zeros((len(self.mean), sum(own.shape[1] for own, _ in found)), np.float32)
        start = 0
        for part, (own, _) in zip(self._parts, found, strict=True):
            directions[part, start : start + own.shape[1]] = own
            start += own.shape[1]
        return directions, np.concatenate([variances for _, variances in found]) / len(found)
