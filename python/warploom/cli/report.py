"""`warploom report`: a run as one HTML page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from warploom.cli.app import DeviceOption, JsonOption, VersionOption, app, say
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.words import USE
from warploom.errors import ArgumentError
from warploom.ground.atomic import expanded
from warploom.ground.tables import bytes_text
from warploom.report import live as live_view
from warploom.report.evidence import Evidence, gather
from warploom.report.page import write
from warploom.runs.recipe import named


@app.command(rich_help_panel=USE)
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or a model's .safetensors file.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="The page to write; default report.html in the run's folder.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images to show: a folder, a .npy or .npz file, cifar10, patches. Default: the run's test images.",
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out image files that cannot be read.")] = False,
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="What classify or detect has written elsewhere than in the run's folder; again for more.",
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Show the run in a browser on this machine while it trains; Ctrl-C ends it.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=1,
            max=65535,
            help=f"Of --live; default {live_view.PORT}, or another that is free.",
            show_default=False,
        ),
    ] = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """One HTML page of a run, to look at and to pass on: curves, reconstructions, latent space, network, settings."""
    place = expanded(named(run, "RUN"))
    target = expanded(named(out, "--out")) if out is not None else _beside(place)
    if target.is_dir():
        raise ArgumentError(f"--out {target} is a folder: name a file, such as {target / 'report.html'}")
    if port is not None and not live:
        raise ArgumentError("--port is for --live: add it, or leave out --port")

    def look() -> Evidence:
        return gather(place, data=data, version=version, device=device, skip_bad=skip_bad, results=results or ())

    if live:
        if not place.is_dir():
            raise ArgumentError(f"--live follows the folder of a run, and {run} is none")
        live_view.serve(place, look, port=port, say=lambda text: print(text, flush=True))
        print("ended; writing the page", flush=True)
    with Progress(quiet=as_json) as progress:
        progress("looking at images", 0.0)
        found = look()
        size = write(found, target, tell=progress)
    if as_json:
        print(json.dumps({"path": str(target), "bytes": size, "missing": found.missing}, indent=2))
        return
    for sentence in found.missing.values():
        say(visible(sentence))
    say(f"{visible(str(target))}: {bytes_text(size)}, with everything inside; open it in a browser")


def _beside(place: Path) -> Path:
    return place / "report.html" if place.is_dir() else place.with_name(f"{place.stem}-report.html")
