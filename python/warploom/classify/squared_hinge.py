"""Linear classifiers of many wide rows: ridge and squared hinge, one class against the rest, from one Gram matrix.

Rows are standardised without a copy: the Gram matrix of the raw rows is summed once, block by block, and scaled afterwards. Every
strength of the penalty then costs one factorisation (ridge), and the squared hinge starts from its ridge solution: conjugate
gradients with the ridge's inverse as preconditioner and an exact step along each class's direction take some ten passes
over the rows.
Sources: Keerthi and DeCoste 2005 (squared hinge by Newton steps); Shewchuk 1994 (nonlinear conjugate gradients).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats

Progress = Callable[[float], None]
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # of the penalty, per sample, on standardised rows
_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the best strength of ridge, for the squared hinge
_ROWS = 4096  # of a block
_PRECISE = 2048  # columns up to which double precision costs little


@dataclass(frozen=True)
class Linear:
    """Scores [N, classes] = ((rows - mean) * scale) weight + bias; the class with the largest score is the answer."""

    mean: Floats
    scale: Floats
    weight: Floats  # [D, classes]
    bias: Floats
    strength: float
    loss: str

    def scores(self, rows: Floats) -> Floats:
        folded = self.scale[:, None] * self.weight
        shift = self.bias - self.mean @ folded
        return np.concatenate([rows[i : i + _ROWS] @ folded + shift for i in range(0, len(rows), _ROWS)])

    def predict(self, rows: Floats) -> Array:
        return np.asarray(self.scores(rows).argmax(axis=1))

    def accuracy(self, rows: Floats, labels: Array) -> float:
        return float(np.mean(self.predict(rows) == labels))


@dataclass
class Fitted:
    """What fit_linear() found."""

    classifier: Linear
    tried: list[tuple[str, float, float]]  # loss, strength, accuracy on the held-out rows
    decisions: Floats  # scores of the held-out rows, by the chosen fit before it saw them


class _Moments:
    """Sums over rows: count, sum, products with each other and with the targets."""

    def __init__(self, width: int, classes: int) -> None:
        self.count = 0
        self.sum, self.targets = np.zeros(width), np.zeros(classes)
        self.gram, self.cross = np.zeros((width, width), np.float64), np.zeros((width, classes))

    def add(self, rows: Floats, targets: Floats) -> None:
        self.count += len(rows)
        self.sum += rows.sum(axis=0, dtype=np.float64)
        self.targets += targets.sum(axis=0, dtype=np.float64)
        self.gram += rows.T @ rows
        self.cross += rows.T @ targets


class _Problem:
    """The standardised normal equations of some rows."""

    def __init__(self, moments: _Moments) -> None:
        n = moments.count
        mean = moments.sum / n
        variance = np.maximum(np.diagonal(moments.gram) / n - mean**2, 0.0)
        deviation = np.sqrt(variance)
        floor = 1e-2 * float(deviation.mean()) + 1e-12  # what hardly varies is not blown up
        self.mean, self.scale = mean, 1.0 / np.maximum(deviation, floor)
        self.bias = moments.targets / n
        gram = moments.gram / n  # a matrix of many columns is large: one copy at a time
        gram -= np.outer(mean, mean)
        gram *= self.scale[:, None]
        gram *= self.scale
        self.gram = gram.astype(np.float32)
        self.cross = ((moments.cross / n - np.outer(mean, self.bias)) * self.scale[:, None]).astype(np.float32)

    def regular(self, strength: float) -> Array:
        matrix: Array = self.gram.astype(np.float64 if len(self.gram) <= _PRECISE else np.float32)
        matrix[np.diag_indices_from(matrix)] += matrix.dtype.type(strength)
        return matrix

    def linear(self, weight: Array, bias: Array, strength: float, loss: str) -> Linear:
        return Linear(
            self.mean.astype(np.float32), self.scale.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32),
            strength, loss,
        )  # fmt: skip

    def ridge(self, strength: float) -> Linear:
        return self.linear(np.linalg.solve(self.regular(strength), self.cross), self.bias, strength, "ridge")


def _hinge(problem: _Problem, rows: Floats, targets: Floats, start: Linear, strength: float, steps: int) -> Linear:
    """min over w, b of strength / 2 |w|² + mean of max(0, 1 - t (x w + b))² / 2, all classes at once; rows whose targets are 0 do
    not count."""
    total_rows, n = len(rows), int(np.count_nonzero(targets[:, 0]))
    mean, scale = problem.mean.astype(np.float32), problem.scale.astype(np.float32)
    inverse = np.linalg.inv(problem.regular(strength)).astype(np.float32)

    def forward(weight: Floats, bias: Floats) -> Floats:
        folded = scale[:, None] * weight
        shift = bias - mean @ folded
        return np.concatenate([rows[i : i + _ROWS] @ folded + shift for i in range(0, total_rows, _ROWS)])

    weight, bias = start.weight.copy(), start.bias.copy()
    scores = forward(weight, bias)
    direction, turn, before = np.zeros_like(weight), np.zeros_like(bias), np.ones(weight.shape[1])
    old_gradient = np.zeros_like(weight)
    for _ in range(steps):
        error = -targets * np.maximum(1.0 - targets * scores, 0.0) / n  # d loss / d score
        total = error.sum(axis=0)
        product = np.zeros_like(weight)
        for i in range(0, total_rows, _ROWS):
            product += rows[i : i + _ROWS].T @ error[i : i + _ROWS]
        gradient = (product - np.outer(mean, total)) * scale[:, None] + strength * weight
        steepest, level = inverse @ gradient, total  # the bias is a coordinate of its own: rows are centred
        # Rounding may make the inverse of a matrix that is nearly singular anything but positive: no step then.
        size = np.maximum(np.einsum("ij,ij->j", gradient, steepest) + total * level, 0.0)
        shared = np.einsum("ij,ij->j", old_gradient, steepest)
        beta = np.clip((size - shared) / np.maximum(before, 1e-12), 0.0, 2.0).astype(np.float32)  # Polak and Ribiere
        direction, turn = beta * direction - steepest, beta * turn - level
        old_gradient, before = gradient, size
        along = forward(direction, turn)
        length = _step(scores, along, targets, n, weight, direction, strength)
        weight, bias, scores = weight + length * direction, bias + length * turn, scores + length * along
        if float(np.sqrt(np.max(size))) < 1e-4:
            break
    return problem.linear(weight, bias, strength, "squared hinge")


def _step(scores: Floats, along: Floats, targets: Floats, n: int, weight: Floats, direction: Floats, strength: float) -> Floats:
    """For each class the minimum along its direction, by Newton steps of one number; n: rows that count."""
    inner, square = np.einsum("ij,ij->j", weight, direction), np.einsum("ij,ij->j", direction, direction)
    length = np.zeros(scores.shape[1], np.float32)
    moved = targets * along
    for _ in range(8):
        margin = 1.0 - targets * scores - length * moved
        active = margin > 0
        slope = strength * (inner + length * square) - np.einsum("ij,ij->j", np.where(active, margin, 0), moved) / n
        curve = strength * square + np.einsum("ij,ij->j", np.where(active, moved, 0), moved) / n
        change = np.where(curve > 1e-20, slope / np.maximum(curve, 1e-20), 0.0)  # no curve: no direction, where all is learnt
        length = (length - change).astype(np.float32)
        if np.all(np.abs(change) < 1e-3 * np.maximum(np.abs(length), 1e-6)):
            break
    return length


def fit_linear(
    rows: Floats,
    labels: Array,
    *,
    classes: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.1,
    held: Array | None = None,
    hinge: bool = True,
    steps: int = 12,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """A linear classifier of rows [N, D] with labels [N] from 0 on.

    The penalty, and ridge or squared hinge, are chosen by the accuracy on a share `held_out` of the rows, drawn by the seed, or
    on those of the mask `held`; the classifier that is returned is then fitted to all rows. Memory beside the rows: a few D x D
    matrices.
    """
    labels = np.asarray(labels)
    if rows.ndim != 2 or len(rows) != len(labels) or len(rows) < 10:
        raise ArgumentError(f"fit_linear expects rows [N, D] and N labels, N at least 10; got {rows.shape} and {labels.shape}")
    classes = int(labels.max()) + 1 if classes is None else classes
    if classes < 2:
        raise DataError("a classifier needs at least two classes; all labels are the same")
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0).astype(np.float32)
    # Blocks are held out whole rows at a time by a mask, so that nothing of the rows is copied but a block.
    if held is None:
        held = np.zeros(len(rows), bool)
        held[np.random.default_rng(seed).permutation(len(rows))[: max(1, int(held_out * len(rows)))]] = True
    moments = _Moments(rows.shape[1], classes)
    for i in range(0, len(rows), _ROWS):
        kept = ~held[i : i + _ROWS]
        moments.add(rows[i : i + _ROWS][kept], targets[i : i + _ROWS][kept])
        if progress is not None:
            progress(0.4 * min(1.0, (i + _ROWS) / len(rows)))
    judge, answers = rows[held], labels[held]
    problem = _Problem(moments)
    tried, scores = list[tuple[str, float, float]](), dict[tuple[str, float], Floats]()

    def judged(found: Linear, loss: str) -> None:
        scores[loss, found.strength] = found.scores(judge)
        accuracy = float(np.mean(scores[loss, found.strength].argmax(axis=1) == answers))
        tried.append((loss, found.strength, accuracy))

    for strength in strengths:
        judged(problem.ridge(strength), "ridge")
    best = max(tried, key=lambda t: t[2])
    if hinge:
        wanted = np.where(held[:, None], np.float32(0.0), targets)
        # Rising from where few rows are active and a strength weighs more; on while the strongest is the best.
        for i, factor in enumerate(_FACTORS):
            found = _hinge(problem, rows, wanted, problem.ridge(best[1]), factor * best[1], steps)
            judged(found, "squared hinge")
            if progress is not None:
                progress(0.4 + 0.4 * (i + 1) / len(_FACTORS))
            if factor >= 1.0 and tried[-1][2] < max(accuracy for name, _, accuracy in tried if name == "squared hinge"):
                break
    loss, strength, _ = max(tried, key=lambda t: t[2])
    moments.add(judge, targets[held])
    whole = _Problem(moments)
    final = whole.ridge(strength if loss == "ridge" else best[1])
    if loss != "ridge":
        final = _hinge(whole, rows, targets, final, strength, steps)
    if progress is not None:
        progress(1.0)
    return Fitted(final, tried, scores[loss, strength])
