"""Times one kernel in several launch shapes with PyCUDA and prints the fastest; nothing but that kernel is compiled.

    python benchmarks/tune_kernel.py conv2d --case conv_64x256x16x16_to128_k3x3_s1_p1      v1's forward kernel, by block size
    python benchmarks/tune_kernel.py sgemm --sizes 128 16384 1152 --tiles 128x128x8x8x8x2 64x64x8x8x8x6    v4's product, by tile
    python benchmarks/tune_kernel.py sgemm --dry-run                                       without a GPU: compiles and packs

Every candidate is compared with a float64 reference before it is timed, from outputs that start as NaN, and must have left the
same bits after. Each run finds a cold L2 cache. Another kernel is another Problem: its source, its arguments, its candidates.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks")]

import cases  # noqa: E402
import harness  # noqa: E402
import oracle  # noqa: E402
from machine import about_run  # noqa: E402
from warploom.errors import USER_ERRORS, StateError  # noqa: E402
from warploom.kernel_tools import kernels  # noqa: E402

Array = NDArray[Any]
FLUSH_BYTES = 192 << 20  # more than any GPU's L2 cache
TOLERANCE = 2e-5
WARM_UP = 3


@dataclass
class Candidate:
    label: str
    kernel: kernels.Kernel
    grid: int
    block: int
    shared: int = 0


class Problem(ABC):
    """One kernel on one size: what it is compiled from, what it is given and must give."""

    flops: int
    inputs: dict[str, Array]
    expected: Array  # float64
    shape_of_output: tuple[int, ...]

    @abstractmethod
    def candidates(self, arch: str, folder: Path) -> list[Candidate]: ...

    @abstractmethod
    def arguments(self, at: dict[str, int]) -> tuple[Any, ...]:
        """The kernel's arguments, from the addresses of the inputs and of "output"."""


class Conv2dShape(ctypes.Structure):
    """kernels/args.h"""

    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in (
            "N", "C_in", "H", "W", "C_out", "KH", "KW", "stride_h", "stride_w", "pad_top", "pad_bottom", "pad_left", "pad_right",
            "groups", "OH", "OW",
        )
    )  # fmt: skip


class Conv2dForward(Problem):
    """v1: one thread per output, so that the block size is free."""

    def __init__(self, case_name: str, blocks: list[int]) -> None:
        case = cases.find(case_name)
        if case.family != "conv2d" or case.attributes["pool"] > 1 or case.attributes["activation"] != "none":
            raise StateError(f"{case_name} is no plain convolution; v1's kernel folds nothing in")
        if case.attributes["upsample"] > 1:
            raise StateError(f"{case_name} folds an upsample in; v1's kernel folds nothing in")
        target = harness.Target("cuda", "v1", "nhwc", "ohwi")
        given = harness.make_inputs(case, "floats")
        self.case, self.blocks, self.flops = case, blocks, case.flops("conv2d_forward")
        self.inputs = {name: harness.to_version(name, given[name], target) for name in ("x", "w", "bias")}
        y = oracle.compute("conv2d_forward", case.attributes, {k: given[k] for k in ("x", "w", "bias")})["y"]
        self.expected, self.shape_of_output = np.ascontiguousarray(y.transpose(0, 2, 3, 1)), y.transpose(0, 2, 3, 1).shape

    def candidates(self, arch: str, folder: Path) -> list[Candidate]:
        source = ROOT / "kernels/v1_naive_nhwc/conv2d_forward.cu"
        kernel = next(iter(kernels.compile(source, arch, folder, include=ROOT)))
        count = int(np.prod(self.shape_of_output))
        return [Candidate(f"{block} threads", kernel, -(-count // block), block) for block in self.blocks]

    def arguments(self, at: dict[str, int]) -> tuple[Any, ...]:
        a = self.case.attributes
        return Conv2dShape(*(a[name] for name, _ in Conv2dShape._fields_)), at["x"], at["w"], at["bias"], at["output"]


class MatrixView(ctypes.Structure):
    """kernels/common/gemm/matrix.cuh"""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("row_stride", ctypes.c_int64),
        ("image_stride", ctypes.c_int64),
        ("image_columns", ctypes.c_int),
        ("first", ctypes.c_int),
    )


class Epilogue(ctypes.Structure):
    """kernels/common/epilogue.cuh"""

    _fields_ = (("bias", ctypes.c_void_p), ("activation", ctypes.c_int), ("negative_slope", ctypes.c_float))


class GemmProblem(ctypes.Structure):
    """kernels/common/gemm/sgemm.cuh"""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("M", "N", "K", "batch")),
        *((name, MatrixView) for name in "abc"),
        *((name, ctypes.c_int64) for name in ("a_batch", "b_batch", "c_batch")),
        *((name, ctypes.c_int) for name in ("a_jump", "b_jump", "splits", "split_length")),
        ("c_split", ctypes.c_int64),
        ("accumulate", ctypes.c_bool),
        ("c_vector", ctypes.c_bool),
        ("bias_batch", ctypes.c_int64),
        ("epilogue", Epilogue),
    )


