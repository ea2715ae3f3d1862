"""The commands that only look at what is there and what a step does: devices, versions, memory, explain."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom import files, hardware, losses, models, optim
from warploom.cli import BatchOption, DeviceOption, ModelArgument, PrecisionOption, VersionOption, app
from warploom.engine import Engine
from warploom.engine import lower as lower_model
from warploom.model import Model

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _table(title: str, columns: list[str], rows: list[list[str]], right: int = 99) -> None:
    """A table on stdout; columns from number `right` on are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i >= right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(title, style="bold", highlight=False)
    console.print(table)


def load_network(name: str) -> Model:
    return files.load_model(name) if name.endswith(".safetensors") or Path(name).is_file() else models.get(name)


def _plan(model: Model, version: str, device: str, batch_size: int, precision: str) -> Engine:
    choice = hardware.resolve(
        version, device, kernels_first=True, precision=precision
    )  # nothing runs: any device that has the version will do
    lowered = lower_model(model.name, model.inputs, model.outputs, model.calls)
    objective = losses.get("mse", len(model.outputs))
    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "plan_only": True}
    return Engine(lowered, choice, losses=objective, optimizer=optim.SGD(), **options)


def human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """What can compute here, and why something cannot."""
    rows = hardware.devices()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    _table(
        "devices",
        ["device", "usable", "what it is, or why not", "memory", "versions"],
        [
            [
                row["name"],
                "yes" if row["usable"] else "no",
                row["description"] if row["usable"] else row["why"],
                human(row["memory_bytes"]) if row["memory_bytes"] else "",
                ", ".join(row["versions"]),
            ]
            for row in rows
        ],
    )


@app.command()
def versions(as_json: JsonOption = False) -> None:
    """The kernel versions of this build, and where they run."""
    rows = hardware.versions()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    _table(
        "versions",
        ["version", "what it is", "layout", "runs here on"],
        [[row["name"], row["summary"], row["layout"], ", ".join(row["devices"]) or row["why"]] for row in rows],
    )


@app.command()
def memory(
    model: ModelArgument = "cifar10_autoencoder",
    batch_size: BatchOption = 64,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Bytes a training step needs, by category, from the plan: nothing is allocated."""
    network = load_network(model)
    engine = _plan(network, version, device, batch_size, precision)
    report = engine.memory(batch_size)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    order = [key for key in report if not key.startswith("total")] + [key for key in report if key.startswith("total")]
    title = f"{network.name}, batch {batch_size}, version {engine.version} on {engine.device}: memory of a training step"
    _table(
        title, ["category", "bytes", ""], [[key.replace("_", " "), f"{report[key]:,}", human(report[key])] for key in order], 1
    )


@app.command()
def explain(
    model: ModelArgument = "cifar10_autoencoder",
    batch_size: BatchOption = 64,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """The steps of a training step in order: kernel entry and algorithm, what was fused, which fusions were refused and why."""
    network = load_network(model)
    engine = _plan(network, version, device, batch_size, precision)
    steps, refusals = engine.explain(batch_size), engine.refusals(batch_size)
    if as_json:
        print(json.dumps({"steps": steps, "refusals": refusals}, indent=2))
        return
    _table(
        f"{network.name}, batch {batch_size}, version {engine.version} on {engine.device}: plan of a training step",
        ["#", "layer", "pass", "entry", "algorithm", "fused", "workspace", "bytes touched"],
        [
            [
                str(i),
                str(step["node"]),
                "backward" if step.get("backward") else "forward",
                str(step["entry"]),
                str(step["algorithm"]),
                _fused(step.get("fusion", {})),
                human(step["workspace"]) if step["workspace"] else "",
                human(step["bytes"]),
            ]
            for i, step in enumerate(steps)
        ],
        6,
    )
    for refusal in refusals:
        print(f"refused: {refusal}")


def _fused(fusion: dict[str, Any]) -> str:
    parts = [f"upsample x{fusion['upsample']}"] if fusion.get("upsample", 1) != 1 else []
    if fusion.get("activation", "none") != "none":
        parts.append(str(fusion["activation"]))
    if fusion.get("pool", 1) != 1:
        parts.append(f"max pool {fusion['pool']}")
    return ", ".join(parts)
