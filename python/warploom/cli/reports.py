"""The commands that only look at what is there and what a step does: devices, versions, memory, explain."""

import json
import math
from typing import Annotated, Any

import typer

from warploom import models
from warploom.cli.app import (
    BatchOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    PrecisionOption,
    VersionOption,
    app,
    load_network,
    own_batch_size,
    say,
    table,
)
from warploom.cli.words import EXPLAIN, KERNELS, whole
from warploom.distributed.engine import SHARDS
from warploom.distributed.launch import engines
from warploom.engine import Engine
from warploom.errors import ArgumentError, UnsupportedError
from warploom.ground import hardware
from warploom.ground.atomic import expanded
from warploom.ground.tables import Column, bytes_text
from warploom.kernel_tools import counters
from warploom.kernel_tools.profile import Profiler
from warploom.model import Model, planned
from warploom.models.saving import is_saved
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder


def _plan(
    model: Model, version: str, device: str, batch_size: int, precision: str, workers: int = 0, shard_optimizer: bool = False
) -> Engine:
    """Nothing runs: any device that has the version will do. Of several workers: the first one's, with its own optimizer."""
    choice = hardware.resolve(version, device, kernels_first=True, precision=precision)
    if not workers:
        return planned(model, choice, batch_size, precision)
    own = RunConfig(model=model.name) if model.name in models.NAMES else RunConfig(model="autoencoder", optimizer="adam")
    return planned(model, choice, batch_size, precision, own.resolve().make_optimizer(), (0, workers if shard_optimizer else 1))


@app.command(rich_help_panel=KERNELS)
def devices(as_json: JsonOption = False) -> None:
    """What can compute here, and why something cannot."""
    rows = hardware.devices()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table(
        "devices",
        ["device", "usable", Column("what it is, or why not", wrap=True), "memory", Column("versions", wrap=True)],
        [
            [
                row["name"],
                "yes" if row["usable"] else "no",
                row["description"] if row["usable"] else row["why"],
                bytes_text(row["memory_bytes"]) if row["memory_bytes"] else "",
                ", ".join(row["versions"]),
            ]
            for row in rows
        ],
    )
    table(
        "several workers",
        ["engine", "usable", Column("which one, or why not", wrap=True)],
        [[name, "yes" if usable else "no", about] for name, usable, about in engines()],
    )


@app.command(rich_help_panel=KERNELS)
def versions(as_json: JsonOption = False) -> None:
    """The kernel versions of this build, and where they run."""
    rows = hardware.versions()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table(
        "versions",
        ["version", Column("what it is", wrap=True), "layout", Column("runs here on", wrap=True)],
        [[row["name"], row["summary"], row["layout"], ", ".join(row["devices"]) or row["why"]] for row in rows],
    )


