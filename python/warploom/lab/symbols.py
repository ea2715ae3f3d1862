"""Source places behind addresses of a program's code: addr2line for lines, functions and inlined calls."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LAB = re.compile(r"/kernels/(emulator|lab)/|/include/c\+\+/|/usr/include/|/usr/lib/gcc/")


@dataclass(frozen=True)
class Symbol:
    """A line of the user's own."""

    file: str
    line: int
    column: int
    function: str


def places(executable: Path, addresses: list[int]) -> dict[int, Symbol]:
    """By address, counted from the program's start: the innermost line that is not a header of the lab or of the system."""
    if not addresses:
        return {}
    command = ["addr2line", "-a", "-C", "-f", "-i", "-e", str(executable), *(hex(a) for a in addresses)]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except OSError:
        return {}
    found: dict[int, Symbol] = {}
    lines = text.splitlines()
    now, at = -1, 0
    while at < len(lines):
        if re.fullmatch(r"0x[0-9a-f]+", lines[at]):
            now, at = int(lines[at], 16), at + 1
            continue
        function, place = lines[at], lines[at + 1] if at + 1 < len(lines) else "??:0"
        at += 2
        name, _, number = re.sub(r" \(discriminator \d+\)", "", place).rpartition(":")
        own = not _LAB.search(name)
        if name.startswith("??") or not number.isdigit() or (now in found and (not own or not _LAB.search(found[now].file))):
            continue
        found[now] = Symbol(name, int(number), 0, re.sub(r"\(.*", "", function))
    return found
