"""Makes tests/slow.txt, the tests that `pytest` leaves to `pytest --all`, from a timed run of all of them.

    pytest -n auto --all --junitxml=times.xml && python tests/make_slow.py times.xml [NEWER.xml ...]

Slow is a test of LIMIT seconds or more on the two cores of an AMD EPYC (Zen 1) that the README's times are from. A whole function
is named where most of its cases are slow, else the cases. What a user does first (KEPT) always runs.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

LIMIT = 0.8
KEPT = ("tests/cli/test_cli.py",)
FILE = Path(__file__).with_name("slow.txt")


def main(*times: str) -> None:
    seconds_of = {}  # the newest of each test
    for path in times:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            file = case.attrib["classname"].replace(".", "/") + ".py"
            seconds_of[f"{file}::{case.attrib['name']}"] = float(case.attrib["time"])
    functions: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for name, seconds in seconds_of.items():
        functions[name.split("[")[0]].append((seconds, name))
    lines = []
    for function, cases in sorted(functions.items()):
        slow = [name for seconds, name in cases if seconds >= LIMIT]
        if slow and not function.startswith(KEPT):
            lines += [function] if len(slow) > 0.6 * len(cases) else slow
    FILE.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
