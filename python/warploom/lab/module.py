"""Kernels of a CUDA file as functions of NumPy arrays.

k = warploom.lab.load("mine.cu").kernel("saxpy")
k[4, 256](2.0, x, y, len(x))  # on the checked emulated device: y is changed in place, a mistake is an exception
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warploom.errors import ArgumentError, DeviceError, DTypeError, KernelFault
from warploom.kernel_tools import kernels as compiled
from warploom.lab import build
from warploom.lab.report import Report, as_text, read
from warploom.lab.tokens import text_of, tokenize

_STOPPED = 97  # kernels/lab/launches.cpp, stop()
_KERNEL = re.compile(r"(template\s*<[^;{]*?>\s*)?(?:static\s+|extern\s+\"C\"\s+)*__global__\s+([^;{(]*?(?:__launch_bounds__\s*\([^)]*\)[^;{(]*?)?)(\w+)\s*\(")  # fmt: skip  # noqa: E501
DEVICES = ("emulated:checked", "cuda")


def _three(sizes: Any, what: str) -> tuple[int, int, int]:
    given = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    if not 1 <= len(given) <= 3 or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in given):
        raise ArgumentError(f"the {what} is {sizes!r}; expected a whole number, or up to three of them")
    x, y, z = (*(int(v) for v in given), 1, 1, 1)[:3]
    return x, y, z


@dataclass(frozen=True)
class Launch:
    """A kernel with its launch shape: call it with the kernel's arguments."""

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int

    def __call__(self, *arguments: Any) -> Report | None:
        """Runs the kernel. Arrays behind pointers that are not const are changed in place.

        Returns the report of what was checked; None on a GPU.

        Raises:
            ArgumentError: arguments that do not fit.
            KernelFault: the checks found a mistake; its text is the whole report. On an exception arrays are as they were.
        """
        return self.kernel.module.run(self, arguments)


@dataclass(frozen=True)
class Kernel:
    """A kernel of a module. `kinds`: of its parameters, as NumPy names numbers; "*f4" a pointer, "*cf4" to what it only reads."""

    module: Module
    name: str
    kinds: tuple[str, ...]

    def __getitem__(self, shape: Any) -> Launch:
        """kernel[grid, block] or kernel[grid, block, bytes of dynamic shared memory]."""
        if not isinstance(shape, tuple) or len(shape) not in (2, 3):
            raise ArgumentError(
                f"{self.name}[{shape!r}]: expected {self.name}[grid, block] or {self.name}[grid, block, shared_bytes]"
            )
        shared = shape[2] if len(shape) == 3 else 0
        if not isinstance(shared, (int, np.integer)) or shared < 0:
            raise ArgumentError(f"the dynamic shared memory of {self.name} is {shared!r}; expected a number of bytes")
        return Launch(self, _three(shape[0], "grid"), _three(shape[1], "block"), int(shared))


