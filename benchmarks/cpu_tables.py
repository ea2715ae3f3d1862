"""The tables of docs/cpu.md, from the result files of cpu_vs_pytorch.py and cpu_accuracy.py alone.

    python benchmarks/cpu_tables.py            writes them between the markers of docs/cpu.md
    python benchmarks/cpu_tables.py --check    exits with 1 where the page holds other tables than the files give

A section begins with `<!-- table: NAME -->` and ends with `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
MEBIBYTE = 1 << 20
Records = list[dict[str, Any]]


def read(name: str, benchmark: str) -> Records:
    path = RESULTS / name
    lines = path.read_text().splitlines() if path.exists() else []
    return [r for r in map(json.loads, lines) if r["benchmark"] == benchmark]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["-"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(q: dict[str, float]) -> str:
    return f"**{q['median']:.2f}** ({q['p10']:.2f}-{q['p90']:.2f})"


def origin(records: Records) -> str:
    loads = [r["load"] for r in records if "load" in r]
    dates = sorted({r["when"][:10] for r in records})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    load = f"; load average of the shared machine {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    cpus = " and ".join(dict.fromkeys(r["cpu"] for r in records))
    return f"{cpus}, {records[0]['threads']} threads, PyTorch {records[0]['torch']}, {days}{load}."


def zoo() -> str:
    runs: dict[tuple[str, int], Records] = {}
    for r in read("cpu_vs_pytorch.jsonl", "cpu_vs_pytorch"):
        key = (r["model"], r["batch"])
        if key in runs and runs[key][0]["when"] == r["when"]:
            runs[key].append(r)
        else:
            runs[key] = [r]  # the latest run of each
    rows, shown = [], []
    for (model, batch), records in runs.items():
        best = fastest_float32(records)
        if best is None:
            continue
        shown.append(best)
        others = [said(r) for r in records if r is not best and r["mode"] != "bf16"]
        bf16 = [said(r, named=False) for r in records if r["mode"] == "bf16"]
        rows.append([
            model, str(batch), f"{best['warploom_ms']['median']:,.0f}", f"{best['torch_ms']['median']:,.0f}", best["mode"],
            spread(best["ratio"]), ", ".join(others) or "-", ", ".join(bf16) or "-",
            f"{best['warploom_growth'] / MEBIBYTE:,.0f} / {best['torch_growth'] / MEBIBYTE:,.0f}",
            short(best["cpu"]),
        ])  # fmt: skip
    if not rows:
        return "Not measured yet."
    head = [
        "network", "batch", "ours, ms", "PyTorch, ms", "its fastest float32 mode", "PyTorch / ours, median of pairs (p10-p90)",
        "its other float32 modes / ours", "its bf16 autocast / ours (float32)", "memory, MiB: ours / PyTorch", "CPU",
    ]  # fmt: skip
    return f"{markdown(head, rows)}\n\n{origin(shown)}"


def fastest_float32(records: Records) -> dict[str, Any] | None:
    """bf16 computes something else: it has a column of its own."""
    timed = [r for r in records if "ratio" in r and r["mode"] != "bf16"]
    return min(timed, key=lambda r: float(r["ratio"]["median"]), default=None)


def _failure(r: dict[str, Any]) -> str:
    return "left out: its gradients are not eager's" if "gradients differ" in r["skipped"] else "failed"


def said(r: dict[str, Any], named: bool = True) -> str:
    return (f"{r['mode']} " if named else "") + (f"{r['ratio']['median']:.1f}" if "ratio" in r else _failure(r))


def short(cpu: str) -> str:
    return re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", "", cpu).strip()


def layers() -> str:
    records = read("cpu_vs_pytorch.jsonl", "cpu_layers")
    if not records:
        return "Not measured yet."
    records = [r for r in records if r["when"] == records[-1]["when"]]
    rows = []
    for r in records:
        seconds = r["milliseconds"]["median"] / 1e3
        nominal, executed = r["nominal_gflop"] / seconds, r["executed_gflop"] / seconds
        share = f"{100 * executed / r['peak_gflops']:.0f} % of {r['peak_gflops']:.0f}"
        rows.append(
            [r["layer"], r["algorithm"], r["direction"], f"{1e3 * seconds:.1f}", f"{nominal:,.0f}", f"{executed:,.0f}", share]
        )
    head = ["layer", "algorithm", "direction", "ms", "GFLOP/s, nominal", "GFLOP/s, executed", "executed, of the FMA peak then"]
    return f"{markdown(head, rows)}\n\n{origin(records)}"


def encode() -> str:
    records = read("cpu_vs_pytorch.jsonl", "cpu_encode")
    if not records:
        return "Not measured yet."
    records = [r for r in records if r["when"] == records[-1]["when"]]
    rows = [
        [r["mode"], f"{r['seconds']:.1f}", f"{r['torch_seconds_extrapolated']:.1f}", spread(r["ratio"]), str(r["pairs"])]
        for r in records
    ]
    head = [
        "PyTorch's mode",
        f"ours, s for {records[0]['images']:,} images",
        "PyTorch, s (extrapolated)",
        "PyTorch / ours",
        "pairs",
    ]
    return f"{markdown(head, rows)}\n\n{origin(records)}"


def accuracy() -> str:
    records = read("cpu_accuracy.jsonl", "cpu_accuracy")
    if not records:
        return "Not measured yet."
    latest = {r["layer"] if "layer" in r else r["network"]: r["when"] for r in records}
    records = [r for r in records if r["when"] == latest[r["layer"] if "layer" in r else r["network"]]]
    rows = []
    for layer in dict.fromkeys(r["layer"] for r in records if "layer" in r):
        of_layer = [r for r in records if r.get("layer") == layer]
        own = next(r["errors"] for r in of_layer if r["algorithm"] == "PyTorch")
        for i, r in enumerate(of_layer):
            ours = r["algorithm"] != "PyTorch"
            cells = [f"{1e7 * e:.2f}" + (f" ({e / o:.1f}x)" if ours else "") for e, o in zip(r["errors"], own, strict=True)]
            rows.append(["" if i else layer, f"**{r['algorithm']}**" if r["chosen"] else r["algorithm"], *cells])
    networks = []
    for r in (r for r in records if "network" in r):
        cells = []
        for mine, his in (r["outputs"], r["gradients"]):
            cells += [f"{mine:.1e} / {his:.1e}", f"{mine / his:.2f}"]
        if "at_own_decisions" in r:
            (mine, his), (flips, his_flips) = r["at_own_decisions"], r["other_decisions"]
            cells += [f"{mine:.1e} / {his:.1e}", f"{mine / his:.2f}", f"{flips:.0f} / {his_flips:.0f}"]
        else:
            cells += ["-", "-", "-"]
        networks.append([r["network"], *cells])
    of_layers = markdown(["layer", "algorithm", "output", "dx", "dw"], rows)
    head = ["network", "outputs: ours / PyTorch", "ratio", "gradients: ours / PyTorch", "ratio"]
    head += ["gradients at each one's own decisions", "ratio", "decisions unlike float64's"]
    of_networks = markdown(head, networks)
    about = f"PyTorch {records[0]['torch']}, {records[0]['when'][:10]}, {records[0]['cpu']}."
    return f"{of_networks}\n\nLayer by layer, in units of 1e-7:\n\n{of_layers}\n\n{about}"


TABLES = {"zoo": zoo, "layers": layers, "encode": encode, "accuracy": accuracy}


def filled(page: str) -> str:
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"docs/cpu.md has no section for the table {name!r}")
        page = pattern.sub(lambda m, t=table: f"{m[1]}{t()}\n{m[2]}", page)  # type: ignore[misc]
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = ROOT / "docs/cpu.md"
    old = page.read_text()
    new = filled(old)
    if options.check:
        return int(new != old)
    page.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
