"""Workers are killed at random moments of training, again and again until the run ends; it must equal one that was left alone.

    python tests/distributed/kill_workers.py [COUNT] [--workers 2,4] [--seed 0] [--out FILE]

COUNT: how many kills (100). Three of four are SIGKILL, the others SIGTERM. After each: every process of the run must be gone
within 10 seconds, what is said must be one sentence (SIGKILL: with rank and host), the checkpoint must load. The run is gone on
with by `--resume`, on another number of workers, and killed again. At its end every bit of the model and checkpoint, the metrics
(but for their timing) and the file names must be those of an uninterrupted one. --out: a line of JSON for the whole and for every
kill. Exit code 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from launching import environment, living
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reliability"))
from broken_runs import state  # noqa: E402

SOON, LONGEST = 10.0, 180.0  # seconds: until all are gone; of any run
MOST = 40  # kills of one run


def train(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Its own process group, with the folder's name in every command line and a folder for temporary files of its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    own = {**environment(), "MPLBACKEND": "agg", "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-m", "warploom", "train", *arguments],
        env=own, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def trainer(rank: int, word: str) -> int | None:
    """The process of a rank that trains: the child of its guard; None before there is one."""
    found: dict[int, int] = {}
    for pid in living(word):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if f"PMI_RANK={rank}".encode() in variables:
            found[pid] = parent
    return next((pid for pid, parent in found.items() if parent in found), None)


def begun(process: subprocess.Popen[str], out: Path, workers: int) -> bool:
    """Waits until all workers are there and the run has its folder; False where the run ended before."""
    limit = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < limit:
        if (out / "config.json").exists() and all(trainer(rank, str(out)) for rank in range(workers)):
            return True
        time.sleep(0.02)
    return False


class Killer:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
        np.savez(folder / "x.npz", train=images[:32], test=images[32:])
        self.arguments = [
            "--data", str(folder / "x.npz"), "--batch-size", "8", "--model", "autoencoder", "--set", "size=8",
            "--set", "widths=4,8", "--optimizer", "adam", "--device", "cpu", "--epochs", "30", "--shards", "8",
            "--bucket-mb", "0.0005",  # several, so that kills find some on their way
        ]  # fmt: skip
        whole = folder / "whole"
        started = time.monotonic()
        process = train(*self.arguments, "--out", str(whole), folder=folder)
        said = process.communicate(timeout=LONGEST)[1]
        assert process.returncode == 0, said
        self.expected, self.seconds = state(whole), time.monotonic() - started

    def one(self, out: Path, workers: int) -> dict[str, Any]:
        """Starts or goes on with the run and kills a worker; what came of it. "ended": nobody could be killed any more."""
        again = (out / "config.json").exists()
        how = ["--resume", str(out)] if again else [*self.arguments, "--out", str(out)]
        process = train(*how, "--workers", str(workers), folder=self.folder)
        number = signal.SIGTERM if self.random.random() < 0.25 else signal.SIGKILL
        rank, moment = self.random.randrange(workers), self.random.uniform(0.0, 0.5 * self.seconds)
        told = {"workers": workers, "rank": rank, "signal": number.name, "after_start_s": round(moment, 2), "resumed": again}
        victim = None
        if begun(process, out, workers):
            time.sleep(moment)
            victim = trainer(rank, str(out))
        if victim is not None:
            try:
                os.kill(victim, number)
            except ProcessLookupError:
                victim = None
        killed = time.monotonic()
        wrong: list[str] = []
        try:
            said = process.communicate(timeout=LONGEST if victim is None else 2 * SOON)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[1]
            wrong.append("it did not end")
        while (left := living(str(out))) and time.monotonic() - killed < 2 * SOON:
            time.sleep(0.02)
        seconds = round(time.monotonic() - killed, 2)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        told |= {"code": process.returncode, "gone_s": seconds, "ended": victim is None or process.returncode == 0}
        if left:
            wrong.append(f"{len(left)} processes were left")
        if victim is not None and seconds > SOON:
            wrong.append(f"all were gone after {seconds} s only")
        wrong += list(self._words(said, told, number))
        wrong += list(self._files(out))
        return told | {"wrong": wrong}

    def _words(self, said: str, told: dict[str, Any], number: int) -> Iterator[str]:
        errors = [line for line in said.splitlines() if "warploom: error:" in line]
        told["said"] = errors[0].replace(str(self.folder), "RUNS") if errors else ""
        if "Traceback" in said:
            yield f"a traceback: {said[-600:]}"
        if told["ended"]:
            if told["code"]:
                yield f"exit code {told['code']}, though nobody was killed: {said[-600:]}"
            return
        name = f"rank {told['rank']} on host {os.uname().nodename} was killed by signal {int(number)} ({told['signal']})"
        if number == signal.SIGTERM and not errors:
            if told["code"] != 128 + number or "stopped; go on with" not in said:
                yield f"SIGTERM: exit code {told['code']}: {said[-600:]}"
            told["said"] = "stopped"
        elif len(errors) != 1 or name not in errors[0]:
            yield f"{len(errors)} sentences: {said[-600:]}"

    def _files(self, out: Path) -> Iterator[str]:
        checkpoint = out / "checkpoint.safetensors"
        if checkpoint.exists():
            try:
                load_file(checkpoint)
            except Exception as error:
                yield f"the checkpoint does not load: {error}"
        if names := [path.name for path in (self.folder / "tmp").iterdir()]:
            yield f"temporary files: {names}"

    def finish(self, out: Path) -> list[str]:
        """Goes on to the end, and what is different from the whole run."""
        how = ["--resume", str(out)] if (out / "config.json").exists() else [*self.arguments, "--out", str(out)]
        process = train(*how, "--workers", str(self.random.choice((2, 3, 4))), folder=self.folder)
        said = process.communicate(timeout=LONGEST)[1]
        if process.returncode:
            return [f"going on ended with exit code {process.returncode}: {said[-600:]}"]
        found = state(out)
        return [
            f"{key} differ: {_differing(self.expected[key], found[key])}" for key in found if found[key] != self.expected[key]
        ]


def _differing(expected: Any, found: Any) -> str:
    if isinstance(expected, dict):
        return ", ".join(sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k)))
    return f"{expected} and {found}"[:600]


def kill_some(folder: Path, count: int, workers: list[int], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kill; the last row of a run says in "wrong" also what its end lacked."""
    killer, hit = Killer(folder, seed), 0
    out = folder / "killed"
    while hit < count:
        shutil.rmtree(out, ignore_errors=True)
        rows: list[dict[str, Any]] = []
        while hit < count and len(rows) < MOST:
            row = killer.one(out, workers[len(rows) % len(workers)])
            if row["ended"] and not row["wrong"]:
                break
            hit += not row["ended"]
            rows.append(row)
        if rows:
            rows[-1]["wrong"] += killer.finish(out)
        yield from rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--workers", default="2,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        for each in kill_some(Path(temporary), options.count, [int(n) for n in options.workers.split(",")], options.seed):
            rows.append(each)
            print(
                f"{len(rows):3} {each['workers']} workers, rank {each['rank']}, {each['signal']}, gone in {each['gone_s']} s",
                flush=True,
            )
            for text in each["wrong"]:
                print(f"    {text}", flush=True)
    kills = [row for row in rows if not row["ended"]]
    bad = sum(bool(row["wrong"]) for row in rows)
    whole = {
        "date": date.today().isoformat(),
        "kills": len(kills),
        "wrong": bad,
        "slowest_s": max(row["gone_s"] for row in kills),
    }
    print(f"{len(kills)} kills in {time.monotonic() - started:.0f} s, all gone within {whole['slowest_s']} s: {bad} wrong")
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in (whole, *rows)))
    sys.exit(1 if bad else 0)
