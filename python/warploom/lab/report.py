"""What a run has found: read from the runtime's lines, given source lines and words, and shown as compilers do."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from warploom.lab import symbols

# What to do, by the code of a finding. Also the rules of the SARIF report.
HELP = {
    "shared-race": "put __syncthreads() between the two accesses (between lanes of one warp, __syncwarp())",
    "device-race": "threads of a block share this place: separate the accesses by __syncthreads(), or use an atomic",
    "block-race": "blocks run in any order: give each block its own place, use an atomic, or split the kernel in two launches",
    "uninitialised-shared": "shared memory starts with garbage: write it first, with __syncthreads() before this read",
    "uninitialised-device": "write it first (cudaMemcpy, cudaMemset or an earlier kernel): cudaMalloc does not clear memory",
    "out-of-bounds": "check the index against the size before the access, or allocate more",
    "shared-out-of-bounds": "check the index against the array's size, or ask for more dynamic shared memory at the launch",
    "index": "the index must stay inside of the declared dimension",
    "misaligned": "an access of n bytes needs an address that is a multiple of n",
    "null-pointer": "the pointer was never given memory, or its allocation failed",
    "host-pointer": "kernels reach only device memory: cudaMalloc and cudaMemcpy, or cudaMallocManaged",
    "read-only": "write to memory from cudaMalloc instead",
    "stack": "keep large arrays in shared or device memory",
    "barrier": "move the barrier out of the condition, or let all threads of the block take it",
    "warp": "every lane that the mask names must reach the operation, and the mask must name the caller",
    "deadlock": "all threads that are waited for must get there",
    "kernel-call": "start it with kernel<<<grid, block>>>(...); a function that times others takes a host function that does so",
    "grid-sync": "launch with cudaLaunchCooperativeKernel, and let every thread of every block reach grid.sync()",
    "async": "wait for what is under way (cp.async.wait_group, an mbarrier, wgmma.wait_group) before its data are used",
    "assert": "the kernel's own assertion does not hold",
    "trap": "the kernel called __trap()",
    "copy-direction": "the last argument must name what the pointers are: cudaMemcpyHostToDevice from host to device memory",
    "copy-bounds": "copy no more bytes than both sides have; sizes are in bytes, not in elements",
    "uninitialised-copy": "nothing wrote these bytes: is a kernel missing, or does it leave out a part?",
    "invalid-free": "release what cudaMalloc gave, once, with the function that belongs to it",
    "invalid-handle": "use a stream or event between its creation and its destruction",
    "invalid-pointer": "give the address that the allocating function gave",
    "event-not-recorded": "record both events, and wait for the second, before asking for the time between them",
    "launch-limits": "such a launch does not run on a GPU: choose another shape",
    "unchecked-error": "look at the result of every call, for example with a macro that prints cudaGetErrorString()",
    "missing-synchronisation": "kernels and asynchronous copies run beside the host: wait for them first",
    "host-access": "device memory cannot be reached from the host: copy it, or use cudaMallocManaged",
    "tensor-map": "give cuTensorMapEncodeTiled a map that the copy engine can follow, and look at its result",
    "leak": "release it with cudaFree() (cudaFreeHost() for pinned memory)",
    "unsupported": "the emulated device cannot run this",
    "timeout": "a smaller problem runs to its end; or the program waits for ever",
    "crash": "the host's part of the program failed",
    "program-exit": "the program itself says that something is wrong",
    "fault": "",
}


@dataclass(frozen=True)
class Place:
    """A line of the program. `column` is 0 where it is not known."""

    file: str = ""
    line: int = 0
    column: int = 0
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """A mistake. `other`: the second access of a race, with its thread and block."""

    level: str
    code: str
    message: str
    place: Place = Place()
    kernel: str = ""
    block: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()
    other: Place | None = None
    other_access: str = ""
    other_block: tuple[int, ...] = ()
    other_thread: tuple[int, ...] = ()
    other_many: bool = False
    seeds: tuple[int, ...] = ()

    @property
    def help(self) -> str:
        """What to do."""
        return HELP.get(self.code, "")

    def key(self) -> tuple[str, str, tuple[int, ...]]:
        """Findings are one where these agree: of a race, in either order of its accesses."""
        return (self.code, self.place.file, tuple(sorted([self.place.line] + ([self.other.line] if self.other else []))))

    def note(self) -> str:
        """The second half of a race."""
        if self.other is None:
            return ""
        between = self.code == "block-race"
        where = f"block {_triple(self.other_block)}, " if between else ""
        many = " and others" if self.other_many else ""
        order = "nothing" if between else "no barrier"
        return (
            f"the other access: a {self.other_access} by {where}thread {_triple(self.other_thread)}{many}; {order} orders the two"
        )


@dataclass(repr=False)
class Report:
    """Of one file: findings, and what was run."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    launches: int = 0
    blocks: int = 0
    blocks_run: int = 0
    threads: int = 0
    accesses: int = 0
    stopped: bool = False
    complete: bool = True
    exit_code: int = 0
    schedules: int = 1
    seconds: float = 0.0
    crash: tuple[Place, ...] = ()  # where a signal ended the program, and from where that code was called

    def __bool__(self) -> bool:
        """No errors: `assert warploom.lab.check("mine.cu")`."""
        return not self.errors

    def __repr__(self) -> str:
        return as_text(self)  # what pytest shows of an assertion

    @property
    def errors(self) -> list[Finding]:
        """Without the warnings."""
        return [f for f in self.findings if f.level == "error"]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        data = asdict(self)
        for entry, finding in zip(data["findings"], self.findings, strict=True):
            entry["help"] = finding.help
        return data


