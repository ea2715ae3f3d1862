"""What can be known about the kernels without a GPU: registers, local memory, occupancy, the instructions of the hottest loop.

Reads the machine code of every registered version and of the operations they share, either from a CMake build that has compiled
it (--build) or compiled here, one file and architecture at a time; compiled files are kept in build/static-report and reused
while their sources stay the same. Prints one line of JSON per kernel and architecture. Exit status 1 if a hot kernel (conv,
gemm, correlate, weight_gradient) uses local memory, which is where spilled registers go.

    python benchmarks/static_report.py                                                 # JSON lines
    python benchmarks/static_report.py --build build --markdown benchmarks/results/static_report.md  # from a build; tables too
    python benchmarks/static_report.py --version v4 --arch 90a --kernel sgemm

The package must be importable (PYTHONPATH=python in a checkout that is built in place).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from warploom.errors import StateError
from warploom.kernel_tools import cubin, kernels

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build" / "static-report"
HOT = re.compile(r"conv|gemm|correlate|weight_gradient")


@dataclass
class Loop:
    """The innermost loop with the most multiply-adds, counted as it stands in the machine code."""

    instructions: int = 0
    fma: int = 0  # FFMA, or HMMA/HGMMA where there are any
    fma_kind: str = ""
    lds: int = 0
    sts: int = 0
    ldg: int = 0
    other: int = 0
    flops: int = 0  # of a warp, once through the loop
    shared_bytes: int = 0  # that a warp reads from shared memory
    global_bytes: int = 0  # that a warp reads from global memory

    @property
    def fma_share(self) -> float:
        return self.fma / self.instructions if self.instructions else 0.0

    @property
    def loads_per_fma(self) -> float:
        return (self.lds + self.ldg) / self.fma if self.fma else 0.0

    @property
    def bytes_per_flop(self) -> float:
        return self.shared_bytes / self.flops if self.flops else 0.0


@dataclass
class Report:
    version: str
    file: str
    kernel: str
    arch: str
    registers: int = 0
    stack_bytes: int = 0  # local memory: spills, and arrays that are not in registers
    local_accesses: int = 0  # instructions that load or store it
    shared_bytes: int = 0
    threads: int = 256
    threads_assumed: bool = True  # the kernel states no launch bound
    occupancy: float = 0.0
    hot: bool = False
    loop: Loop = field(default_factory=Loop)


class ReportError(RuntimeError):
    """A sentence for the user."""


def versions() -> list[tuple[str, Path]]:
    """(name, folder) of every line in kernels/versions.def, and of the operations that all versions share."""
    text = (ROOT / "kernels" / "versions.def").read_text()
    own = [(m[1], ROOT / "kernels" / m[2]) for m in re.finditer(r"^WL_VERSION\((\w+),\s*(\w+),", text, re.MULTILINE)]
    return [*own, (kernels.SHARED, ROOT / "kernels" / "ops")]


INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);")


def functions(sass: str) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """(mangled name, [(address, opcode, operands)]) from `cuobjdump -sass`."""
    for part in re.split(r"^\s*Function : ", sass, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        matches = (INSTRUCTION.match(line) for line in body.splitlines())
        yield name.strip(), [(int(m[1], 16), m[2], m[3]) for m in matches if m]


TENSOR = {"HMMA", "HGMMA", "IMMA", "UTCHMMA"}


def multiply_adds(opcodes: Iterable[str]) -> tuple[int, str]:
    kinds = [o.split(".")[0] for o in opcodes]
    tensor = [k for k in kinds if k in TENSOR]
    if tensor:
        return len(tensor), tensor[0]
    return sum(k in {"FFMA", "FFMA2"} for k in kinds), "FFMA"


def flops_of(opcode: str) -> int:
    """Of a warp: HMMA.16816 multiplies 16 x 8 by 16, HGMMA.64x128x16 does so for the four warps of a group."""
    kind = opcode.split(".")[0]
    if kind in {"FFMA", "FFMA2"}:
        return 2 * 32 * (2 if kind == "FFMA2" else 1)
    if shape := re.search(r"\.(\d+)x(\d+)x(\d+)", opcode):
        return 2 * int(shape[1]) * int(shape[2]) * int(shape[3]) // 4
    if shape := re.search(r"\.(16|8)8(16|32|8|4)\b", opcode):
        return 2 * int(shape[1]) * 8 * int(shape[2])
    return 0


def bytes_of(opcode: str) -> int:
    """Read by a warp: LDS.128 takes 16 bytes a thread, LDSM.16.M88.4 four matrices of 8 x 8 halves."""
    if opcode.startswith("LDSM"):
        matrices = re.search(r"\.([124])$", opcode)
        return 128 * (int(matrices[1]) if matrices else 1)
    width = re.search(r"\.(128|64|U8|S8|U16|S16|8|16)\b", opcode)
    bits = {"U8": 8, "S8": 8, "U16": 16, "S16": 16}.get(width[1], 0) or int(width[1]) if width else 32
    return 32 * bits // 8


def hottest_loop(code: list[tuple[int, str, str]]) -> Loop:
    """Backward branches span the loops; of those that hold no smaller loop with multiply-adds, the one with the most.

    What waits for a barrier waits behind the function's end and branches back from there: a span with an end in it is no loop.
    """
    spans = []
    for address, opcode, operands in code:
        target = re.search(r"0x([0-9a-f]+)\s*$", operands)
        if opcode.split(".")[0] == "BRA" and target and int(target[1], 16) < address:
            spans.append((int(target[1], 16), address))
    bodies = [(s, [o for a, o, _ in code if s[0] <= a <= s[1]]) for s in sorted(set(spans))]
    working = [(s, ops) for s, ops in bodies if multiply_adds(ops)[0] and "EXIT" not in ops]
    inner = [(s, ops) for s, ops in working if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t, _ in working)]
    if not inner:
        return Loop()
    ops = max((ops for _, ops in inner), key=lambda o: multiply_adds(o)[0])
    full = [o for o in ops if o != "NOP"]
    ops = [o.split(".")[0] for o in full]
    fma, kind = multiply_adds(ops)
    loop = Loop(instructions=len(ops), fma=fma, fma_kind=kind)
    loop.lds = sum(o in {"LDS", "LDSM"} for o in ops)
    loop.sts = ops.count("STS")
    loop.ldg = sum(o in {"LDG", "LDGSTS", "LD"} for o in ops)
    loop.flops = sum(flops_of(o) for o, k in zip(full, ops, strict=True) if k == kind or k == "FFMA2")
    loop.shared_bytes = sum(bytes_of(o) for o, k in zip(full, ops, strict=True) if k in {"LDS", "LDSM"})
    loop.global_bytes = sum(bytes_of(o) for o, k in zip(full, ops, strict=True) if k in {"LDG", "LDGSTS", "LD"})
    loop.other = loop.instructions - loop.fma - loop.lds - loop.sts - loop.ldg
    return loop


def includes(source: Path, seen: dict[Path, None]) -> dict[Path, None]:
    """The file and all it includes by a quoted name."""
    if source not in seen:
        seen[source] = None
        for name in re.findall(r'^\s*#include "([^"]+)"', source.read_text(), re.MULTILINE):
            if (found := (source.parent / name).resolve()).is_file():
                includes(found, seen)
    return seen


def compile_here(source: Path, arch: str, toolkit: str) -> Path:
    """The cubin of one file for one architecture; an earlier one where nothing it is made from has changed."""
    flags = ["-std=c++17", "-O3", f"-arch=sm_{arch}", "-cubin"]
    key = hashlib.sha256(" ".join([toolkit, *flags]).encode())
    for file in includes(source, {}):
        key.update(file.read_bytes())
    kept = KEPT / f"{source.parent.name}-{source.stem}-sm_{arch}-{key.hexdigest()[:16]}.cubin"
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "kernels.cubin"
        command = [kernels.find_tool("nvcc"), *flags, f"-I{ROOT}", str(source), "-o", str(fresh)]
        compiled = subprocess.run(command, capture_output=True, text=True, check=False)
        if compiled.returncode:
            raise ReportError(f"nvcc could not compile {source.relative_to(ROOT)} for sm_{arch}:\n{compiled.stderr.strip()}")
        keep(kept, fresh.read_bytes())
    return kept


def built_objects(build: Path) -> dict[Path, Path]:
    """Source file -> object file of the cuda library in a CMake build."""
    commands = build / "compile_commands.json"
    if not commands.is_file():
        raise ReportError(
            f"{commands} does not exist; --build wants a folder that cmake configured and the target warploom_cuda built"
        )
    objects: dict[Path, Path] = {}
    for entry in json.loads(commands.read_text()):
        words = shlex.split(entry["command"])
        if "warploom_cuda.dir" in entry["command"] and "-o" in words:
            objects[Path(entry["file"]).resolve()] = Path(entry["directory"]) / words[words.index("-o") + 1]
    if not objects:
        raise ReportError(f"{build} builds no cuda library; configure it with -DWARPLOOM_CUDA=ON")
    return objects


def built_cubins(source: Path, objects: dict[Path, Path], folder: Path) -> dict[str, Path]:
    """Architecture -> cubin, taken out of the object file into `folder`."""
    built = objects.get(source)
    if built is None or not built.is_file() or built.stat().st_mtime < max(f.stat().st_mtime for f in includes(source, {})):
        raise ReportError(
            f"the build holds no up-to-date object of {source.relative_to(ROOT)}; build the target warploom_cuda first"
        )
    folder.mkdir()
    tool = kernels.find_tool("cuobjdump")
    taken = subprocess.run([tool, "-xelf", "all", str(built.resolve())], cwd=folder, capture_output=True, text=True, check=False)
    if taken.returncode:
        raise ReportError(f"cuobjdump could not read {built}: {taken.stderr.strip()}")
    return {m[1]: file for file in folder.iterdir() if (m := re.search(r"\.sm_(\w+)\.cubin$", file.name))}


def keep(file: Path, content: bytes) -> None:
    """Writes a file that a run beside this one may be reading."""
    KEPT.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_bytes(content)
    unfinished.replace(file)


def disassembly(file: Path) -> str:
    """What cuobjdump shows of the code; kept too, for the disassembler takes a second to start."""
    kept = KEPT / f"{hashlib.sha256(file.read_bytes()).hexdigest()[:24]}.sass"
    if not kept.is_file():
        command = [kernels.find_tool("cuobjdump"), "-sass", str(file)]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode:
            raise ReportError(f"cuobjdump could not disassemble {file.name}: {shown.stderr.strip()}")
        keep(kept, shown.stdout.encode())
    return kept.read_text()


def report_cubin(version: str, source: Path, arch: str, file: Path) -> list[Report]:
    code = dict(functions(disassembly(file)))
    entries = {e.symbol: (kernels.short_name(cubin.demangle(e.symbol)), e) for e in cubin.entries(file.read_bytes())}
    reports = []
    for name, e in sorted(entries.values(), key=lambda row: row[0]):
        r = Report(version, str(source.relative_to(ROOT)), name, arch, e.registers, e.stack_bytes)
        reserved = cubin.SYSTEM_SHARED if int(re.sub(r"\D", "", arch)) >= 90 else 0
        r.shared_bytes = max(e.shared_bytes - reserved, 0)
        if e.max_threads:
            r.threads, r.threads_assumed = e.max_threads, False
        r.occupancy = round(kernels.occupancy(arch, r.threads, r.registers, r.shared_bytes), 3)
        r.hot = bool(HOT.search(r.kernel)) and version != kernels.SHARED
        instructions = code.get(e.symbol, [])
        r.local_accesses = sum(opcode.split(".")[0] in {"STL", "LDL"} for _, opcode, _ in instructions)
        r.loop = hottest_loop(instructions)
        reports.append(r)
    return reports


def as_json(r: Report) -> str:
    row = asdict(r)
    row["loop"] |= {"fma_share": round(r.loop.fma_share, 3), "loads_per_fma": round(r.loop.loads_per_fma, 3)}
    row["loop"] |= {"bytes_per_flop": round(r.loop.bytes_per_flop, 4)}
    return json.dumps(row)


def markdown(reports: list[Report], archs: list[str], command: str, how: str, toolkit: str) -> str:
    lines = [
        "# Static report of the kernels",
        "",
        f"Generated by `{command}`; do not edit.",
        f"{how} with {toolkit}.",
        "**No GPU was involved:** all of it is read from the machine code, so it tells what a kernel asks of a GPU, not",
        "how long it takes.",
        "",
        f"Values with slashes are for sm_{' / sm_'.join(archs)}; one value holds for all.",
        "",
        "- **Threads**: per block, from the launch bound (\\*: the kernel states none; 256 assumed).",
        "- **Shared**: static shared memory in bytes. Dynamic shared memory is chosen at launch and is not counted.",
        "- **Local**: bytes of local memory a thread uses. Spilled registers go there; 0 is wanted.",
        "- **Occupancy**: resident threads over the most a multiprocessor holds, by registers, static shared memory and threads.",
        "- **FMA share**: multiply-adds over all instructions of the hottest loop, which is the innermost loop with the most of",
        "  them (FFMA; tensor core instructions where there are any). Branches in it that are rarely taken count in full.",
        "- **Loads per FMA**: shared and global load instructions over multiply-adds, in the same loop.",
        "- **Bytes per FLOP**: what a warp reads from shared memory over its multiplications and additions, in the same loop.",
        "  (The 32 threads of a warp often read the same bytes, which then move once.)",
    ]

    def row(group: list[Report], cell: Callable[[Report], str]) -> str:
        by_arch = {r.arch: cell(r) for r in group}
        values = [by_arch.get(a, "-") for a in archs]
        return values[0] if len(set(values)) == 1 else " / ".join(values)

    for version in dict.fromkeys(r.version for r in reports):
        lines += ["", f"## {version}"]
        for hot, heading in ((True, "Convolutions and matrix products"), (False, "Everything else")):
            groups: dict[tuple[str, str], list[Report]] = {}
            for r in reports:
                if r.version == version and r.hot == hot:
                    groups.setdefault((r.file, r.kernel), []).append(r)
            if not groups:
                continue
            loop = " FMA share | Loads per FMA | Bytes per FLOP |" if hot else ""
            lines += ["", f"### {heading}", "", "| Kernel | File | Threads | Shared | Registers | Local | Occupancy |" + loop]
            lines += ["|-|-|-|-|-|-|-|" + ("-|-|-|" if hot else "")]
            for (file, kernel), group in groups.items():
                cells = [
                    f"`{kernel}`",
                    file.split("/")[-2 if version == kernels.SHARED else -1],
                    row(group, lambda r: f"{r.threads}\\*" if r.threads_assumed else str(r.threads)),
                ]
                cells += [row(group, lambda r: str(r.shared_bytes)), row(group, lambda r: str(r.registers))]
                cells += [row(group, lambda r: str(r.stack_bytes)), row(group, lambda r: f"{r.occupancy:.0%}")]
                if hot:
                    cells += [row(group, lambda r: f"{r.loop.fma_share:.1%} {r.loop.fma_kind}" if r.loop.fma else "-")]
                    cells += [row(group, lambda r: f"{r.loop.loads_per_fma:.3f}" if r.loop.fma else "-")]
                    cells += [row(group, lambda r: f"{r.loop.bytes_per_flop:.3f}" if r.loop.shared_bytes else "-")]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def collect(wanted: list[tuple[str, Path]], archs: list[str], build: Path | None, jobs: int, toolkit: str) -> list[Report]:
    """Reports of the files in `wanted`, in their order."""
    objects = built_objects(build) if build else {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:

        def one(task: tuple[int, str, Path]) -> list[Report]:
            number, version, source = task
            cubins = built_cubins(source, objects, Path(scratch) / str(number)) if build else {}
            rows: list[Report] = []
            for arch in archs:
                if build and arch not in cubins:
                    raise ReportError(
                        f"{build} was not built for sm_{arch}; it holds {', '.join(f'sm_{a}' for a in sorted(cubins))}"
                    )
                cubin = cubins[arch] if build else compile_here(source, arch, toolkit)
                rows += report_cubin(version, source, arch, cubin)
            return rows

        return [r for rows in pool.map(one, [(i, v, s) for i, (v, s) in enumerate(wanted)]) for r in rows]


def main() -> int:
    known = [name for name, _ in versions()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["75", "80", "90a"], help="architectures, e.g. 75 90a")
    parser.add_argument("--version", nargs="+", choices=known, default=known, help="versions of kernels/versions.def")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--build", type=Path, help="read the objects of this CMake build instead of compiling")
    parser.add_argument("--markdown", type=Path, help="also write tables to this file")
    parser.add_argument("--jobs", type=int, default=2, help="files at a time")
    options = parser.parse_args()
    try:
        unknown = [a for a in options.arch if re.sub(r"\D", "", a) not in kernels.MULTIPROCESSORS]
        if unknown:
            raise ReportError(f"no limits are known for sm_{unknown[0]}; known: {', '.join(kernels.MULTIPROCESSORS)}")
        places = [(v, folder) for v, folder in versions() if v in options.version]
        wanted = [(v, f) for v, folder in places for f in sorted([*folder.glob("*.cu"), *folder.glob("*/*.cu")])]
        # For the caption the release, for the reuse of compiled files the whole text, build number included.
        toolkit = subprocess.run([kernels.find_tool("nvcc"), "--version"], capture_output=True, text=True, check=True).stdout
        reports = collect(wanted, options.arch, options.build, options.jobs, toolkit)
        reports = [r for r in reports if options.kernel in r.kernel]
    except (ReportError, StateError) as error:
        print(f"static_report: {error}", file=sys.stderr)
        return 2
    if not reports:
        print("static_report: no kernel matches --version and --kernel", file=sys.stderr)
        return 2
    for r in reports:
        print(as_json(r))
    if options.markdown:
        command = shlex.join(["python", "benchmarks/static_report.py", *sys.argv[1:]])
        release = re.search(r"release [\d.]+, V[\d.]+", toolkit)
        how = "Read from the objects of the library's own build, compiled" if options.build else "Compiled for this report"
        options.markdown.write_text(
            markdown(reports, options.arch, command, how, f"nvcc {release[0] if release else ''}".strip())
        )
    spilling = [r for r in reports if r.hot and (r.stack_bytes or r.local_accesses)]
    for r in spilling:
        where = f"{r.stack_bytes} bytes of local memory, {r.local_accesses} instructions"
        print(f"static_report: {r.version} {r.kernel} spills on sm_{r.arch}: {where}", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
