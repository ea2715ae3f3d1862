"""Kernel ridge regression with every training row as a landmark, for tens of thousands of rows: (K + ridge I) w = y.

K [n, n] is computed once. Half of it is kept, in 16-bit fixed point, as its values lie between 0 and 1: n^2 bytes. What is
rounded away is a matrix with a norm of 1e-5 sqrt(n); to matter it would have to come near the ridge. Conjugate gradients then
solve for all classes and several ridges at once, a pass over K for a step. Without a preconditioner they would take thousands:
K is approximated by its first columns (Nyström), whose inverse with the ridge on the diagonal is known.
Sources: Frangella, Tropp and Udell 2023, https://arxiv.org/abs/2110.02820 (the preconditioner); Rudi, Carratino and Rosasco
2017, https://arxiv.org/abs/1705.10958 (conjugate gradients for kernels of many rows).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from warploom.classify.gram import Doubles, cholesky_solve, linalg
from warploom.classify.rbf import Kernel
from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import positive
from warploom.ground.hardware import memory_bytes

Landmarks = int | Literal["all"]
Progress = Callable[[int, int], None]  # how much is done, of how much
ROWS = 2048  # of a block of the kernel's matrix, and columns
_ONE = 65535.0  # of the fixed point
_PANEL = 2  # blocks of columns, of the preconditioner
_STRIP = 256  # rows of it in double at a time
_STEPS, _TOLERANCE = 300, 5e-3  # of the residual's length, over that of y
_JITTER = 1e-3  # added to the values of the first rows with each other, which are rounded


def every_row_fits(rows: int) -> bool:
    """Whether the kernel of every two rows, and what it is solved with, fits into the memory; so too where that is not known."""
    return 2 * rows**2 <= (memory_bytes("cpu") or 2 * rows**2)


def check_landmarks(landmarks: Landmarks, rows: int) -> None:
    """ArgumentError where they are no number, or every row's kernel with every other would not fit into the memory."""
    if isinstance(landmarks, str) and landmarks != "all":
        raise ArgumentError(f"landmarks must be a whole number or 'all', not {landmarks!r}")
    if landmarks != "all":
        positive(landmarks, "landmarks", minimum=2)
        return
    if not every_row_fits(rows):
        raise ArgumentError(
            f"landmarks 'all' of {rows:,} rows take {2 * rows**2 / 2**30:,.1f} GiB, and there are "
            f"{memory_bytes('cpu') / 2**30:,.1f}: give a number of landmarks, 6000 for example"
        )


class KernelMatrix:
    """The values k(x_i, x_j) of all rows with each other, symmetric, in memory; exact to 1 / 131070."""

    def __init__(self, kernel: Kernel, progress: Progress = lambda done, of: None) -> None:
        """kernel: its landmarks are the rows."""
        rows = kernel.landmarks
        self.size = len(rows)
        self._blocks = dict[tuple[int, int], NDArray[np.uint16]]()
        for i in range(0, self.size, ROWS):
            for j in range(0, i + 1, ROWS):
                values = Kernel(kernel.weights, rows[j : j + ROWS], kernel.gamma).of_weighted(rows[i : i + ROWS])
                if i == j:  # rounding is not symmetric
                    values = np.maximum(values, values.T)
                values *= _ONE
                self._blocks[i, j] = np.rint(values, out=values).astype(np.uint16)
            progress(min(i + ROWS, self.size), self.size)

    def __matmul__(self, x: Array) -> Floats:
        """K x [n, c], in float32."""
        x = np.ascontiguousarray(x, np.float32)
        made = np.zeros(x.shape, np.float32)
        buffer = np.empty((ROWS, ROWS), np.float32)
        for (i, j), block in self._blocks.items():
            values = buffer[: block.shape[0], : block.shape[1]]
            values[:] = block
            made[i : i + ROWS] += values @ x[j : j + ROWS]
            if i != j:
                made[j : j + ROWS] += values.T @ x[i : i + ROWS]
        made /= _ONE
        return made

    def panel(self, start: int, blocks: int, out: Doubles) -> Doubles:
        """Rows from `start` of the first columns, times 65535, as many of one block as `out` [rows, blocks * ROWS] has room for:
        a part of it is returned."""
        block, first = start - start % ROWS, start % ROWS
        count, width = min(len(out), ROWS - first, self.size - start), min(self.size, blocks * ROWS)
        for j in range(0, width, ROWS):
            values = self._blocks[block, j] if j <= block else self._blocks[j, block].T
            out[:count, j : j + values.shape[1]] = values[first : first + count]
        return out[:count, :width]


