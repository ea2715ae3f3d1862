"""Classifiers on features: against scikit-learn's exact ones, in blocks as in one, on what is hard to fit; saved and loaded."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import classification_report
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from warploom.classify import Classifier, as_source, classify, experiment
from warploom.classify import sources as sources_module
from warploom.classify.gram import Tall, Wide, cholesky_solve, moments_for
from warploom.classify.kernel_ridge import KernelMatrix, kernel_ridge
from warploom.classify.rbf import PENALTIES, Nystroem, kernel_of
from warploom.classify.scores import score, wilson
from warploom.ground.atomic import read_tensors, write_tensors

DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 900), slice(900, None)
RNG = np.random.default_rng(1)


class Streamed:
    """Features that are computed as they are asked for."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.passes = array, (len(array), array.shape[1]), 0

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        self.passes += 1
        for start in range(0, len(self.array), min(rows, 37)):
            yield self.array[start : start + min(rows, 37)]


def test_digits_as_well_as_exact_classifiers() -> None:
    scaler = StandardScaler().fit(DIGITS[TRAIN])
    x, z = scaler.transform(DIGITS[TRAIN]), scaler.transform(DIGITS[TEST])
    found = classify(DIGITS[TRAIN], LABELS[TRAIN], DIGITS[TEST], LABELS[TEST], classes=[f"digit {i}" for i in range(10)])
    linear, rbf = found["linear"], found["rbf"]
    assert linear.accuracy >= RidgeClassifier().fit(x, LABELS[TRAIN]).score(z, LABELS[TEST]) - 0.01
    assert rbf.accuracy >= SVC(C=10).fit(x, LABELS[TRAIN]).score(z, LABELS[TEST]) - 0.017  # two deviations on 897 digits
    assert rbf.accuracy > linear.accuracy + 0.02
    for result in found.values():
        assert result.tested_on == "test"
        assert result.interval[0] < result.accuracy < result.interval[1]
        assert result.accuracy == np.mean(result.predictions == LABELS[TEST])
        best = max(s["validation_accuracy"] for s in result.searched if "C" in s)
        assert result.classifier.about["validation_accuracy"] == best
        assert result.scores.classes[3].name == "digit 3"
        np.testing.assert_array_equal(result.classifier.predict(DIGITS[TEST]), result.predictions)


