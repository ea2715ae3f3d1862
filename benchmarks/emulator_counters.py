"""Counts, on the emulated device, what all versions' convolutions of the CIFAR-10 autoencoder do to memory; JSON lines, tables.

    python benchmarks/emulator_counters.py                    every version, layer and direction; writes results and tables
    python benchmarks/emulator_counters.py --tables-only      the tables of docs/kernels/counters.md from the results there are
    python benchmarks/emulator_counters.py --require-clean v4 v5      fails where a main loop of conv2 ... conv5 is not coalesced

Counts are facts about the source and its launches, the same on every run and machine: no times, nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "emulator_counters.jsonl"
PAGE = ROOT / "docs" / "kernels" / "counters.md"
BEGIN, END = "<!-- emulator_counters.py: begin -->", "<!-- emulator_counters.py: end -->"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DIRECTIONS = ("forward", "backward_input", "backward_weight", "backward")
SECTORS_AT_MOST, WAVEFRONTS_AT_MOST = 1.1, 1.001

Row = dict[str, Any]


def versions() -> list[tuple[str, str]]:
    """(version, precision) of everything that runs on the emulated device; lower precisions where the version has its own."""
    import warploom as wl
    from warploom.errors import UnsupportedError
    from warploom.ground import hardware
    from warploom.kernel_tools import counters
    from warploom.kernel_tools.profile import Profiler

    names = next(d["versions"] for d in hardware.devices() if d["name"] == counters.DEVICE)
    found = [(name, "fp32") for name in names]
    seen = set()
    for name in names:
        for precision in ("tf32", "bf16"):
            try:
                profiler = Profiler(wl.models.cifar10_autoencoder(), name, batch_size=1, precision=precision)
            except UnsupportedError:
                continue
            steps = tuple((s["node"], s["entry"], s["algorithm"]) for s in profiler.engine.explain(1))
            if steps not in seen:  # else it takes them from an earlier version
                found.append((name, precision))
            seen.add(steps)
    return found


def count(version: str, precision: str, batch: int, blocks: int) -> Iterator[Row]:
    import warploom as wl
    from warploom.kernel_tools.profile import Profiler

    profiler = Profiler(wl.models.cifar10_autoencoder(), version, batch_size=batch, precision=precision)
    for layer in LAYERS:
        for direction in DIRECTIONS:
            if f"{layer}.conv2d_{direction}" not in profiler.calls:
                continue  # the first layer needs no gradient of its input
            result = profiler.run(layer, direction, blocks=blocks)
            for k in result.kernels:
                if k.call != f"{layer}.conv2d_{direction}":
                    continue  # "backward" also fits an activation's gradient
                traffic = {
                    f"{space}_{action}": [t.requests, t.moved, t.ideal] for (space, action), t in k.traffic.items() if t.requests
                }
                yield {
                    "version": version, "precision": precision, "layer": layer, "direction": direction, "batch": batch,
                    "kernel": k.name, "grid": k.grid, "block": k.block, "launches": k.launches, "blocks": k.blocks,
                    "blocks_counted": k.blocks_counted, "traffic": traffic, "coalescing": round(k.coalescing, 4),
                    "conflicts": round(k.conflicts, 4), "active_lanes": round(k.active_lanes, 4),
                    "divergence": round(k.divergence, 4), "barriers": k.barriers, "shuffles": k.shuffles,
                    "matrix_multiplies": k.matrix_multiplies, "global_bytes": round(k.global_bytes),
                    "flops": result.flops.get(k.call, 0), "static_shared": k.static_shared, "dynamic_shared": k.dynamic_shared,
                }  # fmt: skip


def borrowers() -> set[str]:
    """Versions that take over another's float32 convolutions."""
    from warploom import _core

    return {v["name"] for v in _core.versions() if v["float32_from"]}


def total(rows: list[Row], space: str) -> tuple[float, float]:
    """(moved, ideal) of all kernels of an operation, scaled from the counted blocks to all."""
    moved = ideal = 0.0
    for row in rows:
        scale = row["blocks"] / row["blocks_counted"]
        for name, (_, m, i) in row["traffic"].items():
            if name.startswith(space):
                moved, ideal = moved + scale * m, ideal + scale * i
    return moved, ideal