class _Preconditioner:
    """(P W^-1 P^T + mu I)^-1 = (I - P (P^T P + mu W)^-1 P^T) / mu. P: the first columns of K; W: their first rows.

    In double: of the largest directions only mu / 10^6 and less is left of a 1. Both P and W are times 65535 here.
    """

    def __init__(self, matrix: KernelMatrix, kept: NDArray[np.bool_], mus: Sequence[float]) -> None:
        self._matrix, self._kept, self._mus = matrix, kept, mus
        width = min(matrix.size, _PANEL * ROWS)
        buffer = np.empty((ROWS, _PANEL * ROWS))
        gram = np.zeros((width, width), order="F")
        for start in range(0, matrix.size, ROWS):
            panel = matrix.panel(start, _PANEL, buffer)
            panel[~kept[start : start + ROWS]] = 0.0
            gram = linalg().blas.dsyrk(1.0, panel.T, 1.0, gram, trans=0, lower=1, overwrite_c=1)
        self._factors = list[Array]()
        for place, mu in enumerate(mus, 1):
            system = gram if place == len(mus) else gram.copy(order="F")  # nobody needs it after the last
            for start in range(0, width, ROWS):
                panel = matrix.panel(start, _PANEL, buffer)
                panel *= mu * _ONE
                system[:, start : start + ROWS] += panel.T
            system[np.diag_indices(width)] += mu * _JITTER * _ONE**2
            self._factors.append(linalg().cholesky(system, lower=True, overwrite_a=True, check_finite=False))

    def _panels(self) -> Iterator[tuple[slice, Doubles]]:
        """Few rows at a time, always in the same memory: they stay in the cache for the product that follows."""
        buffer = np.empty((_STRIP, _PANEL * ROWS))
        start = 0
        while start < self._matrix.size:
            panel = self._matrix.panel(start, _PANEL, buffer)
            yield slice(start, start + len(panel)), panel
            start += len(panel)

    def apply(self, residuals: dict[int, Doubles]) -> dict[int, Doubles]:
        """Of each residual [n, k], 0 for rows that are not kept, by the place of its mu."""
        together = np.concatenate(list(residuals.values()), axis=1)
        kinds = together.shape[1] // len(residuals)
        inner = np.zeros((len(self._factors[0]), together.shape[1]))
        for rows, panel in self._panels():
            inner += panel.T @ together[rows]
        columns = {i: slice(place * kinds, (place + 1) * kinds) for place, i in enumerate(residuals)}
        for i, own in columns.items():
            inner[:, own] = linalg().cho_solve((self._factors[i], True), inner[:, own], check_finite=False)
        for rows, panel in self._panels():
            together[rows] -= panel @ inner
        together[~self._kept] = 0.0
        return {i: together[:, own] / self._mus[i] for i, own in columns.items()}


@dataclass
class Solution:
    """weights [n, k] on the kernel's values, 0 for rows that do not count; steps that were taken."""

    ridge: float
    weights: Floats
    decisions: Floats  # K weights [n, k], for every row
    steps: int


def kernel_ridge(
    matrix: KernelMatrix, targets: Array, ridges: Sequence[float], *, kept: NDArray[np.bool_], start: Floats | None = None,
    progress: Progress = lambda done, of: None,
) -> list[Solution]:  # fmt: skip
    """For each ridge the weights w, on the rows kept, that minimise |K w - y|^2 + ridge w^T K w.

    The first rows should be drawn at random: K is approximated by them. targets: [n, k] of all rows; start: weights to begin
    with. DataError where conjugate gradients do not come near.
    """
    y = np.where(kept[:, None], targets, 0.0).astype(np.float64)
    mask = kept[:, None].astype(np.float64)
    kinds, mus = y.shape[1], list(ridges)
    near = _Preconditioner(matrix, kept, mus)
    x = [np.zeros_like(y) if start is None else start * mask for _ in mus]
    product = [np.zeros_like(y) if start is None else (matrix @ x[0]).astype(np.float64) for _ in mus]  # K x of each, all rows
    residual = [y - mask * p - mu * a for p, mu, a in zip(product, mus, x, strict=True)]
    direction = [np.zeros_like(y) for _ in mus]
    before, old = [np.ones(kinds) for _ in mus], [np.zeros_like(y) for _ in mus]
    enough = _TOLERANCE * np.maximum(np.linalg.norm(y, axis=0), 1e-30)
    steps, furthest, nearest = [0] * len(mus), 0.0, 0.0
    for step in range(1, _STEPS + 1):
        over = [float((np.linalg.norm(r, axis=0) / enough).max()) for r in residual]
        running = [i for i, ratio in enumerate(over) if ratio > 1.0]
        if not running:
            break
        furthest = max(furthest, np.log(max(over)))
        nearest = max(nearest, 1.0 - np.log(max(over)) / furthest)  # residuals shrink by some factor a step
        progress(int(100 * nearest), 100)
        for i, z in near.apply({i: residual[i] for i in running}).items():
            size = np.einsum("nk,nk->k", residual[i], z)
            shared = np.einsum("nk,nk->k", old[i], z)
            beta = np.maximum((size - shared) / np.maximum(before[i], 1e-300), 0.0)  # Polak and Ribiere: rounding is forgiven
            direction[i] = z + beta * direction[i]
            before[i], old[i] = size, residual[i]
        along = matrix @ np.concatenate([direction[i] for i in running], axis=1)
        for place, i in enumerate(running):
            kd = along[:, place * kinds : (place + 1) * kinds].astype(np.float64)
            ad = mask * kd + mus[i] * direction[i]
            curve = np.einsum("nk,nk->k", direction[i], ad)
            length = np.where(curve > 0, before[i] / np.where(curve > 0, curve, 1.0), 0.0)
            x[i] += length * direction[i]
            product[i] += length * kd
            residual[i] = residual[i] - length * ad
            steps[i] = step
    else:
        raise DataError(f"kernel ridge regression did not come near in {_STEPS} steps: use fewer landmarks than all")
    progress(100, 100)
    return [
        Solution(ridge, a.astype(np.float32), p.astype(np.float32), s)
        for ridge, a, p, s in zip(ridges, x, product, steps, strict=True)
    ]


def exact_small(kernel: Kernel, targets: Array, ridge: float) -> Floats | None:
    """(K + ridge I)^-1 y by one factorisation, for thousands of rows; None where rounding forbids it."""
    found = cholesky_solve(kernel.of_weighted(kernel.landmarks), targets, ridge, overwrite=True)
    return None if found is None else found.astype(np.float32)
