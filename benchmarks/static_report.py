"""What can be known about the kernels without a GPU: registers, spills, shared memory, occupancy, the hottest loop's instructions.

Compiles the kernel files of every registered version for each architecture (nvcc -cubin), reads what ptxas says and what the
disassembler shows, and prints one line of JSON per kernel and architecture, or a Markdown table. Exit status 1 if a hot kernel
(conv*, *gemm*) spills registers.

    python benchmarks/static_report.py                                   # JSON lines
    python benchmarks/static_report.py --markdown docs/static-report.md  # and the table
    python benchmarks/static_report.py --version v4 --arch 90a --kernel sgemm
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOT = re.compile(r"conv|gemm")


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one multiprocessor (CUDA programming guide, "Technical Specifications per Compute Capability")."""

    threads: int
    blocks: int
    shared_bytes: int
    registers: int = 65536


MULTIPROCESSORS = {
    "75": Multiprocessor(1024, 16, 64 << 10),
    "80": Multiprocessor(2048, 32, 164 << 10),
    "86": Multiprocessor(1536, 16, 100 << 10),
    "89": Multiprocessor(1536, 24, 100 << 10),
    "90": Multiprocessor(2048, 32, 228 << 10),
    "100": Multiprocessor(2048, 32, 228 << 10),
    "120": Multiprocessor(1536, 24, 100 << 10),
}


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

    @property
    def fma_share(self) -> float:
        return self.fma / self.instructions if self.instructions else 0.0

    @property
    def loads_per_fma(self) -> float:
        return (self.lds + self.ldg) / self.fma if self.fma else 0.0


@dataclass
class Report:
    version: str
    file: str
    kernel: str
    arch: str
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    threads: int = 256
    threads_assumed: bool = True  # the kernel states no launch bound
    occupancy: float = 0.0
    hot: bool = False
    loop: Loop = field(default_factory=Loop)


class ReportError(RuntimeError):
    """A sentence for the user."""


def find_tool(name: str) -> str:
    """A CUDA tool from PATH, the usual toolkit folder, or the compiler wheels of PyPI."""
    wheels = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    places = [Path("/usr/local/cuda/bin"), *sorted(wheels.glob("cu*/bin"))]
    found = shutil.which(name) or next((str(p / name) for p in places if (p / name).is_file()), None)
    if found is None:
        raise ReportError(f"{name} was not found on the PATH; install the CUDA toolkit, or: pip install nvidia-cuda-{name}")
    return found


def versions() -> list[tuple[str, Path]]:
    """(name, folder) of every line in kernels/versions.def."""
    text = (ROOT / "kernels" / "versions.def").read_text()
    return [(m[1], ROOT / "kernels" / m[2]) for m in re.finditer(r"^WL_VERSION\((\w+),\s*(\w+),", text, re.MULTILINE)]


