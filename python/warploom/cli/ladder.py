"""`warploom ladder`: the thirteen files of the ladder beside each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from warploom.cli.app import app, table
from warploom.cli.program_profile import COLUMNS, NOTES, row_of
from warploom.cli.words import KERNELS
from warploom.errors import ArgumentError, DeviceError
from warploom.ground import emulated_builds, hardware
from warploom.ground.atomic import write_atomically
from warploom.ground.tables import Column
from warploom.kernel_tools.kernels import find_tool
from warploom.lab import html
from warploom.lab.gpus import gpu as known_gpu
from warploom.lab.profile import ProgramProfile, nvcc_option, profile

_BATCH = "64,256,128"  # conv2 of the CIFAR-10 autoencoder, as the network trains it


@app.command("ladder", rich_help_panel=KERNELS)
def ladder(
    rungs: Annotated[list[str] | None, typer.Argument(help="Numbers or parts of names, such as 03 or tma; default: all.")] = None,
    shape: Annotated[
        str, typer.Option("--shape", metavar="N,CIN,COUT", help="Images, channels in and out (multiples of 64) that are counted.")
    ] = "1,64,64",
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", help="The GPU of the estimates: T4, A100, RTX3090, RTX4090, H100.")
    ] = "H100",
    html_folder: Annotated[Path | None, typer.Option("--html", metavar="FOLDER", help="Write each rung's page into it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all counts as JSON.")] = False,
) -> None:
    """One convolution in thirteen stand-alone CUDA files, each with one idea more: their counters beside each other.

    On a machine with a GPU and nvcc the time of each for a batch of 64 stands there too. docs/ladder.md explains the files.
    """
    chosen = files(rungs or [])
    if not re.fullmatch(r"\d+,\d+,\d+", shape):
        raise ArgumentError(f"--shape {shape!r}: expected three numbers, such as 1,64,64")
    of = known_gpu(gpu)

    def count(path: Path) -> ProgramProfile:
        return profile(path, blocks=0, options=[f"-DSHAPE={shape}"], timeout=600)

    with ThreadPoolExecutor(max_workers=max(1, emulated_builds.cores() // 2)) as pool:
        results = list(pool.map(count, chosen))
    times = _times(chosen)
    if html_folder is not None:
        html_folder.mkdir(parents=True, exist_ok=True)
        for path, result in zip(chosen, results, strict=True):
            write_atomically(html_folder / f"{path.stem}.html", html.page(result, of).encode())
    if as_json:
        data = [{"rung": p.stem, "milliseconds": times.get(p.stem), **r.to_json()} for p, r in zip(chosen, results, strict=True)]
        print(json.dumps(data, indent=1))
        return
    rows = []
    for path, result in zip(chosen, results, strict=True):
        name = path.stem
        for c in result.counted:
            cells = [name, c.kernel.name, *row_of(c, of)]
            rows.append([*cells, times.get(path.stem, "")] if times else cells)
            name = ""
    columns: list[str | Column] = ["rung", "kernel", *COLUMNS, *(["best of 20,\nbatch of 64"] if times else [])]
    n, cin, cout = shape.split(",")
    notes = [*NOTES, f"at least: on {of.name}, what its busiest part needs for these counts at its peak"]
    table(f"conv2, {n} images of 16 x 16, {cin} to {cout} channels", columns, rows, 2, notes)


def files(words: list[str]) -> list[Path]:
    """The rungs whose names hold one of the words; all for none."""
    folder = emulated_builds.source_root() / "ladder"
    every = sorted(folder.glob("[0-9]*.cu"))
    if not every:
        raise DeviceError(f"this installation holds no ladder ({folder}); install warploom again")
    found = [p for p in every if not words or any(word in p.stem for word in words)]
    if not found:
        raise ArgumentError(f"no rung is named {' or '.join(words)}; there are {', '.join(p.stem for p in every)}")
    return found


def architecture(path: Path) -> str:
    """The least that a rung needs, as it says itself."""
    m = re.search(r"Needs (?:-arch=sm_|-gencode arch=compute_)(\w+)", path.read_text())
    return m.group(1) if m else "75"


def compile_command(path: Path, target: Path) -> list[str]:
    """nvcc's command for a rung, for the least architecture that it needs."""
    arch = architecture(path)
    command = [find_tool("nvcc"), "-O3", "-std=c++17", "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    if not arch.endswith("a"):  # newer GPUs take the PTX
        command += ["-gencode", f"arch=compute_{arch},code=compute_{arch}"]
    return [*command, nvcc_option(f"-DSHAPE={_BATCH}"), str(path), "-o", str(target), *(["-lcuda"] if arch == "90a" else [])]


def _times(chosen: list[Path]) -> dict[str, str]:
    """By rung, on the GPU that is there; empty without one, or without nvcc."""
    if not any(row["kind"] == "cuda" and row["usable"] for row in hardware.devices()):
        return {}
    found = {}
    with tempfile.TemporaryDirectory(prefix="warploom-ladder-") as name:
        for path in chosen:
            program = Path(name) / path.stem
            done = subprocess.run(compile_command(path, program), capture_output=True, text=True, check=False)
            if done.returncode == 0:
                done = subprocess.run([str(program), "20"], capture_output=True, text=True, check=False)
            m = re.search(r": ([\d.]+) ms", done.stdout)
            found[path.stem] = f"{m.group(1)} ms" if m and done.returncode == 0 else "does not run here"
            if done.returncode:
                print(f"warploom ladder: {path.stem}: {(done.stderr or done.stdout).strip()[:300]}", file=sys.stderr)
    return found
