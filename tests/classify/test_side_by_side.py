"""Features of several networks in a row: components of each, and the same weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.datasets import load_digits
from warploom.classify import classify
from warploom.classify.gram import SideBySide, moments_for

DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 900), slice(900, None)


@pytest.mark.parametrize("rows", [900, 60])
def test_networks_side_by_side_count_alike(rows: int) -> None:
    """Of each the components that it has alone, however many its features are; half of a row's length for each of two."""
    x, y = DIGITS[:rows].astype(np.float32), np.ones((rows, 1))
    few = x[:, 20:30] * 7 + 3
    together = SideBySide(rows, [64, 10], 1)
    together.add(np.concatenate([x, few], axis=1), y)
    together.close()
    directions, variances = together.components(12, seed=0)
    parts = []
    for part, own in ((slice(0, 64), x), (slice(64, 74), few)):
        alone = moments_for(rows, own.shape[1], 1)
        alone.add(own.copy(), y)
        alone.close()
        np.testing.assert_allclose(together.mean[part], alone.mean, rtol=1e-6)
        np.testing.assert_allclose(together.scale[part], alone.scale / 2**0.5, rtol=1e-6)
        parts.append((part, *alone.components(min(12, own.shape[1]), seed=0)))
    assert directions.shape == (74, sum(own.shape[1] for _, own, _ in parts))
    start = 0
    for part, own, spread in parts:
        end = start + own.shape[1]
        np.testing.assert_allclose(directions[part, start:end], own, atol=1e-5)
        np.testing.assert_allclose(variances[start:end], spread / 2, rtol=1e-4)
        assert not np.delete(directions[:, start:end], part, axis=0).any()
        start = end


@pytest.mark.parametrize("landmarks", [200, "all"])
def test_a_network_is_not_drowned_by_one_with_more_features(landmarks: Any) -> None:
    """64 pixels that tell the digits, beside 1,000 numbers that tell nothing."""
    noise = np.random.default_rng(5).standard_normal((len(DIGITS), 1000))
    x = np.concatenate([DIGITS, noise], axis=1)
    rows: dict[str, Any] = {"methods": ["rbf"], "landmarks": landmarks, "components": 60}
    apart = classify(x[TRAIN], LABELS[TRAIN], x[TEST], LABELS[TEST], side_by_side=[64, 1000], **rows)["rbf"]
    as_one = classify(x[TRAIN], LABELS[TRAIN], x[TEST], LABELS[TEST], **rows)["rbf"]
    assert apart.accuracy > as_one.accuracy + 0.05
    assert 60 < apart.classifier.about["components"] <= 120
    rows["methods"] = ["linear", "rbf", "committee"]
    every = classify(x[TRAIN], LABELS[TRAIN], x[TEST], LABELS[TEST], side_by_side=[64, 1000], **rows)
    alone = classify(x[TRAIN], LABELS[TRAIN], x[TEST], LABELS[TEST], methods=["linear"])["linear"]
    np.testing.assert_array_equal(every["linear"].predictions, alone.predictions)
    assert every["rbf"].accuracy > as_one.accuracy + 0.05
    assert every["committee"].accuracy > as_one.accuracy


def test_sums_for_a_linear_classifier_do_not_move_the_others() -> None:
    """More rows than features: those sums take a mean from the rows where they lie."""
    x = np.concatenate([DIGITS, DIGITS[:, 20:30] + 5], axis=1)
    found = classify(x, LABELS, methods=["linear", "rbf"], landmarks=100, side_by_side=[64, 10])
    for result in found.values():
        np.testing.assert_allclose(result.classifier.mean, x.mean(axis=0), rtol=1e-5, atol=1e-5)
