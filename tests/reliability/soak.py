"""Trains, kills, goes on, and uses what came of it, in an order drawn at random, for as long as it is told.

    python tests/reliability/soak.py [--minutes 60] [--seed 0] [--report benchmarks/results/soak.json]

What must hold: a run that was killed equals one that was left alone, bit for bit; a command gives the same bytes each time, and
those of a run that was killed are those of the run that was not; a command that is killed leaves its file as a whole or not at
all, and no other; only 0 and a signal's exit codes, never a traceback; a process that makes, trains, saves and loads models
again and again needs no more memory. Exit code 1 otherwise, and the report says what was wrong.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import warploom as wl
from broken_runs import Worker, complaints, make_data, state, worker
from PIL import Image

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_ENDED = {0, 2, 130, 143, *(-number for number in SIGNALS)}
_MORE_MEMORY = 30e6  # bytes that a process may gain after its first models


class Project:
    """A run that was left alone, what the commands make of it, and one that is killed."""

    def __init__(self, name: str, arguments: list[str], images: str, commands: dict[str, list[str]], root: Path) -> None:
        self.name, self.arguments, self.images, self.commands = name, arguments, images, commands
        self.whole, self.killed, self.made = root / f"{name}-whole", root / f"{name}-killed", root / f"{name}-made"
        self.made.mkdir()
        self.expected: dict[str, Any] = {}
        self.results: dict[str, dict[str, bytes]] = {}
        self.seconds: dict[str, float] = {}

    def command(self, name: str, run: Path, out: Path) -> list[str]:
        return [word.format(run=run, images=self.images, out=out) for word in self.commands[name]]


def projects(root: Path) -> list[Project]:
    use = {
        "encode": ["encode", "{run}", "{images}", "--out", "{out}.npy"],
        "encode npz": ["encode", "{run}", "{images}", "--out", "{out}.npz"],
        "reconstruct": ["reconstruct", "{run}", "{images}", "--part", "all", "--out", "{out}"],
        "evaluate": ["evaluate", "{run}", "{images}", "--scores", "{out}.csv"],
        "detect": ["detect", "fit", "{run}", "{images}", "--out", "{out}.safetensors"],
        "export torch": ["export", "{run}", "--to", "torch", "--out", "{out}.pt"],
        "export onnx": ["export", "{run}", "--out", "{out}.onnx"],
        "report": ["report", "{run}", "--data", "{images}", "--out", "{out}.html"],
    }
    classified = {"classify": ["classify", "{run}", "{images}", "--methods", "linear", "--no-controls", "--out", "{out}"]}
    photos, rng = root / "photos", np.random.default_rng(5)
    for i in range(40):
        folder = photos / "abcd"[i % 4]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = 60 * (i % 4) + rng.integers(0, 60, (16 + i % 3, 16, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    small = ["--model", "autoencoder", "--set", "size=16", "--set", "widths=4,8", "--set", "latent_size=6", "--batch-size", "8"]
    folder = [*small, "--data", str(photos), "--optimizer", "adam", "--lr", "0.01"]
    made = []
    for kind in ("memory", "mapped"):  # networks without a latent, of which no features can be had
        arguments = make_data(root / kind, kind)
        kept = {name: words for name, words in use.items() if name in ("reconstruct", "evaluate", "export torch", "export onnx")}
        made.append(Project(kind, arguments, str(root / kind / ("x.npz" if kind == "memory" else "x.npy")), kept, root))
    made.append(Project("photos", [*folder, "--device", "cpu"], str(photos), {**use, **classified}, root))
    made.append(
        Project("emulated", [*folder, "--device", "emulated", "--version", "v5"], str(photos), {**use, **classified}, root)
    )
    return made


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Soak:
    def __init__(self, at: Worker, root: Path, seed: int) -> None:
        self.at, self.rng, self.counts, self.wrong = at, random.Random(seed), Counter[str](), list[str]()
        self.projects = projects(root)
        self.memory = 0
        for project in self.projects:
            answer = self.run(["train", *project.arguments, "--epochs", "3", "--out", str(project.whole)], project.whole)
            assert answer["code"] == 0, answer["said"]
            project.expected, project.seconds["train"] = state(project.whole), answer["seconds"]

    def run(self, arguments: list[str], out: Path, **how: Any) -> dict[str, Any]:
        answer = self.at.run(arguments, out, **how)
        self.counts["processes"] += 1
        if answer["code"] not in (_ENDED if how else {0}) or "Traceback" in answer["said"]:
            self.wrong.append(f"{' '.join(arguments[:2])}: exit code {answer['code']}: {answer['said'][-500:]}")
        return answer

    def some_signal(self, seconds: float) -> dict[str, Any]:
        return {"kill_after": self.rng.uniform(0.0, seconds), "signal": self.rng.choice(SIGNALS)}

    def train(self, project: Project) -> None:
        """From the start, killed and gone on with until it ends."""
        out, done, begin = project.killed, [], ["train", *project.arguments, "--epochs", "3", "--out", str(project.killed)]
        shutil.rmtree(out, ignore_errors=True)
        while (not done or done[-1]["code"]) and len(done) < 60:
            again = ["train", "--resume", str(out)] if (out / "config.json").exists() else begin
            how = {} if len(done) % 4 == 3 else self.some_signal(project.seconds["train"])
            done.append(self.run(again, out, **how))
            self.counts["kills"] += done[-1]["code"] not in (0, 2)
        self.counts["runs"] += 1
        self.wrong += [f"{project.name}: {said}" for said in complaints(done, out, project.expected, _ENDED)]

    def use(self, project: Project) -> None:
        """A command, now and then killed first, on the run that was killed or on the one that was left alone."""
        name = self.rng.choice(list(project.commands))
        run = self.rng.choice([folder for folder in (project.whole, project.killed) if (folder / "model.safetensors").exists()])
        place = project.made / name.replace(" ", "-")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        arguments = project.command(name, run, place / "made")
        if name in project.results and self.rng.random() < 0.5:
            answer = self.run(arguments, place, **self.some_signal(project.seconds[name]))
            self.counts["kills"] += answer["code"] not in (0, 2)
            self.compare(project, name, files_in(place), "killed")
        answer = self.run(arguments, place)
        project.seconds.setdefault(name, answer["seconds"])
        if answer["code"]:
            return
        found = files_in(place)
        if not found:
            self.wrong.append(f"{project.name}, {name}: no file: {answer['said'][-300:]}")
        if project.results.setdefault(name, found).keys() != found.keys():
            self.wrong.append(f"{project.name}, {name}: files {sorted(found)}, before {sorted(project.results[name])}")
        self.compare(project, name, found, "whole")
        self.counts[name] += 1

    def compare(self, project: Project, name: str, found: dict[str, bytes], how: str) -> None:
        """Reports and pictures hold times and places: of them the names are compared, and that they end as such files do."""
        for file, content in found.items():
            before = project.results[name].get(file)
            if before is None:
                self.wrong.append(f"{project.name}, {name}, {how}: {file} does not belong there")
            elif file.endswith((".html", ".png", ".json", ".md")):
                if before[-6:] != content[-6:]:
                    self.wrong.append(f"{project.name}, {name}, {how}: {file} is cut short")
            elif before != content:
                self.wrong.append(f"{project.name}, {name}, {how}: {file} has other bytes")

    def models(self, folder: Path) -> None:
        """Models made, trained, saved, loaded and dropped in this process."""
        for _ in range(20):
            model = wl.models.autoencoder(size=8, widths=(4,), latent_size=3)
            model.compile(wl.optim.Adam(0.01), batch_size=4, device="cpu")
            model.fit(np.zeros((8, 3, 8, 8), np.float32), epochs=1, verbose=False)
            model.save(folder / "m.safetensors")
            wl.load(folder / "m.safetensors").predict(np.zeros((2, 3, 8, 8), np.float32))
            self.counts["models in one process"] += 1
        gc.collect()
        now = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        if self.counts["models in one process"] <= 100:
            self.memory = now  # the interpreter's heap has come to rest
        elif now - self.memory > _MORE_MEMORY:
            self.wrong.append(f"{(now - self.memory) / 1e6:.0f} MB more after {self.counts['models in one process']} models")


def soak(seconds: float, seed: int, told: Callable[[Soak], None] = lambda _: None) -> Soak:
    with tempfile.TemporaryDirectory(prefix="warploom-soak-") as temporary, worker() as process:
        root = Path(temporary)
        made = Soak(process, root, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            action = made.rng.choice(["train", "use", "use", "use", "models"])
            if action == "models":
                made.models(root)
            else:
                getattr(made, action)(made.rng.choice(made.projects))
            told(made)
        return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    started, seen = time.monotonic(), 0

    def told(made: Soak) -> None:
        nonlocal seen
        for said in made.wrong[seen:]:
            print("wrong:", said, flush=True)
        seen = len(made.wrong)

    made = soak(60 * options.minutes, options.seed, told)
    record = {"minutes": round((time.monotonic() - started) / 60, 1), "seed": options.seed, "version": wl.__version__}
    record |= {"date": time.strftime("%Y-%m-%d"), "wrong": made.wrong, "counts": dict(sorted(made.counts.items()))}
    print(json.dumps(record, indent=1))
    if options.report:
        options.report.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if made.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
