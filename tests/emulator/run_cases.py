"""Runs cases of a self-test library and prints {"group/name": error text} as JSON. Usage: run_cases.py LIBRARY [--fork] NAME...

A process of its own, so that a test can choose the environment (seed, threads, time limit) and a crash fails one test.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path


class Cases:
    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name in ("kind", "case", "run"):
            getattr(self._library, f"warploom_selftest_{name}").restype = ctypes.c_char_p
        self.names: list[str] = []
        while (name := self._library.warploom_selftest_case(len(self.names))) is not None:
            self.names.append(name.decode())

    @property
    def kind(self) -> str:
        return str(self._library.warploom_selftest_kind().decode())

    def run(self, name: str) -> str:
        """The error the case ended with, or an empty string."""
        return str(self._library.warploom_selftest_run(self.names.index(name)).decode())


def main(arguments: list[str]) -> int:
    cases = Cases(Path(arguments[0]))
    fork = "--fork" in arguments
    names = [a for a in arguments[1:] if a != "--fork"]
    results = {
        name: cases.run(name)
        for name in cases.names
        if name in names or any(n.endswith("/") and name.startswith(n) for n in names)
    }
    if fork and (child := os.fork()) == 0:
        again = {name: cases.run(name) for name in results}
        os._exit(0 if again == results else 1)
    if fork:
        _, status = os.waitpid(child, 0)
        if status != 0:
            print(f"the forked child ended with status {status}", file=sys.stderr)
            return 1
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
