"""The layers of the CIFAR-10 autoencoder on the cpu kernel set, one by one, against the FMA peak of that moment; and encoding.

Called by cpu_vs_pytorch.py (--layers, --encode). A layer runs as the network runs it, with what is folded in; dx and dw are timed
apart, though the network asks for both at once. FLOPs are given as a plain convolution would spend them (nominal) and as the
algorithm spends them (executed).
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cpu_workers import ROOT, THREADS, Worker, percentiles

sys.path[:0] = [str(ROOT / "tests/support")]
FMA = r"""
#include <chrono>
#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
using vf = float __attribute__((vector_size(W * 4)));
// GFLOP/s of twelve independent chains of multiply-adds, for about `seconds`.
extern "C" double fma_rate(double seconds) {
  vf s[12], a, b;
  for (int k = 0; k < W; ++k) a[k] = 0.999f, b[k] = 1e-3f;
  for (auto& v : s) v = b;
  const auto begin = std::chrono::steady_clock::now();
  double spent = 0, rounds = 0;
  for (; spent < seconds; rounds += 100000) {
    for (int i = 0; i < 100000; ++i) {
#pragma GCC unroll 12
      for (int k = 0; k < 12; ++k) s[k] = s[k] * a + b;  // a chain each: nothing to hoist, and nothing that leaves the registers
    }
    spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  volatile float sink = 0;
  for (auto& v : s) sink = sink + v[0];
  return rounds * 12 * W * 2 / spent / 1e9;
}
"""
# Executed over nominal multiplications of whole tiles; upsampling schemes against the convolution of the large map.
EXECUTED = {
    "winograd4": 36 / 144, "winograd2": 16 / 36, "upsample9": 9 / 36, "upsample25": 25 / 144, "upsample81": 81 / 576,
}  # fmt: skip


class Peak:
    """Multiply-adds that all cores do in registers at this moment, in GFLOP/s; compiled here for the CPU at hand."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        source, library = Path(self.folder.name) / "fma.cpp", Path(self.folder.name) / "fma.so"
        source.write_text(FMA)
        command = [
            "c++",
            "-O3",
            "-march=native",
            "-mprefer-vector-width=512",
            "-shared",
            "-fPIC",
            str(source),
            "-o",
            str(library),
        ]
        subprocess.run(command, check=True, capture_output=True)
        self.function = ctypes.CDLL(str(library)).fma_rate
        self.function.restype, self.function.argtypes = ctypes.c_double, [ctypes.c_double]

    def measure(self, seconds: float = 0.05) -> float:
        rates = [0.0] * THREADS

        def one(i: int) -> None:
            rates[i] = self.function(seconds)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(THREADS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return sum(rates)


def layer_cases(batch: int) -> list[Any]:
    from cases import conv, fused

    def named(case: Any, layer: str) -> Any:
        from dataclasses import replace

        return replace(case, layer=layer)

    return [
        named(fused(conv((batch, 3, 32, 32), 256, 3, pad=1), activation="relu", pool=2), "conv1"),
        named(fused(conv((batch, 256, 16, 16), 128, 3, pad=1), activation="relu", pool=2), "conv2"),
        named(fused(conv((batch, 128, 8, 8), 128, 3, pad=1), activation="relu"), "conv3"),
        named(fused(conv((batch, 128, 16, 16), 256, 3, pad=1), activation="relu", upsample=2), "conv4"),
        named(fused(conv((batch, 256, 32, 32), 3, 3, pad=1), upsample=2), "conv5"),
    ]


def executed(algorithm: str, direction: str, attributes: dict[str, Any]) -> float:
    if algorithm == "columns":
        return 1 / attributes["upsample"] ** 2
    if algorithm == "direct" and direction == "dw":
        return 1 / attributes["pool"] ** 2
    return EXECUTED.get(algorithm, 1.0)


def layers(batch: int, repeat: int) -> list[dict[str, Any]]:
    from warploom import _core as core
    from warploom import models

    model = models.cifar10_autoencoder()
    model.compile(batch_size=batch, version="cpu", device="cpu")
    chosen = {s["node"]: s["algorithm"] for s in model.engine.session.explain(batch, True) if s["entry"] == "conv2d_forward"}
    rng, peak = np.random.default_rng(1), Peak()
    records = []
    for case in layer_cases(batch):
        a = case.attributes
        x = rng.standard_normal(batch * a["C_in"] * a["H"] * a["W"] // a["upsample"] ** 2).astype(np.float32)
        w = (0.05 * rng.standard_normal(9 * a["C_in"] * a["C_out"])).astype(np.float32)
        forward = {"x": x, "w": w, "bias": np.zeros(a["C_out"], np.float32)}
        first = core.call("cpu", "cpu", "conv2d_forward", a, forward)
        given = {"dy": rng.standard_normal(first["y"].size).astype(np.float32), "y": first["y"]}
        if "saved" in first:
            given["saved"] = first["saved"]
        calls = [
            ("forward", "conv2d_forward", forward), ("dx", "conv2d_backward_input", given | {"w": w}),
            ("dw", "conv2d_backward_weight", given | {"x": x}),
        ]  # fmt: skip
        nominal = 2 * batch * a["OH"] * a["OW"] * 9 * a["C_in"] * a["C_out"] / 1e9
        for direction, entry, inputs in calls:
            if case.layer == "conv1" and direction == "dx":
                continue  # nobody asks for the gradient of the images
            before = peak.measure()
            times = core.call("cpu", "cpu", entry, a, inputs, None, False, repeat)["milliseconds"]
            rate = (before + peak.measure()) / 2
            ms = percentiles(list(times))
            algorithm = chosen[case.layer]
            done = nominal * executed(algorithm, direction, a)
            records.append({
                "benchmark": "cpu_layers", "layer": case.layer, "batch": batch, "direction": direction, "algorithm": algorithm,
                "milliseconds": ms, "nominal_gflop": nominal, "executed_gflop": done, "peak_gflops": rate,
            })  # fmt: skip
            print(layer_row(records[-1]), flush=True)
    return records


def layer_row(r: dict[str, Any]) -> str:
    seconds = r["milliseconds"]["median"] / 1e3
    rates = r["nominal_gflop"] / seconds, r["executed_gflop"] / seconds
    cells = [r["layer"], r["algorithm"], r["direction"], f"{1e3 * seconds:.1f}", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}"]
    return f"| {' | '.join(cells)} | {100 * rates[1] / r['peak_gflops']:.0f} % of {r['peak_gflops']:.0f} |"


def encode(total: int, chunk: int, modes: list[str], shared: int) -> list[dict[str, Any]]:
    """All images through the encoder in chunks; on some chunks PyTorch's modes take turns with ours."""
    images = np.random.default_rng(2).random((chunk, 3, 32, 32), dtype=np.float32)
    ours = Worker("warploom", "cifar10_autoencoder", 64, "")
    workers: dict[str, Worker] = {}
    try:
        state = ours.call("state")[1]
        for mode in modes:
            try:
                worker = Worker("torch_encoder", mode, images)
                worker.call("load", state)
                apart = float(np.abs(worker.call("encode")[1] - ours.call("encode", images[:8])[1]).max())
                if mode != "bf16" and not apart <= 1e-4:
                    raise RuntimeError(f"latents differ by {apart:.1e}: nothing is timed")
                worker.call("time")
                workers[mode] = worker
            except RuntimeError as error:
                print(f"encode {mode}: skipped: {error}", file=sys.stderr)
        mine: list[float] = []
        his: dict[str, list[float]] = {mode: [] for mode in workers}
        for i in range(total // chunk):
            mine.append(ours.timed("time_encode", images)[1])
            for mode, worker in workers.items() if i < shared else ():
                his[mode].append(worker.timed("time")[1])
        records = []
        for mode, times in his.items():
            pairs = [b / a for a, b in zip(mine, times, strict=False)]
            records.append({
                "benchmark": "cpu_encode", "images": total, "chunk": chunk, "mode": mode, "seconds": sum(mine) / 1e3,
                "torch_seconds_extrapolated": float(np.mean(times)) * (total // chunk) / 1e3, "ratio": percentiles(pairs),
                "pairs": len(pairs),
            })  # fmt: skip
            q = records[-1]["ratio"]
            ratio = f"{q['median']:.2f} ({q['p10']:.2f}-{q['p90']:.2f})"
            print(f"encode {total} images: {sum(mine) / 1e3:.1f} s; torch {mode}: ratio {ratio}", flush=True)
        return records
    finally:
        for worker in (ours, *workers.values()):
            worker.close()


def torch_encoder(mode: str, images: Any) -> dict[str, Callable[..., Any]]:
    import torch
    from torch.nn import functional as F
    from torch_twins import Cifar10

    torch.set_num_threads(THREADS)
    net = Cifar10().eval()
    x = torch.from_numpy(images)
    if mode != "eager":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)

    def forward(v: Any) -> Any:
        h = F.max_pool2d(F.relu(net["conv1"](v)), 2)
        return F.max_pool2d(F.relu(net["conv2"](h)), 2)

    run = torch.compile(forward) if mode == "compile" else forward

    def encoded(count: int, batch: int = 64) -> list[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            return [run(x[i : i + batch]).float().contiguous() for i in range(0, count, batch)]

    def timed() -> float:
        started = time.perf_counter()
        encoded(len(x))
        return 1e3 * (time.perf_counter() - started)

    def load(state: dict[str, Any]) -> None:
        net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    return {"load": load, "encode": lambda: encoded(64)[0][:8].numpy(), "time": timed}