@app.command(rich_help_panel=EXPLAIN)
def memory(
    model: ModelArgument = "cifar10_autoencoder",
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            callback=whole(),
            help="What each of N workers needs, with the model's own optimizer, whole and sharded (docs/distributed.md).",
        ),
    ] = 1,
    sync_batch_norm: Annotated[
        bool,
        typer.Option("--sync-batch-norm", help="With batch norms over the whole batch: all shards of a worker at once."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bytes a training step needs, by category, from the plan: nothing is allocated."""
    network = load_network(model)
    batch_size = own_batch_size(network, batch_size)
    if workers > 1 or sync_batch_norm:
        _memory_of_workers(network, version, device, batch_size, precision, workers, sync_batch_norm, as_json)
        return
    engine = _plan(network, version, device, batch_size, precision)
    report = engine.memory(batch_size)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    order = [key for key in report if not key.startswith("total")] + [key for key in report if key.startswith("total")]
    title = f"{network.name}, batch {batch_size}, {hardware.place(engine.version, engine.device)}: memory of a training step"
    rows = [[key.replace("_", " "), f"{report[key]:,}", bytes_text(report[key])] for key in order]
    table(title, ["category", "bytes", ""], rows, 1)


def _memory_of_workers(
    network: Model,
    version: str,
    device: str,
    batch_size: int,
    precision: str,
    workers: int,
    sync_batch_norm: bool,
    as_json: bool,
) -> None:
    """A worker computes one shard at a time, so its activations are those of a shard; with --sync-batch-norm of all."""
    shards = max(SHARDS, workers)
    samples = math.ceil(batch_size / shards)
    plans = [_plan(network, version, device, samples, precision, workers, sharded) for sharded in (False, True)]
    held = math.ceil(shards / workers) if sync_batch_norm and plans[0].has_meetings else 1
    whole_state, sharded = (plan.memory(samples, held if sync_batch_norm else 0) for plan in plans)
    if as_json:
        about = {"workers": workers, "batch_size": batch_size, "samples_at_once": samples * held}
        print(json.dumps({**about, "whole_optimizer": whole_state, "sharded_optimizer": sharded}, indent=2))
        return
    optimizer = type(plans[0].optimizer).__name__
    at_once = f"{samples} sample{'s' if samples > 1 else ''} at once" if held == 1 else f"{held} shards of {samples} at once"
    title = (
        f"{network.name}, batch {batch_size} on {workers} worker{'s' if workers > 1 else ''} ({at_once}), {optimizer}, "
        f"{hardware.place(plans[0].version, plans[0].device)}: memory of each worker"
    )
    order = [key for key in sharded if not key.startswith("total")] + [key for key in sharded if key.startswith("total")]
    rows = [[key.replace("_", " "), bytes_text(whole_state[key]), bytes_text(sharded[key])] for key in order]
    table(title, ["category", "whole optimizer", "--shard-optimizer"], rows, 1)


@app.command(rich_help_panel=KERNELS)
def explain(
    model: ModelArgument = "cifar10_autoencoder",
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    nodes: Annotated[
        bool, typer.Option("--nodes", help="count the kernel launches of a recorded step instead, of --version or of every one")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """The kernel calls of a training step in order: entry and algorithm, what was fused, what was not and why."""
    network = load_network(model)
    batch_size = own_batch_size(network, batch_size)
    if nodes:
        _nodes(network, version, batch_size, precision, as_json)
        return
    engine = _plan(network, version, device, batch_size, precision)
    steps, refusals = engine.explain(batch_size), engine.refusals(batch_size)
    notes = _notes(model)
    if as_json:
        print(json.dumps({"steps": steps, "refusals": refusals, "notes": notes}, indent=2))
        return
    table(
        f"{network.name}, batch {batch_size}, {hardware.place(engine.version, engine.device)}: plan of a training step",
        [
            Column("#", right=True), "layer", Column("pass", spare=3), "entry", Column("algorithm", wrap=True),
            Column("fused", wrap=True), Column("workspace", spare=2), Column("bytes\ntouched", spare=1),
        ],
        [
            [
                str(i),
                str(step["node"]),
                "backward" if step.get("backward") else "forward",
                str(step["entry"]),
                str(step["algorithm"]) + _stored(step.get("fusion", {})),
                _fused(step),
                bytes_text(step["workspace"]) if step["workspace"] else "",
                bytes_text(step["bytes"]),
            ]
            for i, step in enumerate(steps)
        ],
        6,
    )  # fmt: skip
    for note in notes:
        say(note)
    for refusal in refusals:
        say(f"refused: {refusal}")


def _stored(fusion: dict[str, Any]) -> str:
    """How a convolution's maps x and y stand in memory, where not both are float32."""
    x, y = fusion.get("x_type", "f32"), fusion.get("y_type", "f32")
    return "" if x == y == "f32" else f" (maps: {x} to {y})"


def _notes(model: str) -> list[str]:
    """What the run of a trained model did to its batches."""
    path = expanded(model)
    run = RunFolder(path if path.is_dir() else path.parent)
    if not is_saved(path) or not run.config_path.is_file():
        return []
    changes = run.read_config().changes
    return [f"each batch of the run was made by augment_images before the first step: {changes}"] if changes else []


def _nodes(network: Model, version: str, batch_size: int, precision: str, as_json: bool) -> None:
    """A step's launches are counted on the counting emulated device, which has every version."""
    names = [name for name, kinds in hardware.check(version, precision).items() if kinds != ["cpu"]]
    if version != "auto" and version not in names:
        raise ArgumentError(f"version {version} launches no kernels of a GPU; --nodes counts those of {', '.join(names)}")
    hardware.prepare(counters.DEVICE)
    counts: dict[str, dict[str, int]] = {}
    refused: dict[str, str] = {}
    for name in names if version == "auto" else [version]:
        try:
            counts[name] = Profiler(network, name, batch_size=batch_size, precision=precision).launches()
        except UnsupportedError as error:
            if version != "auto":
                raise
            refused[name] = str(error)
    totals = {name: sum(found.values()) for name, found in counts.items()}
    if as_json:
        told = {name: {"nodes": totals[name], "operations": found} for name, found in counts.items()}
        print(json.dumps({"precision": precision, "batch_size": batch_size, "versions": told, "refused": refused}, indent=2))
        return
    operations = list(dict.fromkeys(call for found in counts.values() for call in found))
    about = f"{network.name}, batch {batch_size}, {precision}: kernel launches of a recorded training step"
    rows = [[call, *(str(found.get(call, "")) for found in counts.values())] for call in operations]
    rows.append(["all", *(str(total) for total in totals.values())])
    table(about, ["operation", *(Column(name, right=True) for name in counts)], rows)
    for sentence in refused.values():
        say(f"left out: {sentence}")


def _fused(step: dict[str, Any]) -> str:
    fusion = step.get("fusion", {})
    parts = [f"upsample x{fusion['upsample']}"] if fusion.get("upsample", 1) != 1 else []
    if fusion.get("activation", "none") != "none":
        parts.append(str(fusion["activation"]))
    if fusion.get("pool", 1) != 1:
        parts.append(f"max pool {fusion['pool']}")
    if step.get("along"):
        parts.append(f"with {step['along']}")
    return ", ".join(parts)
