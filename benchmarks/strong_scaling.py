"""Two workers with one thread each against one worker with two threads, in turns: the same batch, the same number of shards.

    python benchmarks/strong_scaling.py [--model cifar10_autoencoder] [--batch 256] [--shards 2] [--pairs 5] [--steps 6]

Efficiency is the time of the one over that of the two: of the clock, and of the CPU seconds of all threads, which other work on
the machine disturbs less. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np


def serve(model_name: str, batch: int, shards: int, steps: int) -> None:
    import warploom as wl

    world = wl.distributed.init()
    model = wl.models.get(model_name)
    model.compile("adam", device="cpu", batch_size=batch, seed=3, distributed=True, shards=shards)
    images = np.random.default_rng(0).random((batch, *model.inputs[0].shape), dtype=np.float32)
    for _ in range(2):
        model.train_step(images)
    world.group.exchange(None)
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        model.train_step(images)
    spent = world.group.exchange((time.perf_counter() - clock, time.process_time() - cpu))
    if world.is_main:
        print(json.dumps({"clock_ms": 1e3 * max(c for c, _ in spent) / steps, "cpu_ms": 1e3 * sum(c for _, c in spent) / steps}))


def measured(workers: int, arguments: list[str]) -> dict[str, Any]:
    from warploom.distributed.launch import mpirun

    own = [sys.executable, __file__, "--serve", *arguments]
    command = own if workers == 1 else [mpirun(), "-n", str(workers), *own]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "WARPLOOM_THREADS": str(2 // workers)}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10_autoencoder")
    for name, value in (("--batch", 256), ("--shards", 2), ("--pairs", 5), ("--steps", 6)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.batch, options.shards, options.steps)
        return
    pairs = [(measured(1, sys.argv[1:]), measured(2, sys.argv[1:])) for _ in range(options.pairs)]
    told: dict[str, Any] = {"model": options.model, "batch": options.batch, "shards": options.shards, "pairs": options.pairs}
    for key in ("clock_ms", "cpu_ms"):
        told[f"one_{key}"], told[f"two_{key}"] = (round(statistics.median(p[k][key] for p in pairs), 1) for k in (0, 1))
        told[f"efficiency_{key[:-3]}"] = round(statistics.median(one[key] / two[key] for one, two in pairs), 3)
    print(json.dumps(told | {"load": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
