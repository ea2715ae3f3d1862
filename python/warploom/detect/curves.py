"""How well scores tell two kinds apart: ROC and precision-recall curves, their areas, the threshold with the best F1.

The sums are exact and short, so that nothing but NumPy is needed; the tests compare them with scikit-learn's.
"""

from dataclasses import dataclass, field

import numpy as np

from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array
from warploom.ground.arrays import numbers

_DROPPED = 11  # low bits of a float32 that pixel counts do not tell apart: values closer than 1 in 4,096
_BINS = 1 << (31 - _DROPPED)


@dataclass(frozen=True)
class Curve:
    """Points of descending thresholds: how many of each kind are at or above it. The first point is before any."""

    thresholds: Array  # float64, inf first
    true_positives: Array  # int64
    false_positives: Array
    positives: int
    negatives: int

    @property
    def recall(self) -> Array:
        """Of the abnormal ones, the share that is found: the true positive rate."""
        return np.asarray(self.true_positives / self.positives)

    @property
    def false_positive_rate(self) -> Array:
        return np.asarray(self.false_positives / self.negatives)

    @property
    def precision(self) -> Array:
        """Of what is called abnormal, the share that is; 1 where nothing is."""
        called = self.true_positives + self.false_positives
        return np.where(called > 0, self.true_positives / np.maximum(called, 1), 1.0)

    @property
    def auroc(self) -> float:
        """The area under the ROC curve: the chance that an abnormal one scores above a normal one, half for equal scores."""
        x, y = self.false_positive_rate, self.recall
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    @property
    def average_precision(self) -> float:
        """Sum of the precision at every threshold times the recall it adds."""
        return float(np.sum(np.diff(self.recall) * self.precision[1:]))

    def best_f1(self) -> tuple[float, float]:
        """(threshold, F1): scores above the threshold are called abnormal. It lies halfway to the next lower score."""
        f1 = 2 * self.true_positives / np.maximum(self.true_positives + self.false_positives + self.positives, 1)
        best = int(np.argmax(f1))  # the first: the highest threshold
        score = float(self.thresholds[best])
        lower = [*self.thresholds[best + 1 : best + 2].tolist(), 0.0 if score > 0 else score - 1.0]
        below = float(lower[0])
        return (score + below) / 2, float(f1[best])


def curve(labels: Array, scores: Array) -> Curve:
    """labels: 1 (or True) for abnormal, else 0. ArgumentError without both kinds."""
    truth, values = (numbers(a, what).reshape(-1) for a, what in ((labels, "labels"), (scores, "scores")))
    truth, values = truth.astype(bool), values.astype(np.float64)
    if len(truth) != len(values):
        raise ArgumentError(f"a label for every score is needed, not {len(truth)} for {len(values)}")
    if not np.isfinite(values).all():
        raise DataError("the scores hold NaN or infinity")
    if truth.all() or not truth.any():
        raise ArgumentError("a curve needs normal and abnormal samples, not one kind only")
    order = np.argsort(-values, kind="stable")
    sorted_values, found = values[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(np.diff(sorted_values) != 0, True))  # of equal scores
    true = np.concatenate([[0], found[last]])
    return Curve(
        np.concatenate([[np.inf], sorted_values[last]]), true, np.concatenate([[0], last + 1]) - true, int(found[-1]),
        int(len(truth) - found[-1]),
    )  # fmt: skip


def auroc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve."""
    return curve(labels, scores).auroc


def average_precision(labels: Array, scores: Array) -> float:
    """Area under the precision-recall curve, as scikit-learn's average_precision_score."""
    return curve(labels, scores).average_precision


@dataclass
class PixelCounts:
    """The curve of very many values, counted as they come: 16 MiB, however many images.

    Values from 0 on are told apart to 1 in 4,096, by the upper bits of their float32."""

    normal: Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    abnormal: Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, values: Array, mask: Array | None) -> None:
        """values [H, W] from 0 on; mask: True where abnormal, None: nowhere."""
        bins = np.ascontiguousarray(np.abs(values), np.float32).view(np.uint32) >> _DROPPED
        if mask is None:
            self.normal += np.bincount(bins.reshape(-1), minlength=_BINS)
        else:
            self.normal += np.bincount(bins[~mask], minlength=_BINS)
            self.abnormal += np.bincount(bins[mask], minlength=_BINS)

    def curve(self) -> Curve | None:
        """None without both kinds."""
        there = np.flatnonzero(self.normal + self.abnormal)[::-1]
        true, false = np.cumsum(self.abnormal[there]), np.cumsum(self.normal[there])
        if not len(there) or not true[-1] or not false[-1]:
            return None
        lower = (there.astype(np.uint32) << _DROPPED).view(np.float32).astype(np.float64)
        zero = np.zeros(1, np.int64)
        return Curve(
            np.concatenate([[np.inf], lower]), np.concatenate([zero, true]), np.concatenate([zero, false]), int(true[-1]),
            int(false[-1]),
        )  # fmt: skip
