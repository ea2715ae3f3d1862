"""Memory of one training step: what the plan says, what the process grows by, and what PyTorch's process grows by for it.

    python benchmarks/memory_vs_pytorch.py                       all networks at their own size, on cpu
    python benchmarks/memory_vs_pytorch.py --models dsresnet --batch 8 --out results.jsonl

Each side runs in a process of its own; growth is the peak of its resident memory over that before the network was made. PyTorch
runs the twin network of tests/support/torch_twins.py with the same loss and an optimizer with as much state, eager, in float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks")]
MEBIBYTE = 1 << 20
DEFAULTS = {"cifar10_autoencoder": 64, "unet_small": 32, "unet_large": 8, "gray_autoencoder": 16, "dsresnet": 8, "liae_ud": 4}


def status(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def arrays(shapes: list[tuple[int, ...]], batch: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.random((batch, *shape), dtype=np.float32) for shape in shapes]


def ours(name: str, batch: int, device: str, version: str) -> dict[str, Any]:
    from warploom import models

    before = status("VmRSS")
    objective = models.objective(name)
    model = models.get(name)
    optimizer = objective.make_optimizer()
    model.compile(optimizer, objective.make_losses(), version=version, device=device, batch_size=batch)
    planned = model.memory(batch)
    inputs = arrays([t.shape for t in model.inputs], batch)
    shapes = model.engine.session.target_shapes()
    targets = inputs if objective.data == "images" else arrays(shapes, batch)
    if objective.data == "segmentation":
        targets = [np.zeros((batch, *shapes[0]), np.int64)]
    for _ in range(2):
        model.train_step(inputs, None if objective.data == "images" else targets)
    states = planned["optimizer_state"] // max(planned["weight_gradients"], 1)
    grown = {"planned": planned["total"], "growth": status("VmHWM") - before, "states": states, "version": model.version}
    return grown | {"data": objective.data, "inputs": [t.shape for t in model.inputs], "targets": shapes}


def theirs(name: str, batch: int, told: dict[str, Any]) -> dict[str, Any]:
    import torch
    import torch_twins as twins

    x = [torch.tensor(a) for a in arrays(told["inputs"], batch)]
    y = x if told["data"] == "images" else [torch.tensor(a) for a in arrays(told["targets"], batch)]
    if told["data"] == "segmentation":
        y = [torch.zeros((batch, *told["targets"][0]), dtype=torch.int64)]
    torch.ones(8, 8) @ torch.ones(8, 8)  # the libraries' own memory is not the step's
    before = status("VmRSS")
    make, loss = twins.of_full_size()[name]
    twin = make()
    optimizer: Any = torch.optim.SGD(twin.parameters(), lr=1e-3, momentum=0.9 if told["states"] == 1 else 0.0)
    if told["states"] >= 2:
        optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss(twin(*x), y).backward()
        optimizer.step()
    return {"growth": status("VmHWM") - before}


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else f"exit status {done.returncode}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(DEFAULTS))
    parser.add_argument("--batch", type=int, default=0, help="default: the model's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--version", default="auto")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--told", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        name, batch = options.models[0], options.batch
        result = (
            ours(name, batch, options.device, options.version) if options.side == "ours" else theirs(name, batch, options.told)
        )
        print(json.dumps(result))
        return 0
    from machine import about_run

    failed = False
    print("| model | batch | planned | process grows by | PyTorch's grows by | ratio |\n|-|-|-|-|-|-|")
    for name in options.models:
        batch = options.batch or DEFAULTS[name]
        common = ["--models", name, "--batch", str(batch)]
        own = run("--side", "ours", "--device", options.device, "--version", options.version, *common)
        other = run("--side", "theirs", "--told", json.dumps(own), *common) if "failed" not in own else {}
        record = about_run(ROOT) | {
            "kind": "memory",
            "model": name,
            "batch": batch,
            "device": options.device,
            "ours": own,
            "theirs": other,
        }
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if "failed" in own or "failed" in other:
            failed = True
            print(f"| {name} | {batch} | failed: {own.get('failed', '')} {other.get('failed', '')} |")
            continue
        sizes = [f"{v / MEBIBYTE:,.0f} MiB" for v in (own["planned"], own["growth"], other["growth"])]
        print(f"| {name} | {batch} | {' | '.join(sizes)} | {own['growth'] / other['growth']:.2f} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
