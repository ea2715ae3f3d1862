"""The sections of a page that hold numbers: what was reached, and the curves of the training."""

import math
import re
from collections.abc import Callable
from typing import Any

from warploom import metrics
from warploom.report.charts import Line, line_chart, number
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, facts
from warploom.train.progress import duration

_NAMES = {
    "psnr": "PSNR (dB)", "ssim_index": "SSIM", "mae": "Mean absolute error", "pixel_accuracy": "Pixel accuracy",
    "mean_iou": "Mean IoU", "depth_mae": "Depth, mean absolute error", "mask_iou": "Mask IoU", "lr": "Learning rate",
}  # fmt: skip
_OTHER = ("test_loss", "test_losses", "test_ssim")  # no metrics; the last is how SSIM was called at first
_HEADLINES = ("psnr", "ssim_index", "mean_iou", "pixel_accuracy", "mask_iou", "depth_mae")


def section(name: str, title: str, *content: Content) -> Markup:
    return el("section", el("h2", title), *content, id=name)


def note(sentence: str) -> Markup:
    return el("p", sentence, class_="note")


def short_paths(sentence: str) -> str:
    """Paths by their last part: pages are passed on."""
    return re.sub(r"/(?:[^\s/:]+/)+", "…/", sentence)


def _name(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def tiles(found: Evidence) -> Markup:
    """The numbers that people ask for first."""
    last = found.rows[-1] if found.rows else {}
    scores = {key.removeprefix("test_"): v for key, v in last.items() if key.startswith("test_")} or dict(found.scores)
    looked = found.looked
    if looked is not None and looked.outputs is not None and "psnr" not in scores:
        scores["psnr"] = metrics.psnr(looked.images, looked.outputs)
    shown: list[tuple[str, str, str]] = []
    for key in _HEADLINES:
        if _known(scores.get(key)):
            value = f"{scores[key]:.2f} dB" if key == "psnr" else f"{scores[key]:.4f}"
            shown.append((value, _name(key).removesuffix(" (dB)"), "of the test images"))
    if _known(scores.get("loss")):
        beside = f"training {number(last['train_loss'])}" if _known(last.get("train_loss")) else ""
        shown.append((number(scores["loss"]), "test loss", beside))
    layers = len(found.model.layers)
    shown.append((_short(found.model.count_parameters()), "parameters", f"{layers} layer{'s' if layers != 1 else ''}"))
    if found.model.latent is not None:
        size = math.prod(found.model.latent.shape)
        ratio = sum(math.prod(t.shape) for t in found.model.inputs_of_latent()) / size
        factor = f"{ratio:.3g}× smaller" if ratio > 1 else f"{1 / ratio:.3g}× larger"
        shown.append((f"{size:,}", "numbers in the latent", f"{factor} than the input" if ratio != 1 else "as many as the input"))
    if found.rows:
        epochs = last["epoch"]
        seconds = sum(row.get("seconds", 0.0) for row in found.rows)
        shown.append((duration(seconds), "of training", f"{epochs} epoch{'s' if epochs != 1 else ''} on {last['device']}"))
    return el("div", [el("div", el("b", a), el("span", b), el("small", c)) for a, b, c in shown], class_="tiles")


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _short(count: int) -> str:
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return str(count)


def training(found: Evidence) -> Markup:
    """A chart for each thing that was measured after every epoch."""
    if not found.rows:
        why = "This page was made of a model's file: its training stands in no file beside it."
        return section("training", "Training", note("No epoch has ended yet." if found.config is not None else why))
    rows = found.rows

    def line(name: str, read: Callable[[dict[str, Any]], Any], colour: int, *, dashed: bool = False) -> list[Line]:
        kept = [(float(row["epoch"]), float(read(row))) for row in rows if _known(read(row))]
        return [Line(name, [e for e, _ in kept], [v for _, v in kept], colour, dashed)] if kept else []

    charts = []
    losses = line("training", lambda r: r["train_loss"], 0) + line("test", lambda r: r.get("test_loss"), 1, dashed=True)
    if losses:
        charts.append(line_chart(losses, "epoch", "Loss"))
    labels = dict.fromkeys(label for row in rows for label in row.get("test_losses", {}))
    parts = [p for i, label in enumerate(labels) for p in line(label, lambda r, n=label: r.get("test_losses", {}).get(n), i % 10)]  # type: ignore[misc]
    if parts:
        charts.append(line_chart(parts, "epoch", "Parts of the test loss"))
    measured = {k for row in rows for k in row if k.startswith("test_") and k not in _OTHER}
    for key in [*sorted(measured, key=_order), "lr"]:
        made = line(key, lambda r, k=key: r.get(k), 2 if key == "lr" else 1)  # type: ignore[misc]
        if made and len(made[0].x) > 1:
            charts.append(line_chart(made, "epoch", _name(key.removeprefix("test_"))))
    if len(rows) == 1:
        values = [
            ("loss, training", rows[0]["train_loss"]),
            ("loss, test", rows[0].get("test_loss")),
            *rows[0].get("test_losses", {}).items(),
        ]
        values += [
            (_name(key.removeprefix("test_")), rows[0][key]) for key in [*sorted(measured, key=_order), "lr"] if key in rows[0]
        ]
        told = [(name, number(value)) for name, value in values if _known(value)]
        return section("training", "Training", note("One epoch so far: curves begin with the second."), facts(told))
    return section("training", "Training", el("div", charts, class_="charts"))


def _order(key: str) -> tuple[int, str]:
    """Known metrics in the order of their names above, then others."""
    name = key.removeprefix("test_")
    return (list(_NAMES).index(name) if name in _NAMES else len(_NAMES)), name
