"""A training step of every network on the cpu kernel set and in PyTorch, alternating step by step in one run.

    python benchmarks/cpu_vs_pytorch.py                                      all networks, at their usual batch
    python benchmarks/cpu_vs_pytorch.py --models cifar10_autoencoder --batch 16 64 256 --pairs 15 --out results.jsonl
    python benchmarks/cpu_vs_pytorch.py --layers | --encode [--out ...]      the CIFAR-10 layers one by one; 60,000 encoded

Every mode of PyTorch first takes a few steps beside ours; the fastest two then alternate with ours, step by step, each in a
process of its own with as many threads as ours, after a rest in which the other's threads fall asleep. Before the timing all
gradients are compared, afterwards the losses and once more all gradients, of the weights as they are then. What is reported is
the median of pairwise ratios: on a shared machine absolute times are noise. benchmarks/cpu_tables.py puts the results into
docs/cpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cpu_workers import BATCHES, MODES, THREADS, Worker, percentiles
from machine import about_run, cpu_name

ROOT = Path(__file__).resolve().parent.parent
# Relative to eager PyTorch. Sums that round the other way at a ReLU or a maximum move gradients by 1e-5, behind a batch norm by
# more, behind many of them by percents: PyTorch's channels_last mode is 5 % from float64 on dsresnet. For modes other than eager
# the bound only finds what is plainly wrong, which is then left out and said. benchmarks/cpu_accuracy.py measures accuracy.
GRADIENTS = {"cifar10_autoencoder": 1e-4, "liae_ud": 1e-3}
BEHIND_NORMS, OTHER_MODES = 2e-2, 0.2
LOSS = 1e-4


def difference(mine: dict[str, Any], his: dict[str, Any]) -> float:
    """Of all gradients as one vector, relative."""
    apart = sum(float(np.square(mine[k].astype(np.float64) - his[k]).sum()) for k in mine)
    return float(np.sqrt(apart / sum(float(np.square(v.astype(np.float64)).sum()) for v in his.values())))


def agree(name: str, ours: Worker, theirs: Worker, mode: str, when: str) -> float:
    """Gives the other worker our weights; how far the gradients are apart."""
    theirs.call("load", ours.call("state")[1])
    apart = difference(ours.call("gradients")[1], theirs.call("gradients")[1])
    bound = GRADIENTS.get(name, BEHIND_NORMS) if mode == "eager" else OTHER_MODES
    if mode != "bf16" and not apart <= bound:
        raise RuntimeError(f"gradients differ by {apart:.2e} {when} timing: the times are worth nothing")
    return apart


def opened(name: str, batch: int, mode: str, ours: Worker, shapes: Any, warm: int) -> tuple[Worker, float]:
    """PyTorch's worker, checked and warm; and how far the gradients are apart."""
    theirs = Worker("torch", name, batch, mode, shapes)
    try:
        apart = agree(name, ours, theirs, mode, "before")
        for _ in range(warm):
            theirs.call("step")
    except RuntimeError:
        theirs.close()
        raise
    return theirs, apart


def alternate(ours: Worker, others: dict[str, Worker], pairs: int) -> tuple[list[float], dict[str, list[float]]]:
    mine, his = [], {mode: [] for mode in others}  # type: tuple[list[float], dict[str, list[float]]]
    for _ in range(pairs):
        mine.append(ours.timed("step")[0])
        for mode, worker in others.items():
            his[mode].append(worker.timed("step")[0])
    return mine, his


