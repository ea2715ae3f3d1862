"""pytest -p apart: tells each test's beginning and end in $WARPLOOM_TESTS_TOLD, leaves out what is told there already, and ends
the process when it can no longer use the GPU, so that another one goes on (benchmarks/gpu/tests_apart.py)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOST = "can no longer use the GPU"  # of kernels/common/device_fault.h
LOST_STATUS = 70


def told() -> dict[str, str]:
    """The last that is known of each test: "begun", an outcome."""
    path = Path(os.environ["WARPLOOM_TESTS_TOLD"])
    lines = path.read_text().splitlines() if path.exists() else []
    return {r["test"]: r["outcome"] for r in map(json.loads, lines)}


def tell(test: str, outcome: str, **more: Any) -> None:
    with Path(os.environ["WARPLOOM_TESTS_TOLD"]).open("a") as file:
        file.write(json.dumps({"test": test, "outcome": outcome} | more) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = told()
    done = [item for item in items if item.nodeid in known]
    config.hook.pytest_deselected(items=done)
    items[:] = [item for item in items if item.nodeid not in known]


def pytest_runtest_logstart(nodeid: str) -> None:
    tell(nodeid, "begun")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if report.when == "call" or report.outcome != "passed":
        text = str(report.longrepr) if report.failed else ""
        tell(item.nodeid, report.outcome, **({"said": text[-2000:]} if text else {}))
        if LOST in text:
            print(text, flush=True)
            os._exit(LOST_STATUS)  # every later test of this process would fail for this one's fault
    return report
