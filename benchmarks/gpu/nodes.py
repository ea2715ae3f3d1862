"""The time of every node of a recorded training step by CUPTI: torch.profiler sees this engine's kernels too. Newest first.

    python benchmarks/gpu/nodes.py cuda --versions v7 v5 --precisions bf16 --out nodes.jsonl

A JSON line a node, in the order in which they run; benchmarks/step_model.py --measured FILE stands them beside its predictions.
On the emulated device the nodes are counted and their times are left out: a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks"), str(ROOT / "python")]
STEPS = 20
EMULATED = "emulated:counting"


def timed(version: str, precision: str, batch: int, device: str) -> list[tuple[str, float]]:
    """(kernel, median us) of each node; raises RuntimeError where the steps are not alike."""
    import torch
    import warploom as wl
    from networks import smooth_images

    model = wl.models.cifar10_autoencoder()
    model.compile(wl.optim.SGD(lr=1e-3), "mse", version=version, device=device, batch_size=batch, seed=0, precision=precision)
    images = smooth_images(batch * STEPS, (3, 32, 32))
    model.fit(images, epochs=2, verbose=False)  # records
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        model.fit(images, epochs=1, verbose=False)
        model.engine.synchronize()
        torch.cuda.synchronize()
    events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA and "_kernel" in e.name]
    return by_node([(e.name, e.time_range.start, e.time_range.elapsed_us()) for e in events], STEPS)


def by_node(events: list[tuple[str, float, float]], steps: int) -> list[tuple[str, float]]:
    """The nodes of one step of many alike: (name, start, us) in any order -> (name, median us) in the order of a step."""
    events = sorted(events, key=lambda e: e[1])
    names = [e[0] for e in events]
    # An epoch may begin or end with work of its own: the step is what comes again.
    for length in range(1, len(names) // max(steps - 2, 1) + 1):
        for first in range(max(len(names) - (steps - 2) * length, 0) + 1):
            repeated = names[first : first + length] * (steps - 2)
            if names[first : first + len(repeated)] == repeated and len(set(repeated)) > 1:
                return [
                    (names[first + i], statistics.median(e[2] for e in events[first + i : first + len(repeated) : length]))
                    for i in range(length)
                ]
    raise RuntimeError(f"no sequence of kernels comes {steps - 2} times among {len(names)} launches")


def counted(version: str, precision: str, batch: int) -> list[tuple[str, float]]:
    import warploom as wl
    from warploom.kernel_tools.profile import Profiler

    kernels = Profiler(wl.models.cifar10_autoencoder(), version, batch_size=batch, precision=precision).run(blocks=1).kernels
    return [(k.name, 0.0) for k in kernels for _ in range(k.launches)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device")
    parser.add_argument("--versions", nargs="+", default=["v7", "v5"])
    parser.add_argument("--precisions", nargs="+", default=["bf16"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from machine import about_device, about_run
    from warploom import _core, errors

    emulated = options.device.startswith("emulated")
    about = about_run(ROOT) | about_device(_core, options.device) | {"kind": "node", "measured": not emulated}
    failed = 0
    for version in options.versions:
        for precision in options.precisions:
            try:
                nodes = (
                    counted(version, precision, options.batch)
                    if emulated
                    else timed(version, precision, options.batch, options.device)
                )
            except errors.UnsupportedError as error:
                print(f"{version} {precision}: {error}")
                continue
            except (errors.DeviceError, RuntimeError) as error:
                print(f"{version} {precision}: FAILED: {error}", flush=True)
                failed += 1
                continue
            step = {"model": "cifar10_autoencoder", "batch": options.batch, "version": version, "precision": precision}
            records: list[dict[str, Any]] = [
                about | step | {"index": i, "kernel": name} | ({} if emulated else {"us": us})
                for i, (name, us) in enumerate(nodes)
            ]
            print(
                f"{version} {precision}, batch {options.batch}: {len(nodes)} nodes, {sum(us for _, us in nodes):.1f} us",
                flush=True,
            )
            for name, us in sorted(nodes, key=lambda n: -n[1])[:12]:
                print(f"    {us:8.1f} us  {name[:100]}")
            if options.out:
                with options.out.open("a") as file:
                    file.writelines(json.dumps(r) + "\n" for r in records)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
