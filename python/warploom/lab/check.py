"""Running a CUDA program on the checked emulated device, under one or several orders of its threads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from warploom.lab import build
from warploom.lab.report import Finding, Place, Report, merge, read

_STOPPED, _TIMED_OUT = 97, 96  # kernels/lab/launches.cpp
_GRACE = 15.0  # seconds in which a program that has run for too long writes down what it knows


def _run_once(
    path: Path, program: build.Program, arguments: Sequence[str], seed: int, limits: dict[str, str], seconds: float, quiet: bool
) -> Report:
    with tempfile.TemporaryDirectory(prefix="warploom-lab-") as name:
        log = Path(name) / "report"
        own = {"WARPLOOM_LAB_REPORT": str(log), "WARPLOOM_EMULATOR_SEED": str(seed), "WARPLOOM_LAB_TIMEOUT": str(seconds)}
        environment = {**os.environ, **own, **limits}
        started = time.monotonic()
        silent = subprocess.DEVNULL if quiet else None
        try:
            code = subprocess.run(
                [str(program.executable), *arguments],
                env=environment,
                stdout=silent,
                stderr=silent,
                timeout=seconds + _GRACE,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -signal.SIGALRM
        report = read(path, log, program.executable, seed)
        report.seconds = time.monotonic() - started
    report.exit_code = code
    if code != 0:  # who leaves early releases nothing
        report.findings = [f for f in report.findings if f.code != "leak"]
    here = Place(str(path))
    if code == -signal.SIGALRM:
        report.findings.append(
            Finding(
                "error",
                "crash",
                f"the program did not end within {seconds:g} seconds (--timeout sets the limit)",
                here,
                seeds=(seed,),
            )
        )
    elif code == -signal.SIGABRT and not report.complete:
        pass  # an assertion of the host's, about a result of which only a part was computed
    elif code < 0:
        report.findings.append(_crash(report, signal.Signals(-code).name, here, seed))
    elif code == _TIMED_OUT:
        report.complete = False
        words = (
            f"the program was stopped after {seconds:g} seconds (--timeout sets the limit): what is found is of the part that ran"
        )
        report.findings.append(Finding("warning", "timeout", words, here, seeds=(seed,)))
    elif code not in (0, _STOPPED) and report.complete:  # of a sample of blocks the program's own verdict says nothing
        report.findings.append(
            Finding("warning", "program-exit", f"the program ended with exit code {code}", here, seeds=(seed,))
        )
    return report


def _crash(report: Report, what: str, file: Place, seed: int) -> Finding:
    """A signal: at its line, where the program could still say it."""
    at = report.crash[0] if report.crash else file
    text = Path(at.file).read_text(errors="replace") if at.line and Path(at.file).is_file() else ""
    name = at.function.partition("<")[0].rpartition("::")[2].split(" ")[-1]
    if name and len(report.crash) > 1 and re.search(rf"__global__[^;{{}}]*?\b{re.escape(name)}\s*\(", text):
        words = f"the kernel {name} is called as a function, without <<<>>>: such a call starts nothing"
        return Finding("error", "kernel-call", words, report.crash[1], seeds=(seed,))
    where = f" in {at.function}" if at.line and at.function else ""
    return Finding("error", "crash", f"the host's code was ended by {what}{where}", at, seeds=(seed,))


def check(
    path: str | os.PathLike[str],
    arguments: Sequence[str] = (),
    *,
    seed: int = 0,
    schedules: int = 1,
    blocks: int = 0,
    options: Sequence[str] = (),
    timeout: float = 120.0,
    quiet: bool = True,
) -> Report:
    """Compiles a CUDA file with its main(), runs it on the checked emulated device, and tells what it found.

    Args:
        path: the .cu file.
        arguments: of the program.
        seed: chooses the order of threads.
        schedules: so many orders, from `seed` on.
        blocks: at most so many of each launch (0: all that 20 seconds allow); the report then says that it is partial.
        options: more for the compiler, such as "-DN=64".
        timeout: seconds for one run.
        quiet: drop what the program itself prints.

    Raises:
        Refusal: where the file cannot be compiled, or asks for what the lab does not model.
        DeviceError: where there is no compiler.
    """
    file = Path(path)
    program = build.program(file, tuple(options))
    limits = {"WARPLOOM_LAB_BLOCKS": str(blocks)} if blocks else {}
    return merge([_run_once(file, program, arguments, seed + k, limits, timeout, quiet) for k in range(schedules)])
