"""How good predictions are: accuracy with its interval, per class, and the confusion matrix."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.ground.array_types import Array

_Z = 1.959964  # of 95 %


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): of the classifier's true accuracy, the test images being a random sample."""
    share, z2 = right / count, _Z**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class ClassScore:
    """Of one class."""

    name: str
    precision: float  # of those taken for it, the share that is
    recall: float  # of its own, the share that was found
    f1: float
    count: int  # of its own


@dataclass(frozen=True)
class Scores:
    """Of predictions for labelled rows."""

    accuracy: float
    interval: tuple[float, float]  # 95 %
    confusion: NDArray[np.int64]  # [k, k]: rows are labels, columns predictions
    classes: list[ClassScore]

    def as_dict(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy, "interval_95": list(self.interval), "confusion": self.confusion.tolist(),
            "classes": [vars(c) for c in self.classes],
        }  # fmt: skip


def score(labels: Array, predicted: Array, names: list[str], classes: int) -> Scores:
    counts = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2).reshape(classes, classes)
    right, rows = int(np.trace(counts)), int(counts.sum())
    each = []
    for i in range(classes):
        hit, taken, own = (int(v) for v in (counts[i, i], counts[:, i].sum(), counts[i].sum()))
        precision, recall = hit / taken if taken else 0.0, hit / own if own else 0.0
        f1 = 2 * hit / (taken + own) if taken + own else 0.0
        each.append(ClassScore(names[i] if names else str(i), precision, recall, f1, own))
    return Scores(right / rows, wilson(right, rows), counts, each)
