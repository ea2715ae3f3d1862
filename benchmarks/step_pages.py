"""What benchmarks/step_model.py publishes: the results file, the tables of docs/gpu_model.md, predictions beside measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gpu_constants import GPUS
from step_model import ROOT, WHAT_IFS, Row, Step, load, predict_all, total, why_not

RESULTS = ROOT / "benchmarks/results/step_model.jsonl"
PAGE = ROOT / "docs/gpu_model.md"
BEGIN, END = "<!-- step_model.py: begin -->", "<!-- step_model.py: end -->"
GOAL = ("cifar10_autoencoder", 64, "v7", "bf16")
GOAL_MS = 0.20


def records(steps: dict[Step, list[Row]]) -> list[dict[str, Any]]:
    found = []
    for step, rows in steps.items():
        for gpu in GPUS:
            if why_not(step, gpu):
                continue
            nodes = predict_all(rows, GPUS[gpu])
            record: dict[str, Any] = dict(zip(("model", "batch", "version", "precision"), step, strict=True))
            record |= {"gpu": gpu, "measured": False, "nodes": sum(n.launches for n in nodes)}
            record["predicted_us"] = round(total(nodes), 1)
            bound: dict[str, float] = {}
            for n in nodes:
                bound[n.critical] = bound.get(n.critical, 0.0) + max(n.times.values()) * (n.critical != "start")
            bound["start"] = sum(n.start for n in nodes)
            record["us_by_resource"] = {k: round(v, 1) for k, v in sorted(bound.items(), key=lambda item: -item[1])}
            if gpu == "H100":
                record["each"] = [[n.call, n.kernel, round(n.microseconds, 1), n.critical] for n in nodes]
            found.append(record)
    return found


def tables(steps: dict[Step, list[Row]]) -> str:
    rows = records(steps)
    lines = [
        f"| network | batch | version | nodes | {' | '.join(GPUS)} | most of it on an H100 |",
        "|-|-|-|-|" + "-|" * (len(GPUS) + 1),
    ]
    for step in steps:
        of = {r["gpu"]: r for r in rows if (r["model"], r["batch"], r["version"], r["precision"]) == step}
        any_one = next(iter(of.values()))
        cells = [f"{of[g]['predicted_us'] / 1e3:.2f}" if g in of else "-" for g in GPUS]
        most = ", ".join(f"{k} {v:.0f} us" for k, v in list(of["H100"]["us_by_resource"].items())[:3]) if "H100" in of else ""
        lines.append(f"| {step[0]} | {step[1]} | {step[2]} {step[3]} | {any_one['nodes']} | {' | '.join(cells)} | {most} |")
    goal = steps[GOAL]
    now = total(predict_all(goal, GPUS["H100"]))
    lines += [
        "",
        f"**v7 bf16 at batch 64 on an H100: {now / 1e3:.3f} ms, {now / 1e3 / GOAL_MS:.2f} times the goal of {GOAL_MS:.2f} ms.**",
        "What closing a loss would leave:",
        "",
        "| what if | nodes | ms | gained |",
        "|-|-|-|-|",
    ]
    for name, what in WHAT_IFS.items():
        nodes = predict_all(goal, GPUS["H100"], frozenset([name]))
        left = total(nodes)
        lines.append(f"| `{name}`: {what} | {sum(n.launches for n in nodes)} | {left / 1e3:.3f} | {(now - left) / 1e3:.3f} |")
    return "\n".join(["Predicted ms a step; nothing here was measured:", "", *lines])


def page(steps: dict[Step, list[Row]]) -> str:
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{tables(steps)}\n{END}{rest.split(END)[1]}"


def results(steps: dict[Step, list[Row]]) -> str:
    return "".join(json.dumps(r) + "\n" for r in records(steps))


def write_all(steps: dict[Step, list[Row]]) -> None:
    RESULTS.write_text(results(steps))
    PAGE.write_text(page(steps))


# ---- Beside measurements ----


def plain_name(kernel: str) -> str:
    """The name of a kernel as counts have it: "void warploom::v7::add_kernel<...>(...)" is "v7::add_kernel"."""
    found = re.search(r"(?:warploom::)?((?:v\d+|shared|ops)?(?:::)?\w+_kernel)", kernel)
    return found.group(1).removeprefix("warploom::") if found else kernel


def known_gpu(name: str) -> str:
    """The GPU of gpu_constants.py that a device's name speaks of, an H200 being an H100 with more memory; "" where none does."""
    found = next((g for g in GPUS if re.search(rf"\b{g}\b", name)), "")
    return found or ("H100" if re.search(r"\b(H200|GH200)\b", name) else "")


def beside(steps: dict[Step, list[Row]], path: Path) -> tuple[str, int]:
    """(the page, how many lines stand beside each other) of measured steps and nodes: JSON lines of kind "step" and "node"."""
    said, lines, found = [], ["| what | predicted us | measured us | measured / predicted |", "|-|-|-|-|"], 0
    groups: dict[tuple[str, Step], list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        r = json.loads(line)
        if r.get("kind") not in ("step", "node") or not r.get("measured"):
            continue
        step = (r.get("model", "cifar10_autoencoder"), r["batch"], r["version"], r.get("precision", "fp32"))
        groups.setdefault((known_gpu(r.get("device_name", "")), step), []).append(r)
    for (gpu, step), rows in groups.items():
        about = " ".join(map(str, step))
        if not gpu or step not in steps:
            said.append(f"no prediction of {about} on {rows[0].get('device_name') or 'an unnamed GPU'}")
            continue
        nodes = predict_all(steps[step], GPUS[gpu])
        for r in (r for r in rows if r["kind"] == "step" and "milliseconds" in r):
            predicted, measured = total(nodes), r["milliseconds"] * 1e3
            lines.append(f"| **{about}, {gpu}: the step** | {predicted:.1f} | {measured:.1f} | {measured / predicted:.2f} |")
            found += 1
        told = sorted((r for r in rows if r["kind"] == "node"), key=lambda r: r["index"])
        apart = [(n.call, n.kernel, n.microseconds / n.launches) for n in nodes for _ in range(n.launches)]
        if told and [plain_name(r["kernel"]) for r in told] != [kernel for _, kernel, _ in apart]:
            said.append(f"{about}: the kernels measured are others than those counted, or in another order; compared by name")
            names = dict.fromkeys([kernel for _, kernel, _ in apart] + [plain_name(r["kernel"]) for r in told])
            for name in names:
                ours = [us for _, kernel, us in apart if kernel == name]
                theirs = [r["us"] for r in told if plain_name(r["kernel"]) == name]
                ratio = f"{sum(theirs) / sum(ours):.2f}" if ours and theirs else "-"
                lines.append(
                    f"| {about} {name} ({len(ours)}, measured {len(theirs)}) | {sum(ours):.1f} | {sum(theirs):.1f} | {ratio} |"
                )
                found += bool(ours and theirs)
            continue
        for (call, kernel, us), r in zip(apart, told, strict=False):
            lines.append(f"| {call} `{kernel}` | {us:.1f} | {r['us']:.1f} | {r['us'] / us:.2f} |")
            found += 1
    return "\n".join([*lines, "", *said]).rstrip(), found


if __name__ == "__main__":
    write_all(load())
