"""Runs that are killed or whose file-system calls fail, gone on with until they end, and compared with a whole one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / "python"
SHORT, KILL = 10001, 10002  # as in fail_calls.c
HOWS = {
    "no space": errno.ENOSPC, "no space from there on": -errno.ENOSPC, "I/O error": errno.EIO, "interrupted": errno.EINTR,
    "short write": SHORT, "killed": KILL,
}  # fmt: skip
_MOST = 60  # times that a run is gone on with


def compiled(folder: Path) -> Path | None:
    """fail_calls.c as a library; None where there is no compiler."""
    compiler = next((c for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and shutil.which(c)), None)
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "fail_calls.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "fail_calls.c"), "-ldl"], check=True)
    return library


@dataclass
class Worker:
    """The process that forks the runs."""

    process: subprocess.Popen[str]

    def run(self, arguments: list[str], root: Path, **how: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, "root": str(root), **how}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def worker(library: Path | None = None, threads: int = 1) -> Iterator[Worker]:
    there = os.environ.get("PYTHONPATH")
    environment = dict(os.environ, WARPLOOM_THREADS=str(threads), MPLBACKEND="agg")
    if (PYTHON / "warploom" / "_lib").is_dir():  # a build in place; else the installed package
        environment["PYTHONPATH"] = f"{PYTHON}{os.pathsep}{there}" if there else str(PYTHON)
    if library is not None:
        environment["LD_PRELOAD"] = str(library)
    process = subprocess.Popen(
        [sys.executable, str(HERE / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def make_data(folder: Path, kind: str) -> list[str]:
    """The arguments of a small run on data of that kind: "memory" (.npz), "mapped" (.npy) or "lazy" (a folder)."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    common = ["--device", "cpu", "--batch-size", "4"]
    if kind == "memory":
        np.savez(folder / "x.npz", train=images[:16], test=images[16:])
        return ["--model", "tiny", "--data", str(folder / "x.npz"), "--momentum", "0.5", *common]
    if kind == "mapped":
        np.save(folder / "x.npy", images)
        return ["--model", "tiny", "--data", str(folder / "x.npy"), "--optimizer", "adam", *common]
    from PIL import Image

    for i, image in enumerate(np.random.default_rng(1).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)):
        for part, pixels in (("images", image), ("labels", image[..., 0] % 4)):
            (folder / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{i}.png")
    return ["--model", "unet_small", "--set", "size=16", "--set", "classes=4", "--data", str(folder), *common]


def state(folder: Path) -> dict[str, Any]:
    """What must be the same: every bit of the two files, and the rows without their timing."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
    files = {n: load_file(folder / n) for n in ("model.safetensors", "checkpoint.safetensors")}
    bits = {f"{n}/{k}": (v.dtype.str, v.shape, v.tobytes()) for n, held in files.items() for k, v in held.items()}
    return {"rows": kept, "bits": bits, "names": sorted(p.name for p in folder.iterdir())}


def go_on(at: Worker, arguments: list[str], out: Path, **first: Any) -> list[dict[str, Any]]:
    """Begins a run as `first` says, then goes on with it as a supervisor does, until it ends with 0."""
    done = [at.run(["train", *arguments, "--out", str(out)], out, **first)]
    while done[-1]["code"] and len(done) < _MOST:
        begun = (out / "config.json").exists()
        again = ["--resume", str(out)] if begun else [*arguments, "--out", str(out)]
        done.append(at.run(["train", *again], out))
    return done


def complaints(answers: list[dict[str, Any]], out: Path, whole: dict[str, Any], expected: set[int]) -> list[str]:
    """What is wrong with a run that was broken and ended; nothing where it equals the whole one. expected: exit codes before."""
    said = []
    for answer in answers[:-1]:
        if answer["code"] not in expected or "Traceback" in answer["said"]:
            said.append(f"exit code {answer['code']}: {answer['said'][-600:]}")
        elif answer["code"] == 2 and answer["said"].count("warploom: error: ") != 1:
            said.append(f"no one sentence: {answer['said'][-600:]}")
    if answers[-1]["code"]:
        said.append(f"never ended: {answers[-1]['said'][-600:]}")
        return said
    found = state(out)
    said += [f"{key} differ" for key in whole if whole[key] != found[key]]
    return said
