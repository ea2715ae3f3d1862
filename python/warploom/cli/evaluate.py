"""`warploom evaluate`: how good a trained network is, in the field's numbers."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom import metrics
from warploom.cli.app import BatchOption, DeviceOption, JsonOption, PrecisionOption, VersionOption, app, say, table
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.using import (
    DataArgument,
    DataDirOption,
    LimitOption,
    RunArgument,
    SkipBadOption,
    counted,
    fit_option,
    images_of,
    opened,
    part_option,
    say_skipped,
)
from warploom.cli.words import USE
from warploom.errors import ArgumentError
from warploom.ground.atomic import can_write, write_atomically
from warploom.inference.judging import Row, evaluate
from warploom.inference.trained import Trained
from warploom.runs.scores import judge

_WORST = 5  # images that are named


@app.command("evaluate", rich_help_panel=USE)
def evaluate_(
    run: RunArgument,
    data: DataArgument = None,
    part: str = part_option("auto"),
    fit: str = fit_option("crop"),
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="FILE", help="Write the numbers of every image into a .csv file.")
    ] = None,
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    skip_bad: SkipBadOption = False,
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """How well a trained network does: PSNR, SSIM and errors, of all images and of each."""
    trained = opened(run, version, device, precision, batch_size)
    if not trained.reconstructs:
        _of_its_data(trained, data, scores, as_json)
        return
    if scores is not None:
        can_write(scores)
    images = images_of(trained, data, quiet=as_json, part=part, data_dir=data_dir, limit=limit, skip_bad=skip_bad)
    skipped = list[str]()
    with Progress() as progress:
        found, rows = evaluate(trained, images, fit=fit, skipped=skipped, report=progress.counting("evaluating", len(images)))
    if scores is not None:
        write_atomically(scores, _as_csv(rows).encode())
    worst = sorted(rows, key=lambda r: -r.mse)[:_WORST]
    if as_json:
        print(json.dumps({**found, "skipped": skipped, "worst": [dataclasses.asdict(r) for r in worst]}))
        return
    table(f"{visible(trained.title)}: {counted(found['images'], 'image')}", ["", "value"], _lines(found), 1)
    if len(rows) > 1:
        say(visible("worst: " + ", ".join(f"{r.name} ({r.psnr:.1f} dB)" for r in worst)))
    say_skipped(skipped)
    if scores is not None:
        say(f"written to {visible(str(scores))}")


def _lines(found: dict[str, Any]) -> list[list[str]]:
    shown = [[words, form.format(found[name])] for name, (words, form) in metrics.SHOWN.items() if name in found]
    return [*shown, *([["MSE", f"{found['mse']:.6f}"]] if "mse" in found else [])]


def _of_its_data(trained: Trained, data: str | None, scores: Path | None, as_json: bool) -> None:
    """Networks that do more than reconstruct: on the test part of what they were trained on."""
    if data is not None or scores is not None:
        raise ArgumentError(
            f"{trained.title} is a network for {trained.kind}, which is evaluated on the test part of its run's data: leave out "
            "DATA and --scores"
        )
    samples, model = trained.data(), trained.model
    assert trained.config is not None
    config, where = trained.config, (model.version, model.device)
    model.compile(config.make_optimizer(), config.make_losses(), *where, trained.batch_size, precision=model.engine.precision)
    found = {"images": len(samples.test), **model.evaluate(samples.test.x, samples.test.y), **judge(model, samples)}
    if as_json:
        print(json.dumps(found))
        return
    losses = [[name, f"{value:.6f}"] for name, value in found.items() if name not in metrics.SHOWN and name != "images"]
    table(f"{visible(trained.title)}: {found['images']:,} test samples", ["", "value"], [*losses, *_lines(found)], 1)


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(f.name for f in dataclasses.fields(Row))
    for row in rows:
        out.writerow(f"{v:.8g}" if isinstance(v, float) else v for v in dataclasses.astuple(row))
    return text.getvalue()
