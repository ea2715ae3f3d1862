"""Starting several workers, for the tests of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from warploom.distributed.groups import why_no_mpi
from warploom.distributed.launch import mpirun

SMALL = Path(__file__).with_name("small.py")
needs_mpi = pytest.mark.skipif(bool(why_no_mpi()) or not mpirun(), reason=why_no_mpi() or "there is no mpirun")


_STARTED_BY = "WARPLOOM_TESTS_STARTED_BY"


def environment() -> dict[str, str]:
    return {**os.environ, "WARPLOOM_THREADS": "1", _STARTED_BY: str(os.getpid())}


def run(workers: int, *arguments: str, command: list[str] | None = None, seconds: float = 120) -> tuple[int, str, str, float]:
    """(exit code, stdout, stderr, seconds)."""
    start = time.monotonic()
    launched = command if command is not None else [mpirun(), "-n", str(workers), sys.executable, str(SMALL)]
    done = subprocess.run(
        [*launched, *arguments], capture_output=True, text=True, timeout=seconds, env=environment(), check=False
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def results(text: str) -> list[dict[str, Any]]:
    """The lines of small.py, by rank; output of several processes may stand in one line."""
    decoder, found = json.JSONDecoder(), []
    while "{" in text:
        value, end = decoder.raw_decode(text[text.index("{") :])
        found.append(value)
        text = text[text.index("{") + end :]
    return sorted(found, key=lambda result: result["rank"])


def living(word: str, ours: bool = False) -> list[int]:
    """Processes whose command line holds the word. ours: of those that this process had started; other tests start the like."""
    found, mark = [], f"{_STARTED_BY}={os.getpid()}\0".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and (not ours or mark in path.with_name("environ").read_bytes()):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
