"""The commands that explain a network: models, summary, trace, plot."""

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from warploom import models as zoo
from warploom.cli.app import SEED, DeviceOption, JsonOption, ModelArgument, VersionOption, app, load_network, table
from warploom.cli.words import EXPLAIN, TRAIN, whole
from warploom.ground.tables import Column, size
from warploom.inspection.summary import Summary
from warploom.inspection.trace import Trace


@app.command(rich_help_panel=TRAIN)
def models(as_json: JsonOption = False) -> None:
    """The networks that are ready to train, and their arguments for --set."""
    rows: list[dict[str, Any]] = []
    for name, build in zoo.BY_NAME.items():
        arguments = {p.name: p.default for p in inspect.signature(build).parameters.values()}
        shapes = [size(t.shape) for t in build().inputs]
        rows.append({"name": name, "inputs": shapes, "data": zoo.objective(name).data, "arguments": arguments})
        rows[-1]["presets"] = {preset: found.about for preset, found in zoo.presets(name).items()}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table(
        "models",
        ["name", Column("takes", spare=1), "data", Column("arguments (--set name=value) and their defaults", wrap=True)],
        [
            [
                row["name"],
                " and ".join(dict.fromkeys(row["inputs"])) + (" twice" if len(row["inputs"]) == 2 else ""),
                row["data"],
                ", ".join(f"{key}={str(value).lower()}" for key, value in row["arguments"].items()) or "none",
            ]
            for row in rows
        ],
        notes=[
            *(f"{row['name']} --preset {name}: {about}" for row in rows for name, about in row["presets"].items()),
            "A .safetensors file of Model.save() and the folder of a run are models too: --model FILE trains it further.",
        ],
    )


@app.command(rich_help_panel=EXPLAIN)
def summary(
    model: ModelArgument = "cifar10_autoencoder",
    formulas: Annotated[bool, typer.Option("--formulas", help="Show how each parameter count comes about.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Layers, shapes, parameters, work, receptive fields and activations of a model."""
    report = Summary(load_network(model), formulas=formulas)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()


@app.command(rich_help_panel=EXPLAIN)
def trace(
    model: ModelArgument = "cifar10_autoencoder",
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", callback=whole(), help="How many inputs to send through.")
    ] = 4,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Of the inputs, and of weights not yet trained.")] = 0,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Shape and range of the values after every layer, for random inputs in [0, 1]."""
    network = load_network(model)
    network.compile(version=version, device=device, batch_size=samples, seed=seed)
    rng = np.random.default_rng(seed)
    given = [rng.random((samples, *t.shape), np.float32) for t in network.inputs]
    report = Trace(network, network.engine, given, samples)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()


@app.command(rich_help_panel=EXPLAIN)
def plot(
    model: ModelArgument,
    path: Annotated[Path, typer.Argument(metavar="PICTURE", help="The picture to write, .svg or .png.")],
) -> None:
    """A picture of a network's graph."""
    network = load_network(model)
    network.plot(path)
    print(f"written to {path}")
