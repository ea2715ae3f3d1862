"""Native code's allocation fails: one error, and the process is as good as before. A small part of fail_allocations.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fail_allocations import compiled, fail_each
from warploom.ground import hardware


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = compiled(tmp_path_factory.mktemp("library"))
    if found is None:
        pytest.skip("a C++ compiler and the GNU C library are needed to make allocations fail")
    return found


@pytest.mark.parametrize(("version", "device", "every"), [("cpu", "cpu", 331), ("v5", "emulated", 1009)])
def test_a_failed_allocation_is_one_error(version: str, device: str, every: int, library: Path) -> None:
    if device != "cpu":
        hardware.prepare(device)
    total, tried, ways, wrong = fail_each(library, version, device, every, first=7)
    assert tried >= 5
    assert tried >= (total - 7) // every
    assert ways["OutOfMemoryError"] >= tried // 2
    assert not wrong, wrong


def test_the_first_allocations_of_a_process(library: Path) -> None:
    """What is made once: devices, pools of threads."""
    total, tried, _, wrong = fail_each(library, "cpu", "cpu", 1501, first=11, fresh=True)
    assert tried >= total // 1501
    assert not wrong, wrong


_STARVED = """
import resource
import numpy as np
import warploom as wl
x = wl.Input((3, 8, 8))
model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(x))
model.compile("sgd", "mse", "cpu", "cpu")
images = np.zeros((4, 3, 8, 8), np.float32)
limits = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), limits[1]))  # a few stacks of threads
try:
    model.predict(images)
except wl.DeviceError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
print(model.predict(images).shape)
"""


def test_threads_that_do_not_start() -> None:
    """A sentence, and the process goes on when there is room for them."""
    environment = dict(os.environ, WARPLOOM_THREADS="24")
    done = subprocess.run([sys.executable, "-c", _STARVED], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[1:] == ["(4, 3, 8, 8)"]
    assert re.fullmatch(r"cannot start thread \d+ of 24: .*; set WARPLOOM_THREADS lower", said[0])
