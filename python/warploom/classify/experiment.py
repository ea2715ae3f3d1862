"""Fits classifiers to features and tells how good they are; everything is chosen on rows held out of the training ones."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom import _core
from warploom.classify.classifier import Classifier
from warploom.classify.gram import Doubles, Moments, SideBySide, Sums, linalg, moments_for
from warploom.classify.kernel_ridge import KernelMatrix, Landmarks, check_landmarks, exact_small, kernel_ridge
from warploom.classify.rbf import GAMMAS, PENALTIES, WHITENINGS, Kernel, Nystroem, kernel_of, kernel_products, kernel_weights
from warploom.classify.scores import Scores, score
from warploom.classify.sources import Source, as_source, float_blocks, in_memory
from warploom.classify.squared_hinge import fit_linear
from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import number, numbers, positive
from warploom.ground.arrays import seed as check_seed

METHODS = ("linear", "hinge", "rbf", "committee")
_MEMBERS = ("hinge", "rbf")  # of the committee
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the first of them
LINEAR_PENALTIES = tuple(10.0**-e for e in (0, 1, 2, 3, 4, 5, 6))  # C is one over it
# Where gamma and the whitening are chosen: every kernel by few rows, the best of them by more. Those that are too smooth are as
# right with few rows or landmarks, and not with many.
_SEARCH_ROWS, _SEARCH_LANDMARKS = (10_000, 20_000), (1_000, 2_000)
_SEARCH_EXACT = (4_000, 8_000)  # rows, where every row is a landmark
_BEST = 3
_RIDGES = (0.1, 0.025)  # there: the noise of a Gaussian process, however many rows
_COMPONENT_ROWS = 10_000  # at least, from which components are found where nothing else needs the sums over all rows
_BLOCK_ROWS = 2048  # of them, that are added to the sums at a time
Report = Callable[[str, int, int], None]  # what is done, rows done, of how many
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """Of one method."""

    method: str
    classifier: Classifier
    scores: Scores
    tested_on: str  # "test", or "validation" where no test rows were given
    predictions: Labels  # of the test (or validation) rows
    searched: list[dict[str, float]]  # what was tried, with its accuracy on the validation rows
    rows: int  # trained on
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.scores.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % (Wilson)."""
        return self.scores.interval

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method, **self.scores.as_dict(), "tested_on": self.tested_on, "rows": self.rows,
            "features": len(self.classifier.mean), "chosen": self.classifier.about, "searched": self.searched,
            "seconds": round(self.seconds, 2),
        }  # fmt: skip


