"""Counting what a CUDA program's kernels do, without a GPU: `warploom profile FILE.cu`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warploom.errors import ArgumentError, DeviceError, StateError
from warploom.kernel_tools import kernels as compiled
from warploom.kernel_tools.counters import Kernel, Line, Parting, Traffic
from warploom.lab import build, flops
from warploom.lab.gpus import Gpu
from warploom.lab.refusal import Refusal
from warploom.lab.report import variable_names

_STOPPED = 97  # kernels/lab/launches.cpp, stop()


@dataclass(frozen=True)
class Counted:
    """A kernel with one launch shape, of a program. Operations are those of all its blocks."""

    kernel: Kernel
    scalar_flops: float
    tensor_flops: float
    registers: int | None = None  # a thread's, where nvcc is there to say

    @property
    def scale(self) -> float:
        """From the counted blocks to all."""
        return self.kernel.blocks / max(self.kernel.blocks_counted, 1)

    @property
    def flops(self) -> float:
        """Scalar and tensor operations; a multiply-add is two."""
        return self.scalar_flops + self.tensor_flops

    @property
    def intensity(self) -> float:
        """FLOPs for each byte that its requests ask of device memory, before any cache."""
        return self.flops / self.kernel.global_bytes if self.kernel.global_bytes else 0.0

    @property
    def threads(self) -> int:
        """Of a block."""
        x, y, z = self.kernel.block
        return x * y * z

    @property
    def shared_bytes(self) -> int:
        """Of a block, static and dynamic."""
        return self.kernel.static_shared + self.kernel.dynamic_shared

    def occupancy(self, arch: str) -> float:
        """Resident threads over the most of a multiprocessor; without nvcc as if registers set no limit."""
        return compiled.occupancy(arch, self.threads, self.registers or 0, self.shared_bytes)

    def bounds(self, gpu: Gpu) -> dict[str, float]:
        """Seconds that each part of a GPU needs at least: no launch can be faster than the largest.

        "memory" takes every requested sector for traffic of DRAM, which caches may save: it is a bound of what the requests ask.
        """
        wavefronts = self.kernel.total("shared").moved * self.scale
        return {
            "arithmetic": self.scalar_flops / gpu.fp32 + self.tensor_flops / gpu.half,
            "memory": self.kernel.global_bytes / gpu.memory,
            "shared memory": wavefronts / gpu.shared,
        }


@dataclass
class ProgramProfile:
    """Of one program: its kernels in the order of their first launches."""

    path: Path
    counted: list[Counted] = field(default_factory=list)
    exit_code: int = 0
    stopped: str = ""  # why it ended early
    output: str = ""

    @property
    def kernels(self) -> list[Kernel]:
        """The counts alone."""
        return [c.kernel for c in self.counted]

    def hottest(self, count: int) -> list[tuple[str, Line]]:
        """The lines that move most, with their kernels."""
        every = [(c.kernel.name, line, line.traffic.moved * c.scale) for c in self.counted for line in c.kernel.lines]
        return [(name, line) for name, line, _ in sorted(every, key=lambda e: -e[2])[:count]]

    def partings(self, count: int) -> list[tuple[str, Parting]]:
        """The branches at which lanes part most often."""
        every = [(c.kernel.name, parting) for c in self.counted for parting in c.kernel.partings]
        return sorted(every, key=lambda e: -e[1].divergent)[:count]

    def by_line(self) -> dict[tuple[str, int], dict[str, Traffic]]:
        """Traffic of each source line, by space, scaled to all blocks."""
        found: dict[tuple[str, int], dict[str, Traffic]] = {}
        for c in self.counted:
            for line in c.kernel.lines:
                file, _, number = line.place.rpartition(":")
                if number.isdigit():
                    t = line.traffic
                    scaled = Traffic(*(round(c.scale * v) for v in (t.requests, t.lanes, t.bytes, t.moved, t.ideal)))
                    spaces = found.setdefault((file, int(number)), {})
                    spaces[line.space] = spaces.get(line.space, Traffic()) + scaled
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        out = []
        for c in self.counted:
            k = c.kernel
            out.append({
                "name": k.name, "grid": k.grid, "block": k.block, "launches": k.launches, "blocks": k.blocks,
                "blocks_counted": k.blocks_counted, "shared_bytes": c.shared_bytes, "registers": c.registers,
                "scalar_flops": c.scalar_flops, "tensor_flops": c.tensor_flops, "global_bytes": k.global_bytes,
                "coalescing": k.coalescing, "bank_conflicts": k.conflicts, "active_lanes": k.active_lanes,
                "divergence": k.divergence, "barriers": k.barriers, "shuffles": k.shuffles,
                "matrix_multiplies": k.matrix_multiplies,
                "lines": [
                    {
                        "place": x.place, "space": x.space, "action": x.action, "access_bytes": x.access_bytes,
                        "requests": x.traffic.requests, "moved": x.traffic.moved, "ideal": x.traffic.ideal, "request": x.request,
                    }
                    for x in k.lines
                ],
                "partings": [{"place": p.place, "branches": p.branches, "divergent": p.divergent} for p in k.partings],
            })  # fmt: skip
        return {"path": str(self.path), "exit_code": self.exit_code, "stopped": self.stopped, "kernels": out}


def profile(
    path: str | os.PathLike[str],
    arguments: Sequence[str] = (),
    *,
    blocks: int = 8,
    options: Sequence[str] = (),
    timeout: float = 120.0,
    registers: bool = True,
) -> ProgramProfile:
    """Compiles a CUDA file with its main(), runs it on the counting emulated device, and tells what its kernels did.

    Args:
        path: the .cu file.
        arguments: of the program.
        blocks: so many of each launch are counted, spread over its grid; 0: all. The others run, but are not looked at.
        options: more for the compiler, such as "-DN=64".
        timeout: seconds for the run.
        registers: ask nvcc, where it is there, for the registers of each kernel.

    Raises:
        Refusal: where the file cannot be compiled, or asks for what the lab does not model.
        DeviceError: where there is no compiler, or the program did not end in time.
    """
    file = Path(path)
    program = build.program(file, tuple(options), "counting")
    with tempfile.TemporaryDirectory(prefix="warploom-lab-") as name:
        log = Path(name) / "report"
        environment = {**os.environ, "WARPLOOM_LAB_REPORT": str(log), "WARPLOOM_COUNT_BLOCKS": str(blocks)}
        try:
            done = subprocess.run(
                [str(program.executable), *arguments], env=environment, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{file} did not end within {timeout:g} seconds (--timeout sets the limit)") from None
        entries = [json.loads(line) for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
    result = ProgramProfile(file, exit_code=done.returncode, output=done.stdout.decode(errors="replace"))
    rows: list[dict[str, Any]] = next((e["kernels"] for e in entries if e["type"] == "counts"), [])
    problems = [e for e in entries if e["type"] == "finding" and e["level"] == "error"]
    if done.returncode == _STOPPED and problems:
        result.stopped = problems[-1]["message"]
    elif done.returncode < 0:
        raise Refusal(str(file), 0, f"the program was ended by signal {-done.returncode}; `warploom check` says more")
    given = str(file.resolve())
    for row in rows:
        for entry in (*row["lines"], *row["partings"]):
            if str(Path(entry["file"]).resolve()) == given:
                entry["file"] = str(file)
            if (request := entry.get("request")) and request["buffer"]:
                request["buffer"] = variable_names(request["buffer"])
    by_block = flops.by_block(program.executable, sorted({start for row in rows for start, _ in row["code"]}))
    known = _registers(file, tuple(options)) if registers and rows else {}
    for row in rows:
        kernel = Kernel.of({**row, "call": ""})
        scale = kernel.blocks / max(kernel.blocks_counted, 1)
        scalar, tensor = flops.of_kernel(row, by_block)
        plain = kernel.name.split("<")[0].split("::")[-1].strip()
        result.counted.append(Counted(kernel, scalar * scale, tensor * scale, known.get(plain)))
    return result


def nvcc_option(word: str) -> str:
    """An option as nvcc takes it, for which a comma begins the next one."""
    return word.replace(",", "\\,")


def _registers(path: Path, options: tuple[str, ...]) -> dict[str, int]:
    """By kernel's name, the most of its instances, for the architecture that the lab models; empty without nvcc."""
    try:
        with tempfile.TemporaryDirectory(prefix="warploom-lab-") as name:
            words = [nvcc_option(o) for o in options if o.startswith(("-D", "-I", "-U"))]
            found = compiled.compile(path, "90a", name, options=words)
    except (ArgumentError, StateError):  # no nvcc, or it does not take what g++ took: a figure less
        return {}
    by_name: dict[str, int] = {}
    for k in found:
        plain = k.name.split("<")[0].split("::")[-1].strip()
        by_name[plain] = max(by_name.get(plain, 0), k.registers)
    return by_name