def _triple(values: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, values)) + ")"


def _names(text: str, files: dict[str, list[str]]) -> str:
    """Allocations are known by their line: the variable that stands there."""

    def name(m: re.Match[str]) -> str:
        if m.group(1) == "<argument>":
            return f"argument {m.group(2)}"
        lines = files.get(m.group(1), [])
        line = int(m.group(2))
        text = lines[line - 1] if 0 < line <= len(lines) else ""
        found = re.search(r"cuda(?:Malloc\w*|HostAlloc)\s*\(\s*(?:\([^()]*\)\s*)?&?\s*([\w.\[\]>-]+)", text)
        return f"`{found.group(1)}` (allocated at line {line})" if found else f"the allocation of line {line}"

    return re.sub("\x01(.*?):(\\d+)\x02", name, text)


def variable_names(text: str) -> str:
    """Of a sentence of the runtime's: the variables in place of the lines where they were allocated."""
    files = {}
    for name in re.findall("\x01(.*?):\\d+\x02", text):
        try:
            files[name] = Path(name).read_text(errors="replace").splitlines()
        except OSError:
            continue
    return _names(text, files)


def read(path: Path, log: Path, executable: Path, seed: int) -> Report:
    """The report of one run from the runtime's lines."""
    entries = []
    if log.is_file():
        for line in log.read_text(errors="replace").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # the program was killed while it wrote
    report = Report(str(path))
    wanted = sorted(
        {e[k] for e in entries for k in ("pc", "other_pc") if k in e} | {pc for e in entries for pc in e.get("pcs", ())}
    )
    found = symbols.places(executable, wanted)
    files: dict[str, list[str]] = {}

    def lines(name: str) -> list[str]:
        if name not in files:
            try:
                files[name] = Path(name).read_text(errors="replace").splitlines()
            except OSError:
                files[name] = []
        return files[name]

    def place(entry: dict[str, Any], pc: str, site: str = "") -> Place:
        if site in entry:
            return Place(entry[site]["file"], entry[site]["line"])
        if entry.get(pc) in found:
            s = found[entry[pc]]
            return Place(given(s.file), s.line, s.column, s.function)
        return Place()

    def given(name: str) -> str:
        """Debug information has absolute names; people want those they gave."""
        file = Path(name)
        # Of a first line the debug information may name the rewritten file.
        if file.resolve() == path.resolve() or re.search(rf"/building-\w+/0_{re.escape(path.stem)}\.cpp$", name):
            return str(path)
        return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else name

    def at_start(p: Place) -> Place:
        """Without a column: where the line's text begins."""
        text = lines(p.file)[p.line - 1] if p.file and 0 < p.line <= len(lines(p.file)) else ""
        return p if p.column or not text else replace(p, column=len(text) - len(text.lstrip()) + 1)

    lines(str(path))
    for e in entries:
        if e["type"] == "summary":
            report.kernels = [k for k in e["kernels"].split("\n") if k]
            report.launches, report.blocks, report.blocks_run = e["launches"], e["blocks"], e["blocks_run"]
            report.threads, report.accesses = e["threads"], e["accesses"]
        elif e["type"] == "stopped":
            report.stopped = True
        elif e["type"] == "partial":
            report.complete = False
        elif e["type"] == "crash":
            report.crash = tuple(at_start(place({"pc": pc}, "pc")) for pc in e["pcs"] if pc in found)
        elif e["type"] == "finding":
            here = at_start(place(e, "pc", "at"))
            lines(here.file)
            report.findings.append(
                Finding(
                    e["level"],
                    e["code"],
                    _names(e["message"], files),
                    here,
                    e.get("kernel", ""),
                    tuple(e.get("block", ())),
                    tuple(e.get("thread", ())),
                    at_start(place(e, "other_pc")) if "other_pc" in e else None,
                    e.get("other", ""),
                    tuple(e.get("other_block", ())),
                    tuple(e.get("other_thread", ())),
                    bool(e.get("other_many", 0)),
                    (seed,),
                )
            )
    return report