def classify(
    features: Any, labels: Any, test_features: Any = None, test_labels: Any = None, *, methods: Sequence[str] = ("linear", "rbf"),
    classes: Sequence[str] = (), validation: float = 0.1, landmarks: Landmarks = 6_000, components: int = 512,
    side_by_side: Sequence[int] = (), seed: int = 0, report: Report | None = None,
) -> dict[str, Result]:  # fmt: skip
    """Fits a classifier by each method and scores it on the test rows; a dictionary by method.

    features, test_features: arrays [n, d] (memory maps, lists), paths of .npy files, or Sources (warploom.classify), read in
    blocks, in order: training features once for "linear", once more for "rbf". labels: class numbers [n] from 0 on.

    "linear": standardised features, ridge regression on targets +1 and -1, exactly. "hinge": ridge or squared
    hinge, whichever is better (squared_hinge.py); it takes all training rows into memory. "rbf": the first
    `components` principal components of them, `landmarks` landmarks (rbf.py), or every training row, "all"
    (kernel_ridge.py): more right, for minutes more. "committee": the scores of hinge and rbf,
    each over its deviation, added in shares; their mistakes are not the same. What there is to choose (C, gamma,
    whitening, shares) is chosen on the share `validation` of the training rows, taken evenly from each class; then it is
    fitted again with these rows.
    side_by_side: how many of the features are of a first network, of a second and so on; "rbf" takes `components` of each.
    Without "linear", "rbf" takes means, deviations and components from every so many rows, 10,000 at least.
    Without test rows the scores are those of the validation rows, a little better than the truth. classes: their names.

    Memory, in bytes: 12 d^2 for d features and at least as many rows, else 12 d times the rows, and 4 d times the validation
    rows; "rbf" takes 24 * landmarks^2 and 4 * components times the rows beside, with all landmarks 2 rows^2 instead.
    report: called with what is done, the rows done, and of how many.
    """
    for method in methods:
        if method not in METHODS:
            raise ArgumentError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    linalg()
    share = number(validation, "validation", 0.0, 0.9)
    positive(components, "components")
    train = as_source(features)
    check_landmarks(landmarks, train.shape[0])
    widths = [positive(width, "side_by_side") for width in side_by_side]
    if widths and sum(widths) != train.shape[1]:
        raise ArgumentError(f"side_by_side must add up to the {train.shape[1]} features; got {widths}, which are {sum(widths)}")
    y = _labels(labels, train.shape[0], "labels")
    kinds = max(int(y.max()) + 1, len(classes))
    if len(np.unique(y)) < 2:
        raise DataError("all labels are the same class: two at least are needed")
    test, test_y = None, None
    if test_features is not None:
        test = as_source(test_features, "test_features")
        if test_labels is None:
            raise ArgumentError("test_features need test_labels")
        test_y = _labels(test_labels, test.shape[0], "test_labels")
        kinds = max(kinds, int(test_y.max()) + 1)
        if test.shape[1] != train.shape[1]:
            raise ArgumentError(f"the test features have {test.shape[1]} values, the training features {train.shape[1]}")
    held = _held_out(y, share, check_seed(seed))
    told, widths = report or (lambda what, done, of: None), widths if {"rbf", "committee"} & {*methods} else []
    fitting = _Fitting(train, y, held, kinds, seed, told, widths, every_row="linear" in methods)
    began = time.monotonic()
    fitting.gather()
    shared = time.monotonic() - began
    fitted, seconds = dict[str, Fitted](), dict[str, float]()
    fits: dict[str, Callable[[], Fitted]] = {  # linear first: it looks at the sums without the rows held out
        "linear": fitting.linear, "rbf": lambda: fitting.rbf(landmarks, components), "hinge": fitting.hinge,
        "committee": lambda: fitting.committee(*(fitted[name] for name in _MEMBERS)),
    }  # fmt: skip
    wanted = {*methods, *(_MEMBERS if "committee" in methods else ())}
    for method in [name for name in fits if name in wanted]:
        began = time.monotonic()
        fitted[method] = fits[method]()
        fitted[method].classifier.classes = list(classes)
        of_members = sum(seconds[name] - shared for name in _MEMBERS) if method == "committee" else 0.0
        seconds[method] = shared + of_members + time.monotonic() - began
    judged = {method: fitted[method].decisions for method in methods}
    if test is not None:
        judged = _decisions({method: fitted[method].classifier for method in methods}, test, fitting.report)
    truth = y[held] if test_y is None else test_y
    results = {}
    for method in methods:
        made, predicted = fitted[method], judged[method].argmax(axis=1)
        results[method] = Result(
            method, made.classifier, score(truth, predicted, list(classes), kinds), "validation" if test is None else "test",
            predicted, made.searched, len(y), seconds[method],
        )  # fmt: skip
    return results


