"""The table of docs/features.md, from the result file of features.py alone: every row that was measured, failed ideas too.

python benchmarks/feature_tables.py            writes it between the markers of the page
python benchmarks/feature_tables.py --check    exits with 1 where the page holds another table than the file gives
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results/features.jsonl", ROOT / "docs/features.md"
Record = dict[str, Any]
HEAD = {
    "test": "test accuracy (95 % interval)",
    "validation": "accuracy on training images held out",
}


def accuracy(group: list[Record]) -> str:
    """One seed: with the interval of the images' number; several: the mean, and the spread over seeds."""
    values = [100 * r["accuracy"] for r in group]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.1f} % ± {100 * group[0]['interval']:.1f}"
    return f"{mean:.1f} % ± {100 * group[0]['interval']:.1f} ({len(values)} seeds: {min(values):.1f} to {max(values):.1f})"


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def name(r: Record) -> str:
    more = ", ".join(f"{k} {'+'.join(map(str, v)) if isinstance(v, list) else str(v).lower()}" for k, v in r["arguments"].items())
    control = {"random": "**control:** random filters", "pixels": "**control:** pixels"}.get(r["control"] or "")
    words = [r["recipe"].replace("_", " "), more, control or "", r["note"]]
    return "; ".join(w for w in (words if r["control"] != "pixels" else words[2:]) if w)


def kind(r: Record) -> str:
    """The classifier; ridge and squared hinge are one's choice."""
    return str(r["classifier"]).replace("ridge, ", "squared hinge, ")


def row(group: list[Record]) -> list[str]:
    r = group[-1]
    seconds, cpu = (sum(x[k] for x in group) / len(group) for k in ("seconds", "cpu_seconds"))
    return [
        name(r), f"{r['images'][0]:,} / {r['images'][1]:,}", f"{r['features']:,}", accuracy(group), r["classifier"],
        minutes(seconds), minutes(cpu), f"{max(x['memory_gib'] for x in group):.1f}", r["instructions"], f"{r['load']:.0f}",
        f"`{r['command']}`",
    ]  # fmt: skip


def table() -> str:
    records = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    parts = []
    for on, title in HEAD.items():
        groups: dict[str, dict[int, Record]] = defaultdict(dict)
        for r in records:
            if r["on"] == on:
                key = json.dumps(
                    [
                        r["recipe"] if r["control"] != "pixels" else "",
                        r["arguments"],
                        r["control"],
                        r["images"],
                        r["note"],
                        kind(r),
                    ]
                )
                groups[key][r["seed"]] = r  # the latest of each seed
        rows = [row(list(group.values())) for group in groups.values()]
        if not rows:
            continue
        head = ["what", "images", "features", title, "classifier", "minutes", "CPU-minutes", "GiB", "with", "load", "command"]
        lines = [head, ["-"] * len(head), *rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    cpus = " and ".join(dict.fromkeys(f"{r['cpu']}, {r['threads']} cores, {r.get('instructions', '')}" for r in records))
    days = sorted({r["when"] for r in records})
    parts.append(f"{cpus}; {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}.")
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = PAGE.read_text()
    pattern = re.compile(r"(<!-- table: features -->\n).*?(<!-- end -->)", re.DOTALL)
    made = pattern.sub(lambda m: f"{m.group(1)}{table()}\n{m.group(2)}", text)
    if check:
        return int(made != text)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
