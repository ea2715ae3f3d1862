"""Single kernels: what this build holds of them, and loading one into PyCUDA to time and tune it without rebuilding the package.

    for k in wl.kernels.listing(arch="90a"): print(k.version, k.name, k.registers)
    k = wl.kernels.find("conv2d_forward_kernel", version="v1")        # of the architecture that the GPU runs
    launch = k.load()                                                 # needs PyCUDA and a GPU
    launch(shape_bytes, x, w, None, y, grid=blocks, block=256)        # arrays of any library, numbers, structs as bytes

Kernels come as cubins: built with the package by -DWARPLOOM_CUBINS=ON, or here from one file by compile().
"""

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from warploom import _core
from warploom.errors import ArgumentError, DeviceError, DTypeError, Error, StateError
from warploom.interop import device_array
from warploom.kernel_tools import cubin

__all__ = ["Kernel", "compile", "find", "find_tool", "listing", "occupancy"]

FOLDER = Path(__file__).parent.parent / "_lib" / "cubins"
SHARED = "shared"  # the version of the operations that are written once for all versions


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
    "103": Multiprocessor(2048, 32, 228 << 10),
    "120": Multiprocessor(1536, 24, 100 << 10),
}


def occupancy(arch: str, threads: int, registers: int, shared_bytes: int) -> float:
    """Resident threads over the most a multiprocessor holds, for blocks of that size; shared_bytes: static and dynamic."""
    known = MULTIPROCESSORS.get(re.sub(r"\D", "", arch))
    if known is None:
        raise ArgumentError(f"no limits are known for sm_{arch}; known: {', '.join(MULTIPROCESSORS)}")
    warps = -(-threads // 32)
    per_block = -(-registers * 32 // 256) * 256 * warps  # given out in units of 256 per warp
    blocks = min(known.blocks, known.threads // (warps * 32), known.registers // max(per_block, 1))
    reserve = 0 if arch.startswith("7") else cubin.SYSTEM_SHARED
    if shared_bytes + reserve:
        blocks = min(blocks, known.shared_bytes // (shared_bytes + reserve))
    return blocks * warps * 32 / known.threads


@dataclass(frozen=True)
class Kernel:
    """One kernel (one instantiation of a template) of one cubin."""

    name: str  # without return type, parameters and namespaces: sgemm_kernel<GemmTile<64, 64, 8, 8, 8, 6>, true, false, 4, 4>
    symbol: str
    version: str  # of kernels/versions.def; "shared"; "" where it was compiled from elsewhere
    source: str  # kernels/v4_im2col_gemm/gemm_nn.cu
    arch: str  # 90a
    path: Path  # of the cubin
    registers: int
    stack_bytes: int  # local memory: spills, and arrays that are not in registers
    shared_bytes: int  # static
    max_threads: int  # from __launch_bounds__; 0: not stated
    parameters: tuple[cubin.Parameter, ...]

    @cached_property
    def signature(self) -> str:
        """As written: with namespaces, template arguments and parameter types."""
        return cubin.demangle(self.symbol)

    @property
    def parameter_bytes(self) -> int:
        return max((p.offset + p.size for p in self.parameters), default=0)

    def occupancy(self, threads: int = 0, dynamic_shared: int = 0) -> float:
        """For blocks of `threads`: by default the launch bound, 256 where the kernel states none."""
        return occupancy(self.arch, threads or self.max_threads or 256, self.registers, self.shared_bytes + dynamic_shared)

    def pack(self, *arguments: Any) -> bytes:
        """The kernel's parameter buffer: each argument at its own offset.

        Numbers take the size of their parameter (a Python float is a float or double, an int an int32 or int64); arrays on a GPU,
        PyCUDA allocations and None are pointers; structs come as bytes, NumPy records or ctypes structures."""
        if len(arguments) != len(self.parameters):
            raise ArgumentError(f"{self.name} takes {len(self.parameters)} arguments, not {len(arguments)}: {self.signature}")
        buffer = bytearray(self.parameter_bytes)
        for i, (value, parameter) in enumerate(zip(arguments, self.parameters, strict=True)):
            data = _bytes_of(value, parameter.size, f"argument {i} of {self.name}")
            if len(data) != parameter.size:
                raise ArgumentError(f"argument {i} of {self.name} has {len(data)} bytes, not {parameter.size}: {self.signature}")
            buffer[parameter.offset : parameter.offset + parameter.size] = data
        return bytes(buffer)

    def load(self) -> Callable[..., None]:
        """The kernel on the current GPU, by PyCUDA: launch(*arguments, grid=, block=, shared=0, stream=None).

        grid and block: a number, or up to three. Its `function` is PyCUDA's."""
        drv = pycuda_driver()
        function = drv.module_from_file(str(self.path)).get_function(self.symbol)
        function.prepare([f"{self.parameter_bytes}s"] if self.parameters else [])

        def launch(*arguments: Any, grid: Any, block: Any, shared: int = 0, stream: Any = None) -> None:
            packed = [self.pack(*arguments)] if self.parameters else []
            function.prepared_async_call(_three(grid), _three(block), stream, *packed, shared_size=shared)

        launch.function = function  # type: ignore[attr-defined]
        return launch


def _three(sizes: Any) -> tuple[int, int, int]:
    given = tuple(int(v) for v in sizes) if isinstance(sizes, (tuple, list)) else (int(sizes),)
    x, y, z = (*given, 1, 1, 1)[:3]
    return x, y, z


def _bytes_of(value: Any, size: int, what: str) -> bytes:
    if value is None:
        return bytes(size)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, np.generic):
        return value.tobytes()
    if isinstance(value, (bool, int, float)):
        kinds = {1: "?", 2: "<e", 4: "<f4", 8: "<f8"} if isinstance(value, float) else {1: "<i1", 2: "<i2", 4: "<i4", 8: "<i8"}
        if size not in kinds:
            raise DTypeError(f"{what} is a struct of {size} bytes; pass it as bytes or as a ctypes structure, not as {value!r}")
        try:
            return np.array(value, dtype=np.dtype(kinds[size])).tobytes()
        except OverflowError:
            if 0 <= value < 1 << 8 * size and isinstance(value, int):  # a pointer or an unsigned number
                return value.to_bytes(size, "little")
            raise ArgumentError(f"{what}: {value} does not fit into {size} bytes") from None
    array = device_array(value, what)
    if array is not None:
        if array.on_host:
            raise DeviceError(f"{what} lies on {array.device}; a kernel on a GPU takes memory of the GPU")
        return array.pointer.to_bytes(8, "little")
    if hasattr(value, "__int__") and type(value).__module__.startswith("pycuda"):  # an allocation
        return int(value).to_bytes(8, "little")
    try:
        return bytes(memoryview(value))  # a ctypes structure, a NumPy record
    except TypeError:
        pass
    raise DTypeError(f"{what} must be a number, bytes, a struct or an array on a GPU, not {type(value).__name__}")


def pycuda_driver() -> Any:
    """PyCUDA's driver module, in the context that other libraries use too; an exception says what is missing."""
    try:
        import pycuda.autoprimaryctx  # noqa: F401 -- the context that PyTorch, CuPy and warploom share
        import pycuda.driver as drv
    except ImportError as error:
        raise StateError(f"loading single kernels needs PyCUDA: pip install 'warploom[pycuda]' ({error})") from None
    except Exception as error:  # PyCUDA's own errors, where there is no driver or no GPU
        raise DeviceError(f"loading single kernels needs a usable NVIDIA GPU: {error}") from None
    return drv


# ---- What is there ----


def listing(arch: str | None = None, version: str | None = None, folder: Path | str | None = None) -> list[Kernel]:
    """The kernels of every cubin below the folder (the package's own by default), in order of file and name."""
    where = Path(folder) if folder is not None else FOLDER
    if not where.is_dir():
        raise StateError(
            f"this build holds no cubins ({where} does not exist): install with nvcc and CMAKE_ARGS=-DWARPLOOM_CUBINS=ON, or "
            "compile one file with warploom.kernels.compile(). benchmarks/results/static_report.md has the numbers of every "
            "kernel; what kernels do to memory needs no nvcc: warploom profile"
        )
    found = [k for path in sorted(where.rglob("*.sm_*.cubin")) for k in read(path, where) if arch in (None, k.arch)]
    return [k for k in found if version in (None, k.version)]


def read(path: Path, root: Path | None = None) -> Iterator[Kernel]:
    """The kernels of one cubin, named <file>.sm_<arch>.cubin; its folder below `root` is that of its source below kernels/."""
    stem, _, arch = path.name.removesuffix(".cubin").rpartition(".sm_")
    folder = path.parent.relative_to(root).as_posix() if root else ""
    source = f"kernels/{folder}/{stem}.cu" if folder else f"{stem}.cu"
    try:
        entries = cubin.entries(path.read_bytes())
    except cubin.CubinError as error:
        raise ArgumentError(f"{path}: {error}") from None
    rows = [(short_name(cubin.demangle(e.symbol)), e) for e in entries]
    for name, e in sorted(rows, key=lambda row: row[0]):
        shared = max(e.shared_bytes - cubin.SYSTEM_SHARED, 0) if int(re.sub(r"\D", "", arch)) >= 90 else e.shared_bytes
        version, used = _version_of(folder), (e.registers, e.stack_bytes, shared, e.max_threads)
        yield Kernel(name, e.symbol, version, source, arch, path, *used, e.parameters)


def _version_of(folder: str) -> str:
    if folder.startswith(("ops", "common")):
        return SHARED
    return folder.split("_", 1)[0]


def short_name(demangled: str) -> str:
    """Without return type, parameters and namespaces: sgemm_kernel<GemmTile<128, ...>, true, false, 4, 4>."""
    text = demangled.replace("(anonymous namespace)::", "").removeprefix("void ")
    text = re.sub(r"\((?:int|bool|unsigned int|warploom::\w+(?:::\w+)*)\)", "", text)  # casts in template arguments
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            text = text[:i]
            break
    return re.sub(r"\b[a-z_]\w*::", "", text).replace("> >", ">>")


def find(
    name: str, *, version: str | None = None, arch: str | None = None, source: str | None = None, folder: Path | str | None = None
) -> Kernel:
    """The one kernel of that name: exact, or all of it up to the template arguments, or a part of it that only one has.

    source: the end of its file's path, where two files have the same kernel. arch: by default the newest that the GPU here runs,
    without a GPU the newest there is."""
    there = [k for k in listing(None, version, folder) if source is None or k.source.endswith(source)]
    fits = [k for k in there if k.name == name] or [k for k in there if k.name.split("<")[0] == name]
    fits = fits or [k for k in there if name in k.name]
    if not fits:
        names = sorted({k.name.split("<")[0] for k in there})
        raise ArgumentError(f"no kernel is called {name!r}{f' in {version}' if version else ''}; there are {', '.join(names)}")
    wanted = arch or _best_arch(sorted({k.arch for k in fits}, key=_number))
    chosen = [k for k in fits if k.arch == wanted]
    if not chosen:
        raise ArgumentError(f"{name} was not built for sm_{wanted}, but for {', '.join(sorted({'sm_' + k.arch for k in fits}))}")
    if len(chosen) > 1:
        several = "; ".join(f"{k.name} ({k.source})" for k in chosen)
        raise ArgumentError(f"{name!r} names {len(chosen)} kernels, say which (name, version=, source=): {several}")
    return chosen[0]


def _number(arch: str) -> int:
    return int(re.sub(r"\D", "", arch))


def _best_arch(archs: Sequence[str]) -> str:
    """Machine code runs on its own compute capability and on later ones of the same generation; with a letter on its own only."""
    capability = gpu_capability()
    if not capability:
        return archs[-1]
    generation = [a for a in archs if a.isdigit() and _number(a) // 10 == capability // 10]
    runs = [a for a in archs if _number(a) == capability] or [a for a in generation if _number(a) < capability]
    if not runs:
        built = ", ".join("sm_" + a for a in archs)
        raise DeviceError(f"the GPU here has compute capability {capability / 10}, but the cubins are for {built}")
    return runs[-1]


def gpu_capability() -> int:
    """90 for compute capability 9.0; 0 where no GPU is usable."""
    for library in _core.libraries():
        if library["kind"] == "cuda" and library["usable"]:
            info = library["devices"][0]
            return int(info["compute_major"]) * 10 + int(info["compute_minor"])
    return 0


# ---- Compiling ----


def find_tool(name: str) -> str:
    """A CUDA tool from PATH, the usual toolkit folder, or the compiler wheels of PyPI."""
    wheels = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    places = [Path("/usr/local/cuda/bin"), *sorted(wheels.glob("cu*/bin"))]
    found = shutil.which(name) or next((str(p / name) for p in places if (p / name).is_file()), None)
    if found is None:
        raise StateError(f"{name} was not found on the PATH; install the CUDA toolkit, or: pip install nvidia-cuda-{name}")
    return found


def compile(
    source: Path | str, arch: str, to: Path | str, *, include: Path | str | None = None, options: Sequence[str] = ()
) -> list[Kernel]:
    """Compiles one .cu file with nvcc into the folder `to`; its kernels.

    include: the checkout's root, where the file includes "kernels/..."; options: further ones for nvcc, such as -DTILE=64."""
    source, to = Path(source), Path(to)
    if not source.is_file():
        raise ArgumentError(f"{source} does not exist")
    to.mkdir(parents=True, exist_ok=True)
    target = to / f"{source.stem}.sm_{arch}.cubin"
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    command = [find_tool("nvcc"), "-std=c++17", "-O3", "-lineinfo", f"-arch=sm_{arch}", "-cubin", *options]
    command += [f"-I{include}"] if include is not None else []
    done = subprocess.run([*command, str(source), "-o", str(unfinished)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Error(f"nvcc could not compile {source} for sm_{arch}:\n{done.stderr.strip()}")
    unfinished.replace(target)
    return list(read(target))
