"""AutoencoderTransformer: scikit-learn's own checks, and what people do with a transformer."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.layers import Conv2d

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from warploom.sklearn import AutoencoderTransformer

DIGITS, LABELS = (a[:240] for a in load_digits(return_X_y=True))
SHAPE = (8, 8)


@parametrize_with_checks([AutoencoderTransformer(epochs=2, device="cpu", random_state=0)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    """All of them; none is expected to fail."""
    check(estimator)


def made(**options: Any) -> AutoencoderTransformer:
    return AutoencoderTransformer(
        **{"image_shape": SHAPE, "n_components": 8, "epochs": 3, "device": "cpu", "random_state": 0, **options}
    )


def test_images_as_rows_and_back() -> None:
    transformer = made(epochs=12)
    latent = transformer.fit_transform(DIGITS)
    assert (latent.shape, latent.dtype) == ((240, 8), np.float32)
    assert transformer.history_[-1] < transformer.history_[0]
    assert len(transformer.history_) == 12
    assert list(transformer.get_feature_names_out()[:2]) == ["autoencodertransformer0", "autoencodertransformer1"]
    back = transformer.inverse_transform(latent)
    assert back.shape == DIGITS.shape
    error, spread = np.mean((back - DIGITS) ** 2), np.mean((DIGITS - DIGITS.mean(0)) ** 2)
    assert error < 0.8 * spread  # in the units of the data, and better than their mean
    assert transformer.score(DIGITS) == pytest.approx(-error / 16**2, rel=1e-4)
    with pytest.raises(ValueError, match="Z has 3 features, but the latent has 8"):
        transformer.inverse_transform(latent[:, :3])


@pytest.mark.parametrize("layout", ["NHW", "NCHW", "NHWC"])
def test_images_in_every_layout(layout: str) -> None:
    grey = DIGITS.reshape(-1, 8, 8)
    given = {"NHW": grey, "NCHW": grey[:, None], "NHWC": grey[..., None]}[layout]
    rows = made().fit(DIGITS)
    transformer = made(image_shape=None).fit(given)
    np.testing.assert_array_equal(transformer.transform(given), rows.transform(DIGITS))
    back = transformer.inverse_transform(transformer.transform(given))
    assert back.shape == given.shape
    np.testing.assert_allclose(back.reshape(240, -1), rows.inverse_transform(rows.transform(DIGITS)), atol=1e-5)


def test_colour_as_rows_channels_last() -> None:
    x = np.random.default_rng(0).random((20, 8, 12, 3), np.float32)
    last = made(image_shape=(8, 12, 3)).fit(x.reshape(20, -1))
    first = made(image_shape=(3, 8, 12)).fit(x.transpose(0, 3, 1, 2).reshape(20, -1))
    latent = last.transform(x.reshape(20, -1))
    np.testing.assert_allclose(latent, first.transform(x.transpose(0, 3, 1, 2).reshape(20, -1)), atol=1e-6)
    back = last.inverse_transform(latent).reshape(20, 8, 12, 3)
    np.testing.assert_allclose(back.transpose(0, 3, 1, 2), first.inverse_transform(latent).reshape(20, 3, 8, 12), atol=1e-5)


def test_scales() -> None:
    """uint8 by 255; [0, 1] as it is; other images by their range; vectors per feature."""
    unit = np.random.default_rng(0).random((16, 1, 8, 8))
    bytes_ = np.rint(unit * 255).astype(np.uint8)
    for given, low, span in (
        (unit, 0, 1),
        (bytes_, 0, 255),
        (bytes_ * 3.0 - 30, -30, 3 * (int(bytes_.max()) - int(bytes_.min()))),
    ):
        t = made(image_shape=None).fit(given)
        assert t.range_ == pytest.approx(span)
        assert t.low_ == pytest.approx(low, abs=4)
        back = t.inverse_transform(t.transform(given))
        assert np.abs(back - given).mean() < span
    table = np.random.default_rng(0).normal([5, -3, 100], [1, 2, 50], (50, 3))
    t = made(image_shape=None, n_components=2, epochs=200).fit(table)
    np.testing.assert_allclose(t.low_, table.mean(0))
    assert np.mean(((t.inverse_transform(t.transform(table)) - table) / table.std(0)) ** 2) < 0.6


def test_pipelines_searches_and_folds() -> None:
    pipeline = make_pipeline(made(epochs=8), StandardScaler(), LogisticRegression(max_iter=300))
    assert cross_val_score(pipeline, DIGITS, LABELS, cv=3).mean() > 0.55
    search = GridSearchCV(made(epochs=1), {"n_components": [2, 16], "optimizer": [wl.optim.Adam(lr=1e-3), "sgd"]}, cv=2)
    search.fit(DIGITS)
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])


@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs")  # joblib's word for a process that a busy machine starved
def test_processes_of_joblib() -> None:
    parallel = cross_val_score(made(epochs=1), DIGITS, cv=2, n_jobs=2)
    np.testing.assert_array_equal(parallel, cross_val_score(made(epochs=1), DIGITS, cv=2))


def test_copies_pickles_and_clones(tmp_path: Path) -> None:
    transformer = made().fit(DIGITS)
    latent = transformer.transform(DIGITS)
    joblib.dump(transformer, tmp_path / "t.joblib")
    for other in (pickle.loads(pickle.dumps(transformer)), copy.deepcopy(transformer), joblib.load(tmp_path / "t.joblib")):
        np.testing.assert_array_equal(other.transform(DIGITS), latent)
        assert other.model_.device == "cpu"
    fresh = clone(transformer)
    assert not hasattr(fresh, "model_")
    np.testing.assert_array_equal(fresh.fit(DIGITS).transform(DIGITS), latent)


def test_networks_of_ones_own(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    named = AutoencoderTransformer("cifar10_autoencoder", epochs=1, device="cpu", random_state=0).fit(x)
    assert named.transform(x).shape == (12, 8192)
    named.model_.save(tmp_path / "net.safetensors")
    trained = AutoencoderTransformer(tmp_path / "net.safetensors", epochs=0, device="cpu").fit(x)
    np.testing.assert_array_equal(trained.transform(x), named.transform(x))
    given = wl.load(tmp_path / "net.safetensors")
    before = given.state_dict()
    further = AutoencoderTransformer(given, epochs=1, device="cpu").fit(x)
    assert not np.array_equal(further.transform(x), named.transform(x))
    for name, value in given.state_dict().items():  # the parameter is not trained, its copy is
        np.testing.assert_array_equal(value, before[name])
    at_16 = AutoencoderTransformer(given, epochs=0, device="cpu").fit(x[:, :, :16, :16])
    assert at_16.transform(x[:, :, :16, :16]).shape == (12, 128 * 4 * 4)


def one_layer(shape: tuple[int, ...]) -> wl.Model:
    x = wl.Input(shape)
    return wl.Model(x, Conv2d(shape[0] + 1, 3, padding=1)(x))


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"image_shape": (3, 8)}, DIGITS, r"image_shape=\(3, 8\) has 24 values, but X has 64 features"),
        ({"image_shape": 8}, DIGITS, r"image_shape must be \(C, H, W\), \(H, W, C\) or \(H, W\), not 8"),
        ({"image_shape": None}, np.zeros((2, 2, 2, 2, 2)), "X has shape"),
        ({"model": one_layer, "n_components": None}, DIGITS, r"X needs an autoencoder of \(1, 8, 8\)"),
        ({"model": "cifar10_autoencoder"}, DIGITS, "n_components is for the network that is made where model is None"),
        ({"model": "missing.safetensors", "n_components": None}, DIGITS, "there is no missing.safetensors"),
        ({"epochs": -1}, DIGITS, "epochs must be at least 0"),
        ({"n_components": 0}, DIGITS, "n_components must be at least 1"),
        ({"optimizer": "newton"}, DIGITS, "newton"),
        ({"model": lambda shape: wl.models.unet_small(), "n_components": None}, DIGITS, "X needs an autoencoder"),
    ],
)
def test_what_cannot_be_fitted_is_said(options: dict[str, Any], given: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        made(**options).fit(given)
    assert "\n" not in str(caught.value)


def test_other_images_than_those_fitted() -> None:
    t = made(image_shape=None).fit(DIGITS.reshape(-1, 8, 8))
    with pytest.raises(ValueError, match=r"X has images of \(1, 4, 8\), but AutoencoderTransformer was fitted on \(1, 8, 8\)"):
        t.transform(np.zeros((2, 4, 8)))
