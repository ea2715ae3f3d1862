"""Compiling for the lab: the runtime once per version and compiler, programs once per content, both kept in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from warploom.lab.refusal import Refusal
from warploom.lab.rewriter import rewrite

# Not for the lab: the engine's own device interface, and the counting build.
_LEFT_OUT = {"runtime.cpp", "counting.cpp", "count_report.cpp", "lockstep.cpp", "flow_graph.cpp", "requests.cpp"}
_RUNTIME_FLAGS = ["-std=gnu++17", "-O2", "-fPIC", "-fvisibility=hidden", "-DWARPLOOM_EMULATOR_CHECKED", "-DWARPLOOM_LAB"]
_PROGRAM_FLAGS = [
    "-std=gnu++17",
    "-O1",
    "-g1",
    "-fPIE",
    "-fvisibility=hidden",
    "-fpermissive",
    "-w",
    "-ffp-contract=fast",
    "-fno-ipa-icf",
    "-fno-strict-aliasing",
    "-fsanitize=thread,bounds",
    "-DWARPLOOM_EMULATOR_CHECKED",
    "-DWARPLOOM_LAB_PROGRAM",
]
_COMPILE_SECONDS = 600
_LOCK = threading.Lock()
_FORM = "2"  # raise when programs are put together otherwise


class NoCompiler(Exception):
    """There is no C++ compiler, or it cannot compile the runtime."""


def cache_folder() -> Path:
    """Where compiled things are kept: $WARPLOOM_CACHE, or the user's cache folder."""
    if named := os.environ.get("WARPLOOM_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warploom"


@cache
def sources() -> Path:
    """The folder that holds `kernels/`: of an installed package `_src` inside it, else the checkout's root."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_src", package.parent.parent):
        if (folder / "kernels/lab/program.h").is_file():
            return folder
    raise NoCompiler(
        "the sources of the emulated device are not installed with this package; reinstall it, or work in a checkout"
    )


@cache
def compiler() -> str:
    """$CXX, g++ or clang++, whichever is there first."""
    for name in (os.environ.get("CXX", ""), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise NoCompiler("no C++ compiler was found; install g++ or clang++, or name one in CXX")


def _run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=_COMPILE_SECONDS, check=False)


@cache
def _identity() -> str:
    version = _run([compiler(), "--version"]).stdout.splitlines()
    return f"{compiler()} {version[0] if version else ''}"


@cache
def _machine_flags() -> tuple[str, ...]:
    flags = []
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    if {"avx2", "fma", "bmi2"} <= words and os.uname().machine == "x86_64":
        flags.append("-march=x86-64-v3")
    if os.uname().machine == "x86_64":
        flags.append("-fcf-protection=none")  # a shadow stack knows nothing of the switch between fibers
    if "clang" not in _identity():
        flags.append("--param=tsan-distinguish-volatile=1")
    else:
        flags.remove("-march=x86-64-v3") if "-march=x86-64-v3" in flags and "Apple" in _identity() else None
    return tuple(flags)


def _runtime_sources() -> list[Path]:
    root = sources() / "kernels"
    return [p for folder in ("emulator", "lab") for p in sorted((root / folder).glob("*.cpp")) if p.name not in _LEFT_OUT]


@cache
def _runtime_key() -> str:
    digest = hashlib.sha256(" ".join([_identity(), *_RUNTIME_FLAGS, *_PROGRAM_FLAGS, *_machine_flags()]).encode())
    root = sources() / "kernels"
    headers = [p for folder in ("emulator", "lab") for p in sorted((root / folder).glob("*.h"))]
    for path in [*_runtime_sources(), *headers]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


@cache
def _headers_key() -> str:
    """Of what only programs include."""
    digest = hashlib.sha256()
    for path in sorted((sources() / "kernels/lab/include").rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


@dataclass(frozen=True)
class Runtime:
    """`archive`: the checked emulator. `include`: a folder with the precompiled header, before the lab's own."""

    archive: Path
    include: Path


def runtime(say: Callable[[str], None] = lambda _: None) -> Runtime:
    """The compiled runtime, from the cache or compiled now (about half a minute of two cores; `say` hears of it).

    Raises:
        NoCompiler: where there is none, or it fails.
    """
    folder = cache_folder() / "lab" / f"runtime-{_runtime_key()}"
    ready = Runtime(folder / "runtime.a", folder / "include")
    if not ready.archive.is_file():
        with _alone(folder.parent):
            if not ready.archive.is_file():  # nobody else was faster
                _compile_runtime(folder, say)
    return ready


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One thread of one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with _LOCK, (folder / "lock").open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: twice the work at worst
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile_runtime(folder: Path, say: Callable[[str], None]) -> None:
    say("compiling the checked emulated device once, for the cache ...")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name)
        (work / "include").mkdir()

        def compile_one(path: Path) -> str:
            flags = [f for f in _machine_flags() if f.startswith("-fcf")]
            done = _run(
                [
                    compiler(),
                    *_RUNTIME_FLAGS,
                    *flags,
                    f"-I{sources()}",
                    "-c",
                    str(path),
                    "-o",
                    str(work / f"{path.parent.name}_{path.stem}.o"),
                ]
            )
            return done.stderr if done.returncode else ""

        def compile_header() -> str:
            header = sources() / "kernels/lab/include/cuda_runtime.h"
            target = work / "include/cuda_runtime.h.gch"
            done = _run([compiler(), *_PROGRAM_FLAGS, *_machine_flags(), "-x", "c++-header", str(header), "-o", str(target)])
            return done.stderr if done.returncode else ""

        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            jobs = [pool.submit(compile_header)] + [pool.submit(compile_one, p) for p in _runtime_sources()]
            problems = [text for job in jobs if (text := job.result())]
        if problems:
            raise NoCompiler(f"{compiler()} cannot compile the emulated device:\n{problems[0].strip()[:2000]}")
        # Beside the precompiled header the name that it stands for: used where the compiler does not take the former.
        (work / "include/cuda_runtime.h").write_text(f'#include "{sources() / "kernels/lab/include/cuda_runtime.h"}"\n')
        done = _run(["ar", "rcs", "runtime.a", *sorted(p.name for p in work.glob("*.o"))], work)
        if done.returncode:
            raise NoCompiler(f"ar cannot make the runtime's archive: {done.stderr.strip()}")
        for path in work.glob("*.o"):
            path.unlink()
        work.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # of a copy that was interrupted
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(work, part)
        part.rename(folder)


