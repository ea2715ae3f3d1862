"""The sections of a page that show what `warploom classify` and `warploom detect` wrote into the run's folder.

Their results are found by what they are, not by the names of files: any .json file in the folder, or in a folder in it, that
holds a confusion matrix with an accuracy, or the points of a ROC curve.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warploom.report.charts import Line, line_chart, number
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, facts, table
from warploom.report.numbers import section

_LARGEST = 16 << 20  # bytes of a file that is looked at
_MOST_CLASSES = 40  # whose confusions fit on a page
_RATES = (("false_positive_rate", "true_positive_rate"), ("fpr", "tpr"), ("false_positive_rate", "recall"))


def result_files(folder: Path | None) -> list[Path]:
    """The .json files that may hold results, in order of their names."""
    if folder is None:
        return []
    found = [*folder.glob("*.json"), *folder.glob("*/*.json")]
    return sorted(p for p in found if p.name != "config.json" and p.is_file() and p.stat().st_size <= _LARGEST)


def _dictionaries(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Every dictionary in those files, outer ones first, with the file's name as "file"."""
    for path in result_files(folder):
        try:
            todo: list[Any] = [json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, RecursionError):
            continue  # another program's, or half of one
        while todo:
            value = todo.pop(0)
            if isinstance(value, dict):
                yield {**value, "file": path.name}
                todo += value.values()
            elif isinstance(value, list) and len(value) <= 1000:
                todo += [v for v in value if isinstance(v, (dict, list))]


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
    given = [(d, matrix) for d in _dictionaries(found.folder) if (matrix := _matrix(d)) is not None]
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
    parts = [str(told[key]) for key in ("features", "name", "method") if isinstance(told.get(key), str)]
    return ", ".join(parts) or Path(str(told["file"])).stem


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
                "span", str(v), class_="cell strong" if v / total > 0.55 else "cell", style=f"--share:{v / total:.3f}",
                data_tip=f"{name} taken for {other}: {v} of {total}",
            )
            for v, other in zip(row, names, strict=True)
        ]  # fmt: skip
        rows.append([el("b", name), *cells])
    return el("div", table(["", *names], rows), class_="confusion")


# Anomalies


def _roc(found: dict[str, Any]) -> tuple[list[float], list[float]] | None:
    """(false positive rates, true positive rates) of a detection."""
    for x, y in _RATES:
        if _numbers(found.get(x)) and _numbers(found.get(y)) and len(found[x]) == len(found[y]):
            return found[x], found[y]
    return None


def detection(found: Evidence) -> Markup | None:
    """ROC curves and what stands beside them: areas, thresholds."""
    given = [(d, roc) for d in _dictionaries(found.folder) if (roc := _roc(d)) is not None]
    if not given:
        return None
    lines = [Line(_title(told), x, y, i % 10) for i, (told, (x, y)) in enumerate(given)]
    chance = Line("chance", [0.0, 1.0], [0.0, 1.0], 7, dashed=True)
    chart = line_chart([*lines, chance], "false positive rate", "True positive rate", whole_x=False, box=(0.0, 1.0))
    plain = [
        {k: v for k, v in d.items() if type(v) in (int, float, str) and k != "file"}
        for d in _dictionaries(found.folder)
        if _beside(d)
    ]
    told = {key: value for d in plain for key, value in d.items()}
    values = [(key.replace("_", " "), number(v) if isinstance(v, float) else str(v)) for key, v in told.items()]
    return section("detection", "Anomaly detection", el("div", chart, facts(values), class_="charts"))


def _beside(found: dict[str, Any]) -> bool:
    """Whether it has the numbers of a detection."""
    return bool({"auroc", "threshold", "average_precision"} & found.keys())
