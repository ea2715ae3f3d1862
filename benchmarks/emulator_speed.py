"""Two builds of the emulated devices beside each other: CPU-seconds of a training step, alternating.

    python benchmarks/emulator_speed.py BEFORE AFTER            folders with emulated.so, checked.so or both
    python benchmarks/emulator_speed.py BEFORE                  AFTER: what this checkout was built with

For a change of kernels/emulator: compile the libraries of both states from the same kernels, and compare them here. Each build
has a process of its own; the two take turns with training steps of the CIFAR-10 autoencoder (the first of each is not counted),
and who is first changes every time. One thread, CPU time and not the clock: other work on the machine disturbs it least. The last
column: median and quartiles of the turns' own ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import warploom as wl

ROOT = Path(__file__).resolve().parent.parent
CASES = (
    ("v1", "fp32", "emulated"), ("v3", "fp32", "emulated"), ("v4", "fp32", "emulated"), ("v5", "bf16", "emulated"),
    ("v3", "fp32", "emulated:checked"),
)  # fmt: skip

DEVICES = {"emulated": "emulated.so", "emulated:checked": "checked.so"}


def serve(version: str, precision: str, device: str, batch: int) -> None:
    """A line in: a training step, and its CPU-seconds out."""
    model, objective = wl.models.get("cifar10_autoencoder"), wl.models.objective("cifar10_autoencoder")
    kind, arguments = objective.optimizer
    optimizer = getattr(wl.optim, kind)(**arguments)
    model.compile(
        optimizer, objective.make_losses(), version=version, device=device, batch_size=batch, precision=precision, seed=3
    )
    x = [np.random.default_rng(5).random((batch, *t.shape), dtype=np.float32) for t in model.inputs]
    model.train_step(x, None)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        model.train_step(x, None)
        print(time.process_time() - started, flush=True)


def package(libraries: Path, folder: Path) -> Path:
    """The package as it is, but with the emulated devices of another folder."""
    ours, made = ROOT / "python" / "warploom", folder / "warploom"
    (made / "_lib").mkdir(parents=True)
    for path in ours.iterdir():
        if path.name not in ("_lib", "__pycache__"):
            (made / path.name).symlink_to(path)
    for path in (ours / "_lib").iterdir():
        if path.name.startswith("cpu") or path.suffix == ".json":
            (made / "_lib" / path.name).symlink_to(path)
    for path in libraries.glob("*.so"):
        if path.name in DEVICES.values():
            (made / "_lib" / path.name).symlink_to(path.resolve())
    return folder


class Worker:
    """A process with one build."""

    def __init__(self, python_path: Path, case: tuple[str, str, str], batch: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(python_path), "WARPLOOM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", *case, str(batch)]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a step failed; its message stands above")
        return line

    def step(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?", default=ROOT / "python" / "warploom" / "_lib")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4, help="of the emulated device; the checked one takes a quarter")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        serve(a.serve[0], a.serve[1], a.serve[2], int(a.serve[3]))
        return
    if a.before is None:
        parser.error("name the folder with the libraries of before")
    cases = [c for c in CASES if all((folder / DEVICES[c[2]]).is_file() for folder in (a.before, a.after))]
    if not cases:
        parser.error(f"{a.before} and {a.after} must both hold {' or '.join(DEVICES.values())}")
    print(
        f"| step | batch | turns | before, CPU s | after, CPU s | after / before, median (quartiles) |\n{'|-' * 6}|", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        paths = [package(folder, Path(name) / side) for side, folder in (("before", a.before), ("after", a.after))]
        for case in cases:
            batch = max(1, a.batch // 4) if case[2] == "emulated:checked" else a.batch
            workers = [Worker(path, case, batch) for path in paths]
            seconds: list[list[float]] = [[], []]
            for turn in range(a.turns):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    seconds[side].append(workers[side].step())
            for worker in workers:
                worker.close()
            ratios = [after / before for before, after in zip(*seconds, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            before, after = (statistics.median(s) for s in seconds)
            row = [f"{case[0]} {case[1]}, `{case[2]}`", batch, a.turns, f"{before:.2f}", f"{after:.2f}"]
            print("|", " | ".join(map(str, row)), f"| {middle:.3f} ({low:.3f} to {high:.3f}) |", flush=True)


if __name__ == "__main__":
    main()
