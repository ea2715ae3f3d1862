"""The emulated device itself: every primitive in both builds, and kernels broken on purpose, which the checked build must stop.

The kernels are in kernels/emulator/selftest; the build makes two libraries of them beside the package.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from warploom.ground import emulated_builds

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "tests" / "emulator" / "run_cases.py"
SOURCES = ROOT / "kernels" / "emulator" / "selftest"


def _load_runner():
    spec = importlib.util.spec_from_file_location("run_cases", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _library(build: str) -> Path | None:
    return emulated_builds.find(f"selftest_{build}")


CASES = {build: _load_runner().Cases(path) for build in ("fast", "checked") if (path := _library(build))}


def _names(build: str, *groups: str) -> list[str]:
    return [n for n in CASES[build].names if n.split("/")[0] in groups] if build in CASES else []


def _marked_lines() -> dict[str, list[str]]:
    """Case name -> ["broken.cu:12", ...], from the comments `FAULT: name, name`."""
    found: dict[str, list[str]] = {}
    for source in SOURCES.glob("*.cu"):
        for number, line in enumerate(source.read_text().splitlines(), 1):
            if match := re.search(r"// FAULT: ([\w, ]+)", line):
                for case in match.group(1).split(", "):
                    found.setdefault(case.strip(), []).append(f"{source.name}:{number}")
    return found


def _run(build: str, *names: str, options: tuple[str, ...] = (), **environment: str) -> dict[str, str]:
    library = _library(build)
    assert library is not None
    process = subprocess.run(
        [sys.executable, str(RUNNER), str(library), *options, *names],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, f"exit status {process.returncode}: {process.stderr}"
    return dict(json.loads(process.stdout))


def _assert_stopped(name: str, said: str) -> None:
    case = name.split("/")[1]
    assert said.startswith("KernelFault: "), said or "nothing was found"
    assert re.search(rf"KernelFault: {case}_kernel: block \(\d+, \d+, \d+\), thread \(\d+, \d+, \d+\): |deadlock", said), said
    if shutil.which("addr2line"):
        lines = _marked_lines()[case]
        assert any(f"kernels/emulator/selftest/{line}" in said for line in lines), f"{said}\nexpected one of {lines}"


def test_libraries_are_there() -> None:
    assert set(CASES) == {"fast", "checked"}, "selftest_fast.so and selftest_checked.so were not built beside the package"
    assert CASES["fast"].kind == "emulated"
    assert CASES["checked"].kind == "emulated:checked"


@pytest.mark.parametrize("name", _names("fast", "primitive", "correct"))
def test_fast(name: str) -> None:
    assert CASES["fast"].run(name) == ""


@pytest.mark.parametrize("name", _names("checked", "primitive", "correct"))
def test_checked_raises_no_false_alarm(name: str) -> None:
    assert CASES["checked"].run(name) == ""


@pytest.mark.parametrize("name", _names("checked", "broken"))
def test_broken_kernel_is_stopped(name: str) -> None:
    _assert_stopped(name, CASES["checked"].run(name))


@pytest.mark.parametrize("build", ["fast", "checked"])
@pytest.mark.parametrize("case", ["warp_deadlock", "mask_without_caller", "trap", "mixed_operations"])
def test_deadlocks_end(build: str, case: str) -> None:
    said = CASES[build].run(f"deadlock/{case}")
    expected = {
        "warp_deadlock": "deadlock: 64 of 64 threads wait; 33 at __syncthreads",
        "mask_without_caller": "mask 0x0000ffff does not name the calling lane",
        "trap": "thread (17, 0, 0): __trap() was called",
        "mixed_operations": "different warp operations",
    }
    assert said.startswith("KernelFault: "), said
    assert expected[case] in said, said
    if build == "checked" and case in _marked_lines():
        assert any(line in said for line in _marked_lines()[case]), said


@pytest.mark.parametrize(("seed", "threads"), [("1", "1"), ("2", "4"), ("77", "2")])
def test_any_seed_and_any_number_of_workers(seed: str, threads: str) -> None:
    results = _run("checked", "primitive/", "correct/", "broken/", WARPLOOM_EMULATOR_SEED=seed, WARPLOOM_THREADS=threads)
    assert [n for n, said in results.items() if not n.startswith("broken/") and said] == []
    assert [n for n, said in results.items() if n.startswith("broken/") and not said.startswith("KernelFault: ")] == []


def test_same_seed_same_report() -> None:
    names = ("broken/missing_second_barrier", "broken/shuffle_is_no_barrier", "broken/early_exit")
    settings = {"WARPLOOM_EMULATOR_SEED": "5", "WARPLOOM_THREADS": "1"}
    assert _run("checked", *names, **settings) == _run("checked", *names, **settings)


def test_endless_kernels_end() -> None:
    for name, said in _run("checked", "endless/", WARPLOOM_EMULATOR_TIMEOUT="0.5").items():
        _assert_stopped(name, said)
        assert "0.5 seconds" in said, said


def test_without_addr2line(tmp_path: Path) -> None:
    said = _run("checked", "broken/global_write", PATH=str(tmp_path))["broken/global_write"]
    assert "0 bytes past the end of buffer (400 bytes)" in said
    assert "no source line: addr2line" in said


def test_after_fork() -> None:
    for build in ("fast", "checked"):
        results = _run(build, "correct/reduction", "correct/transpose", options=("--fork",), WARPLOOM_THREADS="3")
        assert results == {"correct/reduction": "", "correct/transpose": ""}


def test_wrong_number_of_threads_is_refused() -> None:
    said = _run("fast", "correct/reduction", WARPLOOM_THREADS="many")["correct/reduction"]
    assert said == 'WARPLOOM_THREADS is "many"; give a number of threads from 1 to 1024'
