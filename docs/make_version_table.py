"""Writes the table of versions in README.md: what each is, from kernels/versions.def; how fast, from benchmarks/results alone.

python docs/make_version_table.py            rewrites the table
python docs/make_version_table.py --check    fails where it is out of date

A time counts if its record says that it was measured (never on the emulator), that the results agreed with a reference before and
after, and on which device; the newest record wins. What no record tells is "not measured", and what the model of time expects.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "README.md", ROOT / "benchmarks/results"
BEGIN, END = "<!-- table: made by docs/make_version_table.py -->", "<!-- end of the table -->"
BATCH = 64
NOTHING, MODELLED = "not measured", "H100"
Record = dict[str, Any]


def read(folder: Path) -> list[Record]:
    """Every record, oldest first."""
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            if line.strip():
                records.append(json.loads(line) | {"file": path.name})
    return sorted(records, key=lambda r: str(r.get("when", "")))


def versions() -> list[tuple[str, str, str, str]]:
    """(name, summary, layout, devices): the summary from versions.def, the rest from the version's table.cu."""
    found = re.findall(r'^WL_VERSION\((\w+),\s*(\w+),\s*"(.*)"\)', (ROOT / "kernels/versions.def").read_text(), re.MULTILINE)
    tables = {name: (ROOT / "kernels" / folder / "table.cu").read_text() for name, folder, _ in found}
    rows = []
    for name, _, summary in found:
        only = re.search(r"compute_capability = (\d)(\d);", tables[name])
        gpus = f"cuda (compute capability {only[1]}.{only[2]})" if only else "cuda"
        rows.append((name, summary, layout_of(name, tables), f"{gpus}, emulated"))
    host = "the host's own kernels: vector extensions, all cores, fused layers, fewer products by algebra"
    return [*rows, ("cpu", host, "NHWC", "cpu")]


def layout_of(name: str, tables: dict[str, str]) -> str:
    """The layout that a version's table sets, or that of the table it starts from."""
    own = re.search(r"\.layout = Layout::(\w+);", tables[name])
    if own:
        return own[1].upper()
    base = re.search(r"= (\w+)::table\(\);", tables[name])
    assert base, f"the table of {name} sets no layout and starts from no version's table"
    return layout_of(base[1], tables)


def is_step(r: Record) -> bool:
    return (
        r.get("kind") == "step" and bool(r.get("measured")) and bool(r.get("verified_before")) and bool(r.get("verified_after"))
        and r.get("batch") == BATCH and "milliseconds" in r and str(r.get("device", "")).startswith("cuda")
    )  # fmt: skip


def on_gpus(records: list[Record]) -> dict[str, dict[str, str]]:
    """GPU -> version -> its step's time, by precision."""
    newest: dict[tuple[str, str, str], Record] = {}
    for r in records:
        if is_step(r) and not str(r["version"]).startswith("torch"):
            newest[str(r["device_name"]), str(r["version"]), str(r.get("precision", "fp32"))] = r
    found: dict[str, dict[str, list[str]]] = {}
    for (gpu, version, precision), r in newest.items():
        cell = f"{r['milliseconds']:.2f} ms" + ("" if precision == "fp32" else f" ({precision})")
        found.setdefault(gpu, {}).setdefault(version, []).append(cell)
    return {gpu: {version: ", ".join(cells) for version, cells in rows.items()} for gpu, rows in found.items()}


def on_cpu(records: list[Record]) -> str:
    """The cpu kernel set's step, and how it compares with PyTorch's fastest float32 mode, and its bf16, in the same run."""
    ours = {"benchmark": "cpu_vs_pytorch", "model": "cifar10_autoencoder", "batch": BATCH}
    own = [r for r in records if all(r.get(k) == v for k, v in ours.items()) and "ratio" in r]
    if not own:
        return NOTHING
    run = [r for r in own if r["when"] == own[-1]["when"]]
    best = min((r for r in run if r["mode"] != "bf16"), key=lambda r: r["ratio"]["median"], default=None)
    if best is None:
        return NOTHING
    time, ratio = best["warploom_ms"]["median"], best["ratio"]["median"]
    bf16 = "".join(f" and {r['ratio']['median']:.1f} times as its bf16 autocast" for r in run if r["mode"] == "bf16")
    return f"{time:.0f} ms: {ratio:.1f} times as fast as PyTorch's {best['mode']} mode{bf16}"


def expected(records: list[Record], version: str) -> str:
    """What benchmarks/step_model.py says of the version's fastest precision on an H100; "" where it says nothing."""
    of = [r for r in records if r.get("gpu") == MODELLED and "predicted_us" in r and r.get("model") == "cifar10_autoencoder"]
    of = [r for r in of if r["version"] == version and r["batch"] == BATCH]
    best = min(of, key=lambda r: r["predicted_us"], default=None)
    precision = f", {best['precision']}" if best and best["precision"] != "fp32" else ""
    return f"; {best['predicted_us'] / 1e3:.2f} ms expected ({MODELLED}{precision})" if best else ""


def table(records: list[Record]) -> str:
    gpus = on_gpus(records)
    columns = list(gpus) or ["a GPU"]
    heads = ["version", "what it is", "layout", "runs on", *(f"training step on {gpu}" for gpu in columns), "on a CPU"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "-|" * len(heads)]
    for name, summary, layout, devices in versions():
        times = [gpus.get(gpu, {}).get(name, NOTHING + expected(records, name)) if name != "cpu" else "-" for gpu in columns]
        cells = [f"`{name}`", summary, layout, devices, *times, on_cpu(records) if name == "cpu" else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        f"Medians of the CIFAR-10 autoencoder's whole training step, batch {BATCH}, float32 unless said otherwise, "
        "from `benchmarks/results`. What is expected comes from [a model](docs/gpu_model.md), not from a GPU."
    )
    return "\n".join([*lines, "", note])


def page(folder: Path = RESULTS) -> str:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    assert begin, f"README.md lacks the line {BEGIN}"
    return f"{before}{BEGIN}\n\n{table(read(folder))}\n\n{END}{rest.partition(END)[2]}"


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        return 0 if made == PAGE.read_text() else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
