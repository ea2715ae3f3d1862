"""Every file-system call of a run fails once, in every way; afterwards the run is gone on with and compared with a whole one.

    python tests/reliability/fail_saves.py [--kinds memory,mapped,lazy] [--every 1]

For each call k of those a run of two epochs makes below its folder (open, write, fsync, linkat, rename, mkdir, close, unlink)
and each way (ENOSPC, ENOSPC from there on, EIO, EINTR, a short write, SIGKILL): the run must end with 0 or with one sentence
(exit code 2), its checkpoint must load, and gone on with it must give the bits, rows and files of a run that was left alone.
Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import errno
import shutil
import sys
import tempfile
import time
from pathlib import Path

from broken_runs import HOWS, KILL, SHORT, Worker, compiled, complaints, go_on, make_data, state, worker


def fail_each(at: Worker, folder: Path, kind: str, hows: list[str], every: int = 1, first: int = 1) -> tuple[int, list[str]]:
    """(how many calls failed, what went wrong)."""
    arguments = [*make_data(folder / kind, kind), "--epochs", "2"]
    whole = folder / f"{kind}-whole"
    shutil.rmtree(whole, ignore_errors=True)
    answer = at.run(["train", *arguments, "--out", str(whole)], whole)
    assert answer["code"] == 0, answer["said"]
    expected, failed, wrong = state(whole), 0, []
    for name in hows:
        for call in range(first, answer["calls"] + 1, every):
            out = folder / "broken"
            shutil.rmtree(out, ignore_errors=True)
            done = go_on(at, arguments, out, call=call, how=HOWS[name])
            ways = {0, 2, -9} if HOWS[name] == KILL else {0, 2}
            said = complaints(done, out, expected, ways)
            if HOWS[name] in (SHORT, errno.EINTR) and len(done) > 1:
                said.append(f"it ended the run: {done[0]['said'][-300:]}")
            wrong += [f"{kind}: call {call}, {name}: {text}" for text in said]
            failed += 1
    return failed, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="memory,mapped,lazy")
    parser.add_argument("--hows", default=",".join(HOWS))
    parser.add_argument("--every", type=int, default=1, help="only each N-th call")
    options = parser.parse_args()
    started, total, bad = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        library = compiled(Path(temporary))
        if library is None:
            sys.exit("no C compiler, or not Linux: nothing was tried")
        with worker(library) as process:
            for each in options.kinds.split(","):
                for how in options.hows.split(","):
                    count, errors = fail_each(process, Path(temporary), each, [how], options.every)
                    total, bad = total + count, bad + len(errors)
                    print(f"{each}, {how}: {count} calls failed, {len(errors)} wrong", *errors, sep="\n  ", flush=True)
    print(f"{total} failed calls in {time.monotonic() - started:.0f} s: {bad} wrong")
    sys.exit(1 if bad else 0)
