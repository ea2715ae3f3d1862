"""Runs the parts of a GPU run one after another: each under its own limit, logs written as they go, one archive after each.

    python benchmarks/gpu/run.py --out FOLDER [--from gpu_run.tar.gz] [--rehearse] [--only NAME ...] [--again NAME ...]

What is done is not done again: a second call goes on where the first stopped; on another machine, from its archive (--from).
A part that hangs is stopped at its limit and one that crashes is noted; the rest goes on. benchmarks/gpu_run.sh starts it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE, STATE, REPORT, PROGRESS = "gpu_run.tar.gz", "state.json", "report.md", "progress.txt"
LARGEST_LOG = 2 << 20  # bytes of a log that the archive takes, from its beginning and its end
GRACE = 3.0  # seconds between a request to stop and the end
MOST_CUTS = 3  # of a part that ever again is cut off: it may be what ends the machine
FINAL = ("passed", "failed", "stopped")


@dataclass(frozen=True)
class Part:
    name: str  # letters, digits and -: also its log
    seconds: float
    command: str  # of bash
    why_not: str = ""  # it cannot run here, and why
    needed: bool = False  # without it the rest makes no sense


class CutOff(Exception):
    """The run itself is being ended."""


class Run:
    def __init__(self, work: Path, out: Path, total: float, report: Callable[[Path, dict[str, Any]], str] | None = None) -> None:
        self.work, self.out, self.ends, self.report = work, out, time.monotonic() + total, report
        self.state: dict[str, Any] = {}
        if (work / STATE).exists():
            self.state = json.loads((work / STATE).read_text())
        for told in self.state.values():
            if told["outcome"] == "running":  # the machine went away under it
                told |= {"outcome": "cut off", "cuts": told.get("cuts", 0) + 1}
        self.child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.cut_off)

    def cut_off(self, number: int, frame: FrameType | None) -> None:
        raise CutOff(signal.Signals(number).name)

    def say(self, text: str) -> None:
        print(text, flush=True)
        with (self.out / PROGRESS).open("a") as file:
            file.write(text + "\n")

    def keep(self) -> None:
        """The state, the report and the archive; each file is whole at every moment."""
        replace(self.work / STATE, (json.dumps(self.state, indent=1) + "\n").encode())
        text = self.report(self.work, self.state) if self.report else outcomes(self.state)
        replace(self.work / REPORT, text.encode())
        replace(self.out / REPORT, text.encode())
        unfinished = self.out / (ARCHIVE + ".part")
        with tarfile.open(unfinished, "w:gz") as archive:
            for path in sorted(p for p in self.work.iterdir() if p.is_file()):
                if path.suffix == ".log" and path.stat().st_size > LARGEST_LOG:
                    path = shortened(path)
                archive.add(path, path.name.removesuffix(".short"))
        os.replace(unfinished, self.out / ARCHIVE)

    def end_child(self) -> None:
        """With everything that it started: a part is a process group of its own."""
        child, self.child = self.child, None
        if child is None:
            return
        for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                break
            try:
                child.wait(seconds)
                if number == signal.SIGTERM:
                    continue  # what it started may still be there
            except subprocess.TimeoutExpired:
                pass
        child.wait()

    def part(self, part: Part) -> str:
        """Runs one; returns its outcome."""
        told = self.state.setdefault(part.name, {"outcome": "", "cuts": 0})
        if part.why_not:
            told |= {"outcome": "left out", "why": part.why_not}
            return "left out"
        left = self.ends - time.monotonic()
        if left < 5:
            told |= {"outcome": "left out", "why": "the time was over"}
            return "left out"
        limit, begun = min(part.seconds, left), time.monotonic()
        told |= {"outcome": "running", "limit": round(limit), "why": ""}
        replace(self.work / STATE, (json.dumps(self.state, indent=1) + "\n").encode())
        self.say(f"=== {part.name}, at most {limit:.0f} s")
        with (self.work / f"{part.name}.log").open("ab") as log:
            log.write(f"$ {part.command}\n".encode())
            log.flush()
            # Relative where it can be: commands stand in records, and a machine's paths should not.
            work = self.work.relative_to(ROOT) if self.work.is_relative_to(ROOT) else self.work
            environment = os.environ | {"WORK": str(work), "PYTHONUNBUFFERED": "1"}
            self.child = subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", part.command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip
            try:
                status = self.child.wait(limit)
                outcome, why = ("passed", "") if status == 0 else ("failed", f"exit status {status}")
            except subprocess.TimeoutExpired:
                # At its own limit it is done with; where the whole run's time was over it is tried again.
                outcome, why = ("stopped", f"at its limit of {limit:.0f} s")
                if limit < part.seconds:
                    outcome, why = "cut off", f"the whole run's time was over after {limit:.0f} s of its {part.seconds:.0f}"
            except CutOff as error:
                told |= {"outcome": "cut off", "why": f"by {error}", "cuts": told["cuts"] + 1}
                raise
            finally:
                self.end_child()
                told["seconds"] = round(time.monotonic() - begun, 1)
        told |= {"outcome": outcome, "why": why, "cuts": told["cuts"] + (outcome == "cut off")}
        self.say("".join(tail(self.work / f"{part.name}.log", 3)) + f"--- {part.name}: {outcome} {why} ({told['seconds']} s)")
        return outcome

    def all(self, parts: list[Part], again: list[str]) -> int:
        """0: every part passed or was left out for a reason of its own; 1: one did not; 3: time was over before the end."""
        try:
            for part in parts:
                told = self.state.get(part.name, {"outcome": "", "cuts": 0})
                done = told["outcome"] in FINAL or (told["outcome"] == "cut off" and told["cuts"] >= MOST_CUTS)
                if done and part.name not in again:
                    self.say(f"--- {part.name}: {told['outcome']} before, not run again")
                    if part.needed and told["outcome"] != "passed":
                        break
                    continue
                outcome = self.part(part)
                self.keep()
                if part.needed and outcome not in ("passed", "left out"):
                    break
        except CutOff as error:
            self.say(f"--- the run was ended by {error}")
            self.keep()
            return 3
        found = [self.state.get(p.name, {"outcome": "left out", "why": "the time was over"}) for p in parts]
        self.keep()
        if any(t["outcome"] in ("failed", "stopped") for t in found):
            return 1
        return 3 if any(t["outcome"] == "cut off" or t.get("why") == "the time was over" for t in found) else 0


def replace(path: Path, data: bytes) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)


def shortened(log: Path) -> Path:
    short = log.with_name(log.name + ".short")
    data = log.read_bytes()
    short.write_bytes(data[: LARGEST_LOG // 2] + b"\n[... left out ...]\n" + data[-LARGEST_LOG // 2 :])
    return short


def tail(log: Path, lines: int) -> list[str]:
    return [line + "\n" for line in log.read_text(errors="replace").splitlines()[-lines:]]


def outcomes(state: dict[str, Any]) -> str:
    lines = ["## Parts", "", "| part | outcome | s | limit |", "|-|-|-|-|"]
    for name, told in state.items():
        lines.append(
            f"| {name} | {told['outcome']} {told.get('why', '')} | {told.get('seconds', '')} | {told.get('limit', '')} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks/gpu")]
    import page
    import parts

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the archive, the report and the progress go there")
    parser.add_argument("--work", type=Path, help="logs and results; default: build-gpu/run, or build-gpu/rehearsal")
    parser.add_argument("--from", type=Path, dest="before", metavar="ARCHIVE", help="go on from another machine's run")
    parser.add_argument("--rehearse", action="store_true", help="everything but the GPU, small, on the emulated device")
    parser.add_argument("--only", nargs="*", default=[], help="these parts alone")
    parser.add_argument("--again", nargs="*", default=[], help="these once more, though they are done")
    parser.add_argument("--seconds", type=float, default=555, help="of the whole; what does not fit is left for the next call")
    parser.add_argument("--list", action="store_true", help="the parts and their limits")
    options = parser.parse_args()
    chosen = parts.rehearsal() if options.rehearse else parts.on_gpu()
    unknown = [name for name in [*options.only, *options.again] if name not in {p.name for p in chosen}]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(p.name for p in chosen)}")
    chosen = [p for p in chosen if not options.only or p.name in options.only]
    if options.list:
        for part in chosen:
            print(f"{part.name:<24} {part.seconds:4.0f} s  {part.why_not and 'left out: ' + part.why_not}")
        return 0
    work = (options.work or ROOT / "build-gpu" / ("rehearsal" if options.rehearse else "run")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.before:
        with tarfile.open(options.before) as archive:
            archive.extractall(work, filter="data")
    return Run(work, options.out.resolve(), options.seconds, page.report).all(chosen, options.again)


if __name__ == "__main__":
    sys.exit(main())