class Module:
    """A CUDA file whose kernels can be called."""

    def __init__(self, path: Path, options: tuple[str, ...], device: str, seed: int) -> None:
        if device not in DEVICES:
            raise ArgumentError(f"device {device!r}: expected one of {', '.join(DEVICES)}")
        self.path, self.options, self.device, self.seed = path, options, device, seed
        self._instances: dict[str, tuple[str, ...]] = {}
        self._program: build.Program | None = None

    @property
    def names(self) -> list[str]:
        """Its kernels; of templates the name alone."""
        return [name for _, name in self._declared()]

    def _declared(self) -> list[tuple[bool, str]]:
        try:
            tokens = tokenize(self.path.read_text(errors="replace"))
        except OSError as e:
            raise ArgumentError(f"{self.path} cannot be read ({e.strerror})") from None
        text = text_of([t for t in tokens if t.kind not in ("comment", "string")])
        found = {m.group(3): bool(m.group(1)) for m in _KERNEL.finditer(text)}
        return [(template, name) for name, template in found.items()]

    def kernel(self, name: str) -> Kernel:
        """By its name; an instance of a template as in C++: "scale<float, 4>"."""
        plain = name.split("<")[0].split("::")[-1].strip()
        declared = {n: template for template, n in self._declared()}
        if plain not in declared:
            raise ArgumentError(f"{self.path} has no kernel {plain!r}; it has {', '.join(declared) or 'none'}")
        if declared[plain] and "<" not in name:
            raise ArgumentError(f"{plain} is a template: name an instance, such as {plain}<float>")
        if self.device == "cuda":
            return Kernel(self, name, ())
        if name not in self._instances:
            self._compile(
                [*(n for n, template in declared.items() if not template), *(n for n in self._instances if "<" in n), name]
            )
        return Kernel(self, name, self._instances[name])

    def _compile(self, names: Sequence[str]) -> None:
        table = ", ".join(f'::warploom::lab::module_kernel({n}, "{n}")' for n in dict.fromkeys(names))
        extra = f'#undef main\n#include "warploom_module.h"\nint main(int n, char** w) {{ return ::warploom::lab::module_main(n, w, {{{table}}}); }}\n'  # noqa: E501
        self._program = build.program(self.path, ("-Dmain=wl_main_of_the_file", *self.options), extra=extra)
        told = subprocess.run([str(self._program.executable), "describe"], capture_output=True, text=True, check=False).stdout
        for line in told.splitlines():
            name, _, kinds = line.partition("\t")
            self._instances[name] = tuple(kinds.split())

    def run(self, launch: Launch, arguments: Sequence[Any]) -> Report | None:
        """See Launch."""
        if self.device == "cuda":
            _run_on_gpu(self, launch, arguments)
            return None
        kernel = launch.kernel
        if len(arguments) != len(kernel.kinds):
            raise ArgumentError(
                f"{kernel.name} takes {len(kernel.kinds)} arguments ({', '.join(kernel.kinds)}), not {len(arguments)}"
            )
        words, arrays, size = [], [], 0
        for i, (value, kind) in enumerate(zip(arguments, kernel.kinds, strict=True)):
            what = f"argument {i} of {kernel.name}"
            if not kind.startswith("*"):
                words.append("bytes " + _number(value, kind, what).hex())
            elif value is None:
                words.append("null")
            else:
                array = _array(value, kind, what)
                words.append(f"array {size} {array.nbytes}")
                arrays.append((array, size, not kind.startswith("*c")))
                size += -(-array.nbytes // 64) * 64
        assert self._program is not None
        with tempfile.TemporaryDirectory(prefix="warploom-lab-") as name:
            call, data, log = (Path(name) / n for n in ("call", "arrays", "report"))
            shape = " ".join(map(str, (*launch.grid, *launch.block, launch.shared_bytes, size)))
            call.write_text("\n".join([kernel.name, shape, *words]) + "\n")
            with data.open("wb") as file:
                for array, at, _ in arrays:
                    file.seek(at)
                    file.write(array.tobytes())
                file.truncate(size)
            environment = {
                **os.environ,
                "WARPLOOM_LAB_REPORT": str(log),
                "WARPLOOM_EMULATOR_SEED": str(self.seed),
                "WARPLOOM_LAB_SECONDS": "0",
            }
            done = subprocess.run(
                [str(self._program.executable), "call", str(call), str(data)],
                env=environment,
                check=False,
                stderr=subprocess.PIPE,
            )
            report = read(self.path, log, self._program.executable, self.seed)
            report.exit_code = done.returncode
            if report.errors:
                raise KernelFault(as_text(report))
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()[-300:]
                raise DeviceError(
                    f"{kernel.name} of {self.path} ended with status {done.returncode}{': ' + said if said else ''}"
                )
            content = data.read_bytes()
            for array, at, changed in arrays:
                if changed:
                    array[...] = np.frombuffer(content, array.dtype, array.size, at).reshape(array.shape)
        return report


def load(path: str | os.PathLike[str], *, device: str = "emulated:checked", options: Sequence[str] = (), seed: int = 0) -> Module:
    """A CUDA file, with or without main(), as a module of kernels.

    Args:
        path: the .cu file.
        device: "emulated:checked", or "cuda": compiled by nvcc, run on the GPU by PyCUDA.
        options: for the compiler, such as "-DN=64".
        seed: chooses the order of threads on the emulated device.
    """
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"{file} does not exist")
    return Module(file, tuple(options), device, seed)


