"""Where a build's time went, by target.

    python .ci/build_times.py BUILD_FOLDER [--slowest N]

Reads .ninja_log, the last entry of every output: wall seconds of each command, added up (with N jobs at a time a build takes
about the Nth part). Prints a table, the slowest files, and the total.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path


def entries(log: str) -> dict[str, tuple[float, float]]:
    """Output -> (start, end) in seconds. A file that was written twice counts once, as last built."""
    found = {}
    for line in log.splitlines():
        if not line.startswith("#"):
            start, end, _, output, *_ = line.split("\t")
            found[output] = (int(start) / 1000, int(end) / 1000)
    return found


def target(output: str) -> str:
    match = re.search(r"CMakeFiles/(\w+)\.dir/", output)
    return match[1].removeprefix("warploom_") if match else "linking and the rest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slowest", type=int, default=5, metavar="N")
    options = parser.parse_args()
    logs = sorted(options.folder.rglob(".ninja_log"))
    if not logs:
        raise SystemExit(f"{options.folder} holds no .ninja_log: nothing was built there by ninja")
    for log in logs:
        rows = entries(log.read_text())
        seconds: dict[str, float] = defaultdict(float)
        files: dict[str, int] = defaultdict(int)
        for output, (start, end) in rows.items():
            seconds[target(output)] += end - start
            files[target(output)] += 1
        print(f"build time by target ({log.parent.name}), seconds of all commands together:")
        for name in sorted(seconds, key=lambda n: -seconds[n]):
            print(f"  {seconds[name]:8.1f} s  {files[name]:4d} files  {name}")
        print(f"  {sum(seconds.values()):8.1f} s  {len(rows):4d} files  in all")
        slowest = sorted(rows, key=lambda o: rows[o][0] - rows[o][1])[: options.slowest]
        print("  slowest: " + ", ".join(f"{Path(o).name.removesuffix('.o')} {rows[o][1] - rows[o][0]:.0f} s" for o in slowest))


if __name__ == "__main__":
    main()
