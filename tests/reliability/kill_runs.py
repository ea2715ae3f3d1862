"""Runs are killed at random moments, again and again until they end; each must equal one that was left alone.

    python tests/reliability/kill_runs.py [COUNT] [--kinds memory,mapped,lazy] [--signal KILL|TERM|INT] [--seed 0]

COUNT: how many kills (1,000). The moments are drawn evenly over the time that a whole run takes. What must be the same: every
bit of model and checkpoint, the rows of the metrics but for their timing, the names in the folder (so no temporary file stays),
and the supervisor's loop must end with exit code 0. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from broken_runs import Worker, complaints, make_data, state, worker


def kill_some(
    at: Worker, folder: Path, kind: str, kills: int, seed: int, number: int = signal.SIGKILL
) -> tuple[int, int, list[str]]:
    """(kills that hit a process, runs that were ended so, what went wrong)."""
    rng = random.Random(seed)
    arguments = [*make_data(folder / kind, kind), "--epochs", "4"]
    whole = folder / f"{kind}-whole"
    answer = at.run(["train", *arguments, "--out", str(whole)], whole)
    assert answer["code"] == 0, answer["said"]
    expected, duration = state(whole), answer["seconds"]
    hit, runs, wrong = 0, 0, []
    while hit < kills:
        out, done, runs = folder / "killed", [], runs + 1
        shutil.rmtree(out, ignore_errors=True)
        while not done or done[-1]["code"]:
            begun = (out / "config.json").exists()
            again = ["train", "--resume", str(out)] if begun else ["train", *arguments, "--out", str(out)]
            # Every fourth is left alone, so that a run that is killed before its first checkpoint ends too.
            moment = {} if len(done) % 4 == 3 else {"kill_after": rng.uniform(0.0, duration), "signal": number}
            done.append(at.run(again, out, **moment))
            hit += done[-1]["code"] not in (0, 2)
            if len(done) > 60:
                break
        allowed = {0, -number} if number == signal.SIGKILL else {0, 130, 143, -number}
        wrong += [f"{kind}, run {runs}: {text}" for text in complaints(done, out, expected, allowed)]
    return hit, runs, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--kinds", default="memory,mapped,lazy")
    parser.add_argument("--signal", default="KILL", choices=("KILL", "TERM", "INT"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds, started, total, bad = options.kinds.split(","), time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as temporary, worker() as process:
        for place, each in enumerate(kinds):
            share = options.count // len(kinds) + (place < options.count % len(kinds))
            chosen = getattr(signal, f"SIG{options.signal}")
            kills, runs, errors = kill_some(process, Path(temporary), each, share, options.seed + place, chosen)
            total, bad = total + kills, bad + len(errors)
            print(f"{each}: {kills} kills in {runs} runs, {len(errors)} wrong", *errors, sep="\n  ", flush=True)
    print(f"{total} kills (SIG{options.signal}) in {time.monotonic() - started:.0f} s: {bad} wrong")
    sys.exit(1 if bad else 0)