def _labels(labels: Any, rows: int, what: str) -> Labels:
    array = numbers(labels, what)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) != rows or not rows or int(array.min()) < 0:
        raise DataError(f"{what} must be {rows:,} class numbers from 0 on, not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _held_out(labels: Labels, share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are for validation: that share of each class, at least one where a class has two or more."""
    held = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for kind in np.unique(labels):
        own = np.flatnonzero(labels == kind)
        count = min(len(own) - 1, max(1, round(share * len(own))))
        held[rng.permutation(own)[:count]] = True
    if not held.any():
        raise DataError("no class has two rows: there is nothing to choose the classifier on")
    return held


def climb(count: int, start: int, judge: Callable[[int], float | None]) -> int:
    """The best of `count` numbers in a row, going uphill from one of them: judge is not asked for those beyond one that is worse,
    or, once there is any, that cannot be had (None)."""
    best, highest = start, judge(start)
    for step in (1, -1):
        at, before = start + step, best
        while 0 <= at < count:
            found = judge(at)
            if highest is not None and (found is None or found < highest):
                break
            if found is not None and (highest is None or found > highest):
                best, highest = at, found
            at += step
        if best != before:
            break
    return best


def _decisions(classifiers: dict[str, Classifier], source: Source, report: Report) -> dict[str, Floats]:
    """One pass for all."""
    made = {name: np.empty((source.shape[0], len(c.bias)), np.float32) for name, c in classifiers.items()}
    for start, block in float_blocks(source, "test features"):
        for name, classifier in classifiers.items():
            made[name][start : start + len(block)] = classifier.decide(block)
        report("testing", start + len(block), source.shape[0])
    return made


class _Fitting:
    """The training rows, the sums over them, and what is chosen on the rows held out."""

    def __init__(
        self, source: Source, y: Labels, held: NDArray[np.bool_], kinds: int, seed: int, report: Report,
        widths: Sequence[int], *, every_row: bool,
    ) -> None:  # fmt: skip
        """every_row: the sums are of all rows, for a classifier; else of enough of them for means and components. widths: of the
        features of several networks."""
        self.source, self.y, self.held, self.seed, self.report = source, y, held, seed, report
        self.step = 0 if every_row else max(1, len(y) // _COMPONENT_ROWS)
        self.aside: Floats = np.empty((0, source.shape[1]), np.float32)
        self.targets = np.where(np.arange(kinds) == y[:, None], np.float32(1), np.float32(-1))
        rows = -(-len(y) // self.step) if self.step else int((~held).sum())
        together = moments_for(rows, source.shape[1], kinds) if every_row or len(widths) < 2 else None
        self.moments: Moments | None = together  # for a linear classifier
        self.sums: Sums | None = together if len(widths) < 2 else SideBySide(rows, widths, kinds)  # for components
        self._all = False  # the rows held out have been added

    def gather(self) -> None:
        """The pass over the training rows; the ones held out are kept aside."""
        if self.step:
            return self._sample()
        kept = []
        for start, block in float_blocks(self.source):
            aside = self.held[start : start + len(block)]
            targets = self.targets[start : start + len(block)]
            kept.append(block[aside])
            self._add_rows(block[~aside], targets[~aside])
            self.report("reading features", start + len(block), len(self.y))
        self.aside = np.concatenate(kept)
        self._close()

    def _sample(self) -> None:
        """Means and components need neither every row nor some aside."""
        waiting, targets = list[Floats](), list[Floats]()
        for start, block in float_blocks(self.source):
            waiting.append(block[:: self.step])
            targets.append(self.targets[start : start + len(block)][:: self.step])
            end = start + len(block)
            if end == len(self.y) or sum(map(len, waiting)) >= _BLOCK_ROWS:
                self._add_rows(np.concatenate(waiting), np.concatenate(targets))
                waiting, targets = [], []
            self.report("reading features", end, len(self.y))
        self._close()
        self._all = True

    def _add_rows(self, rows: Floats, targets: Array) -> None:
        for sums in self._each():
            sums.add(rows, targets)

    def _close(self) -> None:
        for sums in self._each():
            sums.close()

    def _each(self) -> list[Sums]:
        """Those side by side first: the others may change the rows."""
        beside = [self.sums] if self.sums is not self.moments else []
        return [sums for sums in (*beside, self.moments) if sums is not None]

    def _accuracy(self, decisions: Floats) -> float:
        return float(np.mean(decisions.argmax(axis=1) == self.y[self.held]))

    def linear(self) -> "Fitted":
        """Before add_aside(): penalties are tried on the rows held out. Then these are added, and the best is fitted again."""
        searched, decided, moments = list[dict[str, float]](), dict[float, Floats](), self.moments
        assert moments is not None

        def judge(place: int) -> float | None:
            penalty = LINEAR_PENALTIES[place]
            weights = moments.solve(penalty)
            self.report("fitting the linear classifier", len(searched) + 1, len(LINEAR_PENALTIES) + 1)
            if weights is None:
                return None
            decided[penalty] = moments.standardised(self.aside) @ _single(weights) + _single(moments.target_mean)
            searched.append({"C": 1 / penalty, "validation_accuracy": self._accuracy(decided[penalty])})
            return searched[-1]["validation_accuracy"]

        best = LINEAR_PENALTIES[climb(len(LINEAR_PENALTIES), 3, judge)]
        if best not in decided:
            raise DataError("the features cannot be fitted: their values are too large or too much alike")
        self.add_aside()
        weights = moments.solve(best)
        assert weights is not None  # more rows make it no worse
        self.report("fitting the linear classifier", len(LINEAR_PENALTIES) + 1, len(LINEAR_PENALTIES) + 1)
        mean, scale, bias = (_single(a) for a in (moments.mean, moments.scale, moments.target_mean))
        about = {"C": 1 / best, "validation_accuracy": self._accuracy(decided[best])}
        return Fitted(Classifier("linear", mean, scale, _single(weights), bias, about=about), searched, decided[best])

    def add_aside(self) -> None:
        """The rows held out are rows like others from here on."""
        if not self._all:
            self._add_rows(self.aside.copy(), self.targets[self.held])
            self._close()
            self._all = True

    def rbf(self, landmarks: Landmarks, components: int) -> "Fitted":
        self.add_aside()
        assert self.sums is not None
        count = min(components, len(self.sums.mean), len(self.y))
        directions, variances = self.sums.components(count, self.seed)
        mean, scale = _single(self.sums.mean), _single(self.sums.scale)
        self.sums = self.moments = None  # their memory is needed
        self.aside = self.aside[:0]
        rows = self._components(mean, scale, directions)
        if landmarks == "all":
            return self._every_row(rows, variances, directions, mean, scale)
        whitening, gamma, searched = self._choose_kernel(rows, variances, landmarks)
        training, kinds = rows[~self.held], self.targets.shape[1]
        kernel = kernel_of(training, variances, whitening, gamma, landmarks, self.seed)
        fit = Nystroem(kernel, kinds)
        self._add(fit, training, self.targets[~self.held])
        fit.close()
        solved, decided = dict[float, Floats](), dict[float, Floats]()

        def judge(place: int) -> float | None:
            penalty = PENALTIES[place]
            weights = fit.solve(penalty)
            if weights is None:
                return None
            solved[penalty], decided[penalty] = weights, fit.decisions(rows[self.held], [weights])[0]
            searched.append({"C": 1 / penalty, "gamma": gamma, "validation_accuracy": self._accuracy(decided[penalty])})
            return searched[-1]["validation_accuracy"]

        best = PENALTIES[climb(len(PENALTIES), 3, judge)]
        if best not in solved:
            raise DataError("the kernel's features cannot be fitted: the rows are too much alike")
        self._add(fit, rows[self.held], self.targets[self.held])
        fit.close()
        weights = fit.solve(best)
        weights = solved[best] if weights is None else weights
        about = {
            "C": 1 / best, "gamma": gamma, "whitening": whitening, "landmarks": len(kernel.landmarks),
            "components": len(variances), "validation_accuracy": self._accuracy(decided[best]),
        }  # fmt: skip
        made = Classifier("rbf", mean, scale, weights, _single(fit.target_mean), directions, kernel, about=about)
        return Fitted(made, searched, decided[best])

    def _components(self, mean: Floats, scale: Floats, directions: Floats) -> Floats:
        """Of every row [n, p]."""
        rows = np.empty((len(self.y), directions.shape[1]), np.float32)
        for start, block in float_blocks(self.source):
            rows[start : start + len(block)] = ((block - mean) * scale) @ directions
            self.report("taking components", start + len(block), len(self.y))
        return rows

    def _every_row(self, rows: Floats, variances: Doubles, directions: Floats, mean: Floats, scale: Floats) -> "Fitted":
        """rbf() with every training row as a landmark, those held out at last too; rows: components."""
        whitening, gamma, searched = self._choose_kernel(rows, variances, "all")
        weights = kernel_weights(variances, whitening)
        order = np.random.default_rng(self.seed).permutation(len(rows))
        order = order[np.argsort(self.held[order], kind="stable")]  # those held out last
        held, targets = self.held[order], self.targets[order]
        rows[:] = rows[order]  # in place, here and below: a copy would stay beside the matrix
        rows *= weights
        kernel = Kernel(weights, rows, gamma)
        _core.return_freed_memory()
        matrix = KernelMatrix(kernel, lambda done, of: self.report("comparing every two images", done, of))
        target_mean = targets.mean(axis=0)
        targets -= target_mean

        def told(done: int, of: int) -> None:
            self.report("fitting the RBF classifier", done, of)

        found = kernel_ridge(matrix, targets, _RIDGES, kept=~held, progress=told)
        decided = {}
        for solution in found:
            scores = np.empty_like(solution.decisions)
            scores[order] = solution.decisions + target_mean
            decided[solution.ridge] = scores[self.held]
            right = self._accuracy(decided[solution.ridge])
            searched.append(
                {"C": len(rows) / solution.ridge, "gamma": gamma, "validation_accuracy": right, "steps": solution.steps}
            )
        best = max(found, key=lambda solution: self._accuracy(decided[solution.ridge]))
        every = np.ones(len(rows), bool)
        last = kernel_ridge(matrix, targets, [best.ridge], kept=every, start=best.weights, progress=told)[0]
        about = {
            "C": len(rows) / best.ridge, "gamma": gamma, "whitening": whitening, "landmarks": len(rows),
            "components": len(variances), "validation_accuracy": self._accuracy(decided[best.ridge]),
        }  # fmt: skip
        made = Classifier("rbf", mean, scale, last.weights, _single(target_mean), directions, kernel, about=about)
        return Fitted(made, searched, decided[best.ridge])

    def hinge(self) -> "Fitted":
        rows = in_memory(self.source)
        self.report("fitting the squared hinge", 0, 100)
        found = fit_linear(
            rows, self.y, classes=self.targets.shape[1], held=self.held, seed=self.seed,
            progress=lambda share: self.report("fitting the squared hinge", round(100 * share), 100),
        )  # fmt: skip
        made, searched = found.classifier, list[dict[str, float]]()
        for loss, strength, accuracy in found.tried:
            searched.append({"C": 1 / strength, "hinge": float(loss != "ridge"), "validation_accuracy": accuracy})
        best = max(s["validation_accuracy"] for s in searched)
        about = {"C": 1 / made.strength, "loss": made.loss, "validation_accuracy": best}
        classifier = Classifier("hinge", made.mean, made.scale, made.weight, made.bias, about=about)
        return Fitted(classifier, searched, found.decisions)

    def committee(self, hinge: "Fitted", rbf: "Fitted") -> "Fitted":
        """One classifier of both: components and landmarks are brought into the standardisation of the linear one."""
        deviations = [max(float(member.decisions.std()), 1e-12) for member in (hinge, rbf)]
        decided = {
            share: hinge.decisions * (share / deviations[0]) + rbf.decisions * ((1 - share) / deviations[1]) for share in _SHARES
        }
        searched = [{"share": share, "validation_accuracy": self._accuracy(d)} for share, d in decided.items()]
        best = max(searched, key=lambda s: s["validation_accuracy"])
        share = best["share"]
        linear, other = np.float32(share / deviations[0]), np.float32((1 - share) / deviations[1])
        a, b = hinge.classifier, rbf.classifier
        assert b.directions is not None
        assert b.kernel is not None
        # (x - mean_b) scale_b = (x - mean_a) scale_a * scale_b / scale_a + (mean_a - mean_b) scale_b: what is added moves the
        # landmarks.
        directions = _single((b.scale / a.scale).astype(np.float64)[:, None] * b.directions)
        shift = ((a.mean.astype(np.float64) - b.mean) * b.scale) @ b.directions
        kernel = Kernel(b.kernel.weights, b.kernel.landmarks - _single(b.kernel.weights * shift), b.kernel.gamma)
        about = {**b.about, "loss": a.about["loss"], "C of the linear part": a.about["C"], **best}
        made = Classifier(
            "committee", a.mean, a.scale, other * b.weights, linear * a.bias + other * b.bias, directions, kernel,
            linear * a.weights, about=about,
        )  # fmt: skip
        return Fitted(made, searched, decided[share])

    def _add(self, fit: Nystroem, rows: Floats, targets: Array) -> None:
        for start in range(0, len(rows), 4096):
            fit.add(rows[start : start + 4096], targets[start : start + 4096])
            self.report("fitting the RBF classifier", min(start + 4096, len(rows)), len(rows))

    def _choose_kernel(
        self, rows: Floats, variances: Doubles, landmarks: Landmarks
    ) -> tuple[float, float, list[dict[str, float]]]:
        """Whitening and gamma, and what was tried, by fits to some of the rows; of "all" landmarks, with those as landmarks."""
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(~self.held))
        exact, kinds = landmarks == "all", self.targets.shape[1]
        most = len(WHITENINGS) * len(GAMMAS) + _BEST
        searched = list[dict[str, float]]()

        def size(again: int) -> tuple[int, int]:
            """Rows and landmarks of the first or second round."""
            count = min(len(order), (_SEARCH_EXACT if exact else _SEARCH_ROWS)[again])
            return count, count if landmarks == "all" else min(_SEARCH_LANDMARKS[again], landmarks, count)

        def judge(whitening: float, gamma: float, again: int = 0) -> float:
            count, few = size(again)
            some = order[:count]
            kernel = kernel_of(rows[some], variances, whitening, gamma, few, self.seed)
            if exact:  # all of these rows are landmarks, in their order
                targets = self.targets[some]
                found = [exact_small(kernel, targets - targets.mean(axis=0), ridge) for ridge in _RIDGES]
                decisions = kernel_products(kernel, rows[self.held], [w for w in found if w is not None])
            else:
                fit = Nystroem(kernel, kinds)
                fit.add(rows[some], self.targets[some])
                fit.close()
                solved = [w for penalty in PENALTIES[:3] if (w := fit.solve(penalty)) is not None]
                decisions = fit.decisions(rows[self.held], solved)
            accuracy = max((self._accuracy(d) for d in decisions), default=0.0)
            searched.append({"gamma": gamma, "whitening": whitening, "rows": count, "validation_accuracy": accuracy})
            self.report("choosing gamma", len(searched), most)
            return accuracy

        place = len(GAMMAS) // 2
        for whitening in WHITENINGS:  # each from where the one before was best
            place = climb(len(GAMMAS), place, lambda at, w=whitening: judge(w, GAMMAS[at]))  # type: ignore[misc]
        best = sorted(searched, key=lambda s: s["validation_accuracy"], reverse=True)
        if size(1) != size(0):
            for tried in best[:_BEST]:
                judge(tried["whitening"], tried["gamma"], 1)
            best = sorted(searched[len(best) :], key=lambda s: s["validation_accuracy"], reverse=True)
        self.report("choosing gamma", most, most)
        return best[0]["whitening"], best[0]["gamma"], searched


@dataclass
class Fitted:
    """A classifier, what was tried, and its scores for the rows held out, by the fit that had not seen them."""

    classifier: Classifier
    searched: list[dict[str, float]]
    decisions: Floats


def _single(values: Array) -> Floats:
    result: Floats = values.astype(np.float32)
    return result
