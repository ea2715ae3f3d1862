"""AutoencoderDetector: scikit-learn's own checks, and outliers that are found."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from warploom.sklearn import AutoencoderDetector

DIGITS = load_digits().data[:240]
NOISE = np.random.default_rng(0).permuted(DIGITS[:60], axis=1)  # the same pixels, elsewhere


@parametrize_with_checks([AutoencoderDetector(epochs=2, device="cpu", random_state=0)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    """All of them; none is expected to fail."""
    check(estimator)


def made(**options: Any) -> AutoencoderDetector:
    return AutoencoderDetector(
        **{"image_shape": (8, 8), "n_components": 12, "epochs": 15, "device": "cpu", "random_state": 0, **options}
    )


@pytest.mark.parametrize("method", ["mse", "ssim", "latent"])
def test_outliers_of_every_method(method: str) -> None:
    detector = made(method=method, contamination=0.05)
    inside = detector.fit_predict(DIGITS)
    assert (inside == -1).sum() == 12  # a twentieth of 240, strictly below the percentile
    scores = np.concatenate([detector.score_samples(DIGITS), detector.score_samples(NOISE)])
    assert roc_auc_score(np.repeat([1, 0], [240, 60]), scores) > 0.9
    np.testing.assert_allclose(detector.decision_function(NOISE), detector.score_samples(NOISE) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(NOISE), np.where(detector.decision_function(NOISE) < 0, -1, 1))


def test_a_sample_is_no_neighbour_of_itself() -> None:
    detector = made(method="latent", n_neighbors=1, epochs=1).fit(DIGITS)
    assert (detector.score_samples(DIGITS) > -1e-2).all()  # it is its own neighbour here
    assert detector.offset_ < -1e-2  # and was not there


def test_vectors_in_a_pipeline() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(2, 10))
    x = rng.normal(size=(400, 2)) @ mixing + 0.05 * rng.normal(size=(400, 10))
    far = rng.normal(size=(50, 10)) * x.std()
    detector = make_pipeline(
        StandardScaler(), AutoencoderDetector(n_components=2, epochs=30, contamination=0.02, device="cpu", random_state=0)
    ).fit(x)
    assert (detector.predict(x) == -1).sum() == 8
    assert (detector.predict(far) == -1).mean() > 0.8


def test_copies_pickles_and_clones_score_alike() -> None:
    detector = made(method="latent", epochs=1).fit(DIGITS)
    expected = detector.score_samples(NOISE)
    stored = io.BytesIO()
    joblib.dump(detector, stored)
    stored.seek(0)
    for copy in (pickle.loads(pickle.dumps(detector)), joblib.load(stored)):
        np.testing.assert_array_equal(copy.score_samples(NOISE), expected)
        assert copy.offset_ == detector.offset_
    assert clone(detector).get_params() == detector.get_params()
    assert not hasattr(clone(detector), "offset_")


def test_grid_search_over_the_latent_size() -> None:
    x, y = np.concatenate([DIGITS, NOISE]), np.repeat([1, -1], [240, 60])
    folds = PredefinedSplit(np.where(np.arange(300) < 160, -1, 0))  # trained on normal ones only
    scorer = make_scorer(roc_auc_score, response_method="decision_function")
    search = GridSearchCV(made(epochs=8), {"n_components": [2, 12]}, scoring=scorer, cv=folds, refit=False).fit(x, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contamination": 0.6}, "contamination must be finite and between 0 and 0.5"),
        ({"method": "magic"}, "unknown method 'magic'; expected one of mse, ssim, latent"),
        ({"method": "ssim", "image_shape": None}, "method='ssim' is for images"),
        ({"method": "latent", "n_neighbors": 0}, "n_neighbors must be at least 1"),
    ],
)
def test_wrong_arguments_are_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(epochs=1, **options).fit(DIGITS)
