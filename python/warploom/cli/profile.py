"""The command that counts what kernels do: profile."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from warploom import errors
from warploom.cli.app import VersionOption, app, load_network
from warploom.ground.arrays import LARGEST
from warploom.ground.tables import bytes_text
from warploom.kernel_tools import counters
from warploom.kernel_tools.counters import Kernel, Line
from warploom.kernel_tools.profile import DIRECTIONS, Profile, Profiler

_ON_A_GPU = (
    "profile counts on the emulated device; on a GPU NVIDIA's tools measure: ncu --set full -k regex:{kernel} warploom train "
    "--device cuda --version {version} --model {model} --limit 128 --epochs 1 (counters and time of each kernel), nsys profile "
    "with the same command (the whole step on a time line)"
)


@app.command()
def profile(
    device: Annotated[
        str, typer.Option("--device", help="emulated; for cuda it says which of NVIDIA's tools to start.")
    ] = "emulated",
    version: VersionOption = "auto",
    model: Annotated[str, typer.Option("--model", help="A model's name, or a .safetensors file of one.")] = "cifar10_autoencoder",
    layer: Annotated[str, typer.Option("--layer", help="A layer, such as conv2; default: all.")] = "",
    direction: Annotated[str, typer.Option("--direction", help=f"One of {', '.join(DIRECTIONS)}; default: all.")] = "",
    kernel: Annotated[str, typer.Option("--kernel", help="Only kernels whose name this regular expression finds.")] = "",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=LARGEST, help="Images in a step.")] = 64,
    precision: Annotated[str, typer.Option("--precision", help="fp32, fp32-exact, tf32, bf16 or fp16.")] = "fp32",
    blocks: Annotated[int, typer.Option("--blocks", min=0, help="Blocks to count of each launch, spread over it; 0: all.")] = 8,
    complete: Annotated[
        bool, typer.Option("--complete", help="Run what is not counted too: the step's own data, slower.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", min=0, help="Source lines to show.")] = 12,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all counts to this file.")] = None,
) -> None:
    """Coalescing, bank conflicts and divergence of kernels, counted by source line on the emulated device."""
    if device.startswith("cuda"):
        words = _ON_A_GPU.format(kernel=kernel or "conv2d", version="v4" if version == "auto" else version, model=model)
        raise errors.ArgumentError(words)
    if device not in ("emulated", counters.DEVICE):
        raise errors.ArgumentError(f"profile runs on device emulated, not on {device!r}")
    profiler = Profiler(load_network(model), version, batch_size=batch_size, precision=precision)
    result = profiler.run(layer, direction, kernel=kernel, blocks=blocks, complete=complete)
    if json_file is not None:
        result.write(json_file)
    show(result, lines)


def show(result: Profile, lines: int) -> None:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else max(190, shutil.get_terminal_size().columns), highlight=False)
    precision = "" if result.precision == "fp32" else f", {result.precision}"
    calls = {k.call for k in result.kernels}
    of = f": {calls.pop()}" if len(calls) == 1 else ""
    console.print(f"[bold]{result.model}, version {result.version}, batch {result.batch_size}{precision}{of}[/bold]")
    console.print(_kernel_table(result))
    if lines and (hottest := result.hottest(lines)):
        console.print(_line_table(hottest))
    for name, p in result.partings(lines // 2):
        share = f"{p.divergent:,} of {p.branches:,} branches ({p.divergent / p.branches:.0%})"
        console.print(f"lanes part before {p.place} ({name}): {share}")
    counted, there = sum(k.blocks_counted for k in result.kernels), sum(k.blocks for k in result.kernels)
    console.print(
        f"counted in {counted:,} of {there:,} blocks; x ideal: sectors or wavefronts over the fewest that would do; bytes/FLOP: "
        "requested sectors over the layer's plain arithmetic. Counts, not times.",
        style="dim",
    )


def _marked(value: float, text: str, fine: float, poor: float) -> str:
    color = "green" if value <= fine else "yellow" if value <= poor else "red"
    return f"[{color}]{text}[/{color}]"


def _kernel_table(result: Profile) -> object:
    from rich.table import Table

    table = Table(header_style="bold")
    several = len({k.call for k in result.kernels}) > 1
    for name in ("operation", "kernel") if several else ("kernel",):
        table.add_column(name, overflow="fold")
    columns = (
        "grid", "block", "global\nrequests", "sectors\n/request", "x ideal", "shared\nrequests", "wavefronts\n/request",
        "x ideal", "active\nlanes", "divergent\nbranches", "global\ntraffic", "bytes\n/FLOP",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for k in result.kernels:
        device, shared = k.total("global"), k.total("shared")
        per_flop = result.bytes_per_flop(k)
        table.add_row(
            *((k.call,) if several else ()), k.name + _extras(k),
            _shape(k.grid) + (f"\n{k.launches} launches" if k.launches > 1 else ""), _shape(k.block),
            f"{device.requests:,}", f"{device.per_request:.2f}", _marked(k.coalescing, f"{k.coalescing:.2f}", 1.1, 2.0),
            f"{shared.requests:,}" if shared.requests else "", f"{shared.per_request:.2f}" if shared.requests else "",
            _marked(k.conflicts, f"{k.conflicts:.2f}", 1.001, 1.5) if shared.requests else "",
            f"{k.active_lanes:.0%}", _marked(k.divergence, f"{k.divergence:.1%}", 0.1, 0.3), bytes_text(k.global_bytes),
            f"{per_flop:.4f}" if per_flop else "",
        )  # fmt: skip
    return table


def _extras(k: Kernel) -> str:
    parts = [f"{count:,} {name if name == 'wgmma' else 'mma ' + name}" for name, count in k.matrix_multiplies.items()]
    counts = {"ldmatrix": k.matrix_loads, "shuffles": k.shuffles, "votes": k.votes}
    parts += [f"{count:,} {name}" for name, count in counts.items() if count]
    barriers = round(k.barriers / max(k.blocks_counted, 1))
    if barriers:
        parts.append(f"{barriers:,} barrier{'s' if barriers != 1 else ''} a block")
    shared = k.static_shared + k.dynamic_shared
    if shared:
        parts.append(f"{bytes_text(shared)} shared")
    return "".join(f"\n[dim]{part}[/dim]" for part in parts)


def _line_table(hottest: list[tuple[str, Line]]) -> object:
    from rich.table import Table

    table = Table(header_style="bold", title="source lines that move most", title_justify="left")
    for column in ("line", "kernel", "access"):
        table.add_column(column, overflow="fold")
    for column in ("requests", "active\nlanes", "sectors or wavefronts\n/request", "x ideal"):
        table.add_column(column, justify="right")
    for name, line in hottest:
        t = line.traffic
        fine = 1.1 if line.space == "global" else 1.001
        table.add_row(
            line.place, name, f"{line.space} {line.action}, {line.access_bytes} bytes", f"{t.requests:,}", f"{t.active:.0%}",
            f"{t.per_request:.2f}", _marked(t.ratio, f"{t.ratio:.2f}", fine, 2.0),
        )  # fmt: skip
    return table


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape)).removesuffix("x1").removesuffix("x1")
