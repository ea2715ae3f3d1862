"""`warploom profile FILE.cu`: what a CUDA program's kernels do, as tables, JSON, or a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from warploom.cli.app import say, table
from warploom.errors import ArgumentError
from warploom.ground.atomic import write_atomically
from warploom.ground.tables import Column, bytes_text
from warploom.kernel_tools.verdict import place_text, verdict
from warploom.lab import html
from warploom.lab.gpus import Gpu
from warploom.lab.profile import Counted, ProgramProfile
from warploom.lab.profile import profile as count
from warploom.lab.refusal import Refusal


def profile_program(
    file: Path, arguments: Sequence[str], *, blocks: int, options: Sequence[str], lines: int, gpu: Gpu, json_file: Path | None,
    html_file: Path | None,
) -> None:  # fmt: skip
    """Counts, and shows."""
    try:
        found = count(file, arguments, blocks=blocks, options=options)
    except Refusal as e:
        raise ArgumentError(str(e)) from None
    if json_file is not None:
        write_atomically(json_file, (json.dumps(found.to_json(), indent=1) + "\n").encode())
    if html_file is not None:
        write_atomically(html_file, html.page(found, gpu).encode())
    if not found.counted:
        say(f"{file}: no kernel ran" + (f": {found.stopped}" if found.stopped else ""))
        return
    _kernel_table(found, gpu)
    if lines:
        print()
        _line_table(found, lines)
    print()
    for sentence in verdict(found):
        say(sentence)
    if found.stopped:
        say(f"the program stopped early: {found.stopped} (warploom check says where)")
    if html_file is not None:
        say(f"the page: {html_file}")


def row_of(c: Counted, gpu: Gpu) -> list[str]:
    """Of a table of kernels, behind its name: the columns that COLUMNS names."""
    k, bounds = c.kernel, c.bounds(gpu)
    largest = max(bounds, key=lambda name: bounds[name])
    return [
        bytes_text(k.global_bytes), f"{k.coalescing:.2f}", f"{k.conflicts:.2f}" if k.total("shared").requests else "",
        f"{k.active_lanes:.0%}", f"{k.divergence:.1%}", f"{c.flops / 1e6:,.1f}", f"{c.intensity:.1f}",
        f"{c.occupancy(gpu.arch):.0%}", f"{html.seconds_text(bounds[largest])} ({largest})",
    ]  # fmt: skip


COLUMNS = (
    Column("global\ntraffic"), Column("global\nx ideal", spare=5), Column("shared\nx ideal", spare=5),
    Column("active\nlanes", spare=1), Column("divergent\nbranches", spare=3), Column("MFLOP", spare=4), Column("FLOP\n/byte"),
    Column("occu-\npancy", spare=2), Column("at least", right=False),
)  # fmt: skip
NOTES = (
    "x ideal: global, 32-byte sectors over the fewest that hold the bytes; shared, wavefronts over the fewest (1: no conflict)",
    "global traffic: all sectors asked for, before any cache. Counts, not times",
)


def _kernel_table(found: ProgramProfile, gpu: Gpu) -> None:
    rows = [
        [c.kernel.name, "x".join(map(str, c.kernel.grid)), "x".join(map(str, c.kernel.block)), *row_of(c, gpu)]
        for c in found.counted
    ]
    counted, there = sum(k.blocks_counted for k in found.kernels), sum(k.blocks for k in found.kernels)
    notes = [
        f"counted in {counted:,} of {there:,} blocks; at least: on {gpu.name}, what its busiest part needs for this at its peak",
        *NOTES,
    ]
    if any(c.registers is None for c in found.counted):
        notes.append("occupancy without registers: nvcc, which knows them, is not there or did not take the file")
    table(str(found.path), ["kernel", Column("grid", spare=6), Column("block", spare=7), *COLUMNS], rows, 1, notes)


def _line_table(found: ProgramProfile, count: int) -> None:
    rows = [
        [
            place_text(line.place), name, f"{line.space} {line.action}, {line.access_bytes} bytes", f"{line.traffic.requests:,}",
            f"{line.traffic.active:.0%}", f"{line.traffic.per_request:.2f}", f"{line.traffic.ratio:.2f}",
        ]
        for name, line in found.hottest(count)
    ]  # fmt: skip
    columns: list[str | Column] = [
        "line", Column("kernel", spare=4), Column("access", right=False), Column("requests", spare=2),
        Column("active\nlanes", spare=3), Column("sectors or\nwavefronts\n/request", spare=1), "x ideal",
    ]  # fmt: skip
    table("source lines that move most", columns, rows, 2)
