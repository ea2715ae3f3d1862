"""The lab's seeded suite: programs with one bug each, whose line is marked `// BUG: code`, and correct programs.

python tests/lab/suite.py        the score, with every miss and every false alarm
"""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from warploom import lab
from warploom.errors import DeviceError

HERE = Path(__file__).resolve().parent
BUGS, CORRECT = sorted((HERE / "bugs").glob("*.cu")), sorted((HERE / "correct").glob("*.cu"))


@dataclass
class Outcome:
    """Of one program. `missed`: a marked bug was not found at its line; `alarms`: findings that nothing marks."""

    path: Path
    missed: bool = False
    alarms: list[str] = field(default_factory=list)
    refused: str = ""
    text: str = ""


def marks(path: Path) -> dict[int, set[str]]:
    """The marked lines, and which codes are right there."""
    lines = path.read_text().splitlines()
    return {n: set(m.group(1).split()) for n, line in enumerate(lines, 1) if (m := re.search(r"// BUG: ([\w -]+)$", line))}


def examine(path: Path) -> Outcome:
    """Checks one program and compares."""
    wanted = marks(path)
    try:
        report = lab.check(path)
    except (lab.Refusal, DeviceError) as e:
        return Outcome(path, missed=bool(wanted), refused=str(e))
    outcome = Outcome(path, missed=bool(wanted), text=lab.as_text(report))
    for f in report.findings:
        places = [f.place.line] + ([f.other.line] if f.other else [])
        if any(f.code in wanted.get(line, ()) for line in places):
            outcome.missed = False
        elif f.code != "program-exit" or not wanted:  # a program with a bug may say so itself
            outcome.alarms.append(f"{f.code} at line {f.place.line}: {f.message}")
    return outcome


def examine_all(paths: list[Path], workers: int = 2) -> list[Outcome]:
    """Several at once: the time goes into the compiler."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(examine, paths))


def score(outcomes: list[Outcome]) -> str:
    """What was missed, refused and alarmed without reason, one line each."""
    out = []
    for o in outcomes:
        if o.refused:
            out.append(f"REFUSED      {o.path.stem}: {o.refused}")
        elif o.missed:
            out.append(f"MISSED       {o.path.stem}")
        out += [f"FALSE ALARM  {o.path.stem}: {alarm}" for alarm in o.alarms]
    return "\n".join(out)


if __name__ == "__main__":
    chosen = [p for p in [*BUGS, *CORRECT] if not sys.argv[1:] or any(word in p.stem for word in sys.argv[1:])]
    results = examine_all(chosen)
    print(score(results))
    bugs = [o for o in results if o.path.parent.name == "bugs"]
    print(
        f"{sum(not o.missed for o in bugs)} of {len(bugs)} bugs found; {len(results) - len(bugs)} correct programs, "
        f"{sum(bool(o.alarms) or bool(o.refused) for o in results if o not in bugs)} of them with alarms"
    )