def cell(rows: list[Row]) -> str:
    if not rows:
        return ""
    moved, ideal = total(rows, "global")
    text = f"{moved / ideal:.2f}"
    wavefronts, least = total(rows, "shared")
    return f"{text} / {wavefronts / least:.2f}" if least else f"{text} / -"


def traffic_cell(rows: list[Row]) -> str:
    return f"{1000 * sum(r['global_bytes'] for r in rows) / rows[0]['flops']:.1f}" if rows and rows[0]["flops"] else ""


def tables(rows: list[Row]) -> str:
    columns = list(dict.fromkeys((r["version"], r["precision"]) for r in rows))
    # A version that inherits its float32 convolutions has no column of its own for them.
    inherits = borrowers()
    columns = [c for c in columns if c[1] != "fp32" or c[0] not in inherits]
    names = [v if p == "fp32" else f"{v} {p}" for v, p in columns]
    head = ["| layer | direction | " + " | ".join(names) + " |", "|-|-|" + "-|" * len(names)]

    def body(make: Any) -> list[str]:
        lines = []
        for layer in LAYERS:
            for direction in DIRECTIONS:
                of = [r for r in rows if r["layer"] == layer and r["direction"] == direction]
                if of:
                    cells = [make([r for r in of if (r["version"], r["precision"]) == c]) for c in columns]
                    lines.append(f"| {layer} | {direction.replace('_', ' ')} | " + " | ".join(cells) + " |")
        return lines

    batch = rows[0]["batch"]
    return "\n".join(
        [
            f"Counted on the emulated device, batch {batch} (`benchmarks/emulator_counters.py`): counts, not times. First table: "
            "32-byte sectors asked for over the fewest that hold the bytes, then shared-memory wavefronts over those without "
            "bank conflicts, over all kernels of an operation.",
            "",
            *head,
            *body(cell),
            "",
            "Bytes asked of the memory system (L1 and beyond) per 1000 FLOP of the layer's plain definition:",
            "",
            *head,
            *body(traffic_cell),
        ]
    )


def write_tables(rows: list[Row]) -> None:
    text = PAGE.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{PAGE.name} lacks the lines {BEGIN} and {END}: the tables go between them")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(rows)}\n{END}{rest.split(END)[1]}")


def unclean(rows: list[Row], wanted: list[str]) -> list[str]:
    """Kernels of conv2 ... conv5 that ask for too many sectors or meet bank conflicts, inherited float32 ones left out."""
    inherits = borrowers()
    found = []
    for r in rows:
        inherited = r["precision"] == "fp32" and r["version"] in inherits
        if r["version"] not in wanted or r["layer"] == "conv1" or inherited:
            continue
        if r["coalescing"] > SECTORS_AT_MOST or r["conflicts"] > WAVEFRONTS_AT_MOST:
            found.append(
                f"{r['version']} {r['precision']} {r['layer']} {r['direction']} {r['kernel']}: sectors x{r['coalescing']:.2f}, "
                f"wavefronts x{r['conflicts']:.2f}"
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="*", default=[], help="default: all; the results of others are kept")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=4, help="blocks counted of each launch, spread over it; 0: all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--require-clean", nargs="*", default=[], metavar="VERSION")
    options = parser.parse_args()

    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if not options.tables_only:
        from machine import about_run

        about = {key: value for key, value in about_run(ROOT).items() if key in ("commit", "uncommitted", "command", "when")}
        for version, precision in versions():
            if options.versions and version not in options.versions:
                continue
            rows = [r for r in rows if (r["version"], r["precision"]) != (version, precision)]
            # A naive block walks over the whole batch: one of them is as much work as all the others' together.
            for row in count(version, precision, options.batch, min(options.blocks, 1) if version == "v1" else options.blocks):
                rows.append(row | about)
                print(f"{version} {precision} {row['layer']} {row['direction']} {row['kernel']}: {cell([row])}", flush=True)
            rows.sort(key=lambda r: (r["version"], r["precision"]))
            options.results.write_text("".join(json.dumps(row) + "\n" for row in rows))  # an interrupted run keeps what it has
    if options.results == RESULTS:
        write_tables(rows)
    for sentence in (bad := unclean(rows, options.require_clean)):
        print(sentence, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
