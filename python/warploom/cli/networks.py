"""The commands that explain a network: summary, trace, plot."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from warploom.cli.app import SEED, DeviceOption, JsonOption, ModelArgument, VersionOption, app, load_network
from warploom.ground.arrays import LARGEST
from warploom.inspection.summary import Summary
from warploom.inspection.trace import Trace


@app.command()
def summary(
    model: ModelArgument = "cifar10_autoencoder",
    formulas: Annotated[bool, typer.Option("--formulas", help="Show how each parameter count comes about.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Layers, shapes, parameters, work, receptive fields and activations of a model."""
    table = Summary(load_network(model), formulas=formulas)
    if as_json:
        print(json.dumps(table.as_dict(), indent=2))
    else:
        table.print()


@app.command()
def trace(
    model: ModelArgument = "cifar10_autoencoder",
    samples: Annotated[int, typer.Option("--samples", min=1, max=LARGEST, help="How many inputs to send through.")] = 4,
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
    table = Trace(network, network.engine, given, samples)
    if as_json:
        print(json.dumps(table.as_dict(), indent=2))
    else:
        table.print()


@app.command()
def plot(
    model: Annotated[str, typer.Argument(help="A model's name, or a .safetensors file of one.")],
    path: Annotated[Path, typer.Argument(help="The picture to write, .svg or .png.")],
) -> None:
    """A picture of a network's graph."""
    network = load_network(model)
    network.plot(path)
    print(f"written to {path}")