def _place(source: str, target: str) -> str:
    """Copies so that a file is there whole or not at all."""
    part = f"{target}.part"
    shutil.copy2(source, part)
    os.replace(part, target)
    return target


@dataclass(frozen=True)
class Program:
    """An executable, and the files it was made from (for columns and excerpts in reports)."""

    executable: Path
    files: tuple[Path, ...]


def _gather(path: Path) -> dict[Path, str]:
    """The rewritten text of the file and of the local files that it includes."""
    order: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        now = waiting.pop()
        if now.resolve() in order:
            continue
        try:
            source = now.read_text(errors="replace")
        except OSError as e:
            raise Refusal(str(now), 0, f"cannot be read ({e.strerror})") from e
        made = rewrite(source, now)
        order[now.resolve()] = source
        waiting += made.includes
    return order


def program(path: Path, options: tuple[str, ...] = (), say: Callable[[str], None] = lambda _: None) -> Program:
    """Compiles a CUDA file with its main(), or finds it in the cache.

    `options`: more for the compiler (-D..., -I...).

    Raises:
        Refusal: for what the lab does not model, and for what the compiler does not take.
        NoCompiler: where there is none.
    """
    texts = _gather(path)
    ready = runtime(say)
    digest = hashlib.sha256(" ".join([_FORM, _runtime_key(), _headers_key(), *options, str(path)]).encode())
    for file, text in texts.items():
        digest.update(str(file).encode() + b"\0" + text.encode() + b"\0")
    folder = cache_folder() / "lab" / "programs" / digest.hexdigest()[:24]
    done = Program(folder / "program", tuple(texts))
    if done.executable.is_file():
        os.utime(folder)
        return done
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name)
        main = path.resolve()
        places = {file: work / f"{n}_{file.stem}.cpp" for n, file in enumerate(texts)}
        for file, text in texts.items():
            places[file].write_text(rewrite(text, path if file == main else file, places).text)
        headers = [ready.include, sources() / "kernels/lab/include", path.resolve().parent]
        compiled = str(work / "program.o")
        flags = [
            *_PROGRAM_FLAGS,
            *_machine_flags(),
            *(f"-I{folder}" for folder in headers),
            "-include",
            "cuda_runtime.h",
            *options,
        ]
        result = _run([compiler(), *flags, "-c", "-o", compiled, str(places[main])])
        if not result.returncode:  # linked without -fsanitize: the callbacks are the emulator's, not the sanitizer's
            result = _run([compiler(), "-pie", "-o", str(work / "program"), compiled, str(ready.archive), "-pthread", "-ldl"])
        if result.returncode:
            raise _compiler_refusal(result.stderr, path)
        folder.mkdir(exist_ok=True)
        _place(str(work / "program"), str(done.executable))
    return done


def _compiler_refusal(text: str, path: Path) -> Refusal:
    """The compiler's first error, at the user's line."""
    first = next((line for line in text.splitlines() if ": error:" in line or ": fatal error:" in line), "")
    place, _, why = first.replace(": fatal error:", ": error:").partition(": error:")
    parts = place.split(":")
    line = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    if not why:
        undefined = next((x for x in text.splitlines() if "undefined reference" in x), "")
        why = undefined.split(": ")[-1] if undefined else text.strip()[-300:] or "the compiler failed"
        parts = [str(path)]
    if "No such file" in why:
        why = (
            f"includes {why.split(':')[0].strip()}, which is not here: the lab knows single files and the CUDA runtime's headers"
        )
    return Refusal(parts[0] or str(path), line, f"does not compile: {why.strip()}" if "includes" not in why else why.strip())


def trim(keep: int = 200) -> None:
    """Keeps the programs that were used last."""
    folder = cache_folder() / "lab" / "programs"
    if folder.is_dir():
        found = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in found[keep:]:
            shutil.rmtree(old, ignore_errors=True)
