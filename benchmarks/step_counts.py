"""Counts every kernel of whole training steps on the emulated device: what benchmarks/step_model.py turns into times.

    python benchmarks/step_counts.py                         all versions, precisions and batch sizes of STEPS; minutes
    python benchmarks/step_counts.py --versions v7           those alone; the others' lines are kept

A line a step in benchmarks/results/step_counts.jsonl, in it what each kernel and launch shape did.
Counts are facts about the source, no times. Of most launches two blocks are counted; the blocks of a launch that runs errands of
several calls differ, so all of them are, and beside it stands what each call's errands do in a launch of their own ("alone").
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("model", "batch", "version", "precision")
RESULTS = ROOT / "benchmarks" / "results" / "step_counts.jsonl"
VERSIONS = ("v1", "v2", "v3", "v4", "v5", "v6", "v7")
STEPS = (
    *(("cifar10_autoencoder", batch, version, "fp32") for batch in (64, 256) for version in ("v1", "v2", "v3", "v4", "v6")),
    *(("cifar10_autoencoder", batch, "v5", p) for batch in (64, 256) for p in ("tf32", "bf16", "fp16")),
    *(("cifar10_autoencoder", batch, "v7", p) for batch in (64, 256) for p in ("tf32", "bf16", "fp16")),
    *((m, 16, *pair) for m in ("unet_small", "gray_autoencoder") for pair in (("v4", "fp32"), ("v6", "fp32"), ("v7", "bf16"))),
)  # fmt: skip

ERRANDS = "v5::run_errands_kernel"
SHARED = ("run_errands", "sgd_update")  # operations that are nothing but errands of several calls
Row = dict[str, Any]


def counts_of(k: Any) -> Row:
    """What counted blocks did. traffic: [requests, sectors or wavefronts]."""
    traffic = {f"{s}_{a}": [t.requests, t.moved] for (s, a), t in k.traffic.items() if t.requests}
    return {
        "launches": k.launches, "blocks": k.blocks, "counted": k.blocks_counted, "barriers": k.barriers,
        "basic_blocks": k.basic_blocks, "traffic": traffic,
    }  # fmt: skip


def warps_that_round(k: Any) -> int:
    """Of a block of v7: the last argument of the templates in which they do it."""
    found = (re.search(r"\b(?:round_unit|ColumnSums::add)<.*, (\d+)>", line.function) for line in k.lines)
    return max((int(m[1]) for m in found if m), default=0)


def errands_alone(profiler: Any, alone: Any, rows: list[Row], shared: list[Row]) -> None:
    """To launches that several calls share: counted whole, and their calls' errands each in a launch of their own."""
    from warploom.kernel_tools import counters

    own = {row["call"] for row in rows if row["kernel"] == ERRANDS and row not in shared}
    for call in dict.fromkeys(row["call"] for row in shared):
        with counters.counting(0, calls=call, skip_rest=True) as counts:
            profiler.step()
        for row, k in zip((row for row in shared if row["call"] == call), counts.kernels, strict=True):
            row.update(counts_of(k), alone=[])
    calls = profiler.calls
    for i, k in enumerate(alone.kernels):
        if k.name != ERRANDS or k.call in own:
            continue
        # What a call does last goes to the step's last launch, what it wants prepared to one before it.
        last = any(before.call == k.call for before in alone.kernels[:i])
        before = [row for row in shared if row["call"] in calls and calls.index(row["call"]) < calls.index(k.call)]
        for row in shared[-1:] if last else before[-1:]:
            row["alone"].append({"call": k.call} | counts_of(k))


def count(model: str, batch: int, version: str, precision: str, blocks: int = 2) -> Iterator[Row]:
    """The kernels of one training step in order."""
    import warploom as wl
    from warploom.kernel_tools.profile import Profiler

    made = lambda: Profiler(wl.models.get(model), version, batch_size=batch, precision=precision)  # noqa: E731
    profiler = made()
    steps = profiler.engine.explain(batch)
    named = {f"{s['node']}.{s['entry']}" if s["node"] else s["entry"]: s for s in steps}
    memory = int(profiler.engine.memory(batch)["total"])
    # A naive block walks over the whole batch: one of them is as much work as all the others' together.
    result = profiler.run(blocks=1 if version == "v1" else blocks)
    rows = []
    for k in result.kernels:
        step = named.get(k.call, {})
        row = {
            "model": model, "batch": batch, "version": version, "precision": precision, "call": k.call, "kernel": k.name,
            "algorithm": step.get("algorithm", ""), "touched": int(step.get("bytes", 0)) + 2 * int(step.get("workspace", 0)),
            "step_memory": memory, "block": k.block, "static_shared": k.static_shared, "dynamic_shared": k.dynamic_shared,
            "matrix": k.matrix_multiplies, "flops": result.flops.get(k.call, 0),
        }  # fmt: skip
        row |= counts_of(k) | ({"round_warps": n} if (n := warps_that_round(k)) else {})
        rows.append(row)
    shared = [row for row in rows if row["kernel"] == ERRANDS and row["call"].rpartition(".")[2] in SHARED]
    if shared:
        os.environ["WARPLOOM_ERRANDS"] = "0"
        try:
            alone = made().run(blocks=4 * blocks)
        finally:
            del os.environ["WARPLOOM_ERRANDS"]
        errands_alone(profiler, alone, rows, shared)
    yield from rows


def read(path: Path = RESULTS) -> dict[tuple[Any, ...], list[Row]]:
    """The kernels of every step by (model, batch, version, precision), each with these four."""
    steps = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        told = json.loads(line)
        about = {name: told[name] for name in NAMES}
        steps[tuple(about.values())] = [about | kernel for kernel in told["kernels"]]
    return steps


def write(steps: dict[tuple[Any, ...], list[Row]], path: Path) -> None:
    order = {step: i for i, step in enumerate(STEPS)}
    lines = []
    for step in sorted(steps, key=lambda s: order.get(s, len(order))):
        kernels = [{key: value for key, value in r.items() if key not in NAMES} for r in steps[step]]
        lines.append(json.dumps(dict(zip(NAMES, step, strict=True)) | {"kernels": kernels}, separators=(",", ":")) + "\n")
    path.write_text("".join(lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="*", default=[])
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    steps = read(options.results)
    for step in STEPS:
        model, batch, version, precision = step
        if (options.versions and version not in options.versions) or (options.models and model not in options.models):
            continue
        steps[step] = list(count(model, batch, version, precision))
        write(steps, options.results)  # an interrupted run keeps what it has
        print(*step, sum(r["launches"] for r in steps[step]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
