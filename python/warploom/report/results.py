"""The sections of a page that show what `warploom classify` and `warploom detect` wrote into the run's folder.

Their results are found by what they are, not by the names of files: any .json file in the folder, or in a folder in it, that
holds a confusion matrix with an accuracy, or the summary of a detection with its scores.csv.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from warploom.ground.atomic import read_whole
from warploom.report.charts import Line, line_chart, number
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, facts, table
from warploom.report.numbers import section, short_paths
from warploom.report.pixels import uri

_LARGEST = 16 << 20  # bytes of a file that is looked at
_MOST_ENTRIES = 1000  # of a list: a longer one holds samples, not results
_MOST_CLASSES = 40  # whose confusions fit on a page
_ABNORMAL = ("1", "true", "abnormal")  # as a scores.csv says it
_NOT_SAID = ("path", "seconds", "interrupted", "source")


def result_files(folders: Iterable[Path]) -> list[Path]:
    """The .json files in those folders, and in the folders in them, that may hold results."""
    found = {path: None for folder in folders for pattern in ("*.json", "*/*.json") for path in sorted(folder.glob(pattern))}
    return [p for p in found if p.name != "config.json" and p.is_file() and p.stat().st_size <= _LARGEST]


def _dictionaries(found: Evidence) -> Iterator[dict[str, Any]]:
    """Every dictionary in those files, outer ones first, with the file as "path" and the keys that lead to it as "keys"."""
    for path in result_files(found.result_folders):
        try:
            todo: list[tuple[tuple[str, ...], Any]] = [((), json.loads(read_whole(path)))]
        except (OSError, ValueError, RecursionError):
            continue  # another program's, or half of one
        while todo:
            keys, value = todo.pop(0)
            if isinstance(value, dict):
                yield {**value, "path": str(path), "keys": keys}
                todo += [((*keys, key), inner) for key, inner in value.items()]
            elif isinstance(value, list) and len(value) <= _MOST_ENTRIES:
                todo += [(keys, inner) for inner in value if isinstance(inner, (dict, list))]


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) in (int, float) and math.isfinite(v) for v in value)


def _share(value: Any) -> str:
    return f"{100 * value:.2f} %"


# Classes


def _matrix(found: dict[str, Any]) -> list[list[int]] | None:
    """Of a classification: square, of counts."""
    rows, accuracy = found.get("confusion"), found.get("accuracy")
    if not _numbers([accuracy]) or not isinstance(rows, list) or not rows:
        return None
    square = all(isinstance(row, list) and len(row) == len(rows) and all(type(v) is int and v >= 0 for v in row) for row in rows)
    return rows if square else None


def classification(found: Evidence) -> Markup | None:
    """Accuracies with their intervals, side by side with the controls, and a confusion matrix of the best."""
    given = [(d, matrix) for d in _dictionaries(found) if (matrix := _matrix(d)) is not None]
    if not given:
        return None
    rows: list[list[Content]] = []
    for told, _ in given:
        interval: Any = told.get("interval_95")
        spread = f"{_share(interval[0])} to {_share(interval[1])}" if _numbers(interval) and len(interval) == 2 else ""
        rows.append([_title(told), _share(told["accuracy"]), spread, str(told.get("tested_on", ""))])
    best, matrix = max(given, key=lambda pair: pair[0]["accuracy"])
    names = _class_names(best, len(matrix), found)
    parts: list[Content] = [table(["features and method", "accuracy", "95 % interval", "on"], rows)]
    if len(matrix) <= _MOST_CLASSES:
        parts += [
            el("h3", "Confusions", el("small", f" {_title(best)}; true classes down, predicted ones across")),
            _confusion(matrix, names),
        ]
    return section("classification", "Classification", parts)


def _title(told: dict[str, Any]) -> str:
    said = [told[key] for key in ("features", "name", "method") if isinstance(told.get(key), str)]
    return ", ".join(dict.fromkeys(key for key in (*told["keys"], *said) if key != "results")) or Path(str(told["path"])).stem


def _class_names(told: dict[str, Any], count: int, found: Evidence) -> list[str]:
    given = told.get("classes")
    if isinstance(given, list) and len(given) == count:
        names = [str(c.get("name", i)) if isinstance(c, dict) else str(c) for i, c in enumerate(given)]
        known = found.looked.classes if found.looked is not None else []
        if len(known) == count and names == [str(i) for i in range(count)]:
            return known
        return names
    return [str(i) for i in range(count)]


def _confusion(matrix: list[list[int]], names: list[str]) -> Markup:
    """A cell's colour is its share of its row: of the images of that class."""
    rows: list[list[Content]] = []
    for name, row in zip(names, matrix, strict=True):
        total = sum(row) or 1
        cells: list[Content] = [
            el(
                "span", str(v), class_="cell", style=f"--share:{v / total:.3f}",
                data_tip=f"{name} taken for {other}: {v} of {total}",
            )
            for v, other in zip(row, names, strict=True)
        ]  # fmt: skip
        rows.append([el("b", name), *cells])
    return el("div", table(["", *names], rows), class_="confusion")


# Anomalies


def _roc(folder: Path) -> tuple[list[float], list[float]] | None:
    """(false positive rates, true positive rates) by the scores and truths of a scores.csv; None without both kinds."""
    try:
        text = read_whole(folder / "scores.csv").decode(errors="replace")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        scores = np.array([float(row["score"]) for row in rows])
        truth = np.array([row["truth"].strip().lower() in _ABNORMAL for row in rows])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, csv.Error):
        return None
    if not len(scores) or not np.isfinite(scores).all() or truth.all() or not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of equal scores
    true, false = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    return [0.0, *(false / false[-1]).tolist()], [0.0, *(true / true[-1]).tolist()]


def detection(found: Evidence) -> Markup | None:
    """Of every detection: its ROC curve, what it is worth, and its picture of the highest scores."""
    given = [d for d in _dictionaries(found) if _numbers([d.get("threshold")]) and "threshold_from" in d]
    if not given:
        return None
    parts = []
    for told in given:
        folder = Path(str(told["path"])).parent
        quality = [(f"{part}: {key}", v) for part in ("image", "pixel") for key, v in _dict(told.get(part)).items()]
        values = [
            (k.replace("_", " "), _value(v))
            for k, v in [*told.items(), *quality]
            if type(v) in (int, float, str) and k not in _NOT_SAID
        ]
        roc, beside = _roc(folder), facts(values)
        if roc is not None:
            chance = Line("chance", [0.0, 1.0], [0.0, 1.0], 7, dashed=True)
            lines = [Line("images", *roc), chance]
            chart = line_chart(lines, "false positive rate", "True positive rate", whole_x=False, box=(0.0, 1.0))
            beside = el("div", chart, beside, class_="halves")
        parts.append(el("div", el("h3", folder.name), beside, _overview(folder / "overview.png")))
    return section("detection", "Anomaly detection", parts)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _value(value: Any) -> str:
    return number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else short_paths(str(value))


def _overview(path: Path) -> Markup | None:
    """The picture of a detection, as it was drawn, on white."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.thumbnail((1600, 4000))
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return el(
        "div", el("img", src=uri(pixels, 85), alt="the highest scores", class_="drawing"), class_="scroll paper", tabindex=0
    )
