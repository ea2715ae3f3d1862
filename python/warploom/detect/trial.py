"""A detector tried on a set of images: the findings in files, and how good they are where the truth is known."""

import csv
import heapq
import io
import json
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.detect.curves import Curve, PixelCounts, curve
from warploom.detect.detector import Detector, Finding, Say
from warploom.detect.pictures import Shown, coloured, draw_curves, draw_overview, draw_scores, overlay, shown, write_png
from warploom.detect.sets import Examined, check_masks, read_mask
from warploom.errors import ArgumentError
from warploom.ground.array_types import Floats
from warploom.ground.atomic import insist, write_atomically
from warploom.ground.figures import short_name

HEAT_MAPS = ("overlay", "plain", "none")
_IN_OVERVIEW = 8
_WAITING = 16  # pictures that may wait for being written: each holds an image
_POINTS = 200  # of a ROC curve in summary.json, which `warploom report` draws
_ROW = ("name", "score", "normalized", "label", "threshold")


@dataclass
class Trial:
    """What was found."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # of scores.csv
    truth: NDArray[np.bool_] | None = None  # of the rows
    skipped: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # written, from the folder on
    interrupted: bool = False

    @property
    def scores(self) -> Floats:
        return np.array([row["score"] for row in self.rows], np.float32)


def tried(
    detector: Detector, found: Examined, out: Path | None = None, *, heat_maps: str = "overlay", masks: bool = True,
    skip_bad: bool = False, say: Say | None = None,
) -> Trial:  # fmt: skip
    """Looks at every image and writes into the folder `out`: scores.csv, heatmaps/, masks/, overview.png, scores.png, and where
    truth is known roc_pr.png; summary.json last. None: nothing is written. What Ctrl-C ends is written as far as it came.
    """
    if heat_maps not in HEAT_MAPS:
        raise ArgumentError(f"unknown heat maps {heat_maps!r}; expected one of {', '.join(HEAT_MAPS)}")
    check_masks(found)
    trial, began = Trial(), time.monotonic()
    pixels = PixelCounts() if found.masks is not None else None
    pictures = _Pictures(found, out, heat_maps, masks)
    places: list[int] = []
    try:
        with pictures:
            for finding in detector.examine(found.images, skip_bad=skip_bad, skipped=trial.skipped):
                if pixels is not None:
                    _count(pixels, finding, found)
                pictures.take(finding)
                trial.rows.append(_row(detector, finding, found))
                places.append(finding.index)
                if say is not None:
                    say("images", finding.index + 1, len(found.images))
    except KeyboardInterrupt:
        trial.interrupted = True
    trial.truth = None if found.truth is None else found.truth[places]
    by_image, by_pixel = _curve(trial), pixels.curve() if pixels is not None else None
    trial.summary = _summary(detector, found, trial, by_image, by_pixel, time.monotonic() - began)
    if out is not None and trial.rows:
        trial.files = [*pictures.written, *_write(out, detector, found, trial, pictures.top, by_image, by_pixel)]
    return trial


def _row(detector: Detector, finding: Finding, found: Examined) -> dict[str, Any]:
    row = {
        "name": finding.name, "score": finding.score, "normalized": finding.normalized,
        "label": "abnormal" if finding.abnormal else "normal", "threshold": detector.threshold_,
    }  # fmt: skip
    if found.truth is not None:
        row["truth"] = "abnormal" if found.truth[finding.index] else "normal"
    if found.kinds:
        row["kind"] = found.kinds[finding.index]
    return row


def _true_mask(finding: Finding, found: Examined) -> NDArray[np.bool_] | None:
    file = found.masks[finding.index] if found.masks is not None else None
    return None if file is None else read_mask(file, (finding.map.shape[0], finding.map.shape[1]))


def _count(pixels: PixelCounts, finding: Finding, found: Examined) -> None:
    mask = _true_mask(finding, found)
    if mask is not None or found.truth is None or not found.truth[finding.index]:
        pixels.add(finding.map, mask)


class _Pictures:
    """Writes pictures in threads while the next images are looked at, and keeps the most abnormal ones for the overview."""

    def __init__(self, found: Examined, out: Path | None, heat_maps: str, masks: bool) -> None:
        self.found, self.out, self.heat_maps, self.masks = found, out, heat_maps, masks
        self.names = picture_names(found.images.names)
        self.written: list[str] = []
        self._best: list[tuple[float, int, Shown]] = []
        self._pool = ThreadPoolExecutor(4)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> "_Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)
        for future in self._waiting:
            future.result()

    @property
    def top(self) -> list[Shown]:
        return [entry[2] for entry in sorted(self._best, key=lambda entry: entry[:2], reverse=True)]

    def take(self, finding: Finding) -> None:
        if self.out is None:
            return
        in_top = len(self._best) < _IN_OVERVIEW or finding.score > self._best[0][0]
        image = self.found.images.read(finding.index) if in_top or self.heat_maps == "overlay" else None
        if in_top and image is not None:
            title = f"{short_name(finding.name)}\n{finding.normalized:.2f}"
            entry = shown(title, image, finding.heat_map, finding.mask, _true_mask(finding, self.found))
            push = heapq.heappush if len(self._best) < _IN_OVERVIEW else heapq.heapreplace
            push(self._best, (finding.score, -finding.index, entry))
        name = self.names[finding.index]
        if self.heat_maps != "none":
            heat = finding.heat_map
            self._write(
                f"heatmaps/{name}", lambda: coloured(heat) if image is None or self.heat_maps == "plain" else overlay(image, heat)
            )
        if self.masks:
            self._write(f"masks/{name}", lambda: np.where(finding.mask, 255, 0).astype(np.uint8))

    def _write(self, name: str, draw: Any) -> None:
        assert self.out is not None
        path = self.out / name
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(lambda: write_png(path, draw())))
        self.written.append(name)


def picture_names(names: list[str]) -> list[str]:
    """A path below the output folder for each image, ending in .png; no two alike, none that leads out of the folder."""
    made, seen = [], set[str]()
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        path = "/".join(parts) or "image"
        short = PurePosixPath(path).with_suffix(".png").as_posix()
        unique, number = short if short.lower() not in seen else f"{path}.png", 2
        while unique.lower() in seen:
            unique, number = f"{path}.{number}.png", number + 1
        seen.add(unique.lower())
        made.append(unique)
    return made


def _curve(trial: Trial) -> Curve | None:
    truth = trial.truth
    return None if truth is None or not len(truth) or truth.all() or not truth.any() else curve(truth, trial.scores)


def _summary(
    detector: Detector, found: Examined, trial: Trial, by_image: Curve | None, by_pixel: Curve | None, seconds: float
) -> dict[str, Any]:  # fmt: skip
    scores = trial.scores
    above = scores > detector.threshold_
    summary: dict[str, Any] = {
        "images": len(trial.rows), "abnormal": int(above.sum()), "threshold": detector.threshold_,
        "pixel_threshold": detector.pixel_threshold_, "threshold_from": detector.how, "scores": list(detector.steps.kinds),
        "source": found.images.title, "skipped": trial.skipped, "interrupted": trial.interrupted, "seconds": round(seconds, 3),
    }  # fmt: skip
    if trial.truth is not None and len(trial.truth):
        summary["image"] = _quality(trial.truth, above, by_image)
    if found.kinds and trial.truth is not None:
        summary["kinds"] = _by_kind(trial, above)
    if by_pixel is not None:
        summary["pixel"] = _areas(by_pixel)
    return summary


def _quality(truth: NDArray[np.bool_], above: NDArray[np.bool_], by_image: Curve | None) -> dict[str, Any]:
    true, false = int((above & truth).sum()), int((above & ~truth).sum())
    missed = int(truth.sum()) - true
    found: dict[str, Any] = {
        "true_positives": true, "false_positives": false, "false_negatives": missed,
        "true_negatives": int((~truth).sum()) - false, "f1": 2 * true / max(2 * true + false + missed, 1),
    }  # fmt: skip
    return found if by_image is None else found | _areas(by_image)


def _areas(found: Curve) -> dict[str, Any]:
    threshold, f1 = found.best_f1()
    keep = np.unique(np.linspace(0, len(found.thresholds) - 1, _POINTS).astype(np.int64))
    return {
        "auroc": found.auroc, "average_precision": found.average_precision, "best_f1": f1, "best_f1_threshold": threshold,
        "false_positive_rate": found.false_positive_rate[keep].tolist(), "true_positive_rate": found.recall[keep].tolist(),
    }  # fmt: skip


def _by_kind(trial: Trial, above: NDArray[np.bool_]) -> dict[str, Any]:
    """For each folder or class: how many, how many above the threshold, and for abnormal ones the AUROC against the normal."""
    truth, scores = trial.truth, trial.scores
    assert truth is not None
    kinds = np.array([row["kind"] for row in trial.rows])
    found: dict[str, Any] = {}
    for kind in sorted(set(kinds.tolist())):
        rows = kinds == kind
        found[kind] = {"images": int(rows.sum()), "abnormal": int(above[rows].sum())}
        if truth[rows].all() and not truth.all():
            some = rows | ~truth
            found[kind]["auroc"] = curve(truth[some], scores[some]).auroc
    return found


def _write(
    out: Path, detector: Detector, found: Examined, trial: Trial, top: list[Shown], by_image: Curve | None, by_pixel: Curve | None
) -> list[str]:
    insist(lambda: out.mkdir(parents=True, exist_ok=True))
    files = ["scores.csv", "overview.png", "scores.png"]
    text = io.StringIO()
    extra = [key for key in ("truth", "kind") if trial.rows and key in trial.rows[0]]
    table = csv.DictWriter(text, [*_ROW, *extra], lineterminator="\n")
    table.writeheader()
    table.writerows(trial.rows)
    write_atomically(out / "scores.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    title = f"{found.images.title}: {len(trial.rows):,} images, {trial.summary['abnormal']:,} above the threshold"
    draw_overview(out / "overview.png", top, f"{title}; the highest scores")
    draw_scores(out / "scores.png", trial.scores, trial.truth, detector.threshold_, title)
    curves = [(name, c) for name, c in (("images", by_image), ("pixels", by_pixel)) if c is not None]
    if curves:
        draw_curves(out / "roc_pr.png", curves, title)
        files.append("roc_pr.png")
    write_atomically(out / "summary.json", (json.dumps(trial.summary, indent=2) + "\n").encode())
    return [*files, "summary.json"]