def merge(reports: list[Report]) -> Report:
    """Of several runs of one program, under several orders of threads."""
    total = reports[0]
    found: dict[tuple[str, str, tuple[int, ...]], Finding] = {}
    for report in reports:
        for f in report.findings:
            old = found.setdefault(f.key(), f)
            old = f if old.level != "error" and f.level == "error" else old
            found[f.key()] = replace(old, seeds=tuple(sorted({*old.seeds, *f.seeds})))
    for other in reports[1:]:
        total.accesses += other.accesses
        total.stopped = total.stopped or other.stopped
        total.complete = total.complete and other.complete
        total.exit_code = total.exit_code or other.exit_code
        total.seconds += other.seconds
    total.schedules = len(reports)
    total.findings = list(found.values())
    total.findings.sort(key=lambda f: f.level != "error")
    return total


def _excerpt(place: Place) -> list[str]:
    try:
        text = Path(place.file).read_text(errors="replace").splitlines()[place.line - 1]
    except (OSError, IndexError):
        return []
    shown = [f"{place.line:>6} | {text.expandtabs(4)}"]
    if place.column:
        before = len(text[: place.column - 1].expandtabs(4))
        shown.append(f"{'':>6} | {' ' * before}^")
    return shown


def as_text(report: Report) -> str:
    """As a compiler would say it."""
    out = []
    for f in report.findings:
        who = ""
        if f.kernel:
            who = f" in {f.kernel}"
            if f.block:
                who += f", block {_triple(f.block)}"
            if f.thread:
                who += f", thread {_triple(f.thread)}"
        where = str(f.place) if f.place.file else report.path
        out.append(f"{where}: {f.level}: {f.message}{who} [{f.code}]")
        out += _excerpt(f.place)
        if f.other is not None:
            out.append(f"{f.other if f.other.file else report.path}: note: {f.note()}")
            out += _excerpt(f.other)
        if report.schedules > 1 and len(f.seeds) < report.schedules:
            out.append(f"  note: under {len(f.seeds)} of {report.schedules} orders of threads, --seed {f.seeds[0]} for one")
        if f.help:
            out.append(f"  help: {f.help}")
    out.append(verdict(report))
    return "\n".join(out)


def _counted(number: int, one: str) -> str:
    return f"{number:,} {one}" + ("" if number == 1 else "s")


def verdict(report: Report) -> str:
    """The last line: what was found, and how much was looked at."""
    warnings = len(report.findings) - len(report.errors)
    found = _counted(len(report.errors), "error") if report.errors else "no errors"
    if warnings:
        found += f", {_counted(warnings, 'warning')}"
    looked = (
        f"{_counted(len(report.kernels), 'kernel')} in {_counted(report.launches, 'launch').replace('launchs', 'launches')}, "
    )
    looked += f"{_counted(report.blocks_run, 'block')}, {report.accesses:,} memory accesses checked"
    if report.schedules > 1:
        looked += f" under {report.schedules} orders of threads"
    if report.stopped:
        looked += "; a GPU would have stopped here, so the rest of the program was not run"
    elif not report.complete:
        looked += f"; partial: {report.blocks_run:,} of {report.blocks:,} blocks were run, so the program computes something else"
    return f"{report.path}: {found}; {looked}"


def as_github(report: Report) -> str:
    """Workflow commands that GitHub shows beside the lines."""
    out = []
    for f in report.findings:
        text = f"{f.message}{' (' + f.kernel + ')' if f.kernel else ''}"
        if f.other is not None:
            text += f"; {f.note()} at {f.other}"
        if f.help:
            text += f". {f.help}"
        text = text.replace("%", "%25").replace("\n", "%0A")
        column = f",col={f.place.column}" if f.place.column else ""
        out.append(
            f"::{f.level} file={f.place.file or report.path},line={f.place.line or 1}{column},title=warploom {f.code}::{text}"
        )
    return "\n".join(out)
