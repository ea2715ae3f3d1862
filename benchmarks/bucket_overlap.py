"""Steps of several workers whose gradients go in buckets while backward goes on, against those of one piece after it, in turns.

    python benchmarks/bucket_overlap.py [--model liae_ud] [--batch 4] [--workers 2] [--bucket-mb 25] [--link-gbit 0] [--pairs 5]

Each worker has one thread. Both kinds of steps are made by the same processes, one after the other. --link-gbit N: every message
waits as long as a link of that rate takes for its bytes, asleep, as a worker waits whose network card does the work; 0: no
such wait, so that the messages are copies in memory, made by the cores that compute. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def slowed(send: Callable[..., None], bytes_per_s: float) -> Callable[..., None]:
    """Group.swap or Group.share, whose first two arguments are what is sent, and how much to whom or from whom."""

    def wrapped(buffer: Any, counts: Any, *more: Any) -> None:
        send(buffer, counts, *more)
        own = 0 if more else max(counts)  # share: a worker's part goes to the others; swap: all but its own goes out
        time.sleep((buffer.nbytes - own * buffer.itemsize if not more else buffer.nbytes / 2) / bytes_per_s)

    return wrapped


def serve(options: argparse.Namespace) -> None:
    import warploom as wl

    world = wl.distributed.init()
    if options.link_gbit:
        rate = options.link_gbit * 1e9 / 8
        world.group.swap = slowed(world.group.swap, rate)  # type: ignore[method-assign]
        world.group.share = slowed(world.group.share, rate)  # type: ignore[method-assign]
    kinds = {}
    for name, size in (("buckets", options.bucket_mb), ("one_piece", 0.0)):
        model = wl.models.get(options.model)
        told = wl.distributed.Options(bucket_mb=size)
        model.compile("sgd", device="cpu", batch_size=options.batch, seed=3, distributed=told, shards=options.shards)
        kinds[name] = model
    images = [np.random.default_rng(0).random((options.batch, *t.shape), dtype=np.float32) for t in model.inputs]
    targets = [np.random.default_rng(1).random((options.batch, *t.shape), dtype=np.float32) for t in model.outputs]
    rows = []
    for turn in range(-1, options.pairs):
        row = {}
        for name, model in kinds.items():
            world.group.exchange(None)
            clock, cpu = time.perf_counter(), time.process_time()
            for _ in range(options.steps):
                model.train_step(images, targets)
            spent = world.group.exchange((time.perf_counter() - clock, time.process_time() - cpu))
            row[name] = (1e3 * max(c for c, _ in spent) / options.steps, 1e3 * sum(c for _, c in spent) / options.steps)
        if turn >= 0:
            rows.append(row)
    told = {name: getattr(options, name) for name in ("model", "batch", "workers", "shards", "bucket_mb", "link_gbit", "pairs")}
    for k, unit in enumerate(("clock_ms", "cpu_ms")):
        for name in kinds:
            told[f"{name}_{unit}"] = round(statistics.median(row[name][k] for row in rows), 1)
        told[f"saved_{unit[:-3]}"] = round(1 - statistics.median(row["buckets"][k] / row["one_piece"][k] for row in rows), 3)
    if world.is_main:
        print(json.dumps({**told, "load": round(os.getloadavg()[0], 1)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10_autoencoder")
    for name, value in (("--batch", 64), ("--shards", 2), ("--workers", 2), ("--pairs", 5), ("--steps", 3)):
        parser.add_argument(name, type=int, default=value)
    for name, value in (("--bucket-mb", 25.0), ("--link-gbit", 0.0)):
        parser.add_argument(name, type=float, default=value)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    from warploom.distributed.launch import mpirun

    command = [mpirun(), "-n", str(options.workers), sys.executable, __file__, "--serve", *sys.argv[1:]]
    subprocess.run(command, check=True, env={**os.environ, "WARPLOOM_THREADS": "1"})


if __name__ == "__main__":
    main()
