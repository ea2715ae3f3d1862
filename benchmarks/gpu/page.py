"""The report of a GPU run, made anew after every part: outcomes, smoke, times, nodes beside predictions, training."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report as results_page
import run
import step_model
import step_pages


def read(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # the last line of a part that was stopped
            found.append(json.loads(line))
    return found


def smoke(work: Path) -> str:
    rows = read(work / "smoke.jsonl")
    lines = [f"| {r['version']} {r['precision']} | {r['entry']} | {r['outcome']} | {r['said'][:160]} |" for r in rows]
    return "\n".join(["## Smoke", "", "| version | direction | outcome | said |", "|-|-|-|-|", *lines]) if rows else ""


def results(work: Path) -> str:
    path = work / "results.jsonl"
    if not read(path):
        return ""
    whole = work / "results.whole.jsonl"
    whole.write_text("".join(json.dumps(r) + "\n" for r in read(path)))
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            results_page.main([str(whole)])
    finally:
        whole.unlink()
    return said.getvalue().replace("\n# ", "\n## ").replace("# Benchmark report", "## Times")


def beside(work: Path) -> str:
    both = work / "measured.jsonl"
    rows = [r for name in ("results.jsonl", "nodes.jsonl") for r in read(work / name)]
    both.write_text("".join(json.dumps(r) + "\n" for r in rows if not str(r.get("version", "")).startswith("torch")))
    text, _ = step_pages.beside(step_model.load(), both)
    both.unlink()
    nodes: dict[str, int] = {}
    for r in read(work / "nodes.jsonl"):
        about = f"{r['version']} {r['precision']}, batch {r['batch']}"
        nodes[about] = nodes.get(about, 0) + 1
    told = ", ".join(f"{about}: {n}" for about, n in nodes.items())
    return f"## Prediction beside measurement\n\nNodes seen: {told or 'none'}.\n\n{text}"


def training(work: Path) -> str:
    rows = read(work / "training.jsonl")
    lines = ["## Training, the last epoch of each", "", "| version | device | train loss | images/s |", "|-|-|-|-|"]
    for m in rows:
        rate = "not measured" if m["device"].startswith("emulated") else f"{m['images_per_second']:,.0f}"
        lines.append(f"| {m['version']} | {m['device']} | {m['train_loss']:.6f} | {rate} |")
    return "\n".join(lines) if rows else ""


def tests(work: Path) -> str:
    lines = []
    for path in sorted(work.glob("tests-*.jsonl")):
        last = {r["test"]: r for r in read(path)}
        bad = [f"- {r['outcome']}: `{test}`" for test, r in last.items() if r["outcome"] not in ("passed", "skipped", "begun")]
        lines += [f"{path.stem}: {sum(r['outcome'] == 'passed' for r in last.values())} of {len(last)} passed", "", *bad, ""]
    return "\n".join(["## Tests", "", *lines]) if lines else ""


def report(work: Path, state: dict[str, Any]) -> str:
    """Never raises: what cannot be shown is said."""
    sections: list[tuple[str, Callable[[Path], str]]] = [
        ("smoke", smoke), ("times", results), ("nodes", beside), ("tests", tests), ("training", training),
    ]  # fmt: skip
    emulated = any(r.get("device", "").startswith("emulated") for r in read(work / "smoke.jsonl") + read(work / "results.jsonl"))
    head = "**A rehearsal on the emulated device: nothing on this page was measured on a GPU.**\n\n" if emulated else ""
    parts = [f"{head}# A GPU run\n\n{run.outcomes(state)}"]
    for name, make in sections:
        try:
            parts.append(make(work))
        except Exception as error:  # a page that lacks a section is better than none
            parts.append(f"## {name}\n\ncould not be shown: {type(error).__name__}: {error}")
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
