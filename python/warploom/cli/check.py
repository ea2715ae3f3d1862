"""`warploom check FILE.cu [-- ARGS]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from warploom import __version__
from warploom.cli.app import SEED, app
from warploom.cli.words import KERNELS, whole
from warploom.errors import DeviceError
from warploom.ground.atomic import write_atomically
from warploom.lab import build
from warploom.lab.check import check
from warploom.lab.refusal import Refusal
from warploom.lab.report import as_github, as_text
from warploom.lab.sarif import as_sarif


def _patience(seconds: float) -> float:
    if not seconds >= 1:  # not a number neither
        raise typer.BadParameter(f"{seconds:g} is out of range: expected at least one second")
    return seconds


@app.command("check", rich_help_panel=KERNELS)
def check_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CUDA source with its main(). What follows -- is for the program.")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments of the program, after --.", metavar="-- ARGS")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Chooses the order of threads.", **SEED)] = 0,
    schedules: Annotated[
        int, typer.Option("--schedules", metavar="N", callback=whole(1, 1000), help="Try so many orders of threads, up to 1000.")
    ] = 1,
    blocks: Annotated[
        int,
        typer.Option(
            "--blocks", metavar="N", callback=whole(0), help="Run only so many blocks of each launch; 0: all that 20 s allow."
        ),
    ] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-X", metavar="OPTION", help='For the compiler, such as "-DN=64"; again for more.'),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", callback=_patience, help="For one run of the program.")
    ] = 120.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Drop what the program prints.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")] = False,
    sarif: Annotated[Path | None, typer.Option("--sarif", metavar="FILE", help="Write a SARIF report to this file.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for a GitHub workflow.")] = False,
) -> None:
    """Runs a CUDA program on the checked emulated device and reports races, bad accesses, barriers and mistakes of the host.

    No GPU and no CUDA toolkit are needed, only a C++ compiler. Exit code 0: nothing was found, 1: something was, 2: the file
    cannot be compiled or asks for what the lab does not model.
    """
    try:
        report = check(
            file, arguments or [], seed=seed, schedules=schedules, blocks=blocks, options=option or [], timeout=timeout,
            quiet=quiet or as_json or schedules > 1,
        )  # fmt: skip
    except (Refusal, DeviceError) as e:
        print(f"warploom check: {e}", file=sys.stderr)
        if github and isinstance(e, Refusal):
            print(f"::error file={e.path},line={max(e.line, 1)},title=warploom check::{e.why}")
        raise typer.Exit(2) from None
    build.trim()
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
    elif github:
        print(as_github(report))
    if not as_json:
        sys.stdout.flush()
        print(as_text(report), file=sys.stderr if github else sys.stdout)
    if sarif is not None:
        write_atomically(sarif, (json.dumps(as_sarif([report], __version__), indent=1) + "\n").encode())
    if any(f.code == "unsupported" for f in report.errors):
        raise typer.Exit(2)
    if report.errors or (strict and report.findings):
        raise typer.Exit(1)
