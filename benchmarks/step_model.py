"""A model of time that can be wrong: microseconds of every node of a training step on a GPU, from counts and documents alone.

    python benchmarks/step_model.py --version v7 --precision bf16          the nodes of one step on an H100, and what bounds each
    python benchmarks/step_model.py --version v7 --precision bf16 --what-if clusters     with a loss closed
    python benchmarks/step_model.py --all                                  writes results/step_model.jsonl and docs/gpu_model.md
    python benchmarks/step_model.py --measured r.jsonl                     prediction beside measurement, line by line

A node takes the start of a node plus the slowest of ten resources. Counts: benchmarks/step_counts.py (emulated device),
registers and instruction mix: results/static_report.md. Constants: benchmarks/gpu_constants.py. docs/gpu_model.md has the rest.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]

import gpu_constants as c  # noqa: E402
import step_counts  # noqa: E402
from gpu_constants import GPUS, Gpu  # noqa: E402

STATIC = ROOT / "benchmarks/results/static_report.md"
Row = dict[str, Any]
Step = tuple[Any, ...]  # model, batch, version, precision

# Assumptions, fixed before any measurement:
INSTRUCTIONS_A_BLOCK = 3.0  # of a basic block, in kernels without a main loop of multiply-adds
LOADS_IN_FLIGHT = 4  # independent loads of a thread that a loop over partial sums keeps under way
STAGES = 2  # rounds by which cp.async runs ahead
ROUNDING = 36  # dependent instructions of v7's rounding loop per 128 floats, read in sm_90a machine code
FOLDED = 4 / 9  # of an upsampling 3x3 layer's multiply-adds, what four 2x2 convolutions need
SCHEMES = {"winograd4": 36 / 144, "winograd2": 16 / 36, "upsample25": 25 / 144, "upsample9": 9 / 36}  # of the plain definition's

FUNCTIONS = {  # launches that go by another name than their function
    "v6::multiply": "v6::sgemm_kernel", "v6::multiply_transposed": "v6::sgemm_kernel",
    "v6::transform_input_kernel": "v6::patch_transform_kernel", "v6::transform_gradient_kernel": "v6::patch_transform_kernel",
}  # fmt: skip

WHAT_IFS = {"clusters": "weights brought once for two blocks, and persistent blocks"}


@dataclass
class Node:
    call: str
    kernel: str
    launches: int
    times: dict[str, float] = field(default_factory=dict)  # us by resource, of all launches
    start: float = 0.0

    @property
    def critical(self) -> str:
        slowest = max(self.times, key=lambda k: self.times[k])
        return slowest if self.times[slowest] > self.start else "start"

    @property
    def microseconds(self) -> float:
        return self.start + max(self.times.values())


@dataclass(frozen=True)
class Mix:
    """Of a kernel's variants in the static report, for one architecture: most registers, the mean share of multiply-adds."""

    registers: int
    share: float | None
    matrix: bool


@cache
def static_report() -> dict[tuple[str, str, int], list[tuple[str, list[str], list[str]]]]:
    found: dict[tuple[str, str, int], list[tuple[str, list[str], list[str]]]] = {}
    version = ""
    for line in STATIC.read_text().splitlines():
        if line.startswith("## "):
            version = line[3:].split()[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) < 7:
            continue
        name = cells[0].strip("`")
        threads = int(cells[2].rstrip("\\*"))
        entry = (name, cells[4].split(" / "), cells[7].split(" / ") if len(cells) > 7 else ["-"])
        found.setdefault((version, name.split("<")[0], threads), []).append(entry)
    return found


def function_of(launch: str) -> str:
    """ "sgemm_nn" is v4::sgemm_kernel, "correlate_3x3" v3::correlate_3x3_kernel: as the static report and a profiler have it."""
    if launch in FUNCTIONS:
        return FUNCTIONS[launch]
    version, _, name = launch.rpartition("::")
    if name.startswith("sgemm_"):
        name = "sgemm"
    version = version or ("v3" if "correlate" in name else "v4")
    return f"{version}::{name.removesuffix('_kernel')}_kernel"


# Of launches that the static report does not know yet, read in sm_90a machine code by the same tool.
READ = {
    ("v7::conv2d_backward_weight_kernel", 384): Mix(118, 16 / 150, True),  # of a phase four sums
    ("v7::conv2d_backward_weight_kernel", 768): Mix(76, 8 / 106, True),  # three taps
    ("v5::run_errands_kernel", 256): Mix(48, None, False),
}


@cache
def mix(kernel: str, threads: int, architecture: int, precision: str) -> Mix:
    if (kernel, threads) in READ:
        return READ[kernel, threads]
    version, _, name = kernel.partition("::")
    variants = static_report().get((version, name, threads)) or static_report().get((version, name, 256)) or []
    typed = [v for v in variants if precision.lower() in v[0].lower()] or variants
    pick = lambda cells: cells[min(architecture, len(cells) - 1)]  # noqa: E731
    registers = max((int(pick(v[1])) for v in typed), default=32)
    shares = [pick(v[2]) for v in typed]
    told = [(float(s.split("%")[0]) / 100, "MMA" in s) for s in shares if s not in ("-", "")]
    if not told:
        return Mix(registers, None, False)
    return Mix(registers, sum(t[0] for t in told) / len(told), told[0][1])


