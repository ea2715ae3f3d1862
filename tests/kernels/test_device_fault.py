"""What an error of the GPU says: a fault is told late, so it may not be blamed on the kernel at whose launch it was found."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [
    "ECCUncorrectable",
    "NvlinkUncorrectable",
    "Contained",
    "IllegalAddress",
    "LaunchTimeout",
    "Assert",
    "HardwareStackError",
    "IllegalInstruction",
    "MisalignedAddress",
    "InvalidAddressSpace",
    "InvalidPc",
    "LaunchFailure",
    "TensorMemoryLeak",
]
PROGRAM = """
#include <cstdio>
#include "kernels/common/device_fault.h"
using namespace warploom;
int main() {
  std::puts(launch_failure("v7::b_kernel", 700, "illegal", false).c_str());
  std::puts(launch_failure("v7::b_kernel", 700, "illegal", true).c_str());
  std::puts(launch_failure("v7::b_kernel", 9, "bad configuration", false).c_str());
  std::puts(call_failure("copy from the GPU", 716, "misaligned", false).c_str());
  std::puts(call_failure("copy from the GPU", 1, "invalid value", false).c_str());
  for (int e = 0; e < 1000; ++e) if (context_is_lost(e)) std::printf("%d ", e);
}
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        pytest.skip("no C++ compiler here")
    if not (ROOT / "kernels/common/device_fault.h").exists():
        pytest.skip("the sources are not here")
    folder = tmp_path_factory.mktemp("fault")
    (folder / "said.cpp").write_text(PROGRAM)
    subprocess.run([compiler, "-std=c++17", f"-I{ROOT}", str(folder / "said.cpp"), "-o", str(folder / "said")], check=True)
    return subprocess.run([str(folder / "said")], check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_fault_names_its_kernel_only_where_launches_block(said: list[str]) -> None:
    late, blocking, plain, copy, harmless, _ = said
    assert late.startswith("a kernel launched before v7::b_kernel failed on the GPU: illegal")
    assert "CUDA_LAUNCH_BLOCKING=1 WARPLOOM_RECORD=0" in late
    assert blocking.startswith("v7::b_kernel: failed on the GPU: illegal")
    assert plain == "v7::b_kernel: launch failed: bad configuration"
    assert copy.startswith("copy from the GPU: misaligned (of a kernel launched before, not of this call)")
    assert harmless == "copy from the GPU: invalid value"


def test_whoever_replaces_a_lost_process_knows_it_by_what_it_says(said: list[str]) -> None:
    import apart

    assert [apart.LOST in line for line in said[:5]] == [True, True, False, True, False]


def test_the_numbers_are_those_of_cuda(said: list[str]) -> None:
    """Compared with CUDA's own header, where a toolkit is installed."""
    headers = [p for p in Path("/usr/local").glob("cuda*/targets/*/include/driver_types.h")]
    if not headers:
        pytest.skip("no CUDA toolkit here")
    text = headers[-1].read_text()
    numbers = {int(n) for name, n in re.findall(r"cudaError(\w+)\s*=\s*(\d+)", text) if name in FAULTS}
    assert {int(n) for n in said[5].split()} >= numbers
    assert len(numbers) >= 10
