"""Two builds of the emulated devices beside each other: CPU-seconds of a training step, alternating.

    python benchmarks/emulator_speed.py BEFORE AFTER            folders with emulated.so, checked.so or both
    python benchmarks/emulator_speed.py BEFORE                  AFTER: what this checkout was built with

For a change of kernels/emulator: compile the libraries of both states from the same kernels, and compare them here. Each run is a
process of its own that makes training steps of the CIFAR-10 autoencoder (the first is not counted); the two builds take turns,
and who is first changes every time. One thread, CPU time and not the clock: other work on the machine disturbs it least. The last
column: median and quartiles of the runs' own ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = (
    ("v1", "fp32", "emulated"), ("v3", "fp32", "emulated"), ("v4", "fp32", "emulated"), ("v5", "bf16", "emulated"),
    ("v3", "fp32", "emulated:checked"),
)  # fmt: skip

DEVICES = {"emulated": "emulated.so", "emulated:checked": "checked.so"}


def measure(version: str, precision: str, device: str, batch: int, steps: int) -> float:
    """CPU-seconds of a training step in this process."""
    import time

    import numpy as np
    import warploom as wl

    model, objective = wl.models.get("cifar10_autoencoder"), wl.models.objective("cifar10_autoencoder")
    kind, arguments = objective.optimizer
    optimizer = getattr(wl.optim, kind)(**arguments)
    model.compile(
        optimizer, objective.make_losses(), version=version, device=device, batch_size=batch, precision=precision, seed=3
    )
    x = [np.random.default_rng(5).random((batch, *t.shape), dtype=np.float32) for t in model.inputs]
    model.train_step(x, None)
    started = time.process_time()
    for _ in range(steps):
        model.train_step(x, None)
    return (time.process_time() - started) / steps


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


def run(python_path: Path, case: tuple[str, str, str], batch: int, steps: int) -> float:
    environment = {**os.environ, "PYTHONPATH": str(python_path), "WARPLOOM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", *case, str(batch), str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(case)}: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?", default=ROOT / "python" / "warploom" / "_lib")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4, help="of the emulated device; the checked one takes a quarter")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.one[0], a.one[1], a.one[2], int(a.one[3]), int(a.one[4]))))
        return
    if a.before is None:
        parser.error("name the folder with the libraries of before")
    cases = [c for c in CASES if all((folder / DEVICES[c[2]]).is_file() for folder in (a.before, a.after))]
    if not cases:
        parser.error(f"{a.before} and {a.after} must both hold {' or '.join(DEVICES.values())}")
    print(f"| step | batch | runs | before, CPU s | after, CPU s | after / before, median (quartiles) |\n{'|-' * 6}|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        paths = [package(folder, Path(name) / side) for side, folder in (("before", a.before), ("after", a.after))]
        for case in cases:
            checked = case[2] != "emulated"
            batch, steps = (max(1, a.batch // 4), 1) if checked else (a.batch, 2)
            seconds: list[list[float]] = [[], []]
            for turn in range(a.runs):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    seconds[side].append(run(paths[side], case, batch, steps))
            ratios = [after / before for before, after in zip(*seconds, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            before, after = (statistics.median(s) for s in seconds)
            row = [f"{case[0]} {case[1]}, `{case[2]}`", batch, a.runs, f"{before:.2f}", f"{after:.2f}"]
            print("|", " | ".join(map(str, row)), f"| {middle:.3f} ({low:.3f} to {high:.3f}) |", flush=True)


if __name__ == "__main__":
    main()
