"""`warploom encode`: the latents of images in a file, for other programs."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from warploom.cli.app import BatchOption, DeviceOption, JsonOption, PrecisionOption, VersionOption, app, say
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
from warploom.cli.words import USE, complete_from
from warploom.inference.features import DTYPES, write_features
from warploom.train.progress import took


@app.command(rich_help_panel=USE)
def encode(
    run: RunArgument,
    data: DataArgument = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="A .npy (names in a .csv beside it), .npz or .parquet file."),
    ] = Path("features.npy"),
    part: str = part_option("all"),
    fit: str = fit_option("crop"),
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="TYPE", autocompletion=complete_from(DTYPES), help="fp32 or fp16.")
    ] = "fp32",
    keep_shape: Annotated[bool, typer.Option("--keep-shape", help="Rows as maps (C, H, W), not flat.")] = False,
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    skip_bad: SkipBadOption = False,
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Write the latent of every image: features for other programs."""
    trained = opened(run, version, device, precision, batch_size)
    trained.require_latent()
    images = images_of(trained, data, quiet=as_json, part=part, data_dir=data_dir, limit=limit, skip_bad=skip_bad)
    began = time.monotonic()
    with Progress() as progress:
        report = progress.counting("encoding", len(images))
        done = write_features(out, trained, images, fit=fit, dtype=dtype, keep_shape=keep_shape, report=report)
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({**done, "seconds": round(seconds, 3)}))
        return
    shape = "x".join(map(str, done["shape"]))
    say(
        f"{counted(done['rows'], 'row')} of {shape} {dtype} values in {took(seconds)} "
        f"({done['rows'] / seconds:,.0f} images/s): written to {visible(' and '.join(done['files']))}"
    )
    say_skipped(done["skipped"])