class Sgemm(Problem):
    """v4: C[M, N] = A[M, K] B[K, N] with A contiguous along K (the forward product), by tile BM x BN x BK x TM x TN x blocks."""

    def __init__(self, sizes: list[int], tiles: list[str]) -> None:
        self.m, self.n, self.k = sizes
        if self.n % 4 or self.k % 4 or min(sizes) < 4:
            raise StateError(f"the tiles load four numbers at once: N and K must be multiples of 4, not {self.n} and {self.k}")
        self.tiles = [tuple(int(v) for v in t.split("x")) for t in tiles]
        wrong = [t for t in self.tiles if len(t) != 6]
        if wrong:
            raise StateError(f"a tile is BMxBNxBKxTMxTNxBLOCKS, such as 64x64x8x8x8x6; not {'x'.join(map(str, wrong[0]))}")
        rng = np.random.default_rng(1)
        self.inputs = {
            "a": rng.standard_normal((self.m, self.k), np.float32),
            "b": rng.standard_normal((self.k, self.n), np.float32),
        }
        self.flops = 2 * self.m * self.n * self.k
        self.expected = self.inputs["a"].astype(np.float64) @ self.inputs["b"].astype(np.float64)
        self.shape_of_output = (self.m, self.n)

    def candidates(self, arch: str, folder: Path) -> list[Candidate]:
        tile = "GemmTile<{}>"
        wanted = [tile.format(", ".join(map(str, t))) for t in self.tiles]
        lines = [f"template __global__ void sgemm_kernel<{w}, true, false, 4, 4>(GemmProblem);" for w in wanted]
        source = folder / "sgemm.cu"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text('#include "kernels/common/gemm/sgemm.cuh"\n\nnamespace warploom {\n' + "\n".join(lines) + "\n}\n")
        built = {k.name: k for k in kernels.compile(source, arch, folder, include=ROOT)}
        found = []
        for w, t in zip(wanted, self.tiles, strict=True):
            bm, bn, _, tm, tn, _ = t
            grid = -(-self.m // bm) * -(-self.n // bn)
            found.append(
                Candidate("x".join(map(str, t)), built[f"sgemm_kernel<{w}, true, false, 4, 4>"], grid, bm // tm * bn // tn)
            )
        return found

    def arguments(self, at: dict[str, int]) -> tuple[Any, ...]:
        p = GemmProblem(M=self.m, N=self.n, K=self.k, batch=1, splits=1, split_length=self.k, c_vector=True)
        for name, address, columns in (("a", at["a"], self.k), ("b", at["b"], self.n), ("c", at["output"], self.n)):
            setattr(p, name, MatrixView(address, columns, 0, columns, 0))
        return (p,)


# ---- On a GPU ----


class Gpu:
    """Memory and clocks of the current GPU, by PyCUDA."""

    def __init__(self) -> None:
        self.drv = kernels.pycuda_driver()
        device = self.drv.Context.get_device()
        major, minor = device.compute_capability()
        self.name = device.name()
        self.arch = f"{major}{minor}{'a' if major >= 9 else ''}"
        self.flush = self.drv.mem_alloc(FLUSH_BYTES)

    def run(self, problem: Problem, c: Candidate, repeat: int) -> dict[str, Any]:
        drv = self.drv
        held = {name: drv.to_device(np.ascontiguousarray(x)) for name, x in problem.inputs.items()}
        bytes_out = 4 * int(np.prod(problem.shape_of_output))
        held["output"] = drv.mem_alloc(bytes_out)
        drv.memset_d8(held["output"], 0xFF, bytes_out)  # NaN
        launch = c.kernel.load()
        arguments = problem.arguments({name: int(memory) for name, memory in held.items()})

        def once() -> None:
            launch(*arguments, grid=c.grid, block=c.block, shared=c.shared)

        def result() -> Array:
            y = np.empty(problem.shape_of_output, np.float32)
            drv.memcpy_dtoh(y, held["output"])
            return y

        once()
        first = result()
        error = float(np.linalg.norm(first - problem.expected) / np.linalg.norm(problem.expected))
        if not error <= TOLERANCE:
            return {"wrong": f"relative error {error:.2e}"}
        times = []
        for _ in range(repeat + WARM_UP):
            drv.memset_d8(self.flush, 0, FLUSH_BYTES)
            begin, end = drv.Event(), drv.Event()
            begin.record()
            once()
            end.record()
            end.synchronize()
            times.append(end.time_since(begin))
        if result().tobytes() != first.tobytes():
            return {"wrong": "other bits after being timed than before"}
        p10, median, p90 = (float(np.percentile(times[WARM_UP:], p)) for p in (10, 50, 90))
        return {
            "milliseconds": median, "p10": p10, "p90": p90, "repeats": repeat, "gflops": problem.flops / median / 1e6,
            "error": error, "measured": True, "verified_before": True, "verified_after": True,
        }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", choices=["conv2d", "sgemm"])
    parser.add_argument("--case", default="conv_64x256x16x16_to128_k3x3_s1_p1", help="conv2d: a case of tests/support/cases.py")
    parser.add_argument("--blocks", type=int, nargs="+", default=[32, 64, 96, 128, 192, 256, 384, 512, 768, 1024])
    parser.add_argument("--sizes", type=int, nargs=3, default=[128, 16384, 1152], metavar=("M", "N", "K"), help="sgemm")
    parser.add_argument(
        "--tiles", nargs="+", help="sgemm: BMxBNxBKxTMxTNxBLOCKS",
        default=["128x128x8x8x8x2", "128x128x16x8x8x2", "128x64x8x8x8x3", "64x128x8x8x8x3", "64x64x8x8x8x6", "32x128x8x8x4x4"],
    )  # fmt: skip
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: compile, pack the arguments, print what is known")
    parser.add_argument("--arch", default="90a", help="for --dry-run; else that of the GPU")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    options = parser.parse_args()
    try:
        return tune(options)
    except USER_ERRORS as error:
        print(f"tune_kernel: {error}", file=sys.stderr)
        return 2


def tune(options: argparse.Namespace) -> int:
    gpu = None
    if not options.dry_run:
        try:
            gpu = Gpu()
        except USER_ERRORS as error:
            raise StateError(
                f"timing needs an NVIDIA GPU and PyCUDA; --dry-run compiles and checks without them ({error})"
            ) from None
    problem: Problem = (
        Conv2dForward(options.case, options.blocks) if options.kernel == "conv2d" else Sgemm(options.sizes, options.tiles)
    )
    common = about_run(ROOT) | {"kind": "tune", "device_name": gpu.name if gpu else "", "flops": problem.flops}
    rows: list[tuple[Candidate, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for c in problem.candidates(gpu.arch if gpu else options.arch, Path(scratch)):
            if gpu:
                found = gpu.run(problem, c, options.repeat)
            else:  # any addresses: nothing is launched
                c.kernel.pack(*problem.arguments({name: 256 for name in (*problem.inputs, "output")}))
                found = {"measured": False, "note": "a dry run: nothing was launched"}
            static = {
                "registers": c.kernel.registers,
                "local": c.kernel.stack_bytes,
                "occupancy": c.kernel.occupancy(c.block, c.shared),
            }
            rows.append((c, static | found))
    for c, found in sorted(rows, key=lambda row: row[1].get("milliseconds", 0.0)):
        record = (
            common
            | {"kernel": c.kernel.name, "candidate": c.label, "grid": c.grid, "block": c.block, "arch": c.kernel.arch}
            | found
        )
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
        said = found.get("wrong") or found.get("note") or f"{found['milliseconds']:.4f} ms {found['gflops']:10.1f} GFLOP/s"
        local = f", {found['local']} B local" if found["local"] else ""
        used = f"{found['registers']:>4} registers{local} {found['occupancy']:>5.0%}"
        print(f"{c.label:<22} {c.grid:>7} x {c.block:<5} {used}  {said}")
    return 1 if any("wrong" in found for _, found in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
