"""What a step costs on many workers, on paper: compute and bytes over a link, weak and strong scaling to 1,024 workers.

    python benchmarks/scaling_model.py [--write] [--step-ms cifar10_autoencoder=0.25 ...] [--reduce fast] [--bucket-mb 25]

The step time of one worker comes from --step-ms, else from benchmarks/results: measured on a CPU, and predicted for an H100.
--write: into docs/distributed.md. The gradient goes in buckets of one size, as `--bucket-mb` cuts it: each is reduced and its
parts are collected when it is final and the one before it is done, while backward goes on. Backward is two thirds of a step and
finishes the same bytes in every moment; a worker has one shard. These are assumptions. Each worker has one link of its own. With
"same" a worker's messages go point to point, with "fast" a ring does the same bytes in 2 (W - 1) steps. Weak scaling: the batch
of the step for each worker; strong: a batch of 1,024 samples cut among all. Efficiency: the time of a worker that talks to nobody
over that of one among W.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, STEPS = ROOT / "docs/distributed.md", ROOT / "benchmarks/results/step_model.jsonl"
CPU_STEPS = ROOT / "benchmarks/results/cpu_vs_pytorch.jsonl"
BEGIN, END = "<!-- scaling_model.py: begin -->", "<!-- scaling_model.py: end -->"
WORKERS, STRONG_BATCH = (2, 8, 64, 1024), 1024
UNDER_WAY = 8  # messages of a worker at a time; an assumption
REACHED = 0.8  # of a link's rate; an assumption
BACKWARD = 2 / 3  # of a step; an assumption
BUCKET_MB = 25.0  # as warploom's default


@dataclass(frozen=True)
class Link:
    bytes_per_s: float  # each direction
    message_s: float  # before a message's first byte; an assumption
    source: str


LINKS = {
    "NVLink 4": Link(450e9, 3e-6, "NVIDIA H100 Tensor Core GPU datasheet: 900 GB/s, both directions together"),
    "PCIe 5.0 x16": Link(16 * 32e9 * 128 / 130 / 8, 5e-6, "PCI Express Base Specification 5.0: 32 GT/s a lane, 128b/130b"),
    "PCIe 4.0 x16": Link(16 * 16e9 * 128 / 130 / 8, 5e-6, "PCI Express Base Specification 4.0: 16 GT/s a lane, 128b/130b"),
    "400 Gb/s": Link(400e9 / 8, 8e-6, "IEEE 802.3bs-2017"),
    "200 Gb/s": Link(200e9 / 8, 8e-6, "IEEE 802.3bs-2017"),
    "100 Gb/s": Link(100e9 / 8, 8e-6, "IEEE 802.3ba-2010"),
    "25 Gb/s": Link(25e9 / 8, 8e-6, "IEEE 802.3by-2016"),
}


@dataclass(frozen=True)
class Network:
    name: str
    batch: int
    step_ms: float
    gradient_bytes: int
    origin: str


def gradient_bytes(name: str) -> int:
    """float32, of every trainable parameter."""
    import warploom as wl

    return 4 * int(wl.models.get(name).count_parameters())


def networks(given: dict[str, float]) -> list[Network]:
    """Measured on two cores where nothing is given (cpu_vs_pytorch.py); of the small network also as predicted for an H100."""
    cpu = [json.loads(line) for line in CPU_STEPS.read_text().splitlines()]
    h100 = [json.loads(line) for line in STEPS.read_text().splitlines()]
    found = []
    for name in ("cifar10_autoencoder", "liae_ud"):
        size = gradient_bytes(name)
        row = next(r for r in cpu if (r.get("benchmark"), r.get("model"), r.get("mode")) == ("cpu_vs_pytorch", name, "eager"))
        if name in given:
            found.append(Network(name, row["batch"], given[name], size, "as given"))
            continue
        found.append(Network(name, row["batch"], row["warploom_ms"]["median"], size, "measured, on two cores of an AMD EPYC"))
        of = [
            r
            for r in h100
            if (r.get("model"), r.get("gpu"), r.get("version"), r.get("precision")) == (name, "H100", "v7", "bf16")
        ]
        for row in of:
            found.append(
                Network(name, row["batch"], row["predicted_us"] / 1e3, size, "predicted for an H100, v7 bf16, not measured")
            )
    return found


def exchange_s(size: float, link: Link, workers: int, reduce: str = "same") -> float:
    """Reduce-scatter and all-gather: each sends and receives (W - 1) / W of the gradient, twice."""
    if workers == 1:
        return 0.0
    data = 2 * size * (workers - 1) / workers / (link.bytes_per_s * REACHED)
    # Each of a ring's messages waits for the one before it; of those point to point, UNDER_WAY go at a time.
    messages = 2 * (workers - 1) if reduce == "fast" else 2 + 2 * (workers - 2) / UNDER_WAY
    return data + messages * link.message_s


def efficiency(
    network: Network, link: Link, workers: int, strong: bool, reduce: str = "same", bucket_mb: float = BUCKET_MB
) -> float:
    compute = network.step_ms / 1e3
    if strong:
        compute *= STRONG_BATCH / network.batch / workers
    buckets = math.ceil(network.gradient_bytes / (bucket_mb * 2**20)) if bucket_mb else 1
    each, sent = exchange_s(network.gradient_bytes / buckets, link, workers, reduce), 0.0
    for k in range(buckets):
        final = compute * (1 - BACKWARD * (1 - (k + 1) / buckets))
        sent = max(sent, final) + each
    return compute / sent


def table(found: list[Network], reduce: str = "same", bucket_mb: float = BUCKET_MB) -> str:
    lines = []
    for network in found:
        lines += [
            f"`{network.name}`: {network.gradient_bytes / 1e6:.1f} MB of gradients; a step of {network.batch} samples in "
            f"{network.step_ms:.2f} ms ({network.origin}).",
            "",
            "| link | exchange, 8 | "
            + " | ".join(f"weak, {w:,}" for w in WORKERS)
            + " | "
            + " | ".join(f"strong, {w:,}" for w in WORKERS)
            + " |",
            "|-|-|" + "-|" * (2 * len(WORKERS)),
        ]
        for name, link in LINKS.items():
            cells = [f"{100 * efficiency(network, link, w, s, reduce, bucket_mb):.0f} %" for s in (False, True) for w in WORKERS]
            exchange = 1e3 * exchange_s(network.gradient_bytes, link, 8, reduce)
            lines.append(f"| {name} | {exchange:.2f} ms | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def written(text: str, made: str) -> str:
    return re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: f"{BEGIN}\n\n{made}\n\n{END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", nargs="*", default=[], metavar="NETWORK=MS")
    parser.add_argument("--reduce", choices=("same", "fast"), default="same")
    parser.add_argument("--bucket-mb", type=float, default=BUCKET_MB, help="0: one piece, after backward")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    steps = {name: float(value) for name, _, value in (text.partition("=") for text in options.step_ms)}
    made = table(networks(steps), options.reduce, options.bucket_mb)
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), made))
    print(made)
    for name, link in LINKS.items():
        print(f"{name}: {link.bytes_per_s / 1e9:.1f} GB/s, {1e6 * link.message_s:.0f} us a message ({link.source})")
