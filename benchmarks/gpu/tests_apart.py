"""The tests of a device, a process a version and one for the rest; a process that hangs, crashes or loses the GPU is replaced.

    python benchmarks/gpu/tests_apart.py cuda --workers 8 --told tests      writes tests-v7.jsonl ... and says what failed

Newest first. What a file tells already is not run again. No new line for --quiet-limit seconds: the test that had begun hangs.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_PROCESSES = 40  # of one group: a fault in every test would otherwise take for ever
TO_BEGIN = 120.0  # seconds at least for importing and collecting, in which no test has begun
VERSIONS = ("v7", "v5", "v6", "v4", "v3", "v2", "v1")


def groups(device: str, few: bool) -> dict[str, list[str]]:
    marker = "gpu" if device == "cuda" else "emulated"
    if few:  # a rehearsal
        chosen = {v: ["tests/kernels/test_ops.py", "-k", f"{device}-{v}-conv_1x4"] for v in ("v7", "v2")}
    else:
        # Tests of one target end in [cuda-v1]; those of a case hold it in the middle.
        chosen = {v: ["tests/kernels", "-k", f"{device}-{v}- or {device}-{v}]"] for v in VERSIONS}
        others = " and ".join(f"not {device}-{v}- and not {device}-{v}]" for v in VERSIONS)
        chosen["rest"] = ["tests", "-k", others]
    return {name: ["-m", marker, *arguments] for name, arguments in chosen.items()}


def last_told(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {r["test"]: r["outcome"] for r in map(json.loads, lines)}


def tell(path: Path, test: str, outcome: str) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"test": test, "outcome": outcome}) + "\n")


def run_group(name: str, given: list[str], told: Path, quiet_limit: float) -> str:
    """Runs it to its end; returns a line about it."""
    environment = os.environ | {
        "WARPLOOM_TESTS_TOLD": str(told), "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "WARPLOOM_THREADS": "2",
        "PYTEST_ADDOPTS": "",  # such as -n 2: processes are this program's matter
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/support"), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    told.touch()
    for test in [test for test, outcome in last_told(told).items() if outcome == "begun"]:
        tell(told, test, "cut off")  # by whatever ended the run before
    said = ""
    for _ in range(MOST_PROCESSES):
        log = told.with_suffix(".log").open("ab")
        child = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "apart", "-p", "no:cacheprovider", *given], cwd=ROOT, env=environment,
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        hangs = False
        size, since, limit = told.stat().st_size, time.monotonic(), max(quiet_limit, TO_BEGIN)
        while child.poll() is None:
            time.sleep(0.2)
            if told.stat().st_size != size:
                size, since, limit = told.stat().st_size, time.monotonic(), quiet_limit
            elif time.monotonic() - since > limit:
                hangs = True
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        status = child.wait()
        log.close()
        begun = [test for test, outcome in last_told(told).items() if outcome == "begun"]
        for test in begun:
            tell(told, test, "HANGS" if hangs else f"CRASHED ({status})")
        if not hangs and status in (0, 1, 5) and not begun:
            break
        if not begun and status != 70:
            said = f"pytest ended with status {status}, see {told.with_suffix('.log').name}"
            break
    counts = collections.Counter(last_told(told).values())
    return (
        f"{name}: " + (", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) or "no test") + (said and f"; {said}")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--quiet-limit", type=float, default=60)
    parser.add_argument("--told", default="tests", help="where to tell: the beginning of the files' names")
    parser.add_argument("--few", action="store_true", help="a few tests of two versions: a rehearsal")
    options = parser.parse_args()
    chosen = groups(options.device, options.few)
    files = {name: Path(f"{options.told}-{name}.jsonl") for name in chosen}
    with ThreadPoolExecutor(options.workers) as pool:
        running = [pool.submit(run_group, name, chosen[name], files[name], options.quiet_limit) for name in chosen]
        lines = []
        for future in running:
            lines.append(future.result())
            print(lines[-1], flush=True)
    bad = [(name, test, outcome) for name in chosen for test, outcome in last_told(files[name]).items()]
    bad = [(name, test, outcome) for name, test, outcome in bad if outcome not in ("passed", "skipped")]
    for name, test, outcome in bad:
        print(f"{name}: {outcome}: {test}")
    ran = sum(outcome == "passed" for file in files.values() for outcome in last_told(file).values())
    print(f"{ran} tests passed, {len(bad)} did not")
    return 1 if bad or not ran or any("pytest ended" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
