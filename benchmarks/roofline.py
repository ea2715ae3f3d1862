"""How fast a layer could be: its arithmetic and its bytes against what a GPU can do, and charts of how close a version comes.

    python benchmarks/roofline.py --gpu H100 --batch 64              the CIFAR-10 autoencoder's layers, estimated: needs no GPU
    python benchmarks/roofline.py results.jsonl --png roofline.png   measured times under the ceilings of their GPU

An estimate is the larger of two times: multiplications and additions of the plain definition at the peak of the precision's
units, and bytes that must move at least once at the peak of the memory. A version that folds an upsample or saves
multiplications by algebra can beat the first; nothing beats the second but a cache. Bytes with the workspace count what the
version itself writes and reads back (v4's columns), as if it all left the chip.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support")]

Record = dict[str, Any]


@dataclass(frozen=True)
class Ceilings:
    """Peaks of one GPU as its maker states them, dense: GFLOP/s by precision (0: it has no such units) and GB/s."""

    fp32: float
    tf32: float
    half: float  # bf16 and fp16 products, summed in fp32
    bandwidth: float
    bf16: bool = True  # Turing's tensor cores take fp16 only

    def gflops(self, precision: str) -> float:
        if precision == "tf32":
            return self.tf32
        if precision == "bf16":
            return self.half if self.bf16 else 0.0
        return self.half if precision == "fp16" else self.fp32


# Looked for in the device's name, in this order. From the makers' data sheets; boost clocks.
GPUS = {
    "B200": Ceilings(75_000, 1_100_000, 2_250_000, 8_000),
    "H200": Ceilings(67_000, 494_700, 989_400, 4_800),
    "H100 PCIe": Ceilings(51_200, 378_000, 756_000, 2_039),
    "H100 NVL": Ceilings(60_000, 417_500, 835_500, 3_938),
    "H100": Ceilings(67_000, 494_700, 989_400, 3_352),
    "A100-SXM4-40GB": Ceilings(19_500, 156_000, 312_000, 1_555),
    "A100-PCIE-40GB": Ceilings(19_500, 156_000, 312_000, 1_555),
    "A100": Ceilings(19_500, 156_000, 312_000, 1_935),
    "RTX 4090": Ceilings(82_600, 82_600, 165_200, 1_008),
    "L4": Ceilings(30_300, 60_000, 121_000, 300),
    "T4": Ceilings(8_100, 0, 65_000, 320, bf16=False),
}


def ceilings(name: str) -> Ceilings | None:
    """Of the GPU with that name, or one that contains it."""
    return next((c for known, c in GPUS.items() if re.search(rf"\b{known}\b", name)), None)


def measured_ceilings(device: str) -> Ceilings | None:
    """What PyTorch reaches here with large matrix products and copies; None where there is no PyTorch for the device."""
    try:
        import torch
        from pytorch_baseline import PyTorchBaseline, precision

        baseline = PyTorchBaseline(device)
    except ImportError:
        return None
    size = 8192 if baseline.on_gpu else 1536
    found = {}
    for name in ("fp32", "tf32", "bf16") if baseline.on_gpu else ("fp32",):
        a = torch.rand(size, size, device=baseline.device, dtype=torch.bfloat16 if name == "bf16" else torch.float32)
        with precision(name):
            found[name] = 2 * size**3 / min(baseline.time(lambda a=a: a @ a, 5, cold=False)) / 1e6
    source = torch.empty(1 << 28 if baseline.on_gpu else 1 << 25, device=baseline.device)
    target = torch.empty_like(source)
    copied = 2 * 4 * source.numel() / min(baseline.time(lambda: target.copy_(source), 5, cold=False)) / 1e6
    return Ceilings(found["fp32"], found.get("tf32", 0.0), found.get("bf16", 0.0), copied)


def estimate(limits: Ceilings, flops: float, moved: float, precision: str = "fp32", workspace: float = 0.0) -> Record:
    """moved: bytes that must be read or written once; workspace: bytes that the version writes and reads back besides."""
    peak = limits.gflops(precision)
    arithmetic = flops / peak / 1e6 if peak else 0.0  # ms
    memory = moved / limits.bandwidth / 1e6
    return {
        "intensity": flops / moved if moved else 0.0,
        "roofline_ms": max(arithmetic, memory),
        "roofline_ms_with_workspace": max(arithmetic, (moved + 2 * workspace) / limits.bandwidth / 1e6),
        "bound": "arithmetic" if arithmetic > memory else "memory",
        "ceiling_gflops": peak,
        "ceiling_gbytes_per_s": limits.bandwidth,
    }


# ---- Estimates without a GPU ----


def table(limits: Ceilings, batch: int, precision: str) -> str:
    """Every layer and direction of the CIFAR-10 autoencoder."""
    import cases

    lines = ["| layer | direction | GFLOP | MB | FLOP/byte | bound by | ms at least |", "|-|-|-|-|-|-|-|"]
    total = 0.0
    for case in cases.CIFAR10:
        case = cases.rebatched(case, batch) if batch else case
        if case.family != "conv2d" or case.attributes["activation"] != "none":
            continue  # what is fused moves no more
        for entry in ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight"):
            e = estimate(limits, case.flops(entry), 4 * case.elements(entry), precision)
            numbers = f"{case.flops(entry) / 1e9:.2f} | {4 * case.elements(entry) / 1e6:.1f} | {e['intensity']:.0f}"
            lines.append(f"| {case.layer} | {entry} | {numbers} | {e['bound']} | {e['roofline_ms']:.4f} |")
            total += e["roofline_ms"] if (case.layer, entry) != ("cifar10.conv1", "conv2d_backward_input") else 0.0
    return "\n".join([*lines, "", f"All of them that a training step needs: {total:.3f} ms."])


# ---- Bilinear schemes on paper ----


def scheme_table(batch: int) -> str:
    """What v6's schemes need for the layers they take, beside the direct convolution, at the peaks of two GPUs.

    A scheme's passes follow each other: its time is multiply-adds at the peak plus bytes at the memory's peak, V and M written
    and read once and counted as if they left the chip (on an H100 the chunks stay in its L2). Direct: the larger of the two.
    """
    import cases

    h100, t4 = GPUS["H100"], GPUS["T4"]
    lines = [
        "| layer | direction | scheme | GFLOP | of direct | MB | of direct | H100, us | of direct | T4, us | of direct |",
        "|-|-|-|-|-|-|-|-|-|-|-|",
    ]
    known = {"winograd4": (36, 4, 1), "winograd2": (16, 2, 1), "upsample25": (25, 4, 4), "upsample9": (9, 2, 4)}
    for case in cases.CIFAR10:
        case = cases.rebatched(case, batch) if batch else case
        a = case.attributes
        if case.family != "conv2d" or a["activation"] != "none":
            continue
        up = case.layer in ("cifar10.conv4", "cifar10.conv5")
        for name in ("upsample25", "upsample9") if up else ("winograd4", "winograd2"):
            positions, side, fewer = known[name]
            tiles = a["N"] * -(-a["OH"] // side) * -(-a["OW"] // side)
            c, n = -(-a["C_in"] // 4) * 4, -(-a["C_out"] // 4) * 4
            x, y = a["N"] * a["C_in"] * a["H"] * a["W"] / fewer, a["N"] * a["C_out"] * a["OH"] * a["OW"]
            w = positions * c * n
            v, m = positions * tiles * c, positions * tiles * n
            moved = {
                "forward": x + 2 * (v + m + w) + y,
                "backward_input": (2 * m + 2 * w + v * (1 + 49 / 25) + x) if up else y + 2 * (v + m + w) + x,
                "backward_weight": x + y + 2 * (v + m + w),
            }
            for direction, floats in moved.items():
                if case.layer == "cifar10.conv1" and direction == "backward_input":
                    continue
                flops = case.flops(f"conv2d_{direction}")
                direct, own = (
                    flops / (2.25 if up else 1),
                    2.0 * positions * tiles * c * n,
                )  # the engine's own four 2x2 convolutions
                bytes_direct, cells = 4 * (x + y + w / positions * 9), []
                for gpu in (h100, t4):
                    cells.append(1e3 * (own / gpu.fp32 + 4 * floats / gpu.bandwidth) / 1e6)
                    cells.append(1e3 * estimate(gpu, direct, bytes_direct)["roofline_ms"])
                lines.append(
                    f"| {case.layer[8:]} | {direction.replace('_', ' ')} | {name} | {own / 1e9:.2f} | {direct / 1e9:.2f} | "
                    f"{4 * floats / 1e6:.0f} | {bytes_direct / 1e6:.0f} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |"
                )
    return "\n".join(lines)


# ---- Charts of measured results ----


def chart(records: list[Record], to: Path) -> bool:
    """Measured GFLOP/s over FLOP per byte, one mark a version and layer, under the ceilings. False where nothing was measured."""
    ops = [r for r in records if r.get("kind") == "op" and r.get("measured") and r.get("gflops") and r.get("intensity")]
    own = [r for r in ops if not r["version"].startswith("torch")]
    if not own:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 6))
    low = min(r["intensity"] for r in ops) / 2
    high = max(r["intensity"] for r in ops) * 2
    lines = {(r["ceiling_gflops"], r["ceiling_gbytes_per_s"], r.get("precision", "fp32")) for r in own if r["ceiling_gflops"]}
    for peak, bandwidth, name in sorted(lines):
        ridge = peak / bandwidth
        axes.plot([low, ridge, max(high, ridge)], [low * bandwidth, peak, peak], color="0.4", linewidth=1)
        said = f"{name}: {peak / 1e3:,.0f} TFLOP/s, {bandwidth:,.0f} GB/s"
        axes.annotate(said, (high, peak), ha="right", va="bottom", fontsize=8)
    versions = list(dict.fromkeys((r["version"], r.get("precision", "fp32")) for r in ops))
    for i, (version, precision) in enumerate(versions):
        rows = [r for r in ops if (r["version"], r.get("precision", "fp32")) == (version, precision)]
        theirs = version.startswith("torch")
        axes.plot(
            [r["intensity"] for r in rows], [r["gflops"] for r in rows], "os^Dv<>P*X"[i % 10], color=f"C{i % 10}", markersize=5,
            fillstyle="none" if theirs else "full", label=version if theirs else f"{version} {precision}",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte that must move", ylabel="GFLOP/s", title=own[0]["device_name"])
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(to, dpi=120, metadata={"Software": None})
    plt.close(figure)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="JSON lines of compare_versions.py")
    parser.add_argument("--png", type=Path, help="the chart")
    parser.add_argument("--gpu", choices=list(GPUS), help="estimate the CIFAR-10 autoencoder's layers on this GPU instead")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--schemes", action="store_true", help="v6's bilinear schemes beside direct convolution, on paper")
    options = parser.parse_args()
    if options.schemes:
        print(scheme_table(options.batch))
        return 0
    if options.gpu:
        if not GPUS[options.gpu].gflops(options.precision):
            print(f"a {options.gpu} has no units for {options.precision}", file=sys.stderr)
            return 2
        print(f"{options.gpu}, {options.precision}, batch {options.batch}: estimated from data sheets, not measured\n")
        print(table(GPUS[options.gpu], options.batch, options.precision))
        return 0
    if not options.results or not options.png:
        parser.error("give result files and --png, or --gpu")
    records = [json.loads(line) for path in options.results for line in path.read_text().splitlines() if line.strip()]
    if not chart(records, options.png):
        print("these results hold nothing that was measured with a known ceiling: no chart was drawn", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
