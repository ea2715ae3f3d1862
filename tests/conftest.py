"""What all tests share: the kernel targets, the option --all, and a summary that says how many tests ran on a GPU.

Without --all what takes long is left out: the tests that slow.txt names (make_slow.py), and those that need the counting device,
which takes the longest of the three to compile, where it has not been compiled yet.

On a machine with a usable cuda device a run of the whole suite in which no test ran on it fails: a green run must mean something.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    from warploom import _core
    from warploom.ground import emulated_builds, hardware
except ImportError as e:  # the tests of plain Python files still run; those that need the extension fail with this sentence
    _core = None
    MISSING = f"the extension warploom._core cannot be imported ({e}); install the package first: pip install ."

_ran = {"gpu": 0}
SLOW = set(Path(__file__).with_name("slow.txt").read_text().splitlines())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also the tests that take long (tests/slow.txt)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    whole = config.workerinput["whole"] if _is_worker(config) else _whole_suite(config)
    if config.option.all or not whole:  # who names a test means it
        return
    ids = {item: f"tests/{item.path.relative_to(Path(__file__).parent).as_posix()}::{item.name}" for item in items}
    slow = [item for item in items if ids[item] in SLOW or ids[item].split("[")[0] in SLOW]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: runs on a cuda device")
    config.addinivalue_line("markers", "emulated: runs kernels on the emulated device")
    if _is_worker(config):
        os.environ.pop("COLUMNS", None)  # pytest-xdist gives its processes one of 80: what is printed would be for a terminal
    if _core is None or config.option.markexpr == "gpu" or os.environ.get("WARPLOOM_SANITIZED"):
        return  # .ci/sanitize tries the host's code
    needed = set(emulated_builds.LIBRARIES)
    if not config.option.all:
        needed -= {name for name in COUNTING if emulated_builds.find(name) is None}
        _skip_what_needs(set(emulated_builds.LIBRARIES) - needed)
    try:  # an installation holds the fast emulated device only; the others are compiled once and kept
        for device, name in emulated_builds.DEVICES.items():
            if name in needed:
                hardware.prepare(device)
        for name in emulated_builds.LIBRARIES:
            if name in needed:
                emulated_builds.ensure(name)
    except _core.DeviceError as error:
        raise pytest.UsageError(f"the tests need every emulated device: {error}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist names folders to its processes even where the user named none."""
    node.workerinput["whole"] = _whole_suite(node.config)


COUNTING = ("counting", "selftest_counting")


def _skip_what_needs(missing: set[str]) -> None:
    """A test that would compile one of them is skipped instead; programs of the tests do compile them."""
    ensure = emulated_builds.ensure

    def ensure_or_skip(name: str) -> Path:
        if name in missing and emulated_builds.find(name) is None:
            pytest.skip(f"the library '{name}' is compiled for pytest --all only")
        return ensure(name)

    emulated_builds.ensure = ensure_or_skip


@pytest.fixture(autouse=True)
def _search_path_of_before() -> Iterator[None]:
    """Benchmarks that a test imports add the checkout's package, which an installation's tests must not see."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(scope="session")
def core() -> Any:
    """The compiled core."""
    if _core is None:
        pytest.fail(MISSING)
    return _core


def kernel_targets() -> list[Any]:
    """Every version on every usable device; empty if the extension is missing (test_ops.py then fails, it does not pass)."""
    import harness

    return harness.targets(_core) if _core is not None else []


def device_mark(device: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.gpu] if device.startswith("cuda") else [pytest.mark.emulated] if device.startswith("emulated") else []


def usable_gpus() -> list[str]:
    if _core is None:
        return []
    return [
        d["name"] for library in _core.libraries() if library["kind"] == "cuda" and library["usable"] for d in library["devices"]
    ]


def why_no_gpu() -> str:
    reasons = [library["why"] for library in _core.libraries() if library["kind"] == "cuda"] if _core is not None else [MISSING]
    return reasons[0] if reasons else "this build has no cuda device"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed and "gpu" in report.keywords:
        _ran["gpu"] += 1


def _whole_suite(config: pytest.Config) -> bool:
    chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False) or config.option.collectonly
    return not chosen and config.args_source != pytest.Config.ArgsSource.ARGS


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == 0 and _whole_suite(session.config) and usable_gpus() and not _ran["gpu"] and not _is_worker(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")  # a process of pytest-xdist; the controller counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    gpus = usable_gpus()
    if _whole_suite(config) and not config.option.all:
        terminalreporter.write_line("tests that take long were left out; pytest --all runs them too")
    terminalreporter.write_sep("-", "devices")
    if gpus:
        terminalreporter.write_line(f"{_ran['gpu']} tests ran on a GPU ({gpus[0]})")
        if _whole_suite(config) and not _ran["gpu"]:
            terminalreporter.write_line("ERROR: this machine has a usable GPU, but no test ran on it", red=True)
    else:
        terminalreporter.write_line(f"0 tests ran on a GPU: {why_no_gpu()}")