def occupancy(r: Report) -> float:
    """Resident threads over the most a multiprocessor can hold; static shared memory only."""
    limits = MULTIPROCESSORS[re.sub(r"\D", "", r.arch)]
    warps = -(-r.threads // 32)
    registers = -(-r.registers * 32 // 256) * 256 * warps  # given out in units of 256 per warp
    blocks = min(limits.blocks, limits.threads // (warps * 32), limits.registers // max(registers, 1))
    if r.shared_bytes:
        reserve = 0 if r.arch.startswith("7") else 1024
        blocks = min(blocks, limits.shared_bytes // (r.shared_bytes + reserve))
    return blocks * warps * 32 / limits.threads


def launch_bounds(cubin: bytes) -> dict[str, int]:
    """Threads per block that __launch_bounds__ states, by mangled kernel name: attribute 5 of the .nv.info.NAME sections."""
    sections = struct.unpack_from("<Q", cubin, 0x28)[0]
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, sections + i * entry_size) for i in range(count)]
    names = headers[names_index][4]
    bounds: dict[str, int] = {}
    for name_at, _kind, _flags, _address, offset, size in headers:
        start = names + name_at
        name = cubin[start : cubin.index(b"\0", start)].decode()
        if not name.startswith(".nv.info."):
            continue
        at, end = offset, offset + size
        while at + 4 <= end:
            form, attribute, length = struct.unpack_from("<BBH", cubin, at)
            if form == 4 and attribute == 5 and length == 12:
                x, y, z = struct.unpack_from("<III", cubin, at + 4)
                bounds[name.removeprefix(".nv.info.")] = x * y * z
            at += 4 + (length if form == 4 else 0)
    return bounds


def parse_ptxas(text: str) -> Iterator[tuple[str, dict[str, int]]]:
    """(mangled name, resources) from `ptxas -v`."""
    for part in text.split("Compiling entry function '")[1:]:
        part = part.split("Compiling entry function")[0]

        def number(pattern: str, part: str = part) -> int:
            found = re.search(pattern, part)
            return int(found[1]) if found else 0

        spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        resources = {"registers": number(r"Used (\d+) registers"), "spill_bytes": spills, "shared_bytes": number(r"(\d+) bytes smem")}
        yield part.split("'")[0], resources


INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);")


def functions(sass: str) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """(mangled name, [(address, opcode, operands)]) from `cuobjdump -sass`."""
    for part in re.split(r"^\s*Function : ", sass, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        matches = (INSTRUCTION.match(line) for line in body.splitlines())
        yield name.strip(), [(int(m[1], 16), m[2], m[3]) for m in matches if m]


def multiply_adds(opcodes: Iterable[str]) -> tuple[int, str]:
    tensor = [o for o in opcodes if o.split(".")[0] in {"HMMA", "HGMMA", "IMMA", "UTCHMMA"}]
    if tensor:
        return len(tensor), tensor[0].split(".")[0]
    return sum(o.split(".")[0] in {"FFMA", "FFMA2"} for o in opcodes), "FFMA"


def hottest_loop(code: list[tuple[int, str, str]]) -> Loop:
    """Backward branches span the loops; of those that hold no smaller loop with multiply-adds, the one with the most."""
    spans = []
    for address, opcode, operands in code:
        target = re.search(r"0x([0-9a-f]+)\s*$", operands)
        if opcode.split(".")[0] == "BRA" and target and int(target[1], 16) < address:
            spans.append((int(target[1], 16), address))
    bodies = [(s, [o for a, o, _ in code if s[0] <= a <= s[1]]) for s in sorted(set(spans))]
    working = [(s, ops) for s, ops in bodies if multiply_adds(ops)[0]]
    inner = [
        (s, ops) for s, ops in working if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t, _ in working)
    ]
    if not inner:
        return Loop()
    ops = max((ops for _, ops in inner), key=lambda o: multiply_adds(o)[0])
    ops = [o.split(".")[0] for o in ops if o != "NOP"]
    fma, kind = multiply_adds(ops)
    loop = Loop(instructions=len(ops), fma=fma, fma_kind=kind)
    loop.lds = sum(o in {"LDS", "LDSM"} for o in ops)
    loop.sts = ops.count("STS")
    loop.ldg = sum(o in {"LDG", "LDGSTS", "LD"} for o in ops)
    loop.other = loop.instructions - loop.fma - loop.lds - loop.sts - loop.ldg
    return loop


def demangle(names: list[str]) -> dict[str, str]:
    tool = shutil.which("c++filt") or shutil.which("cu++filt")
    if not tool or not names:
        return {n: n for n in names}
    lines = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(zip(names, lines, strict=True))


def short_name(demangled: str) -> str:
    """Without return type, parameters and namespaces: sgemm_kernel<GemmTile<128, ...>, true, false, 4, 4>."""
    text = demangled.replace("(anonymous namespace)::", "").removeprefix("void ")
    text = re.sub(r"\((?:int|bool|unsigned int|warploom::\w+)\)", "", text)  # casts in template arguments
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            text = text[:i]
            break
    return re.sub(r"\b[a-z_]\w*::", "", text)


def report_file(version: str, source: Path, arch: str, folder: Path) -> list[Report]:
    cubin = folder / f"{version}-{source.stem}-{arch}.cubin"
    command = [find_tool("nvcc"), "-std=c++17", "-O3", f"-arch=sm_{arch}", "-cubin", "-Xptxas=-v", f"-I{ROOT}", str(source)]
    compiled = subprocess.run([*command, "-o", str(cubin)], capture_output=True, text=True, check=False)
    if compiled.returncode:
        raise ReportError(f"nvcc could not compile {source.relative_to(ROOT)} for sm_{arch}:\n{compiled.stderr.strip()}")
    resources = dict(parse_ptxas(compiled.stdout + compiled.stderr))
    if not resources:
        return []
    listing = subprocess.run([find_tool("cuobjdump"), "-sass", str(cubin)], capture_output=True, text=True, check=False)
    if listing.returncode:
        raise ReportError(f"cuobjdump could not disassemble {source.name} for sm_{arch}: {listing.stderr.strip()}")
    code = dict(functions(listing.stdout))
    bounds = launch_bounds(cubin.read_bytes())
    names = demangle(list(resources))
    reports = []
    for mangled, found in resources.items():
        r = Report(version, str(source.relative_to(ROOT)), short_name(names[mangled]), arch, **found)
        if mangled in bounds:
            r.threads, r.threads_assumed = bounds[mangled], False
        r.occupancy = round(occupancy(r), 3)
        r.hot = bool(HOT.search(r.kernel))
        r.loop = hottest_loop(code.get(mangled, []))
        reports.append(r)
    return reports


def as_json(r: Report) -> str:
    row = asdict(r)
    row["loop"] |= {"fma_share": round(r.loop.fma_share, 3), "loads_per_fma": round(r.loop.loads_per_fma, 3)}
    return json.dumps(row)


def markdown(reports: list[Report], command: str, toolkit: str) -> str:
    lines = [
        "# Static report of the kernels",
        "",
        f"Generated by `{command}`; do not edit. Compiler: {toolkit}. Nothing here was measured on a GPU.",
        "",
        "Loop: the innermost loop with the most multiply-adds, counted in the machine code (rarely taken branches included); a dash",
        "where a kernel has none. Occupancy: theoretical, from registers, static shared memory and the launch bound (\\*: no bound",
        "stated, 256 threads assumed). Loads per FMA: shared and global load instructions over multiply-adds.",
        "",
        "| Version | Kernel | sm | Registers | Spill bytes | Shared bytes | Threads | Occupancy | Loop | FMA | LDS | STS | LDG | Other "
        "| FMA share | Loads per FMA |",
        "|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|",
    ]
    for r in reports:
        loop = r.loop
        if loop.fma:
            mix = f"{loop.instructions} | {loop.fma} | {loop.lds} | {loop.sts} | {loop.ldg} | {loop.other}"
            mix += f" | {loop.fma_share:.1%} | {loop.loads_per_fma:.3f}"
        else:
            mix = "– | | | | | | |"
        threads = f"{r.threads}\\*" if r.threads_assumed else str(r.threads)
        lines.append(
            f"| {r.version} | `{r.kernel}` | {r.arch} | {r.registers} | {r.spill_bytes} | {r.shared_bytes} | {threads} "
            f"| {r.occupancy:.0%} | {mix} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    known = [name for name, _ in versions()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["75", "80", "90a"], help="architectures, e.g. 75 90a")
    parser.add_argument("--version", nargs="+", choices=known, default=known, help="versions of kernels/versions.def")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--markdown", type=Path, help="also write a table to this file")
    parser.add_argument("--jobs", type=int, default=2, help="files compiled at a time")
    options = parser.parse_args()
    try:
        unknown = [a for a in options.arch if re.sub(r"\D", "", a) not in MULTIPROCESSORS]
        if unknown:
            raise ReportError(f"no limits are known for sm_{unknown[0]}; known: {', '.join(MULTIPROCESSORS)}")
        work = [
            (name, source, arch)
            for name, folder in versions()
            if name in options.version
            for source in sorted(folder.glob("*.cu"))
            for arch in options.arch
        ]
        toolkit = subprocess.run([find_tool("nvcc"), "--version"], capture_output=True, text=True, check=True).stdout
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda w: report_file(w[0], w[1], w[2], Path(folder)), work)
            reports = [r for rows in found for r in rows if options.kernel in r.kernel]
    except ReportError as error:
        print(f"static_report: {error}", file=sys.stderr)
        return 2
    for r in reports:
        print(as_json(r))
    if options.markdown:
        command = " ".join(["python benchmarks/static_report.py", *sys.argv[1:]])
        release = re.search(r"release [\d.]+, V[\d.]+", toolkit)
        options.markdown.write_text(markdown(reports, command, f"nvcc {release[0] if release else ''}".strip()))
    spilling = [r for r in reports if r.hot and r.spill_bytes]
    for r in spilling:
        print(f"static_report: {r.version} {r.kernel} spills {r.spill_bytes} bytes on sm_{r.arch}", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
