"""Do losses of 16-bit training follow those of float32? The CIFAR-10 autoencoder on real images, step by step, without a GPU.

    python benchmarks/precision_losses.py --data-dir CIFAR [--versions v5 v7] [--steps 200] [--batch 4] [--out FILE.jsonl]

Every version trains from the same weights on the same batches, in bf16 and fp16 (maps, operands), on the emulated device; float32
is the CPU's. Told, in per cent of float32's: the largest difference of a step's loss, that of the mean of the last twenty,
that of the error on 256 test images afterwards. What they gave stands in docs/python.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]
RESULTS = ROOT / "benchmarks/results/precision_losses.jsonl"


def trained(wl: Any, images: Any, test: Any, how: dict[str, str], steps: int, batch: int) -> tuple[list[float], float, float]:
    model = wl.models.cifar10_autoencoder()
    model.compile(batch_size=batch, optimizer=wl.optim.SGD(0.003, 0.9), **how)
    started, losses = time.monotonic(), []
    for i in range(steps):
        losses.append(model.train_step(images[batch * i : batch * (i + 1)])["loss"])
        if i % 50 == 49:
            print(f"  {how} step {i + 1}: {losses[-1]:.5f}", flush=True)
    seconds = time.monotonic() - started
    judge = wl.models.cifar10_autoencoder()
    judge.load_state_dict(model.state_dict())
    judge.compile(device="cpu", batch_size=64)
    return losses, float(np.mean((judge.predict(test) - test / np.float32(255)) ** 2)), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--versions", nargs="+", default=["v5", "v7"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", default=str(RESULTS))
    options = parser.parse_args()
    import machine
    import warploom as wl

    data = wl.data.load("cifar10", data_dir=options.data_dir)
    images, test = data.train[: options.steps * options.batch], data.test[:256]
    whole, judged, _ = trained(wl, images, test, {"device": "cpu", "precision": "fp32"}, options.steps, options.batch)
    assert np.mean(whole[-20:]) < 0.5 * np.mean(whole[:20]) or options.steps < 100, "the network learns"
    for version in options.versions:
        for precision in ("bf16", "fp16"):
            how = {"device": "emulated", "version": version, "precision": precision}
            losses, after, seconds = trained(wl, images, test, how, options.steps, options.batch)
            away = np.abs(np.array(losses) / whole - 1)
            record = {
                "benchmark": "precision_losses", **how, "steps": options.steps, "batch": options.batch,
                "first": whole[0], "last": whole[-1], "most": float(away.max()), "at": int(away.argmax()) + 1,
                "end": float(abs(np.mean(losses[-20:]) / np.mean(whole[-20:]) - 1)), "test": abs(after / judged - 1),
                "losses": [round(v, 6) for v in losses], "float32": [round(v, 6) for v in whole], "seconds": round(seconds, 1),
                "commit": machine.about_run(ROOT)["commit"], "when": time.strftime("%Y-%m-%d"),
            }  # fmt: skip
            with open(options.out, "a") as out:
                out.write(json.dumps(record) + "\n")
            print(
                f"{version} {precision}: {100 * away.max():.2f} % at step {record['at']}, end {100 * record['end']:.2f} %, "
                f"test {100 * record['test']:.2f} %, {seconds:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
