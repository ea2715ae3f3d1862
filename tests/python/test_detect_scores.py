"""Maps, neighbours and curves of detectors on arrays, against plain formulas, PyTorch, scikit-learn and SSIM of wl.metrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import warploom as wl
from hypothesis import given, settings
from hypothesis import strategies as st
from warploom.detect import maps
from warploom.detect.curves import PixelCounts, auroc, average_precision, curve
from warploom.detect.neighbours import Bank, bank_of, spread_out
from warploom.detect.steps import Part, Steps, parts_of
from warploom.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def test_squared_error_is_the_mean_over_the_channels() -> None:
    x, y = images(2, 3, 5, 7), images(2, 3, 5, 8)[..., 1:]
    expected = ((x.astype(np.float64) - y) ** 2).mean(axis=1)
    np.testing.assert_allclose(maps.squared_error(x, y), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (1, 1, 11, 11), (1, 3, 64, 33)])
def test_dissimilarity_is_the_metrics_ssim_where_no_border_matters(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    y = np.clip(x + 0.2 * images(*shape[:-1], shape[-1] + 1)[..., 1:], 0, 1)
    found = maps.dissimilarity(x, y, 11, 1.5)
    assert found.shape == (shape[0], *shape[2:])
    inside = found[:, 5 : shape[2] - 5, 5 : shape[3] - 5]
    assert inside.mean() == pytest.approx((1 - wl.metrics.ssim(x, y)) / 2, abs=1e-5)
    assert np.abs(maps.dissimilarity(x, x, 11, 1.5)).max() < 1e-6
    assert (found >= 0).all()
    assert (found <= 1).all()


@pytest.mark.parametrize(("height", "width", "sigma"), [(9, 13, 1.0), (40, 7, 2.0), (3, 50, 0.5), (1, 4, 2.0), (1, 1, 3.0)])
def test_smoothing_is_the_gaussian_with_a_mirrored_border(height: int, width: int, sigma: float) -> None:
    x = images(2, height, width)
    radius = [min(int(np.ceil(3 * sigma)), side - 1) for side in (height, width)]
    taps = [np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2) for r in radius]
    kernel = np.outer(taps[0] / taps[0].sum(), taps[1] / taps[1].sum())
    wide = np.pad(x, [(0, 0), *((r, r) for r in radius)], mode="reflect").astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape, axis=(1, 2))
    np.testing.assert_allclose(maps.smooth(x, sigma), (windows * kernel).sum(axis=(-2, -1)), rtol=1e-5, atol=1e-6)


def test_no_blur_is_no_change() -> None:
    x = images(1, 5, 5)
    assert maps.smooth(x, 0.0) is x


@pytest.mark.parametrize(
    ("own", "size"), [((4, 6), (16, 24)), ((5, 3), (12, 17)), ((8, 8), (8, 8)), ((20, 30), (7, 9)), ((1, 1), (4, 5))]
)
def test_enlarging_is_pytorchs_bilinear(own: tuple[int, int], size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = images(3, *own)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x)[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(maps.enlarged(x, size), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_enlarging_by_a_step_is_enlarging_and_cropping() -> None:
    x = images(2, 5, 6)
    np.testing.assert_array_equal(maps.enlarged(x, (18, 21), (4.0, 4.0)), maps.enlarged(x, (20, 24))[:, :18, :21])


def test_pooling() -> None:
    x = images(3, 20, 10)
    flat = np.sort(x.reshape(3, -1).astype(np.float64))
    np.testing.assert_array_equal(maps.pooled(x, "max", 0.5), flat[:, -1].astype(np.float32))
    np.testing.assert_allclose(maps.pooled(x, "mean", 0.5), flat.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(maps.pooled(x, "top", 0.1), flat[:, -20:].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(maps.pooled(x, "top", 1e-9), maps.pooled(x, "max", 1.0))  # at least one


# Neighbours
def distances(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(((queries[:, None].astype(np.float64) - vectors[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize(("count", "neighbours"), [(50, 1), (50, 3), (2, 5), (1, 1)])
def test_distances_are_those_of_the_nearest(count: int, neighbours: int) -> None:
    vectors = RNG.normal(100.0, 1.0, (count, 12)).astype(np.float32)  # far from 0: digits would be lost without the middle
    queries = RNG.normal(100.0, 1.0, (30, 12)).astype(np.float32)
    bank, owners = bank_of(vectors, np.arange(count), 100, np.random.default_rng(0))
    expected = np.sort(distances(queries, vectors), axis=1)[:, :neighbours].mean(axis=1)
    np.testing.assert_allclose(bank.distances(queries, neighbours), expected, rtol=1e-4)
    near = vectors[RNG.integers(0, count, 30)] + RNG.normal(0, 1e-3, (30, 12)).astype(np.float32)
    small = distances(near - bank.middle, bank.vectors).min(axis=1)  # of which squares and a product would leave no digit
    np.testing.assert_allclose(bank.distances(near, 1), small, rtol=1e-5)
    np.testing.assert_array_equal(owners, np.arange(count))


def test_own_vectors_do_not_count() -> None:
    vectors = RNG.normal(size=(40, 6)).astype(np.float32)
    owners = np.repeat(np.arange(10), 4)
    bank = Bank(vectors - vectors.mean(0), vectors.mean(0))
    all_ = distances(vectors, vectors)
    all_[owners[:, None] == owners[None]] = np.inf
    found = bank.distances(vectors, 2, owners, owners)
    np.testing.assert_allclose(found, np.sort(all_, axis=1)[:, :2].mean(axis=1), rtol=1e-4)
    assert not bank.distances(vectors, 1).any()
    alone = bank.distances(vectors[:1], 2, np.zeros(40, np.int64), np.zeros(1, np.int64))
    assert alone[0] == 0  # nothing is left to compare with: no infinity


def test_the_bank_keeps_what_is_far_apart() -> None:
    lone = np.full((1, 8), 50.0, np.float32)
    vectors = np.concatenate([RNG.normal(size=(500, 8)).astype(np.float32), lone, -lone])
    chosen = spread_out(vectors, 20, np.random.default_rng(0))
    assert {500, 501} <= set(chosen.tolist())
    assert len(set(chosen.tolist())) == 20
    farthest = distances(vectors, vectors[chosen]).min(axis=1).max()
    at_random = np.random.default_rng(1).choice(500, 20, replace=False)
    assert farthest < distances(vectors, vectors[at_random]).min(axis=1).max()


def test_vectors_that_are_all_alike_do_no_harm() -> None:
    assert len(set(spread_out(np.zeros((30, 100), np.float32), 10, np.random.default_rng(0)).tolist())) == 10


# Curves
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_curves_are_scikit_learns(samples: list[tuple[bool, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, scores = np.array([s[0] for s in samples]), np.array([s[1] / 4 for s in samples])
    if labels.all() or not labels.any():
        with pytest.raises(ArgumentError, match="normal and abnormal"):
            auroc(labels, scores)
        return
    assert auroc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(sklearn.average_precision_score(labels, scores), abs=1e-12)
    found = curve(labels, scores)
    fpr, tpr, _ = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr)
    np.testing.assert_allclose(found.recall, tpr)
    threshold, f1 = found.best_f1()
    assert f1 == pytest.approx(sklearn.f1_score(labels, scores > threshold))
    every = [sklearn.f1_score(labels, scores > t, zero_division=0) for t in [-1, *np.unique(scores)]]
    assert f1 == pytest.approx(max(every))


def test_area_is_the_chance_of_the_right_order() -> None:
    labels, scores = RNG.random(60) < 0.4, np.round(RNG.random(60), 1)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[labels], scores[~labels])]
    assert auroc(labels, scores) == pytest.approx(np.mean(pairs))


def test_curves_refuse_what_they_cannot_use() -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        auroc([0, 1], [0.0, np.nan])
    with pytest.raises(ArgumentError, match="a label for every score"):
        auroc([0, 1, 1], [0.0, 1.0])


def test_pixels_are_counted_as_they_come() -> None:
    counts = PixelCounts()
    values, masks = [], []
    for i in range(6):
        value = RNG.gamma(2.0, 10.0 ** (i - 3), (30, 20)).astype(np.float32)  # over many magnitudes
        value[0, 0] = 0.0
        mask = RNG.random((30, 20)) < value / (value + 10.0 ** (i - 3))
        counts.add(value, mask if i else None)
        values.append(value.ravel())
        masks.append(mask.ravel() if i else np.zeros(600, bool))
    found, exact = counts.curve(), curve(np.concatenate(masks), np.concatenate(values))
    assert found is not None
    assert (found.positives, found.negatives) == (exact.positives, exact.negatives)
    assert found.auroc == pytest.approx(exact.auroc, abs=1e-3)
    assert found.average_precision == pytest.approx(exact.average_precision, abs=1e-3)
    assert found.best_f1()[1] == pytest.approx(exact.best_f1()[1], abs=1e-3)
    assert found.best_f1()[0] == pytest.approx(exact.best_f1()[0], rel=1e-2)


def test_pixels_of_one_kind_make_no_curve() -> None:
    counts = PixelCounts()
    assert counts.curve() is None
    counts.add(np.ones((3, 3), np.float32), None)
    assert counts.curve() is None


# Steps
def test_steps_are_read_and_written() -> None:
    steps = Steps(parts_of("mse:2+ssim+latent:0.5"), blur=1.5, pooling="max", neighbours=7, network_size=False, tile=64)
    assert steps.parts == (Part("mse", 2.0), Part("ssim"), Part("latent", 0.5))
    assert Steps.from_dict(steps.as_dict()) == steps


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ("magic", "unknown score 'magic'; expected one or more of mse, ssim, latent"),
        ("mse+mse", "different ones"),
        ("", "unknown score ''"),
        ("mse:x", "no score with a weight"),
        ("mse:0", "the weight of mse"),
        ("mse:nan", "the weight of mse"),
    ],
)
def test_wrong_scores_are_one_sentence(scores: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Steps(parts_of(scores))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "median"}, "unknown pooling 'median'; expected one of top, max, mean"),
        ({"blur": -1.0}, "blur must be finite"),
        ({"share": 0.0}, "share must be"),
        ({"window": 10}, "window must be odd"),
        ({"neighbours": 0}, "neighbours must be at least 1"),
        ({"tile": -1}, "tile must be at least 0"),
    ],
)
def test_wrong_steps_are_one_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Steps(**options)  # type: ignore[arg-type]
