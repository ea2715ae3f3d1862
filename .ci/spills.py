"""Reads what `ptxas -v` said in a build log and reports register spills.

    python .ci/spills.py BUILD_LOG

Prints every kernel that spills and one closing line; exit status 1 if a kernel of a convolution or a matrix product spills, or if
the log tells of no kernel at all (then nothing was checked).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
HOT = re.compile(r"conv|gemm|correlate|weight_gradient", re.IGNORECASE)


def kernels(log: str) -> list[tuple[str, str, int, int]]:
    """(mangled name, architecture, spilled bytes, registers) of every kernel in the log."""
    found: list[tuple[str, str, int, int]] = []
    name = architecture = ""
    spilled = 0
    for line in log.splitlines():
        if match := ENTRY.search(line):
            name, architecture, spilled = match[1], match[2], 0
        elif match := SPILL.search(line):
            spilled = int(match[2]) + int(match[3])
        elif (match := USED.search(line)) and name:
            found.append((name, architecture, spilled, int(match[1])))
            name = ""
    return found


def readable(name: str) -> str:
    if not shutil.which("c++filt"):
        return name
    text = subprocess.run(["c++filt", name], capture_output=True, text=True, check=False).stdout.strip()
    return re.sub(r"\(.*", "", text.replace("void ", "", 1)) or name


def main(path: str) -> int:
    found = kernels(Path(path).read_text(errors="replace"))
    spilling = [k for k in found if k[2]]
    for name, architecture, spilled, registers in spilling:
        mark = "hot kernel" if HOT.search(name) else "kernel"
        print(f"spill: {mark} {readable(name)} for {architecture}: {spilled} bytes, {registers} registers")
    hot = [k for k in spilling if HOT.search(k[0])]
    most = max((k[3] for k in found), default=0)
    words = f"{len(spilling)} spill, {len(hot)} of them convolutions or matrix products"
    print(f"ptxas: {len(found)} kernels compiled, {words}; at most {most} registers")
    return 1 if hot or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
