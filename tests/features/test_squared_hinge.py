"""Ridge and squared hinge from one Gram matrix, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.classify import squared_hinge as S


def problem(seed: int = 0, rows: int = 600, width: int = 12, classes: int = 3) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    middles = rng.standard_normal((classes, width))
    x = (5 + rng.uniform(0.1, 3, width) * (middles[labels] + 1.5 * rng.standard_normal((rows, width)))).astype(np.float32)
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0).astype(np.float32)
    return x, labels, targets


def fitted(x: Any, targets: Any) -> Any:
    moments = S._Moments(x.shape[1], targets.shape[1])
    moments.add(x[:100], targets[:100])
    moments.add(x[100:], targets[100:])
    return S._Problem(moments)


def test_ridge_by_its_definition() -> None:
    x, _, targets = problem()
    z = (x - x.mean(0)) / x.std(0)
    weight = np.linalg.solve(z.T @ z / len(z) + 0.3 * np.eye(12), z.T @ (targets - targets.mean(0)) / len(z))
    found = fitted(x, targets).ridge(0.3)
    np.testing.assert_allclose(found.weight, weight, atol=1e-4)
    np.testing.assert_allclose(found.scores(x), z @ weight + targets.mean(0), atol=1e-4)


def test_squared_hinge_ends_where_its_gradient_is_zero() -> None:
    x, _, targets = problem()
    whole = fitted(x, targets)
    found = S._hinge(whole, x, targets, whole.ridge(0.1), 0.1, steps=60)
    z = (x.astype(float) - found.mean) * found.scale

    def loss(weight: Any, bias: Any) -> float:
        margin = np.maximum(1 - targets * (z @ weight + bias), 0)
        return float(0.05 * (weight**2).sum() + (margin**2).sum() / (2 * len(z)))

    margin = np.maximum(1 - targets * (z @ found.weight + found.bias), 0)
    gradient = 0.1 * found.weight - z.T @ (targets * margin) / len(z)
    assert np.abs(gradient).max() < 1e-3
    assert np.abs((targets * margin).sum(0) / len(z)).max() < 1e-3
    ridge = whole.ridge(0.1)
    assert loss(found.weight, found.bias) < 0.98 * loss(ridge.weight, ridge.bias)


def test_stronger_penalties_are_tried_while_the_strongest_is_best() -> None:
    """The strengths given end far below what many noisy columns need: the search goes on, and stops where it gets worse."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1500, 1000)).astype(np.float32)
    labels = (x[:, :30].sum(1) + 10 * rng.standard_normal(1500) > 0).astype(int)
    found = S.fit_linear(x, labels, strengths=(1e-3, 1e-2), held_out=0.4)
    best = max(accuracy for loss, _, accuracy in found.tried if loss == "ridge")
    start = next(strength for loss, strength, accuracy in found.tried if loss == "ridge" and accuracy == best)
    hinges = [(strength / start, accuracy) for loss, strength, accuracy in found.tried if loss == "squared hinge"]
    np.testing.assert_allclose([factor for factor, _ in hinges], S._FACTORS[: len(hinges)], rtol=1e-6)
    assert len(hinges) > 3
    assert max(a for _, a in hinges) > max(a for _, a in hinges[:3])
    for i in range(3, len(hinges)):  # on only after a step that was as good as any
        assert hinges[i - 1][1] >= max(a for _, a in hinges[:i])


def test_the_choice_is_made_on_rows_held_out() -> None:
    """Many more columns than rows: without a strong penalty the training rows are learnt by heart."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((160, 300)).astype(np.float32)
    labels = (x[:, :20].sum(1) > 0).astype(int)
    found = S.fit_linear(x, labels, strengths=(1e-6, 0.3), held_out=0.4, seed=3)
    ridges = {strength: value for loss, strength, value in found.tried if loss == "ridge"}
    best = max(value for _, _, value in found.tried)
    assert set(ridges) == {1e-6, 0.3}
    assert (found.classifier.loss, found.classifier.strength, best) in found.tried
    fresh = rng.standard_normal((400, 300)).astype(np.float32)
    assert found.classifier.accuracy(fresh, (fresh[:, :20].sum(1) > 0).astype(int)) > 0.6


def test_classes_are_learnt_and_seeds_repeat() -> None:
    x, labels, _ = problem(rows=3000)
    found = S.fit_linear(x[:2000], labels[:2000], seed=1)
    assert found.classifier.accuracy(x[2000:], labels[2000:]) > 0.75
    again = S.fit_linear(x[:2000], labels[:2000], seed=1)
    assert np.array_equal(found.classifier.weight, again.classifier.weight)
    shuffled = np.random.default_rng(0).permutation(labels[:2000])
    assert S.fit_linear(x[:2000], shuffled, seed=1).classifier.accuracy(x[2000:], labels[2000:]) < 0.5


def test_what_is_refused() -> None:
    with pytest.raises(wl.DataError, match="at least two classes"):
        S.fit_linear(np.zeros((20, 2), np.float32), np.zeros(20, int))
    with pytest.raises(wl.ArgumentError, match="N labels"):
        S.fit_linear(np.zeros((20, 2), np.float32), np.zeros(19, int))


def test_rows_held_out_do_not_count() -> None:
    """Rows whose targets are 0 take no part in the squared hinge, wherever they stand: as if they were not there."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 12)).astype(np.float32)
    targets = np.where((rows @ rng.standard_normal((12, 3)) + 0.5 * rng.standard_normal((400, 3))) > 0, 1, -1).astype(np.float32)
    held = rng.random(400) < 0.3
    moments = S._Moments(12, 3)
    moments.add(rows[~held], targets[~held])
    given = S._Problem(moments)
    start = given.ridge(1e-2)
    without = S._hinge(given, rows[~held], targets[~held], start, 1e-2, 12)
    rows[held] *= 100.0
    beside = S._hinge(given, rows, np.where(held[:, None], np.float32(0), targets), start, 1e-2, 12)
    np.testing.assert_allclose(beside.weight, without.weight, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(beside.bias, without.bias, rtol=1e-3, atol=1e-4)
    assert np.abs(without.weight - start.weight).max() > 1e-2
