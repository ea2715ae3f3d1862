"""Compiling for the lab: the runtime once per version and compiler, programs once per content, both kept in the user's cache.

The flags of both are in kernels/emulator/flags.def: "runtime" and "program". A build is "checked" or "counting".
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from warploom.errors import DeviceError
from warploom.ground import compiling, emulated_builds
from warploom.lab.refusal import Refusal
from warploom.lab.rewriter import rewrite

_COMPILE_SECONDS = 600
_RUNTIME_SECONDS = 45  # CPU-seconds for a runtime, on one core of an AMD EPYC with g++ 12: only for the estimate
_FORM = "3"  # raise when programs are put together otherwise


def _headers() -> Path:
    return emulated_builds.source_root() / "kernels" / "lab" / "include"


@dataclass(frozen=True)
class Runtime:
    """`objects`: the emulator and the lab's host side. `include`: a folder with the precompiled header, before the lab's own."""

    objects: tuple[Path, ...]
    include: Path


def runtime(build: str) -> Runtime:
    """The compiled runtime of a build, from the cache or compiled now (half a minute of two cores).

    Raises:
        DeviceError: where there is no compiler, or it fails.
    """
    folder = emulated_builds.cache_folder() / f"lab-{build}"
    root = emulated_builds.source_root()
    sources = [p for part in ("emulator", "lab") for p in sorted((root / "kernels" / part).glob("*.cpp"))]
    sources = [p for p in sources if p.name != "runtime.cpp"]  # the engine's own device interface
    objects = [folder / f"{p.parent.name}-{p.stem}.o" for p in sources]
    header = folder / "include" / "cuda_runtime.h.gch"
    ready = Runtime(tuple(objects), header.parent)
    if (folder / "ready").exists():
        return ready
    try:
        header.parent.mkdir(parents=True, exist_ok=True)
        with compiling.alone(folder / "lock", "another process compiles the lab's runtime; waiting for it"):
            steps = [
                compiling.Step(
                    "runtime", f"kernels/{p.parent.name}/{p.name}", o,
                    [*emulated_builds.command(p, Path("{target}"), "runtime", build), "-DWARPLOOM_LAB"], p.stat().st_size,
                )
                for p, o in zip(sources, objects, strict=True)
            ]  # fmt: skip
            words = [*emulated_builds.compiler(), *emulated_builds.flags("program", build), "-x", "c++-header"]
            words += [str(_headers() / "cuda_runtime.h"), "-o", "{target}"]
            steps.append(compiling.Step("header", "kernels/lab/program.h", header, words, 100_000))
            cores = emulated_builds.cores()
            compiling.compile_all(steps, f"the lab's emulated device ({build}), once", cores, _RUNTIME_SECONDS / cores)
            # Beside the precompiled header the name that it stands for: used where the compiler does not take the former.
            (header.parent / "cuda_runtime.h").write_text(f'#include "{_headers() / "cuda_runtime.h"}"\n')
            (folder / "ready").touch()
    except OSError as e:
        raise DeviceError(
            f"the lab's emulated device cannot be compiled into {folder}: {e.strerror or e}; set WARPLOOM_CACHE to a folder that "
            "can be written to"
        ) from None
    return ready


def _place(source: str, target: str) -> None:
    """Copies so that a file is there whole or not at all."""
    part = f"{target}.part"
    shutil.copy2(source, part)
    os.replace(part, target)


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


def program(path: Path, options: tuple[str, ...] = (), build: str = "checked", extra: str = "") -> Program:
    """Compiles a CUDA file with its main(), or finds it in the cache.

    Args:
        path: the file.
        options: more for the compiler (-D..., -I...).
        build: "checked" or "counting".
        extra: C++ behind the file's own text.

    Raises:
        Refusal: for what the lab does not model, and for what the compiler does not take.
        DeviceError: where there is no compiler, or it cannot compile the runtime.
    """
    texts = _gather(path)
    # Behind the precompiled header, whose own names they must not change.
    macros = [o.removeprefix("-D").partition("=") for o in options if o.startswith("-D") and len(o) > 2]
    defined = "".join(f"#define {name} {value if given else 1}\n" for name, given, value in macros)
    words = [_FORM, emulated_builds.cache_folder().name, build, extra, *options, str(path)]
    digest = hashlib.sha256("\0".join(words).encode())
    for file, text in texts.items():
        digest.update(str(file).encode() + b"\0" + text.encode() + b"\0")
    folder = _programs() / digest.hexdigest()[:24]
    done = Program(folder / "program", tuple(texts))
    if done.executable.is_file():
        os.utime(folder)
        return done
    ready = runtime(build)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name)
        main = path.resolve()
        places = {file: work / f"{n}_{file.stem}.cpp" for n, file in enumerate(texts)}
        for file, text in texts.items():
            made = rewrite(text, path if file == main else file, places).text
            places[file].write_text(defined + made + extra if file == main else made)
        compiled = str(work / "program.o")
        compiler = emulated_builds.compiler()
        command = [*compiler, *emulated_builds.flags("program", build), "-x", "c++"]
        command += [f"-I{folder}" for folder in (ready.include, _headers(), path.resolve().parent)]
        others = [o for o in options if not (o.startswith("-D") and len(o) > 2)]
        result = _run([*command, "-include", "cuda_runtime.h", *others, "-c", "-o", compiled, str(places[main])])
        if not result.returncode:  # linked without -fsanitize: the callbacks are the emulator's, not the sanitizer's
            objects = [str(o) for o in ready.objects]
            result = _run([*compiler, "-pie", "-o", str(work / "program"), compiled, *objects, "-pthread", "-ldl"])
        if result.returncode:
            raise _compiler_refusal(result.stderr, path, texts)
        folder.mkdir(exist_ok=True)
        _place(str(work / "program"), str(done.executable))
    return done


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)


def _programs() -> Path:
    return emulated_builds.cache_root().parent / "lab" / "programs"


def _compiler_refusal(text: str, path: Path, files: dict[Path, str]) -> Refusal:
    """The compiler's or linker's first error, at the user's line."""
    missing = re.search(r":(\d+): undefined reference to .(.+).$", text, re.MULTILINE)
    if missing:
        line, called = int(missing[1]), missing[2].partition("(")[0].rpartition("::")[2]
        # The linker knows the line, but names the file that was compiled.
        holds = [f for f, source in files.items() if called in "".join(source.splitlines()[line - 1 : line])]
        file = path if not holds or path.resolve() in holds else holds[0]
        return Refusal(str(file), line, f"{missing[2]} is defined nowhere: the lab compiles one file and its headers")
    if re.search(r"undefined reference to .main.$", text, re.MULTILINE):
        return Refusal(str(path), 0, "has no main(): check runs a program; a file of kernels alone is for warploom.lab.load()")
    first = next((line for line in text.splitlines() if ": error:" in line or ": fatal error:" in line), "")
    place, _, why = first.replace(": fatal error:", ": error:").partition(": error:")
    parts = place.split(":")
    line = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    if not why:
        why = text.strip()[-300:] or "the compiler failed"
        parts = [str(path)]
    if "No such file" in why:
        why = (
            f"includes {why.split(':')[0].strip()}, which is not here: the lab knows single files and the CUDA runtime's headers"
        )
    return Refusal(parts[0] or str(path), line, f"does not compile: {why.strip()}" if "includes" not in why else why.strip())


def trim(keep: int = 200) -> None:
    """Keeps the programs that were used last."""
    folder = _programs()
    if folder.is_dir():
        found = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in found[keep:]:
            shutil.rmtree(old, ignore_errors=True)
