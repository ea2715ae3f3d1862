"""A training step of the CIFAR-10 autoencoder on the cpu kernel set and in PyTorch, alternating step by step in one run.

    python benchmarks/cpu_vs_pytorch.py [--batch 64] [--pairs 15] [--modes eager,channels_last,compile,bf16] [--out results.jsonl]

Each side lives in a process of its own, so that neither's threads spin beside the other's; the parent lets them step in turn and
waits for each. Before the timing losses and all gradients are compared, afterwards the losses of the trained weights. What is
reported is the median of pairwise ratios: on a shared machine absolute times are noise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import about_run

LR = 1e-3
MODES = ("eager", "channels_last", "compile", "bf16")
TOLERANCE = {"loss": 1e-5, "gradient": 1e-4}  # relative; conv1's gradient moves by 1e-5 where a maximum is a near tie


def images(batch: int) -> Any:
    return np.random.default_rng(5).random((batch, 3, 32, 32), dtype=np.float32)


def warploom_side(batch: int, _: str) -> dict[str, Callable[..., Any]]:
    import warploom as wl

    model = wl.models.cifar10_autoencoder()
    model.compile(optimizer=wl.optim.SGD(lr=LR), version="cpu", device="cpu", batch_size=batch, seed=3)
    x = images(batch)
    return {
        "state": model.state_dict,
        "gradients": lambda: model.gradients(x),
        "step": lambda: model.train_step(x)["loss"],
        "memory": lambda: model.memory(batch)["total"],
    }


def torch_side(batch: int, mode: str) -> dict[str, Callable[..., Any]]:
    import torch
    import torch.nn.functional as F

    x = torch.from_numpy(images(batch))
    net = torch.nn.Module()
    for name, c_in, c_out in [
        ("conv1", 3, 256),
        ("conv2", 256, 128),
        ("conv3", 128, 128),
        ("conv4", 128, 256),
        ("conv5", 256, 3),
    ]:
        net.add_module(name, torch.nn.Conv2d(c_in, c_out, 3, padding=1))
    layers = dict(net.named_children())

    def loss_of(x: Any) -> Any:
        h = F.max_pool2d(F.relu(layers["conv1"](x)), 2)
        h = F.max_pool2d(F.relu(layers["conv2"](h)), 2)
        h = F.interpolate(F.relu(layers["conv3"](h)), scale_factor=2)
        h = F.interpolate(F.relu(layers["conv4"](h)), scale_factor=2)
        return F.mse_loss(layers["conv5"](h).float(), x)

    if mode != "eager":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(loss_of) if mode == "compile" else loss_of
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def backward() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            loss = forward(x)
        loss.backward()
        return float(loss.detach())

    def step() -> float:
        loss = backward()
        optimizer.step()
        return loss

    def gradients() -> dict[str, Any]:
        backward()
        return {name: p.grad.contiguous().numpy() for name, p in net.named_parameters()}

    def load(state: dict[str, Any]) -> None:
        net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    return {"load": load, "gradients": gradients, "step": step}


def serve(side: str, batch: int, mode: str, pipe: Any) -> None:
    try:
        calls = (warploom_side if side == "warploom" else torch_side)(batch, mode)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            name, arguments = request
            started = time.perf_counter()
            answer = calls[name](*arguments)
            pipe.send((1e3 * (time.perf_counter() - started), answer))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


class Side:
    def __init__(self, side: str, batch: int, mode: str = "") -> None:
        context = mp.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(side, batch, mode, other), daemon=True)
        self.process.start()
        self.receive()

    def receive(self) -> Any:
        answer = self.pipe.recv()
        if isinstance(answer, str) and answer != "ready":
            raise RuntimeError(answer)
        return answer

    def call(self, name: str, *arguments: Any) -> tuple[float, Any]:
        self.pipe.send((name, arguments))
        return self.receive()  # type: ignore[no-any-return]

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join(10)


def percentiles(values: list[float]) -> dict[str, float]:
    return dict(zip(("p10", "median", "p90"), (round(float(np.percentile(values, p)), 3) for p in (10, 50, 90)), strict=True))


def compare(batch: int, mode: str, pairs: int) -> dict[str, Any]:
    ours, theirs = Side("warploom", batch), Side("torch", batch, mode)
    try:
        theirs.call("load", ours.call("state")[1])
        mine, his = ours.call("gradients")[1], theirs.call("gradients")[1]
        worst = max(float(np.linalg.norm(mine[k] - his[k]) / np.linalg.norm(his[k])) for k in mine)
        if mode != "bf16" and not worst <= TOLERANCE["gradient"]:
            raise RuntimeError(f"gradients differ by {worst:.2e} before timing: nothing is timed")
        for side in (ours, theirs):  # warm up; both have made the same number of steps all along
            for _ in range(3):
                side.call("step")
        times: list[tuple[float, float]] = []
        losses = (0.0, 0.0)
        for _ in range(pairs):
            (a, loss_a), (b, loss_b) = ours.call("step"), theirs.call("step")
            times.append((a, b))
            losses = (loss_a, loss_b)
        apart = abs(losses[0] / losses[1] - 1)
        if mode != "bf16" and not apart <= TOLERANCE["loss"]:
            raise RuntimeError(f"losses differ by {apart:.2e} after timing: the times are worth nothing")
        return {
            "benchmark": "cpu_vs_pytorch", "model": "cifar10_autoencoder", "batch": batch, "mode": mode, "pairs": pairs,
            "warploom_ms": percentiles([a for a, _ in times]), "torch_ms": percentiles([b for _, b in times]),
            "ratio": percentiles([b / a for a, b in times]), "gradient_difference": worst, "loss_difference": apart,
            "planned_bytes": ours.call("memory")[1],
        }  # fmt: skip
    finally:
        ours.close()
        theirs.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    about = about_run(Path(__file__).resolve().parent.parent)
    records = []
    for batch in arguments.batch:
        for mode in arguments.modes.split(","):
            if mode not in MODES:
                parser.error(f"unknown mode {mode!r}; expected some of {', '.join(MODES)}")
            try:
                record = compare(batch, mode, arguments.pairs)
            except RuntimeError as error:
                print(f"batch {batch} {mode}: {error}", file=sys.stderr)
                return 1
            records.append(record | about)
            ratio, mine, his = record["ratio"], record["warploom_ms"], record["torch_ms"]
            print(
                f"batch {batch:4} torch {mode:14} {his['median']:8.1f} ms  warploom {mine['median']:8.1f} ms  "
                f"ratio {ratio['median']:.2f} (p10 {ratio['p10']:.2f}, p90 {ratio['p90']:.2f})", flush=True
            )  # fmt: skip
        fastest = min((r for r in records if r["batch"] == batch), key=lambda r: r["torch_ms"]["median"])
        print(f"batch {batch:4} against PyTorch's fastest mode here ({fastest['mode']}): {fastest['ratio']['median']:.2f}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("".join(json.dumps(r) + "\n" for r in records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
