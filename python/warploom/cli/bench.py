"""`warploom bench`: how fast this machine trains and uses a network."""

import json
from typing import Annotated, Any

import typer

from warploom import errors, models
from warploom.cli.app import BatchOption, DeviceOption, JsonOption, ModelArgument, PrecisionOption, app, say, table
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.words import EXPLAIN, complete_versions
from warploom.ground.atomic import expanded
from warploom.models.saving import is_saved
from warploom.runs.recipe import RunConfig, parse_arguments
from warploom.runs.timing import Timing, time_network

_LONGEST = 3600.0


def _seconds(value: float) -> float:
    if not 0.0 < value <= _LONGEST:
        raise typer.BadParameter(f"{value:g} is out of range: expected more than 0 and at most {_LONGEST:,.0f}")
    return value


@app.command(rich_help_panel=EXPLAIN)
def bench(
    model: ModelArgument = "cifar10_autoencoder",
    batch_size: BatchOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", callback=_seconds, help="How long each kind of work is repeated.")
    ] = 3.0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument of the model; again for more.")
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            "--version", metavar="VERSIONS", autocompletion=complete_versions, rich_help_panel="Device",
            help="Kernels: auto, cpu, v1, v2, ...; several joined by commas stand beside each other.",
        ),
    ] = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Images a second in training, forward and encoding, on this machine: medians, and how much they vary."""
    saved = is_saved(expanded(model))
    config = RunConfig(
        model=str(expanded(model).absolute()) if saved else model, arguments=parse_arguments(settings or []),
        batch_size=batch_size, device=device, precision=precision,
    ).resolve()  # fmt: skip
    config.limit = config.limit_test = config.batch_size
    if config.objective.data == "images":
        config.data = "patches"
    names = list(dict.fromkeys(name.strip() for name in version.split(",") if name.strip())) or ["auto"]
    found, refused = dict[str, list[Timing]](), dict[str, str]()
    with Progress(quiet=as_json) as progress:
        for i, name in enumerate(names):
            config.version = name

            def tell(work: str, done: int = i, name: str = name) -> None:
                progress(f"{name}: {work}", done, len(names))

            try:
                found[name] = time_network(config, seconds=seconds, tell=tell)
            except errors.UnsupportedError as error:
                if len(names) == 1:
                    raise
                refused[name] = str(error)
    if as_json:
        told: dict[str, Any] = {name: [t.as_dict() for t in timings] for name, timings in found.items()}
        about = {"model": model, "batch_size": config.batch_size, "device": device, "precision": precision}
        print(json.dumps({**about, "versions": told, "refused": refused}, indent=2))
        return
    rows = [
        [t.where, t.work, f"{t.median:,.2f}", f"{t.p10:,.2f} - {t.p90:,.2f}", f"{t.images_per_second:,.1f}", f"{t.runs:,}"]
        for name, timings in found.items()
        for t in timings
    ]
    shown = model if model in models.BY_NAME else expanded(model).name
    title = f"{visible(shown)}, batch {config.batch_size}, {precision}"
    table(title, ["kernels", "work", "median ms", "p10 - p90", "images/s", "runs"], rows, 2)
    for name, why in refused.items():
        say(f"{name} left out: {visible(why)}")