def _array(value: Any, kind: str, what: str) -> np.ndarray[Any, Any]:
    element = kind.lstrip("*").removeprefix("c")
    if not isinstance(value, np.ndarray):
        raise DTypeError(
            f"{what} is {type(value).__name__}; the kernel takes a NumPy array of {element}, or None for a null pointer"
        )
    array = value
    if not array.flags.c_contiguous:
        raise ArgumentError(f"{what} is an array that is not contiguous; pass numpy.ascontiguousarray(x)")
    if element.startswith("V"):  # a struct, half precision, void: bytes
        size = int(element[1:])
        if array.dtype.itemsize % size and size != 1:
            raise DTypeError(f"{what} has elements of {array.dtype.itemsize} bytes ({array.dtype}); the kernel's have {size}")
    elif array.dtype.kind + str(array.dtype.itemsize) != element:
        raise DTypeError(f"{what} is an array of {array.dtype}; the kernel takes {np.dtype(element)}")
    if not kind.startswith("*c") and not array.flags.writeable:
        raise ArgumentError(f"{what} is an array that cannot be written; the kernel's pointer is not const")
    return array


def _number(value: Any, kind: str, what: str) -> bytes:
    if kind.startswith("V"):
        content = value if isinstance(value, (bytes, bytearray)) else np.asarray(value).tobytes()
        if len(content) != int(kind[1:]):
            raise ArgumentError(f"{what} has {len(content)} bytes; the kernel's has {kind[1:]}")
        return bytes(content)
    wanted = np.dtype(kind)
    if isinstance(value, np.ndarray) and value.ndim:
        raise DTypeError(f"{what} is an array; the kernel takes one {wanted}")
    try:
        number = np.asarray(value)
        fits = number.dtype.kind in ("biu" if wanted.kind in "biu" else "biuf")
        made = number.astype(wanted)
        fits = fits and (wanted.kind == "f" or int(made) == int(number))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise DTypeError(f"{what} is {value!r}; the kernel takes one {wanted}")
    return made.tobytes()


def _run_on_gpu(module: Module, launch: Launch, arguments: Sequence[Any]) -> None:
    drv = compiled.pycuda_driver()
    major, minor = drv.Context.get_device().compute_capability()
    arch = f"{major}{minor}" + ("a" if major >= 9 else "")
    words = [o for o in module.options if o.startswith(("-D", "-I", "-U"))]
    with tempfile.TemporaryDirectory(prefix="warploom-lab-") as name:
        function = find_compiled(compiled.compile(module.path, arch, name, options=words), launch.kernel.name, module.path)
        run = function.load()
    copies = [(i, v, drv.to_device(v)) for i, v in enumerate(arguments) if isinstance(v, np.ndarray)]
    given = list(arguments)
    for i, _, on_gpu in copies:
        given[i] = on_gpu
    run(*given, grid=launch.grid, block=launch.block, shared=launch.shared_bytes)
    for _, array, on_gpu in copies:
        if array.flags.writeable:
            array[...] = drv.from_device_like(on_gpu, array)


def find_compiled(found: Sequence[compiled.Kernel], name: str, path: Path) -> compiled.Kernel:
    """The kernel of that name in what nvcc made of a file."""

    def plain(text: str) -> str:
        return re.sub(r"\s|\(\w+\)", "", text)  # nvcc writes template arguments as "(int)4"

    for k in found:
        if plain(k.name) == plain(name):
            return k
    there = ", ".join(k.name for k in found) or "none"
    raise ArgumentError(f"nvcc made no kernel {name} of {path}; it made {there} (a template needs an instance in the file)")
