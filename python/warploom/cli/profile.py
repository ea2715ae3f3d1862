"""The command that counts what kernels do: profile."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from warploom import errors
from warploom.cli.app import app, load_network, say, table
from warploom.cli.program_profile import profile_program
from warploom.cli.words import KERNELS, complete_models, whole
from warploom.ground import hardware
from warploom.ground.tables import Column, Styled, bytes_text
from warploom.kernel_tools import counters
from warploom.kernel_tools.counters import Kernel, Line
from warploom.kernel_tools.profile import DIRECTIONS, Profile, Profiler, check_names, pattern_of
from warploom.kernel_tools.verdict import place_text, verdict
from warploom.lab.gpus import GPUS
from warploom.lab.gpus import gpu as known_gpu

_ON_A_GPU = (
    "profile counts on the emulated device; on a GPU NVIDIA's tools measure: ncu --set full -k regex:{kernel} warploom train "
    "--device cuda --version {version} --model {model} --limit 128 --epochs 1 (counters and time of each kernel), nsys profile "
    "with the same command (the whole step on a time line)"
)


_LEGEND = (
    "x ideal: global, 32-byte sectors moved over the fewest that hold the bytes (1.00: fully coalesced); shared, wavefronts over "
    "the fewest (1.00: no bank conflict)",
    "active lanes: of a warp's 32, over all that it ran; divergent: the branches at which its lanes part; traffic: all sectors "
    "asked for, before any cache; bytes/FLOP: that over the layer's plain arithmetic",
)
_WHAT, _HOW, _SHOWN = "What is counted", "How it is counted", "What is shown"  # panels of --help


@app.command(rich_help_panel=KERNELS)
def profile(
    file: Annotated[
        Path | None, typer.Argument(help="A CUDA program of yours (x.cu), instead of a network. What follows -- is given to it.")
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="-- ARGS", help="Arguments of the program, after --.")] = None,
    version: Annotated[
        str,
        typer.Option(
            "--version",
            metavar="VERSION",
            rich_help_panel=_WHAT,
            help="Kernels: auto, v1, v2, ...; several, such as v1,v3, are compared operation by operation.",
        ),
    ] = "auto",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="MODEL",
            autocompletion=complete_models,
            rich_help_panel=_WHAT,
            help="A model's name, its .safetensors file, or the folder of a run.",
        ),
    ] = "cifar10_autoencoder",
    layer: Annotated[
        str, typer.Option("--layer", metavar="NAME", rich_help_panel=_WHAT, help="A layer, such as conv2; default: all.")
    ] = "",
    direction: Annotated[
        str,
        typer.Option("--direction", metavar="NAME", rich_help_panel=_WHAT, help=f"One of {', '.join(DIRECTIONS)}; default: all."),
    ] = "",
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel", metavar="REGEX", rich_help_panel=_WHAT, help="Only kernels whose name this regular expression finds."
        ),
    ] = "",
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            rich_help_panel=_HOW,
            help="emulated; for cuda it says which of NVIDIA's tools to start.",
        ),
    ] = "emulated",
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", callback=whole(), rich_help_panel=_HOW, help="Images in a step.")
    ] = 64,
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", rich_help_panel=_HOW, help="fp32, fp32-exact, tf32, bf16 or fp16.")
    ] = "fp32",
    blocks: Annotated[
        int,
        typer.Option(
            "--blocks",
            metavar="N",
            callback=whole(0),
            rich_help_panel=_HOW,
            help="Blocks to count of each launch, spread over it; 0: all.",
        ),
    ] = 8,
    complete: Annotated[
        bool,
        typer.Option("--complete", rich_help_panel=_HOW, help="Run what is not counted too: the step's own data, slower."),
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", metavar="N", callback=whole(0), rich_help_panel=_SHOWN, help="Source lines to show.")
    ] = 12,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", rich_help_panel=_SHOWN, help="Write all counts to this file (of one version)."),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", rich_help_panel=_SHOWN, help="Write a page of a program's profile, with pictures."
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", rich_help_panel=_SHOWN, help=f"Of a program's estimates: {', '.join(GPUS)}.")
    ] = "H100",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-X", metavar="OPTION", rich_help_panel=_HOW, help='For the compiler of a program, such as "-DN=64".'
        ),
    ] = None,
) -> None:
    """Coalescing, bank conflicts and divergence of kernels, counted by source line on the emulated device.

    Of a network's training step, or of a CUDA program: warploom profile mine.cu --html mine.html
    """
    if file is not None:
        profile_program(
            file, arguments or [], blocks=blocks, options=option or [], lines=lines, gpu=known_gpu(gpu), json_file=json_file,
            html_file=html_file,
        )  # fmt: skip
        return
    if html_file is not None:
        raise errors.ArgumentError("--html is for a CUDA program: warploom profile mine.cu --html mine.html")
    if device.startswith("cuda"):
        words = _ON_A_GPU.format(kernel=kernel or "conv2d", version="v4" if version == "auto" else version, model=model)
        raise errors.ArgumentError(words)
    if device not in ("emulated", counters.DEVICE):
        raise errors.ArgumentError(f"profile runs on device emulated, not on {device!r}")
    names = [name.strip() for name in version.split(",") if name.strip()] or ["auto"]
    if len(names) > 1 and json_file is not None:
        raise errors.ArgumentError("--json writes the counts of one version: leave it out, or name one --version")
    network = load_network(model)
    for name in names:  # all of it before the first use compiles the device, which takes minutes
        hardware.check(name, precision)
    check_names(network, layer, direction)
    pattern_of(kernel)
    found = []
    for name in names:
        profiler = Profiler(network, name, batch_size=batch_size, precision=precision)
        found.append(profiler.run(layer, direction, kernel=kernel, blocks=blocks, complete=complete))
    if json_file is not None:
        found[0].write(json_file)
    if len(found) > 1:
        compare(found)
    else:
        show(found[0], lines)


def show(result: Profile, lines: int) -> None:
    """One version: its kernels, its source lines, and what stands out."""
    precision = "" if result.precision == "fp32" else f", {result.precision}"
    calls = {k.call for k in result.kernels}
    of = f": {calls.pop()}" if len(calls) == 1 else ""
    counted, there = sum(k.blocks_counted for k in result.kernels), sum(k.blocks for k in result.kernels)
    notes = [f"counted in {counted:,} of {there:,} blocks. Counts, not times.", *_LEGEND]
    title = f"{result.model}, version {result.version}, batch {result.batch_size}{precision}{of}"
    _kernel_table(title, result, notes)
    if lines and (hottest := result.hottest(lines)):
        print()
        _line_table(hottest)
    print()
    for sentence in verdict(result):
        say(sentence)


def compare(found: Sequence[Profile]) -> None:
    """Several versions: their kernels, operation by operation, and the traffic of each operation."""
    columns = [
        Column("operation, kernel"), Column("version"), *(_right("global\ntraffic"), _right("global\nx ideal")),
        *(_right("shared\nx ideal"), _right("active\nlanes", spare=1), _right("divergent\nbranches", spare=2)),
    ]  # fmt: skip
    rows, notes = [], []
    for call in dict.fromkeys(k.call for result in found for k in result.kernels):
        rows.append([Styled(f"[bold]{call}[/bold]"), *[""] * 6])
        traffic = {}
        for result in found:
            own = [k for k in result.kernels if k.call == call]
            if own:
                traffic[result.version] = sum(k.global_bytes for k in own)
            for k in own:
                shared = k.total("shared")
                rows.append([
                    f"  {k.name}", result.version, bytes_text(k.global_bytes),
                    _marked(k.coalescing, f"{k.coalescing:.2f}", 1.1, 2.0),
                    _marked(k.conflicts, f"{k.conflicts:.2f}", 1.001, 1.5) if shared.requests else "",
                    f"{k.active_lanes:.0%}", _marked(k.divergence, f"{k.divergence:.1%}", 0.1, 0.3),
                ])  # fmt: skip
        least, most = min(traffic, key=traffic.__getitem__), max(traffic, key=traffic.__getitem__)
        if traffic[least] and traffic[most] >= 1.1 * traffic[least]:
            factor = traffic[most] / traffic[least]
            notes.append(f"{call}: {most} asks device memory for {factor:,.1f} times as many bytes as {least}")
    versions = ", ".join(result.version for result in found)
    title = f"{found[0].model}, versions {versions}, batch {found[0].batch_size}"
    table(title, columns, rows, notes=[*notes, "Counts, not times.", *_LEGEND])


def _right(title: str, spare: int = 0) -> Column:
    return Column(title, right=True, spare=spare)


def _marked(value: float, text: str, fine: float, poor: float) -> str:
    color = "green" if value <= fine else "yellow" if value <= poor else "red"
    return Styled(f"[{color}]{text}[/{color}]")


def _kernel_table(title: str, result: Profile, notes: Sequence[str]) -> None:
    several = len({k.call for k in result.kernels}) > 1
    columns = [
        Column("operation, kernel" if several else "kernel"),
        *(_right("grid", 8), _right("block", 9), _right("global\nrequests", 6), _right("sectors\n/request", 4)),
        *(_right("global\nx ideal"), _right("shared\nrequests", 7), _right("wavefronts\n/request", 5), _right("shared\nx ideal")),
        *(_right("active\nlanes", 1), _right("divergent\nbranches", 2), _right("global\ntraffic"), _right("bytes\n/FLOP", 3)),
    ]
    rows: list[list[str]] = []
    last = ""
    for k in result.kernels:
        if several and k.call != last:
            rows.append([Styled(f"[bold]{k.call}[/bold]"), *[""] * 12])
            last = k.call
        device, shared = k.total("global"), k.total("shared")
        per_flop = result.bytes_per_flop(k)
        rows.append([
            Styled(f"{'  ' if several else ''}{k.name}{_extras(k, several)}"),
            _shape(k.grid) + (f"\n{k.launches} launches" if k.launches > 1 else ""), _shape(k.block),
            f"{device.requests:,}", f"{device.per_request:.2f}", _marked(k.coalescing, f"{k.coalescing:.2f}", 1.1, 2.0),
            f"{shared.requests:,}" if shared.requests else "", f"{shared.per_request:.2f}" if shared.requests else "",
            _marked(k.conflicts, f"{k.conflicts:.2f}", 1.001, 1.5) if shared.requests else "",
            f"{k.active_lanes:.0%}", _marked(k.divergence, f"{k.divergence:.1%}", 0.1, 0.3), bytes_text(k.global_bytes),
            f"{per_flop:.4f}" if per_flop else "",
        ])  # fmt: skip
    table(title, columns, rows, notes=notes)


def _extras(k: Kernel, indented: bool) -> str:
    parts = [f"{count:,} {name if name == 'wgmma' else 'mma ' + name}" for name, count in k.matrix_multiplies.items()]
    counts = {"ldmatrix": k.matrix_loads, "shuffles": k.shuffles, "votes": k.votes}
    parts += [f"{count:,} {name}" for name, count in counts.items() if count]
    barriers = round(k.barriers / max(k.blocks_counted, 1))
    if barriers:
        parts.append(f"{barriers:,} barrier{'s' if barriers != 1 else ''} a block")
    shared = k.static_shared + k.dynamic_shared
    if shared:
        parts.append(f"{bytes_text(shared)} shared")
    return "".join(f"\n{'    ' if indented else '  '}[dim]{part}[/dim]" for part in parts)


def _line_table(hottest: list[tuple[str, Line]]) -> None:
    columns = [
        Column("line"), Column("kernel", spare=4), Column("access"), _right("requests", 2), _right("active\nlanes", 3),
        _right("sectors or\nwavefronts\n/request", 1), _right("x ideal"),
    ]  # fmt: skip
    rows = []
    for name, line in hottest:
        t = line.traffic
        fine = 1.1 if line.space == "global" else 1.001
        rows.append([
            place_text(line.place), name, f"{line.space} {line.action}, {line.access_bytes} bytes", f"{t.requests:,}",
            f"{t.active:.0%}", f"{t.per_request:.2f}", _marked(t.ratio, f"{t.ratio:.2f}", fine, 2.0),
        ])  # fmt: skip
    table("source lines that move most", columns, rows)


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape)).removesuffix("x1").removesuffix("x1")
