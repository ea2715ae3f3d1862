"""Emulated devices that an installation left out: compiled from the package's own kernel sources when first asked for, and kept.

A library lies in $WARPLOOM_CACHE/emulated/KEY (without that variable in the user's cache folder). KEY stands for the sources, the
flags (kernels/emulator/flags.def), the compiler and the CPU's instruction set, so that nothing stale is ever loaded. Every
object is written under another name and renamed: an interrupted compilation goes on where it was, and two processes do not harm
each other. `command` and `runtime_objects` are also what a kernel of one's own is compiled and linked with.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from warploom import _core
from warploom.errors import DeviceError
from warploom.ground import compiling

# Name of a library: the build it is of, and which sources it holds.
LIBRARIES = {"emulated": ("fast", "kernels"), "checked": ("checked", "kernels"), "counting": ("counting", "kernels")} | {
    f"selftest_{build}": (build, "selftest") for build in ("fast", "checked", "counting")
}
DEVICES = {"emulated": "emulated", "emulated:checked": "checked", "emulated:counting": "counting"}
# CPU-seconds of all kernels, on one core of an AMD EPYC with g++ 12: only for the estimate.
_SECONDS = {"fast": 250, "checked": 330, "counting": 420}
NOT_YET = "not compiled yet"
_UNUSED_DAYS = 30  # after which what other sources or compilers left in the cache is removed


@cache
def installed() -> dict[str, Any]:
    """What the build left beside the extension: {"cpu", "emulators", "cuda", "cuda_why_not", "compiler", "root", "sources"}."""
    path = _package() / "_lib" / "build.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        return {"sources": {}, "cuda_why_not": "", "compiler": ""}
    return found


def _package() -> Path:
    """Where the extension lies: of an editable install, this is not where the Python files are."""
    return Path(str(_core.__file__)).parent


def source_root() -> Path:
    """The folder that holds kernels/; DeviceError where the installation has none."""
    root = (_package() / "_lib" / str(installed().get("root", "../_src"))).resolve()
    if not (root / "kernels" / "emulator" / "flags.def").exists():
        raise DeviceError("this installation holds no kernel sources to compile from; install warploom again")
    return root


@cache
def versions() -> list[dict[str, Any]]:
    """The kernel versions that an emulated device will have, as _core.versions() tells those of libraries that are there.

    Their layouts and what they take stand in the library, so these rows say nothing of them."""
    try:
        text = (source_root() / "kernels" / "versions.def").read_text()
    except (DeviceError, OSError):
        return []
    unknown = {
        "layout": "", "weight_layout": "", "kinds": ["cuda", *DEVICES], "float32_from": "", "own": [], "compute_capability": 0,
        "gradients_read_y": False,
    }  # fmt: skip
    found = re.findall(r'^WL_VERSION\((\w+), \w+, "(.*)"\)$', text, re.MULTILINE)
    return [{"name": name, "summary": summary, **unknown} for name, summary in found]


def compiler() -> list[str]:
    """The C++ compiler: $CXX, the one that built this package, c++ or g++; DeviceError where there is none."""
    for words in (shlex.split(os.environ.get("CXX", "")), [installed()["compiler"]], ["c++"], ["g++"]):
        if words and words[0] and shutil.which(words[0]):
            return words
    raise DeviceError(
        "no C++ compiler was found (looked for $CXX, c++ and g++), and this device is compiled when it is first used; "
        "install one (Debian, Ubuntu: apt install g++), or a wheel of warploom, which holds every emulated device"
    )


@cache
def _identity(words: tuple[str, ...]) -> str:
    """What a compiler says of itself: another one makes other libraries."""
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeviceError(f"the C++ compiler '{shlex.join(words)}' does not work: {(done.stderr or done.stdout).strip()[:300]}")
    return " ".join(words) + "\n" + done.stdout


@cache
def _takes(words: tuple[str, ...], *flags: str) -> bool:
    check = [*words, "-Werror", *flags, "-x", "c++", "-c", os.devnull, "-o", os.devnull]
    return subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


@cache
def _has_v3() -> bool:
    """Whether this CPU has AVX2, FMA and BMI2, which the kernels then use."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and {"avx2", "fma", "bmi2"} <= set(flags[1].split())


def flags(part: str, build: str) -> list[str]:
    """Flags for a part ("runtime", "entry", "kernels" or "link") of a build, as the compiler here takes them."""
    wanted: list[str] = []
    optional: list[str] = []
    parts = ["all", f"all.{build}"] if part != "link" else []
    parts += [part, f"{part}.{build}", *([f"{part}.v3"] if _has_v3() else [])]
    lines = (source_root() / "kernels" / "emulator" / "flags.def").read_text().splitlines()
    rows = [(name, shlex.split(rest)) for name, _, rest in (line.partition(" ") for line in lines if re.match("[a-z]", line))]
    for name in parts:
        for row, words in rows:
            if row == name:
                wanted += words
            elif row == name + "?":
                optional += words
    asked = tuple(compiler())
    if optional and not _takes(asked, *optional):
        optional = [flag for flag in optional if _takes(asked, flag)]
    return wanted + optional


def command(source: Path, target: Path, part: str, build: str) -> list[str]:
    """The command that compiles one source, of the package or of a user, to an object."""
    root = source_root()
    return [
        *compiler(),
        *flags(part, build),
        f"-ffile-prefix-map={root}=/warploom",
        f"-I{root}",
        "-c",
        str(source),
        "-o",
        str(target),
    ]


