"""The command that makes data: synthetic samples in the layout that a model's data have."""

from pathlib import Path
from typing import Annotated

import typer

from warploom import models
from warploom.cli.app import SEED, app
from warploom.cli.words import TRAIN, complete_models, whole
from warploom.data import synthetic
from warploom.errors import ArgumentError, DataError
from warploom.ground.atomic import expanded
from warploom.runs.recipe import RunConfig


@app.command("make-data", rich_help_panel=TRAIN)
def make_data(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", autocompletion=complete_models, help=f"Whose data: one of {', '.join(models.NAMES)}."),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; new, or empty.")],
    count: Annotated[
        int,
        typer.Option("--count", metavar="N", callback=whole(), help="Training samples; a fifth as many for testing come on top."),
    ] = 400,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", callback=whole(8), help="Side of the images; default: the model's.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", metavar="FOLDER", help="Photographs to cut from; default: those of installed packages."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Same seed, same data.")] = 0,
) -> int:
    """Write synthetic samples, from photographs or drawn, to try a model with."""
    folder = expanded(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not an empty folder: choose another place")
    config = RunConfig(model=model)
    kind = config.objective.data
    network = config.make_model()
    height, width = (size, size) if size is not None else network.inputs[0].shape[1:]
    if kind == "segmentation" and network.outputs[0].shape[0] <= len(synthetic.SHAPES):
        raise ArgumentError(f"{model} has {network.outputs[0].shape[0]} classes; the samples have {len(synthetic.SHAPES) + 1}")
    source = synthetic.source(kind, photos)
    files = synthetic.write(kind, source, folder, count, height, width, seed)
    print(
        f"{count:,} training and {synthetic.testing_count(count):,} test samples ({kind}, {height}x{width}) "
        f"{synthetic.origin(kind, source)}: {files:,} files in {folder}"
    )
    print(f"train with: warploom train --model {model} --data {folder}")
    return 0