def resident(r: Row, gpu: Gpu, registers: int) -> int:
    threads = math.prod(r["block"])
    shared = r["static_shared"] + r["dynamic_shared"] + 1024
    warps = math.ceil(threads / 32)
    return max(1, min(gpu.threads // threads, gpu.shared // shared, gpu.registers // (math.ceil(registers / 8) * 8 * 32 * warps)))


def executed(r: Row) -> float:
    """FLOPs that the algorithm does of those of the plain definition."""
    share = next((s for name, s in SCHEMES.items() if name in r["algorithm"]), 1.0)
    return float(r["flops"]) * share * (FOLDED if r["folded"] and share == 1.0 else 1.0)


def predict(r: Row, gpu: Gpu, what_if: frozenset[str] = frozenset()) -> Node:
    threads = math.prod(r["block"])
    warps = math.ceil(threads / 32)
    launches, counted = r["launches"], max(r["counted"], 1)
    blocks = r["blocks"] / launches
    m = mix(r["kernel"], threads, gpu.architecture, r["precision"])
    at_once = resident(r, gpu, m.registers)
    persistent = "clusters" in what_if and r["kernel"].startswith("v7::conv")
    busiest = blocks / gpu.multiprocessors if persistent else math.ceil(blocks / gpu.multiprocessors)  # of one multiprocessor
    waves = math.ceil(blocks / (gpu.multiprocessors * at_once))
    traffic = {key: moved / counted for key, (_, moved) in r["traffic"].items()}  # of a block
    requests = {key: asked / counted for key, (asked, _) in r["traffic"].items()}
    bytes_asked = 32 * sum(v for key, v in traffic.items() if key.startswith("global"))
    if "clusters" in what_if and r["kernel"].startswith("v7::conv"):
        bytes_asked *= 1 - 0.75 / 2
    staged = any(key.startswith("shared") for key in traffic)
    touched = r["touched"] / launches if r["touched"] else math.inf
    from_l2 = bytes_asked * blocks if staged else min(bytes_asked * blocks, max(touched, 1.0))
    # Of the step's memory what the L2 does not hold comes from and goes to DRAM.
    missed = max(0.0, 1 - gpu.l2_megabytes * 1e6 / r["step_memory"])
    cycles: dict[str, float] = {}
    wgmma = r["matrix"].get("wgmma", 0) / counted
    mma = {name: n / counted for name, n in r["matrix"].items() if name != "wgmma"}
    peak = gpu.tf32_flops if r["precision"] == "tf32" else gpu.half_flops
    columns = 0.0
    if wgmma:
        columns = executed(r) / (wgmma * r["blocks"] * 2 * 64 * (8 if r["precision"] == "tf32" else 16))
        columns = 64 if columns < 96 else 128
        cycles["tensor"] = busiest * wgmma * 2 * 64 * columns * (8 if r["precision"] == "tf32" else 16) / peak
    elif mma and peak:
        flops = sum(n * 2 * math.prod(map(int, re.findall(r"\d+", name.split("_")[0]))) for name, n in mma.items())
        cycles["tensor"] = busiest * flops / (peak * gpu.sync_share)
    # wgmma reads B from shared memory itself: 32 bytes of each column.
    cycles["shared"] = busiest * (
        sum(v for key, v in traffic.items() if key.startswith("shared")) + wgmma * columns * 32 / c.SHARED_BYTES
    )
    cycles["L1"] = busiest * 32 * traffic.get("global_load", 0.0) / c.L1_BYTES
    cycles["L2 of one SM"] = busiest * from_l2 / blocks / c.L2_BYTES_PER_SM
    if m.share and m.matrix:
        instructions = (4 * wgmma + sum(mma.values())) / m.share
        if "round_warps" in r:
            instructions += ROUNDING * requests.get("shared_store", 0.0)
    elif m.share and r["flops"] and not mma:
        lanes = executed(r) / 2 / r["blocks"]  # multiply-adds of a block
        instructions = lanes / 32 / m.share
        cycles["FMA"] = busiest * lanes / gpu.fma_lanes
    else:
        instructions = r["basic_blocks"] / counted * INSTRUCTIONS_A_BLOCK
    cycles["issue"] = busiest * instructions / c.ISSUE_PER_CLOCK
    # Latencies that follow each other: rounds between barriers, loads of a sum, v7's rounding.
    rounds = r["barriers"] / counted
    loads = requests.get("global_load", 0.0) / warps
    if r["kernel"].startswith("v7::conv"):
        each = ROUNDING * c.DEPENDENT_ISSUE + gpu.shared_latency
        # None where a map of 16 bits comes as a halo.
        rounding = requests.get("shared_store", 0.0) / r["round_warps"] * each if "round_warps" in r else 0.0
        cycles["rounding"] = (busiest if persistent else math.ceil(blocks / (gpu.multiprocessors * at_once))) * rounding
    elif rounds > 2:
        wait = gpu.l2_latency / (STAGES if "global_copy" in traffic else 1)
        cycles["latency"] = waves * rounds * (wait + gpu.shared_latency)
    elif loads:
        cycles["latency"] = waves * max(loads / LOADS_IN_FLIGHT, 1.0) * gpu.l2_latency
    node = Node(r["call"], r["kernel"], launches, start=launches * gpu.node)
    node.times = {name: launches * value / gpu.clock / 1e3 for name, value in cycles.items()}
    node.times["L2"] = launches * from_l2 / gpu.l2 / 1e3
    node.times["DRAM"] = launches * missed * min(from_l2, touched) / gpu.memory / 1e3
    for part in r.get("alone", ()):  # blocks of several errands differ: the launch takes as long as any of them alone
        for name, us in predict(r | part | {"alone": ()}, gpu, what_if).times.items():
            node.times[name] = max(node.times.get(name, 0.0), us)
    return node


def predict_all(rows: list[Row], gpu: Gpu, what_if: frozenset[str] = frozenset()) -> list[Node]:
    return [predict(r, gpu, what_if) for r in rows]


def load(path: Path = step_counts.RESULTS) -> dict[Step, list[Row]]:
    steps = step_counts.read(path)
    for step, rows in steps.items():
        parts: dict[str, list[Row]] = {}
        calls = {r["call"] for r in rows}
        for r in rows:
            r["kernel"] = function_of(r["kernel"])
            threads = math.prod(r["block"])
            if r["flops"] and mix(r["kernel"], threads, 1, r["precision"]).share and not r["matrix"]:
                parts.setdefault(r["call"], []).append(r)
            layer, _, entry = r["call"].rpartition(".")
            # By weights summed for each of four phases: in an operation of the plan, or in the kernel that packs them.
            own = step[0] == "cifar10_autoencoder" and layer in ("conv4", "conv5") and "wgmma" in r["algorithm"]
            r["folded"] = entry.startswith("conv2d") and (own or f"{layer}.upsample_weights" in calls)
        for same in parts.values():  # several launches, of several tiles: each does its part of the arithmetic
            work = [r["blocks"] * math.prod(r["block"]) for r in same]
            for r, own in zip(same, work, strict=True):
                r["flops"] = r["flops"] * own / sum(work)
    return steps


def why_not(step: Step, gpu: str) -> str:
    _, _, version, precision = step
    if version == "v7" and gpu != "H100":
        return "v7 is for Hopper"
    if (precision == "bf16" and not GPUS[gpu].bf16) or (precision == "tf32" and not GPUS[gpu].tf32_flops):
        return f"a {gpu} has no {precision}"
    return ""


def total(nodes: list[Node]) -> float:
    return sum(n.microseconds for n in nodes)


def shown(nodes: list[Node]) -> str:
    lines = ["| node | kernel | launches | us | critical | next |", "|-|-|-|-|-|-|"]
    for n in nodes:
        order = sorted(((v, k) for k, v in n.times.items()), reverse=True)
        told = [f"{k} {v:.1f}" for v, k in order if v >= 0.05]
        first = n.critical if n.critical == "start" else (told[0] if told else "start")
        rest = told if n.critical == "start" else told[1:]
        lines.append(f"| {n.call} | `{n.kernel}` | {n.launches} | {n.microseconds:.1f} | {first} | {rest[0] if rest else ''} |")
    launches = sum(n.launches for n in nodes)
    return "\n".join([*lines, f"| all | | {launches} | {total(nodes):.1f} | | |"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", choices=list(GPUS), default="H100")
    parser.add_argument("--model", default="cifar10_autoencoder")
    parser.add_argument("--version", default="v7")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--what-if", nargs="*", choices=list(WHAT_IFS), default=[], help="losses to close")
    parser.add_argument("--all", action="store_true", help="every step and GPU: the results file and the page")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="JSON lines of a GPU run to stand beside the predictions")
    options = parser.parse_args()
    steps = load()
    if options.all:
        from step_pages import write_all

        write_all(steps)
        return 0
    if options.measured:
        from step_pages import beside

        text, found = beside(steps, options.measured)
        print(text)
        return 0 if found else 1
    step = (options.model, options.batch, options.version, options.precision)
    if step not in steps:
        there = ", ".join(" ".join(map(str, s)) for s in steps)
        print(f"no counts of {' '.join(map(str, step))}; benchmarks/step_counts.py made those of {there}", file=sys.stderr)
        return 2
    if reason := why_not(step, options.gpu):
        print(reason, file=sys.stderr)
        return 2
    print(shown(predict_all(steps[step], GPUS[options.gpu], frozenset(options.what_if))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
