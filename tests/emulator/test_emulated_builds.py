"""Emulated devices that are compiled when first asked for: by a compiler made for the test, which writes down its orders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from warploom import DeviceError, _core
from warploom.ground import compiling, emulated_builds, hardware

ROOT = Path(__file__).resolve().parents[2]

# Writes its arguments into $CALLS and its target whole; fails on $BREAKS, waits at $WAITS.
COMPILER = """#!/usr/bin/env python3
import os, sys, time
if "--version" in sys.argv:
    print("test compiler", os.environ.get("VERSION", "1"))
    sys.exit(0)
target = sys.argv[sys.argv.index("-o") + 1]
if target == os.devnull:
    sys.exit("-fno-tree-tail-merge" in sys.argv)
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
source = sys.argv[sys.argv.index("-c") + 1] if "-c" in sys.argv else "headers" if "c++-header" in sys.argv else "link"
if os.environ.get("BREAKS", "nothing") in source:
    print("in file included from somewhere")
    print(source + ":7:1: error: 'blockIdy' was not declared in this scope")
    sys.exit(1)
if os.environ.get("WAITS", "nothing") in source:
    open(os.environ["CALLS"] + ".waiting", "w").close()
    time.sleep(60)
time.sleep(float(os.environ.get("SECONDS", "0")))
open(target, "w").write("compiled from " + source)
"""
ENSURE = "import sys; sys.path.insert(0, sys.argv[1]); import test_emulated_builds as t; t.in_package(sys.argv[2]); {}"
KERNELS = ["kernels/ops/adam_update/kernels.cu", "kernels/v1_naive_nhwc/layout.cu", "kernels/v5_tensor_cores/conv2d_forward.cu"]


def in_package(folder: str | Path) -> None:
    """Lets this process see a package that holds no emulated library and few sources."""
    emulated_builds._package = lambda: Path(folder)  # type: ignore[assignment]
    for cached in (emulated_builds.installed, emulated_builds._key, emulated_builds._takes, emulated_builds._identity):
        cached.cache_clear()


class Place:
    """A package, a cache and a compiler of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.package, self.cache, self.calls_file = folder / "warploom", folder / "cache", folder / "calls"
        (self.package / "_lib").mkdir(parents=True)
        sources = {
            "runtime": ["kernels/emulator/errors.cpp", "kernels/emulator/pool.cpp"],
            "entry": ["kernels/common/library.cu"],
        }
        sources |= {"kernels": KERNELS, "selftest_entry": ["kernels/emulator/selftest/selftest.cpp"], "selftest": []}
        self.write({"cuda_why_not": "no GPU was found", "compiler": "", "root": str(ROOT), "sources": sources})
        self.compiler = folder / "cxx"
        self.compiler.write_text(COMPILER)
        self.compiler.chmod(0o755)
        self.environment = {"CXX": str(self.compiler), "CALLS": str(self.calls_file), "WARPLOOM_CACHE": str(self.cache)}

    def write(self, build: dict[str, Any]) -> None:
        (self.package / "_lib" / "build.json").write_text(json.dumps(build))

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def compiled(self) -> list[str]:
        return sorted(call.split(" -c ")[1].split()[0].removeprefix(f"{ROOT}/") for call in self.calls() if " -c " in call)

    def process(self, python: str = "print(t.emulated_builds.ensure('checked'))", **environment: str) -> subprocess.Popen[str]:
        paths = os.pathsep.join(p for p in sys.path if p)
        everything = {**os.environ, **self.environment, **environment, "PYTHONPATH": paths}
        words = [sys.executable, "-c", ENSURE.format(python), str(Path(__file__).parent), str(self.package)]
        return subprocess.Popen(
            words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(emulated_builds, "_package", emulated_builds._package)
    made = Place(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    in_package(made.package)
    yield made
    monkeypatch.undo()
    for cached in (emulated_builds.installed, emulated_builds._key, emulated_builds._takes, emulated_builds._identity):
        cached.cache_clear()


def test_the_first_use_compiles_and_the_second_finds(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert emulated_builds.find("checked") is None
    library = emulated_builds.ensure("checked")
    assert library.parent.parent == place.cache / "emulated"
    assert library.read_text() == "compiled from link"
    assert place.compiled() == sorted(
        ["kernels/emulator/errors.cpp", "kernels/emulator/pool.cpp", "kernels/common/library.cu", *KERNELS]
    )
    said = capsys.readouterr().err
    assert "compiling the device library 'checked', once" in said
    assert "6 files, about" in said
    before = place.calls()
    assert emulated_builds.ensure("checked") == emulated_builds.find("checked") == library
    assert place.calls() == before
    assert capsys.readouterr().err == ""


def test_what_is_beside_the_extension_comes_first(place: Place) -> None:
    beside = place.package / "_lib" / "checked.so"
    beside.write_text("installed")
    assert emulated_builds.ensure("checked") == beside
    assert place.calls() == []


def test_each_build_has_its_flags(place: Place) -> None:
    """As flags.def says, in its order, without those that the compiler refuses: this one knows no -fno-tree-tail-merge."""
    for name in ("emulated", "checked", "counting"):
        emulated_builds.ensure(name)
    of = {
        name: [c for c in place.calls() if f"/{name}-kernels/" in c and "v1_naive" in c and " -c " in c]
        for name in ("fast", "checked", "counting")
    }
    assert {name: len(calls) for name, calls in of.items()} == {"fast": 1, "checked": 1, "counting": 1}
    assert "-fsanitize=thread,bounds" in of["checked"][0]
    assert "-DWARPLOOM_EMULATOR_CHECKED" in of["checked"][0]
    assert "-fsanitize-coverage=trace-pc" in of["counting"][0]
    assert "-fno-crossjumping" in of["counting"][0]
    assert "-fno-tree-tail-merge" not in of["counting"][0]
    assert "-fsanitize" not in of["fast"][0]
    # What all builds have comes before what this one has, so that a line of flags.def can change the ones above it.
    assert of["fast"][0].index("-std=gnu++17") < of["fast"][0].index("--param=max-completely-peeled-insns=60")
    runtime = [c for c in place.calls() if "/checked-runtime/" in c and " -c " in c]
    assert len(runtime) == 2
    assert not any("-fsanitize" in c or "-march" in c for c in runtime)
    assert sum("-Wl,-z,nodelete" in c for c in place.calls()) == 3


def test_kernels_find_their_usual_headers_compiled(place: Place) -> None:
    """One header in a build, with the kernels' own flags, before them; the runtime has other ones; nothing of it stays."""
    emulated_builds.ensure("checked")
    calls = place.calls()
    first = next(place for place, call in enumerate(calls) if "c++-header" in call)
    target = calls[first].split(" -o ")[1].split(".gch")[0]
    including = [place for place, call in enumerate(calls) if f"-include {target}" in call]
    assert len(including) == len(KERNELS)
    assert min(including) > first
    assert all(flag in calls[first].split() for flag in calls[including[0]].split()[:-6] if flag not in ("c++", "-include"))
    assert not any("-include" in call for call in calls if "runtime" in call or "library.cu" in call)
    assert not list(place.cache.rglob("*prelude*"))


def test_the_usual_headers_are_as_good_uncompiled(tmp_path: Path) -> None:
    """With the real compiler: the same object, whether the precompiled header is there, is not, or is not one."""
    source = emulated_builds.source_root() / "kernels/v1_naive_nhwc/table.cu"
    made = []
    with emulated_builds._prelude(tmp_path, "fast") as includes:
        for damage in (lambda file: None, lambda file: file.write_bytes(b"gpch"), Path.unlink):
            damage(Path(f"{includes[1]}.gch"))
            target = tmp_path / f"{len(made)}.o"
            compiling.run([*emulated_builds.command(source, target, "kernels", "fast")[:-2], *includes], target)
            made.append(target.read_bytes())
    assert made[0] == made[1] == made[2]


def test_other_sources_flags_or_compilers_are_other_libraries(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = emulated_builds.ensure("checked")
    monkeypatch.setenv("VERSION", "2")
    in_package(place.package)
    assert emulated_builds.find("checked") is None
    assert emulated_builds.ensure("checked").parent != library.parent
    monkeypatch.setenv("VERSION", "1")
    in_package(place.package)
    assert emulated_builds.find("checked") == library
    root = tmp_path / "sources"
    for name in ("kernels/emulator/flags.def", "kernels/v1_naive_nhwc/layout.cu"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())
    place.write({**emulated_builds.installed(), "root": str(root)})
    keys = set()
    for text in ("", "// changed\n"):
        (root / "kernels/v1_naive_nhwc/layout.cu").write_text(text)
        in_package(place.package)
        keys.add(emulated_builds._key((str(place.compiler),)))
    assert len(keys) == 2


def test_a_failing_compiler_is_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKS", "layout.cu")
    with pytest.raises(
        DeviceError, match=r"compiling kernels/v1_naive_nhwc/layout\.cu failed: .*layout\.cu:7:1: error: 'blockIdy'"
    ) as e:
        emulated_builds.ensure("checked")
    assert "in file included" not in str(e.value)
    assert emulated_builds.find("checked") is None
    assert not list(place.cache.rglob("*.half*"))
    monkeypatch.setenv("BREAKS", "link")
    with pytest.raises(DeviceError, match=r"compiling checked\.so failed"):
        emulated_builds.ensure("checked")
    monkeypatch.delenv("BREAKS")
    assert emulated_builds.ensure("checked").exists()
    assert place.compiled().count("kernels/emulator/errors.cpp") == 1, "what was compiled is compiled again"


def test_no_compiler_is_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    with pytest.raises(DeviceError, match=r"no C\+\+ compiler was found .*apt install g\+\+"):
        emulated_builds.ensure("checked")
    assert "no C++ compiler" in emulated_builds.why_not("checked")
    monkeypatch.setenv("CXX", "/nowhere/cxx")
    assert "no C++ compiler" in emulated_builds.why_not("checked")


def test_a_package_without_sources_says_so(place: Place, tmp_path: Path) -> None:
    place.write({"cuda_why_not": "", "compiler": "", "root": "../_src", "sources": {}})
    in_package(place.package)
    with pytest.raises(DeviceError, match="no kernel sources"):
        emulated_builds.ensure("checked")
    (place.package / "_lib" / "build.json").unlink()
    in_package(place.package)
    assert "no kernel sources" in emulated_builds.why_not("checked")


def test_a_cache_that_cannot_be_written_is_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WARPLOOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match=r"cannot be compiled into .*set WARPLOOM_CACHE"):
        emulated_builds.ensure("checked")


def test_two_processes_compile_once(place: Place) -> None:
    both = [place.process(SECONDS="0.2") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0] != ""
    assert len(place.compiled()) == len(set(place.compiled())) == 6
    assert sum("another process compiles" in text for _, text in said) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_compilation_goes_on_where_it_was(place: Place, how: signal.Signals) -> None:
    process = place.process(WAITS="library.cu")
    waiting = Path(f"{place.calls_file}.waiting")
    until = time.monotonic() + 30
    while not (waiting.exists() and len(list(place.cache.rglob("*.o"))) == 5) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(how)
    process.communicate(timeout=30)
    if how == signal.SIGKILL:
        os.killpg(process.pid, signal.SIGKILL)  # the compiler that it left behind
    assert process.returncode != 0
    assert not list(place.cache.rglob("checked.so"))
    assert how == signal.SIGKILL or not list(place.cache.rglob("*.half*"))
    assert emulated_builds.ensure("checked").exists()
    again = place.compiled()
    assert again.count("kernels/common/library.cu") == 2, "what was interrupted must be compiled again"
    assert len(again) == 7, "nothing else"


def test_devices_tells_what_is_not_compiled_yet(place: Place) -> None:
    """In a process of its own, whose core holds the host's kernels alone."""
    python = (
        "import json; t._core.libraries = lambda: []; t.hardware._libraries.cache_clear(); "
        "print(json.dumps(t.hardware.devices()))"
    )
    process = place.process(python)
    out, err = process.communicate(timeout=60)
    rows = {row["name"]: row for row in json.loads(out)}
    assert "not compiled yet: its first use does that, once, in about" in rows["emulated:checked"]["why"], err
    assert not rows["emulated:checked"]["usable"]
    assert rows["cuda"]["why"] == "this build has no cuda library: no GPU was found"
    assert place.calls() == []


def test_versions_are_known_before_anything_is_compiled(place: Place) -> None:
    """The README's first command asks for v4 where there is neither a GPU nor an emulated device yet: the cpu kernels run."""
    python = (
        "import json; cpu = [x for x in t._core.libraries() if x['kind'] == 'cpu']; known = t._core.versions(); "
        "t._core.libraries = lambda: cpu; t._core.versions = lambda: [v for v in known if v['name'] == 'cpu']; "
        "t.hardware._libraries.cache_clear(); t.hardware._versions.cache_clear(); t.emulated_builds.versions.cache_clear(); "
        "choice = t.hardware.resolve('v4'); "
        "print(json.dumps([choice.device, choice.versions, choice.note, t.hardware.versions(), t.hardware.devices()]))"
    )
    process = place.process(python)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    device, chosen, note, rows, devices = json.loads(out)
    assert (device, chosen) == ("cpu", ["cpu"])
    assert note.startswith("version v4 needs a CUDA device")
    assert [row["name"] for row in rows] == ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "cpu"]
    assert rows[3]["why"].startswith("emulated, not compiled yet: its first use does that")
    assert next(d["versions"] for d in devices if d["name"] == "emulated") == [row["name"] for row in rows[:-1]]
    assert place.calls() == []


def test_asking_for_a_device_compiles_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(emulated_builds._core, "add_library", loaded.append, raising=True)
    monkeypatch.setattr(_core, "libraries", lambda: [])
    hardware._libraries.cache_clear()
    try:
        with pytest.raises(DeviceError, match="emulated:checked is not usable"):  # nothing was loaded in truth
            hardware.resolve("auto", "emulated:checked")
    finally:
        monkeypatch.undo()
        hardware._libraries.cache_clear()
    assert len(loaded) >= 1
    assert loaded[0].endswith("/checked.so")


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checked.so").write_text("no library")
    with pytest.raises(DeviceError, match="cannot load"):
        _core.add_library(str(tmp_path / "checked.so"))


def test_the_real_compiler_takes_the_flags(tmp_path: Path) -> None:
    """One file of the emulator, with the command that a kernel of one's own is compiled with too."""
    for part, build in (("runtime", "fast"), ("runtime", "counting")):
        command = emulated_builds.command(
            emulated_builds.source_root() / "kernels/emulator/errors.cpp", Path("{target}"), part, build
        )
        step = compiling.Step(part, "errors.cpp", tmp_path / f"{build}.o", command, 1)
        compiling.compile_all([step], "a file", 1, 1.0)
        assert step.target.stat().st_size > 1000


def test_the_cmake_build_has_the_same_flags() -> None:
    """Where this checkout has a compile_commands.json: the flags of CMake's kernels and of the package's, one by one."""
    database = ROOT / "build" / "compile_commands.json"
    if not database.exists():
        pytest.skip("no build folder in this checkout")
    source = "kernels/v1_naive_nhwc/layout.cu"
    for row in json.loads(database.read_text()):
        if row["file"].endswith(source) and "warploom_checked_kernels" in row.get("output", row["command"]):
            theirs = row["command"].split()
            assert [flag for flag in emulated_builds.flags("kernels", "checked") if flag not in theirs] == []
            return
    pytest.skip("the build folder holds no checked emulated device")


def test_two_places_compile_the_same_bytes(tmp_path: Path) -> None:
    """-fsanitize=bounds tells the path of the source as the compiler was given it: cmake/relative.sh gives a relative one."""
    compiler, script = shutil.which("g++"), ROOT / "cmake" / "relative.sh"
    if compiler is None or not script.is_file():
        pytest.skip("needs g++ and a checkout")
    made = []
    for name in ("one", "another place"):
        place = tmp_path / name
        for folder in ("kernels", "build"):
            (place / folder).mkdir(parents=True)
        (place / "kernels" / "x.h").write_text("int cells[4];\ninline int at(int i) { return cells[i]; }\n")
        (place / "kernels" / "x.cpp").write_text('#include "kernels/x.h"\nint get(int i) { return at(i) + cells[i]; }\n')
        flags = [
            "-g1",
            "-fsanitize=bounds",
            f"-ffile-prefix-map={place}=/warploom",
            "-ffile-prefix-map=..=/warploom",
            f"-I{place}",
        ]
        command = ["sh", str(script), str(place), "..", compiler, *flags, "-c", str(place / "kernels" / "x.cpp"), "-o", "x.o"]
        subprocess.run(command, cwd=place / "build", check=True)
        made.append((place / "build" / "x.o").read_bytes())
    assert made[0] == made[1]
    assert b"../kernels/x.cpp" in made[0]
    assert b"../kernels/x.h" in made[0]