@cache
def _key(words: tuple[str, ...]) -> str:
    root = source_root()
    seen = hashlib.sha256(f"{_identity(words)}\n{_has_v3()}\n".encode())
    for path in sorted((root / "kernels").rglob("*")):
        named = path.suffix in (".h", ".cuh", ".cu", ".cpp", ".def") or "include" in path.parts  # there are headers without one
        if named and path.is_file():
            seen.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return seen.hexdigest()[:24]


def cache_root() -> Path:
    """In $WARPLOOM_CACHE, else in the system's place for caches, where downloaded data are too."""
    system = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WARPLOOM_CACHE") or Path(system) / "warploom") / "emulated"


def cache_folder() -> Path:
    """In cache_root(), what these sources and this compiler make."""
    return cache_root() / _key(tuple(compiler()))


def find(name: str) -> Path | None:
    """A library ("emulated", "checked", "selftest_checked", ...) that is there already: installed, or compiled before."""
    beside = _package() / "_lib" / f"{name}.so"
    if beside.exists():
        return beside
    if not cache_root().is_dir():  # the usual case costs nothing
        return None
    try:
        compiled = cache_folder() / f"{name}.so"
    except DeviceError:
        return None
    return compiled if compiled.exists() else None


def why_not(name: str) -> str:
    """Of a library that is not there: what its first use will do, or why it cannot."""
    try:
        source_root(), compiler()
    except DeviceError as error:
        return str(error)
    return f"{NOT_YET}: its first use does that, once, in about {_duration(_estimate(name))} here"


def _estimate(name: str) -> float:
    build, sources = LIBRARIES[name]
    return _SECONDS[build] * (1.0 if sources == "kernels" else 0.2) / cores()


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _duration(seconds: float) -> str:
    return f"{max(10, round(seconds / 10) * 10)} s" if seconds < 100 else f"{round(seconds / 60)} min"


def ensure(name: str) -> Path:
    """The library, compiled if need be; DeviceError where that fails."""
    if (found := find(name)) is not None:
        if found.parent != _package() / "_lib":
            os.utime(found.parent)  # still used: see _remove_unused
        return found
    build, sources = LIBRARIES[name]
    folder = cache_folder()
    library = folder / f"{name}.so"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with compiling.alone(folder / f"{name}.lock", f"another process compiles the device library '{name}'; waiting for it"):
            if not library.exists():
                entry = "entry" if sources == "kernels" else "selftest_entry"
                steps = (
                    _steps(folder, "runtime", build)
                    + _steps(folder, "entry", build, entry)
                    + _steps(folder, "kernels", build, sources)
                )
                what = f"the device library '{name}', once ({folder})"
                with _prelude(folder, build) as includes:
                    kernels = [s._replace(command=[*s.command, *includes]) if s.part == "kernels" else s for s in steps]
                    compiling.compile_all(kernels, what, cores(), _estimate(name))
                link = [*compiler(), "-shared", *(str(step.target) for step in steps), *flags("link", build), "-lpthread", "-ldl"]
                compiling.run(link, library)
                for step in steps:
                    if step.part != "runtime":  # which a kernel of one's own is linked with
                        step.target.unlink(missing_ok=True)
                _remove_unused(folder)
    except OSError as error:
        raise DeviceError(
            f"the device library '{name}' cannot be compiled into {folder}: {error.strerror or error}; "
            "set WARPLOOM_CACHE to a folder that can be written to"
        ) from None
    return library


def runtime_objects(build: str) -> list[Path]:
    """The objects of the emulator itself, to link kernels of one's own with, compiled if need be."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    steps = _steps(folder, "runtime", build)
    compiling.compile_all(steps, f"the emulator's runtime ({build}), once", cores(), 20 / cores())
    return [step.target for step in steps]


def load(device: str) -> None:
    """Makes a device ("emulated:checked", ...) usable in this process; DeviceError where that fails."""
    _core.add_library(str(ensure(DEVICES[device])))


@contextlib.contextmanager
def _prelude(folder: Path, build: str) -> Iterator[list[str]]:
    """Flags that give kernel files their usual headers already compiled: a fifth of the time of all."""
    header = folder / f"{build}-prelude.h"
    source = source_root() / "kernels" / "common" / "prelude.h"
    header.write_bytes(source.read_bytes())  # read where the compiler refuses the compiled one
    compiled = header.with_name(f"{header.name}.gch")
    words = [*command(source, compiled, "kernels", build)[:-4], str(source)]  # without -c and -o
    words[words.index("-x") + 1] = "c++-header"
    try:
        compiling.run(words, compiled)
        yield ["-include", str(header)]
    finally:
        compiled.unlink(missing_ok=True)
        header.unlink(missing_ok=True)


def _steps(folder: Path, part: str, build: str, sources: str = "") -> list[compiling.Step]:
    """One per source file; what exists already is not compiled again."""
    root = source_root()
    names = installed()["sources"][sources or part]
    into = folder / f"{build}-{sources or part}"
    into.mkdir(exist_ok=True)
    return [
        compiling.Step(
            part,
            name,
            into / (name.replace("/", "-") + ".o"),
            command(root / name, Path("{target}"), part, build),
            _weight(root / name),
        )
        for name in names
    ]


@cache
def _weight(source: Path) -> int:
    """How long a file takes, in lines: its own and those of the kernels that it includes from its folder."""
    text = source.read_text()
    kernels = (source.parent / str(name) for name in re.findall(r'#include "(\w+\.cuh)"', text))
    return 40 + text.count("\n") + 2 * sum(path.read_text().count("\n") for path in kernels if path.exists())


def _remove_unused(folder: Path) -> None:
    for other in folder.parent.iterdir():
        if other != folder and time.time() - other.stat().st_mtime > _UNUSED_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)