def compare(name: str, batch: int, modes: list[str], pairs: int, brief: int) -> list[dict[str, Any]]:
    ours = Worker("warploom", name, batch, "")
    workers: dict[str, Worker] = {}
    records: dict[str, dict[str, Any]] = {}
    try:
        shapes = ours.call("shapes")[1]
        about = {
            "benchmark": "cpu_vs_pytorch", "model": name, "batch": batch, "threads": THREADS,
            "planned_bytes": ours.call("planned")[1],
        }  # fmt: skip
        ours.call("step")
        growth = ours.call("growth")[1]
        for mode in modes:
            try:
                worker, apart = opened(name, batch, mode, ours, shapes, 2 if mode == "compile" else 1)
            except RuntimeError as error:
                if "differ" in str(error) and mode == "eager":
                    raise
                records[mode] = about | {"mode": mode, "skipped": str(error)[:300]}
                print(f"{name} {mode}: skipped: {error}", file=sys.stderr)
                continue
            mine, his = alternate(ours, {mode: worker}, brief)
            records[mode] = about | {
                "mode": mode, "pairs": brief, "warploom_ms": percentiles(mine), "torch_ms": percentiles(his[mode]),
                "ratio": percentiles([b / a for a, b in zip(mine, his[mode], strict=True)]), "gradient_difference": apart,
                "warploom_growth": growth, "torch_growth": worker.call("growth")[1],
            }  # fmt: skip
            workers[mode] = worker
            if len(workers) > 2:
                slowest = max(workers, key=lambda m: records[m]["ratio"]["median"])
                workers.pop(slowest).close()
        if not workers:
            raise RuntimeError("no mode of PyTorch ran")
        for mode, worker in workers.items():  # the same weights and the same number of steps from here on
            if mode != "bf16":
                worker.call("load", ours.call("state")[1])
        times = alternate(ours, workers, pairs)
        for mode, worker in workers.items():
            mine, his = times[0], times[1][mode]
            records[mode] |= {
                "pairs": pairs, "warploom_ms": percentiles(mine), "torch_ms": percentiles(his),
                "ratio": percentiles([b / a for a, b in zip(mine, his, strict=True)]),
            }  # fmt: skip
            records[mode]["gradient_difference_after"] = agree(name, ours, worker, mode, "after")
            losses = ours.call("step")[1], worker.call("step")[1]
            records[mode]["loss_difference"] = abs(losses[0] / losses[1] - 1)
            if mode != "bf16" and not records[mode]["loss_difference"] <= LOSS:
                raise RuntimeError(
                    f"losses differ by {records[mode]['loss_difference']:.2e} after timing: the times are worth nothing"
                )
            worker.call("load", ours.call("state")[1])
        best = min(workers, key=lambda m: records[m]["ratio"]["median"])
        records[best]["fastest"] = True
        return list(records.values())
    finally:
        for worker in (ours, *workers.values()):
            worker.close()


def said(r: dict[str, Any]) -> str:
    mine, his, q = r["warploom_ms"]["median"], r["torch_ms"]["median"], r["ratio"]
    text = f"{r['model']} {r['batch']:4} {r['mode']:14} {his:9.1f} ms  ours {mine:9.1f} ms  "
    text += f"ratio {q['median']:.2f} ({q['p10']:.2f}-{q['p90']:.2f}) of {r['pairs']}"
    return text + ("  <- fastest" if r.get("fastest") else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--batch", type=int, nargs="+", help="default: the network's own")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--brief", type=int, default=3, help="pairs with every mode, to find the fastest two")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--layers", action="store_true", help="instead: the layers of the CIFAR-10 autoencoder")
    parser.add_argument("--encode", action="store_true", help="instead: encode --images images to the latent features")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    options = parser.parse_args()
    if options.layers or options.encode:
        from cpu_layers import encode, layers

        about = about_run(ROOT) | {"cpu": cpu_name(), "load": round(os.getloadavg()[0], 2), "threads": THREADS}
        found = [r for batch in options.batch or [64] for r in layers(batch, 3 * options.pairs)] if options.layers else []
        if options.encode:
            found += encode(options.images, 1000, options.modes, options.pairs)
        if options.out:
            with options.out.open("a") as file:
                file.writelines(json.dumps(r | about) + "\n" for r in found)
        return 0
    failed = False
    for name in options.models:
        for batch in options.batch or [BATCHES[name]]:
            about = about_run(ROOT) | {"cpu": cpu_name(), "load": round(os.getloadavg()[0], 2)}
            try:
                records = compare(name, batch, options.modes, options.pairs, options.brief)
            except RuntimeError as error:
                print(f"{name} batch {batch}: {error}", file=sys.stderr)
                failed = True
                continue
            for r in records:
                if "ratio" in r:
                    print(said(r), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(r | about) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