@pytest.mark.parametrize(("rows", "kind"), [(900, Wide), (40, Tall)])
def test_the_linear_fit_is_ridge_regression(rows: int, kind: Any) -> None:
    """Weights and intercept against scikit-learn's solver, from one pass in blocks, before and after rows were added."""
    x, y = DIGITS[:rows], LABELS[:rows]
    targets = np.where(np.arange(10) == y[:, None], 1.0, -1.0)
    moments = kind(64, 10)
    done = 0
    for end in (rows // 2, rows):
        for start in range(done, end, 17):
            part = slice(start, min(start + 17, end))
            moments.add(x[part].astype(np.float32), targets[part])
        moments.close()
        done = end
        scaler = StandardScaler().fit(x[:end])
        for penalty in (1e-1, 1e-3):
            exact = RidgeClassifier(alpha=penalty * end).fit(scaler.transform(x[:end]) / 8, y[:end])
            weights = moments.solve(penalty)
            assert weights is not None
            decisions = moments.standardised(DIGITS[TEST].astype(np.float32)) @ weights + moments.target_mean
            wanted = exact.decision_function(scaler.transform(DIGITS[TEST]) / 8)
            np.testing.assert_allclose(decisions, wanted, atol=2e-4)


@pytest.mark.parametrize("kind", [Wide, Tall])
def test_components_are_the_principal_ones(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 900 if kind is Wide else 50
    moments = kind(64, 1)
    moments.add(DIGITS[:rows].astype(np.float32), np.ones((rows, 1)))
    moments.close()
    z = moments.standardised(DIGITS[:rows].astype(np.float32))
    singular = np.linalg.svd(z, full_matrices=False)
    for precise in (True, False):
        if not precise:
            monkeypatch.setattr("warploom.classify.gram._PRECISE", 8)
        directions, variances = moments.components(6, seed=0)
        np.testing.assert_allclose(variances, singular[1][:6] ** 2 / rows, rtol=0.02 if not precise else 1e-4)
        np.testing.assert_allclose((z @ directions).var(0), variances, rtol=0.02)
        assert np.abs(directions.T @ directions - np.eye(6)).max() < 1e-3


def test_all_landmarks_are_kernel_ridge_regression() -> None:
    """With every row a landmark Nyström's approximation is exact (but for the jitter)."""
    x, y = RNG.standard_normal((700, 5)).astype(np.float32), RNG.integers(0, 3, 700)
    targets = np.where(np.arange(3) == y[:, None], 1.0, -1.0)
    variances = np.sort(x.var(0).astype(np.float64))[::-1].copy()
    kernel = kernel_of(x, variances, 0.0, 2.0, 10_000, seed=0)
    assert len(kernel.landmarks) == 700
    fit = Nystroem(kernel, 3)
    fit.add(x, targets)
    fit.close()
    k = kernel(x).astype(np.float64)
    np.testing.assert_allclose(k, np.exp(-2 * ((kernel.landmarks[:, None] - kernel.landmarks) ** 2).sum(2)), atol=1e-4)
    for penalty in (1e-2, 1e-3):
        exact = np.linalg.solve(k + penalty * 700 * np.eye(700), targets - targets.mean(0))
        weights = fit.solve(penalty)
        assert weights is not None
        fresh = RNG.standard_normal((90, 5)).astype(np.float32)
        np.testing.assert_allclose(fit.decisions(fresh, [weights])[0], kernel(fresh) @ exact + targets.mean(0), atol=0.03)


def kernel_of_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kernel whose landmarks are the rows, in blocks that end within them; the matrix in float64; targets of three classes."""
    monkeypatch.setattr("warploom.classify.kernel_ridge.ROWS", 128)
    monkeypatch.setattr("warploom.classify.kernel_ridge._STRIP", 48)
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((rows, 5)).astype(np.float32), rng.integers(0, 3, rows)
    kernel = kernel_of(x, x.var(0).astype(np.float64), 0.0, 1.0, rows, seed=0)
    c = kernel.landmarks.astype(np.float64)
    return kernel, np.exp(-((c[:, None] - c) ** 2).sum(2)), np.where(np.arange(3) == y[:, None], 1.0, -1.0)


def test_the_kernel_of_every_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, exact, _ = kernel_of_rows(300, monkeypatch)
    matrix = KernelMatrix(kernel)
    np.testing.assert_allclose(matrix @ np.eye(300), exact, rtol=1e-5, atol=1.5 / 65535)
    np.testing.assert_array_equal((matrix @ np.eye(300)).T, matrix @ np.eye(300))
    x = np.random.default_rng(5).standard_normal((300, 7))
    np.testing.assert_allclose(matrix @ x, exact @ x, atol=1e-3)


def test_kernel_ridge_regression_of_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each ridge the solution of the definition's system, on the rows kept alone; from another's weights in fewer steps."""
    kernel, exact, targets = kernel_of_rows(700, monkeypatch)
    monkeypatch.setattr("warploom.classify.kernel_ridge._TOLERANCE", 1e-6)
    matrix, ridges = KernelMatrix(kernel), (5.0, 0.05, 0.005)
    own = (matrix @ np.eye(700)).astype(np.float64)  # rounded: a little for a ridge of 0.05, more for 0.005
    kept = np.random.default_rng(6).random(700) < 0.8
    found = kernel_ridge(matrix, targets, ridges, kept=kept)
    for ridge, solution in zip(ridges, found, strict=True):
        k = exact if ridge > 1 else own
        wanted = np.linalg.solve(k[np.ix_(kept, kept)] + ridge * np.eye(int(kept.sum())), targets[kept])
        assert not solution.weights[~kept].any()
        np.testing.assert_allclose(solution.decisions, k[:, kept] @ wanted, atol=2e-3)
        assert np.linalg.norm(solution.weights[kept] - wanted) < 0.02 * np.linalg.norm(wanted)
        assert 0 < solution.steps < 60
    again = kernel_ridge(matrix, targets, ridges[1:2], kept=kept, start=found[1].weights)[0]
    assert again.steps < found[1].steps / 3
    monkeypatch.setattr("warploom.classify.kernel_ridge._STEPS", 1)
    with pytest.raises(wl.DataError, match="did not come near in 1 steps: use fewer landmarks than all"):
        kernel_ridge(matrix, targets, ridges, kept=kept)


def test_a_kernel_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warploom.classify.kernel_ridge.memory_bytes", lambda device: 2**20)
    with pytest.raises(wl.ArgumentError, match=r"landmarks .all. of 1,797 rows take .* give a number"):
        classify(DIGITS, LABELS, methods=["rbf"], landmarks="all")


@pytest.mark.parametrize("method", ["rbf", "committee"])
def test_every_image_a_landmark(method: str, tmp_path: Path) -> None:
    """As right as scikit-learn's support vectors, and no worse than few landmarks; the rows held out count in the end."""
    arguments = (DIGITS[TRAIN], LABELS[TRAIN], DIGITS[TEST], LABELS[TEST])
    found = classify(*arguments, methods=[method], landmarks="all")[method]
    few = classify(*arguments, methods=[method], landmarks=60)[method]
    exact = SVC(C=10, gamma="scale").fit(StandardScaler().fit_transform(DIGITS[TRAIN]), LABELS[TRAIN])
    scaled = StandardScaler().fit(DIGITS[TRAIN]).transform(DIGITS[TEST])
    assert found.accuracy > few.accuracy
    assert found.classifier.about["validation_accuracy"] > 0.93, "scores of the rows held out, in their order"
    assert found.accuracy > exact.score(scaled, LABELS[TEST]) - 0.015
    assert found.classifier.kernel is not None
    assert found.classifier.kernel.landmarks.shape[0] == 900
    assert (np.abs(found.classifier.weights).max(axis=1) > 0).all()
    found.classifier.save(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "c.safetensors").predict(DIGITS[TEST]), found.predictions)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's allocator is meant")
def test_freed_memory_goes_back_before_the_kernel_matrix() -> None:
    """In a process of its own: 125 MB in pieces that the allocator keeps, as something above them is in use."""
    code = """
import numpy as np
from warploom._core import return_freed_memory
def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
pieces = [np.ones(8_000) for _ in range(2_000)]
above = np.ones(8_000)
del pieces
before = held()
return_freed_memory()
print(before - held())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 100


@pytest.mark.parametrize("landmarks", ["all", 400])
def test_the_best_kernels_are_judged_again_with_more_rows(landmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, as with the features of an autoencoder, few rows prefer another kernel than many do."""
    monkeypatch.setattr(experiment, "_SEARCH_EXACT", (30, 600))
    monkeypatch.setattr(experiment, "_SEARCH_ROWS", (30, 600))
    monkeypatch.setattr(experiment, "_SEARCH_LANDMARKS", (10, 300))
    found = classify(DIGITS[TRAIN], LABELS[TRAIN], methods=["rbf"], landmarks=landmarks, validation=0.2)["rbf"]

    def tried(rows: int) -> list[tuple[float, float, float]]:
        of_these = [s for s in found.searched if s.get("rows") == rows]
        return [(s["validation_accuracy"], s["gamma"], s["whitening"]) for s in of_these]

    few, many = tried(30), tried(600)
    assert {kernel[1:] for kernel in many} == {kernel[1:] for kernel in sorted(few, key=lambda k: -k[0])[:3]}
    chosen = (found.classifier.about["gamma"], found.classifier.about["whitening"])
    assert chosen == max(many, key=lambda k: k[0])[1:]
    if landmarks == "all":  # with landmarks the two are an image apart
        assert chosen != max(few, key=lambda k: k[0])[1:]


def test_a_system_in_double_is_solved_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many unknowns: a penalty of 1e-8 is nothing to float32."""
    monkeypatch.setattr("warploom.classify.gram._PRECISE", 100)
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    a, b = (basis * np.logspace(0, -12, 300)) @ basis.T, rng.standard_normal((300, 2))
    found = cholesky_solve(a, b, 1e-8)
    assert found is not None
    np.testing.assert_allclose(found, np.linalg.solve(a + 1e-8 * np.eye(300), b), rtol=1e-4, atol=1.0)


def test_a_smooth_kernel_keeps_its_small_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landmarks much alike: what rounds in float32 on the way would be multiplied by a thousand, and lose every small penalty."""
    monkeypatch.setattr("warploom.classify.gram._PRECISE", 100)  # as with thousands of landmarks
    x = np.random.default_rng(2).standard_normal((6000, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0) + (x[:, 2] > 0.5)
    targets = np.where(np.arange(3) == y[:, None], 1.0, -1.0)
    kernel = kernel_of(x, x.var(0).astype(np.float64), 0.0, 0.125, 500, seed=0)
    fit = Nystroem(kernel, 3)
    fit.add(x, targets)
    fit.close()
    features = np.linalg.solve(np.linalg.cholesky(fit._landmarks), kernel(x).T.astype(np.float64)).T
    for penalty in PENALTIES:
        system = features.T @ features / len(x) + penalty * np.eye(500)
        exact = features @ np.linalg.solve(system, features.T @ (targets - targets.mean(0)) / len(x)) + targets.mean(0)
        weights = fit.solve(penalty)
        assert weights is not None, penalty
        assert np.abs(fit.decisions(x, [weights])[0] - exact).mean() < 0.03  # float32, with large weights


def test_blocks_files_and_streams_give_what_arrays_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = DIGITS.astype(np.float32)
    whole = classify(features[TRAIN], LABELS[TRAIN], features[TEST], LABELS[TEST], landmarks=100)
    monkeypatch.setattr(sources_module, "rows_at_once", lambda width: 50)
    np.save(tmp_path / "train.npy", features[TRAIN])
    np.save(tmp_path / "test.npy", features[TEST].astype(np.float16).reshape(-1, 8, 8))  # small whole numbers: exact
    streamed = Streamed(features[TRAIN])
    for train in (tmp_path / "train.npy", streamed, np.load(tmp_path / "train.npy", mmap_mode="r")):
        found = classify(train, LABELS[TRAIN], tmp_path / "test.npy", LABELS[TEST], landmarks=100)
        for method, result in found.items():
            assert result.classifier.about == whole[method].classifier.about
            assert np.mean(result.predictions == whole[method].predictions) > 0.995
    assert streamed.passes == 2  # for the sums, and for the components


def test_a_file_is_read_in_blocks(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((40_000, 256), np.float32))
    tracemalloc.start()
    try:
        assert sum(len(b) for b in as_source(tmp_path / "x.npy").blocks(1000)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_without_test_rows_the_held_out_ones_are_told() -> None:
    result = classify(DIGITS, LABELS, methods=["linear"], validation=0.25)["linear"]
    assert result.tested_on == "validation"
    counts = result.scores.confusion.sum(axis=1)
    np.testing.assert_allclose(counts, np.bincount(LABELS) / 4, atol=1)  # evenly from each class
    assert result.accuracy == result.classifier.about["validation_accuracy"]
    assert result.rows == len(LABELS)


def test_a_committee_adds_the_scores_of_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shares chosen on the held-out rows; one classifier gives what both give, a constant and a far-off feature beside.
    Means and scales of the RBF one are of every sixth row, so the two standardise unlike."""
    monkeypatch.setattr(experiment, "_SEARCH_ROWS", (100, 100))
    x = np.hstack([DIGITS, np.ones((len(DIGITS), 1)), 1e3 + DIGITS[:, 20:22]])
    found = classify(
        x[TRAIN],
        LABELS[TRAIN],
        x[TEST],
        LABELS[TEST],
        methods=["committee", "hinge", "rbf"],
        landmarks=300,
        classes=list("0123456789"),
    )
    assert list(found) == ["committee", "hinge", "rbf"]
    committee, hinge, rbf = found.values()
    share = committee.classifier.about["share"]
    assert committee.classifier.about["validation_accuracy"] == max(s["validation_accuracy"] for s in committee.searched)
    assert {s["share"] for s in committee.searched} == {0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
    assert committee.accuracy >= min(hinge.accuracy, rbf.accuracy)
    assert committee.seconds > max(hinge.seconds, rbf.seconds)
    scores = [r.classifier.decision_function(x[TEST]).astype(np.float64) for r in (hinge, rbf)]
    got = committee.classifier.decision_function(x[TEST])
    weights, *_ = np.linalg.lstsq(np.stack([s.ravel() for s in scores], 1), got.ravel(), rcond=None)
    np.testing.assert_allclose(got, weights[0] * scores[0] + weights[1] * scores[1], atol=2e-3)
    held = [s.std() for s in scores]
    assert weights[0] * held[0] / (weights[0] * held[0] + weights[1] * held[1]) == pytest.approx(share, abs=0.05)
    committee.classifier.save(tmp_path / "c.safetensors")
    again = Classifier.load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.decision_function(x[TEST]), got)
    alone = classify(x[TRAIN], LABELS[TRAIN], x[TEST], LABELS[TEST], methods=["committee"], landmarks=300)
    assert list(alone) == ["committee"]
    np.testing.assert_array_equal(alone["committee"].predictions, committee.predictions)


def test_a_classifier_of_the_first_format_loads(tmp_path: Path) -> None:
    found = classify(DIGITS[TRAIN], LABELS[TRAIN], methods=["rbf"], landmarks=40)["rbf"].classifier
    found.save(tmp_path / "c.safetensors")
    tensors, metadata = read_tensors(tmp_path / "c.safetensors")
    write_tensors(tmp_path / "c.safetensors", tensors, {**metadata, "format": "warploom-classifier-1"})
    again = Classifier.load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.decision_function(DIGITS[TEST]), found.decision_function(DIGITS[TEST]))


@pytest.mark.parametrize("methods", [("linear",), ("rbf",), ("rbf", "linear"), ("committee",)])
def test_hard_features(methods: tuple[str, ...]) -> None:
    """Constant and equal columns, a huge offset, scales apart by 1e6, classes with one row, fewer rows than features."""
    x = DIGITS[:120].copy()
    x = np.hstack([x, np.ones((120, 3)), x[:, :5], 1e4 + x[:, 5:9], 1e-3 * x[:, 9:12], 1e3 * x[:, 12:15]])
    y = LABELS[:120].copy()
    y[0] = 10
    for rows in (120, 40):
        found = classify(x[:rows], y[:rows], x[60:], y[60:], methods=methods, landmarks=50)
        assert list(found) == list(methods)
        for result in found.values():
            assert result.accuracy > 0.6
            assert result.scores.confusion.shape == (11, 11)
            assert np.isfinite(result.classifier.weights).all()


def test_same_seed_same_classifier(tmp_path: Path) -> None:
    a, b = (classify(DIGITS[TRAIN], LABELS[TRAIN], landmarks=80, seed=4) for _ in range(2))
    for method in a:
        np.testing.assert_array_equal(a[method].classifier.weights, b[method].classifier.weights)
        a[method].classifier.save(tmp_path / f"{method}.safetensors")
        again = Classifier.load(tmp_path / f"{method}.safetensors")
        np.testing.assert_array_equal(again.decision_function(DIGITS[TEST]), a[method].classifier.decision_function(DIGITS[TEST]))
        assert again.about == a[method].classifier.about
    wl.models.unet_small().save(tmp_path / "net.safetensors")
    with pytest.raises(wl.DataError, match="is no classifier of warploom"):
        Classifier.load(tmp_path / "net.safetensors")
    with pytest.raises(wl.ArgumentError, match="the classifier takes 64 features, not 3"):
        a["linear"].classifier.predict(np.zeros((2, 3)))


def test_scores() -> None:
    labels, predicted = RNG.integers(0, 4, 300), RNG.integers(0, 4, 300)
    found = score(labels, predicted, [], 5)
    report = classification_report(labels, predicted, output_dict=True, zero_division=0)
    for i in range(4):
        ours, theirs = found.classes[i], report[str(i)]
        wanted = theirs["precision"], theirs["recall"], theirs["f1-score"]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(wanted)
        assert ours.count == theirs["support"]
    assert found.classes[4].count == 0
    assert found.accuracy == pytest.approx(report["accuracy"])
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)  # the textbook's example
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


class _Short(Streamed):
    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        yield self.array[:5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": LABELS[:5]}, "labels must be 1,797 class numbers from 0 on, not int64 of shape"),
        ({"labels": LABELS - 1}, "class numbers from 0 on"),
        ({"labels": LABELS.astype(float)}, "class numbers from 0 on"),
        ({"labels": np.zeros(1797, int)}, "all labels are the same class"),
        ({"features": DIGITS[:10], "labels": np.arange(10)}, "no class has two rows"),
        ({"methods": ["svm"]}, "unknown method 'svm'; expected one of linear, hinge, rbf, committee"),
        ({"test_features": DIGITS}, "test_features need test_labels"),
        ({"test_features": DIGITS[:, :3], "test_labels": LABELS}, "the test features have 3 values, the training features 64"),
        ({"features": np.where(np.arange(1797)[:, None] == 77, np.nan, DIGITS)}, "features hold NaN or infinity in row 77"),
        ({"features": np.zeros((1797, 4)), "methods": ["rbf"]}, "the features are the same in every row"),
        ({"features": np.array(["a"] * 1797)}, "must be numbers"),
        ({"features": _Short(DIGITS)}, "features gave 5 rows, and 1,797 were announced"),
        ({"features": "missing.npy"}, "missing.npy is missing, damaged or no .npy file of numbers"),
        ({"landmarks": 1}, "landmarks must be at least 2"),
        ({"landmarks": "every"}, "landmarks must be a whole number or 'all', not 'every'"),
        ({"side_by_side": [60, 5]}, r"side_by_side must add up to the 64 features; got \[60, 5\], which are 65"),
        ({"side_by_side": [64, 0]}, "side_by_side must be at least 1"),
        ({"validation": 1.5}, "validation must be finite and between 0 and 0.9"),
    ],
)
def test_what_cannot_be_classified_is_said(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(wl.ArgumentError, match=said) as caught:
        classify(**{"features": DIGITS, "labels": LABELS, **arguments})
    assert "\n" not in str(caught.value)


def test_rbf_alone_needs_no_sums_over_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components from a part of the rows: nearly the same answers, and those of all rows where there are few."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 4, 3000)
    x = (rng.standard_normal((4, 24))[y] + rng.standard_normal((3000, 24))).astype(np.float32)
    added: list[int] = []

    class Counted(Wide):
        def add(self, x: Any, y: Any) -> None:
            added.append(len(x))
            super().add(x, y)

    monkeypatch.setattr(experiment, "_SEARCH_ROWS", (100, 100))
    monkeypatch.setattr(experiment, "_COMPONENT_ROWS", 100)
    wide = x @ rng.standard_normal((24, 300)).astype(np.float32)  # more features than rows for the components
    kinds = list[Any]()
    monkeypatch.setattr(experiment, "moments_for", lambda *sizes: kinds.append(moments_for(*sizes)) or kinds[-1])
    alone = classify(wide[:2000], y[:2000], wide[2000:], y[2000:], landmarks=200, methods=["rbf"])["rbf"]
    assert isinstance(kinds[0], Tall)
    monkeypatch.setattr(experiment, "moments_for", lambda rows, width, kinds: Counted(width, kinds))
    whole = classify(x[:2000], y[:2000], x[2000:], y[2000:], landmarks=200)["rbf"]
    assert sum(added) == 2000
    added.clear()
    part = classify(x[:2000], y[:2000], x[2000:], y[2000:], landmarks=200, methods=["rbf"])["rbf"]
    assert sum(added) == 100
    assert abs(part.accuracy - whole.accuracy) < 0.02
    assert abs(alone.accuracy - whole.accuracy) < 0.03


@pytest.mark.parametrize(
    ("heights", "start", "best", "asked"),
    [
        ([1, 2, 3, 4, 3, 9], 1, 3, [1, 2, 3, 4]),  # a rise beyond a fall is not seen
        ([1, 5, 4, 3, 2, 1], 3, 1, [3, 4, 2, 1, 0]),
        ([1, 2, 2, 3], 1, 3, [1, 2, 3]),  # a plain is crossed
        ([4, 3, 2, None], 2, 0, [2, 3, 1, 0]),  # what cannot be had ends a way
        ([1, 2, None, 9], 1, 1, [1, 2, 0]),
        ([None, None, 1], 1, 2, [1, 2]),
        ([5, 4, None, None], 2, 0, [2, 3, 1, 0]),
        ([5, None, None, None], 3, 0, [3, 2, 1, 0]),  # as long as there is nothing, it goes on
        ([None, None], 0, 0, [0, 1]),
    ],
)
def test_climbing(heights: list[float | None], start: int, best: int, asked: list[int]) -> None:
    seen: list[int] = []

    def judge(at: int) -> float | None:
        seen.append(at)
        return heights[at]

    assert experiment.climb(len(heights), start, judge) == best
    assert seen == asked
