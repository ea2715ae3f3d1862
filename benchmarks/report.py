"""A one-page Markdown report from the JSON lines of compare_versions.py.

python benchmarks/report.py results.jsonl [more.jsonl] > report.md     with --png FILE a roofline chart too
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Record = dict[str, Any]
DIRECTIONS = {
    "conv2d_forward": "forward", "conv2d_backward_input": "dx", "conv2d_backward_weight": "dw", "conv2d_backward_bias": "db",
    "conv2d_backward": "dx, dw, db", "train_step": "step",
}  # fmt: skip


def read(paths: list[str]) -> list[Record]:
    return [json.loads(line) for path in paths for line in Path(path).read_text().splitlines() if line.strip()]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [" | ".join(header), "|".join("-" * len(header)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if i != 1 else f"|{line}|" for i, line in enumerate(lines))


def cell(record: Record | None) -> str:
    if record is None:
        return ""
    if "wrong" in record:
        return "**wrong**"
    if "refused" in record:
        return "refused"
    if not record.get("measured"):
        return "right"  # the time of an emulated run is nobody's business
    rate = f", {record['gflops'] / 1e3:.2f} TF" if record.get("gflops") else f", {record.get('gbytes_per_s', 0):.0f} GB/s"
    return f"{record['milliseconds']:.3f}{rate}"


def share(record: Record) -> str:
    """Of the time that the device's ceilings allow (roofline.py), or of its fp32 peak where only that is known."""
    if record.get("roofline_ms") and record.get("measured"):
        return f"{100 * record['roofline_ms'] / record['milliseconds']:.0f} %"
    if not record.get("peak_gflops") or not record.get("gflops"):
        return ""
    return f"{100 * record['gflops'] / record['peak_gflops']:.0f} % of fp32"


def least(group: list[Record]) -> str:
    """The estimate for the layer in float32, and what bounds it."""
    known = next((r for r in group if r.get("roofline_ms") and r.get("precision", "fp32") == "fp32"), None)
    return f"{known['roofline_ms']:.3g}, {known['bound']}" if known else ""


def column(record: Record) -> str:
    precision = record.get("precision", "fp32")
    return str(record["version"]) if precision == "fp32" or precision in record["version"] else f"{record['version']} {precision}"


def operations(records: list[Record]) -> str:
    """A row per layer and direction: every version, the estimate, and the fastest fp32 run of PyTorch."""
    ops = [r for r in records if r["kind"] == "op"]
    versions = list(dict.fromkeys(column(r) for r in ops if not r["version"].startswith("torch")))
    keys = list(dict.fromkeys((r["layer"] or r["case"], r["entry"]) for r in ops))
    rows = []
    for key in keys:
        group = [r for r in ops if (r["layer"] or r["case"], r["entry"]) == key]
        own = {column(r): r for r in group}
        timed = [r for r in group if "milliseconds" in r and not r["version"].startswith("torch")]
        timed = [r for r in timed if r.get("precision", "fp32") == "fp32"]  # beside PyTorch's float32
        baselines = [r for r in group if "milliseconds" in r and r["version"].startswith("torch") and r["precision"] == "fp32"]
        baseline = min(baselines, key=lambda r: r["milliseconds"], default=None)
        best = min(timed, key=lambda r: r["milliseconds"], default=None)
        ratio = f"{baseline['milliseconds'] / best['milliseconds']:.2f}" if baseline and best else ""
        row = [key[0], DIRECTIONS.get(key[1], key[1]), *(cell(own.get(v)) for v in versions)]
        rows.append([*row, least(group), share(best) if best else "", cell(baseline), ratio])
    if not rows:
        return ""
    header = ["layer", "direction", *versions, "at least (fp32)", "best fp32: share of it", "torch fp32, fastest", "torch / best"]
    return "## Operations (median ms)\n\n" + table(header, rows)


def steps(records: list[Record]) -> str:
    rows = []
    for r in [r for r in records if r["kind"] == "step"]:
        if "milliseconds" not in r:
            rows.append([column(r), "", cell(r), "", "", "", "", r.get("wrong") or r.get("refused", "")])
            continue
        memory = r.get("planned_bytes") or r.get("peak_bytes") or 0
        epoch = 50_000 / r["images_per_second"]
        estimate = f"{r['roofline_ms']:.3f}" if r.get("roofline_ms") else ""
        if not r.get("measured"):
            rows.append([column(r), str(r["batch"]), "right", estimate, "", "", "", f"{r.get('planned_bytes', 0) / 1e6:.0f} MB"])
            continue
        numbers = [
            f"{r['milliseconds']:.3f}",
            estimate,
            f"{r['p10']:.3f}-{r['p90']:.3f}",
            f"{r['images_per_second']:,.0f}",
            f"{epoch:.2f} s",
        ]
        rows.append([column(r), str(r["batch"]), *numbers, f"{memory / 1e6:.0f} MB" if memory else ""])
    if not rows:
        return ""
    about = ["version", "batch", "ms a step", "at least (plain convolutions)", "p10-p90", "images/s"]
    header = [*about, "50,000 images (extrapolated)", "memory"]
    return "## Training step of the CIFAR-10 autoencoder\n\n" + table(header, rows)


def main(paths: list[str]) -> int:
    png = None
    if "--png" in paths:
        at = paths.index("--png")
        png, paths = Path(paths[at + 1]), paths[:at] + paths[at + 2 :]
    if not paths:
        print(__doc__)
        return 2
    records = read(paths)
    if not records:
        print("no results", file=sys.stderr)
        return 1
    first = records[0]
    parts = ["# Benchmark report"]
    measured = [r for r in records if r.get("measured") or "wrong" in r]
    if any(r.get("measured") for r in records):
        records = measured  # emulated times never stand beside measured ones
    else:
        parts.append(
            "**Nothing here was measured on a GPU: these are emulated runs, a rehearsal of the harness. Their times are left "
            'out; "right" means that the result agreed with the reference, before and after it was run again.**'
        )
    about = [("device", first["device_name"]), ("commit", first["commit"] + (" with changes" if first["uncommitted"] else ""))]
    about += [(k, first[k]) for k in ("toolkit", "driver", "max_sm_mhz", "torch", "when", "command") if first.get(k)]
    parts.append("\n".join(f"- {name}: {value}" for name, value in about))
    wrong = [r for r in records if "wrong" in r]
    verdict = "Every timed result agreed with a float64 reference before, and had the same bits after."
    parts.append(
        verdict
        if not wrong
        else f"**{len(wrong)} results were wrong**: "
        + "; ".join(f"{r['version']} {r['layer'] or r['case']} {r['entry']}: {r['wrong']}" for r in wrong[:8])
    )
    parts += [section for section in (steps(records), operations(records)) if section]
    if png is not None:
        import roofline

        if roofline.chart(records, png):
            parts.append(f"![Measured times under the device's ceilings]({png.name})")
    print("\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
