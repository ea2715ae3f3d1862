"""Runs compilers: many files at a time, with a line of progress, every result renamed into place whole."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from warploom.errors import DeviceError


class Step(NamedTuple):
    """One file to compile."""

    part: str
    source: str  # as messages name it
    target: Path
    command: list[str]  # with "{target}" where the object's path belongs
    weight: int  # about how long it takes, in any unit


@contextlib.contextmanager
def alone(lock: Path, waiting: str) -> Iterator[None]:
    """One process at a time. The system gives a lock back when its process ends, however it ends."""
    import fcntl

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"warploom: {waiting}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: twice the work at worst, since results are renamed into place
        yield


def compile_all(steps: Sequence[Step], what: str, jobs: int, estimate: float) -> None:
    """Runs every step whose target is missing, the longest first, `jobs` at a time. estimate: of all, in seconds."""
    _sweep({step.target.parent for step in steps})
    missing = sorted((s for s in steps if not s.target.exists()), key=lambda s: -s.weight)
    if not missing:
        return
    progress = _Progress(what, missing, estimate * sum(s.weight for s in missing) / sum(s.weight for s in steps))
    running: list[tuple[Step, Path, subprocess.Popen[bytes]]] = []
    waiting = list(missing)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                step = waiting.pop(0)
                running.append((step, *_start(step.command, step.target)))
            time.sleep(0.02)
            for item in [item for item in running if item[2].poll() is not None]:
                running.remove(item)
                _finish(*item)
                progress.done(item[0])
            progress.show()
    finally:
        for _, half, process in running:
            process.kill()
            process.wait()
            _remove(half)
        progress.end()


def run(command: Sequence[str], target: Path) -> None:
    """One command, to which -o and the target are added."""
    step = Step("", target.name, target, [*command, "-o", "{target}"], 1)
    half, process = _start(step.command, target)
    try:
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        _remove(half)
        raise
    _finish(step, half, process)


def _start(command: Sequence[str], target: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    half = target.with_name(f"{target.name}.{os.getpid()}.half")  # its own for every process
    words = [str(half) if word == "{target}" else word for word in command]
    with half.with_suffix(".log").open("wb") as log:
        return half, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _finish(step: Step, half: Path, process: subprocess.Popen[bytes]) -> None:
    log = half.with_suffix(".log")
    if process.returncode == 0:
        os.replace(half, step.target)
        log.unlink(missing_ok=True)
        return
    said = log.read_text(errors="replace")
    _remove(half)
    lines = [line for line in said.splitlines() if re.search(r"error|not found|No such|undefined|killed", line, re.IGNORECASE)]
    first = (lines or said.splitlines() or [f"it ended with status {process.returncode} and no word"])[0]
    raise DeviceError(f"compiling {step.source} failed: {first.strip()[:400]} (the command: {shlex.join(step.command)})")


def _remove(half: Path) -> None:
    for path in (half, half.with_suffix(".log")):
        path.unlink(missing_ok=True)


def _sweep(folders: set[Path]) -> None:
    """What killed processes left half done; younger ones may be at work."""
    for folder in folders:
        for path in folder.glob("*.half*"):
            if time.time() - path.stat().st_mtime > 86400:
                path.unlink(missing_ok=True)


class _Progress:
    """On standard error: a line that changes in a terminal, else one line at the start and one every half minute."""

    def __init__(self, what: str, steps: Sequence[Step], estimate: float) -> None:
        self.count, self.total, self.weight, self.all = 0, len(steps), 0, sum(s.weight for s in steps)
        self.estimate, self.started, self.told = estimate, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()
        self._print(f"warploom: compiling {what}: {self.total} files, about {_minutes(estimate)}", True)
        self.told = time.monotonic()

    def done(self, step: Step) -> None:
        self.count += 1
        self.weight += step.weight

    def show(self) -> None:
        now = time.monotonic()
        if now - self.told < (0.5 if self.terminal else 30.0):
            return
        self.told = now
        passed, share = now - self.started, self.weight / self.all
        # What has been seen counts for more and more.
        total = (1 - share) * max(self.estimate, passed) + share * passed / max(share, 1e-3)
        left = max(total - passed, 1.0)
        self._print(f"warploom: compiled {self.count} of {self.total} files, about {_minutes(left)} left", not self.terminal)

    def end(self) -> None:
        passed = time.monotonic() - self.started
        if self.count == self.total:
            self._print(f"warploom: compiled {self.total} files in {_minutes(passed)}", True)
        elif self.terminal:
            print(file=sys.stderr)

    def _print(self, text: str, line: bool) -> None:
        start = "\r\x1b[K" if self.terminal and self.told else ""
        print(start + text, end="\n" if line else "", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 100 else f"{round(seconds / 60)} min"
