"""The two worker processes of cpu_vs_pytorch.py: our network and its PyTorch twin, by name.

A worker answers calls one at a time through a pipe, so that neither's threads spin beside the other's. The twins, and the losses,
are those of tests/support/torch_twins.py; the optimizer is the specification's, as PyTorch has it (its fused form, the fastest),
except for liae_ud: PyTorch has no AdaBelief, so both use Adam.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support")]
MODES = ("eager", "channels_last", "compile", "bf16")
BATCHES = {"cifar10_autoencoder": 64, "unet_small": 32, "unet_large": 8, "gray_autoencoder": 16, "dsresnet": 8, "liae_ud": 4}
THREADS = len(os.sched_getaffinity(0))
# Seconds before every timed call. PyTorch's OpenMP workers spin for some milliseconds after a step, on the cores that the other
# worker's next step would need: that is no part of either's time. With the rest, each takes as long as it takes alone.
REST = 0.03
Calls = dict[str, Callable[..., Any]]


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def percentiles(values: list[float]) -> dict[str, float]:
    return dict(zip(("p10", "median", "p90"), (round(float(np.percentile(values, p)), 3) for p in (10, 50, 90)), strict=True))


def optimizer_of(name: str) -> tuple[str, dict[str, Any]]:
    from warploom import models

    kind, arguments = models.objective(name).optimizer
    if kind == "AdaBelief":
        return "Adam", {"lr": arguments["lr"]}
    return kind, {k: v for k, v in arguments.items() if k != "clip_norm"}


def batch_of(name: str, batch: int, shapes: list[tuple[int, ...]], targets: list[tuple[int, ...]], classes: int) -> Any:
    """Inputs and targets, the same for both workers."""
    from warploom import models

    rng = np.random.default_rng(5)
    x = [rng.random((batch, *s), dtype=np.float32) for s in shapes]
    kind = models.objective(name).data
    if kind == "images":
        return x, None
    if kind == "segmentation":
        return x, [rng.integers(0, classes, (batch, *targets[0]))]
    y = [rng.random((batch, *s), dtype=np.float32) for s in targets]
    if kind == "composites":
        y[1] = (y[1] > 0.5).astype(np.float32)
    return x, y


def described(name: str) -> tuple[Any, Any]:
    from warploom import models

    return models.get(name), models.objective(name)


def serve_warploom(name: str, batch: int, _: str) -> Calls:
    import warploom as wl

    before = memory("VmRSS")
    model, objective = described(name)
    kind, arguments = optimizer_of(name)
    optimizer = getattr(wl.optim, kind)(**arguments)
    model.compile(optimizer, objective.make_losses(), version="cpu", device="cpu", batch_size=batch, seed=3)
    shapes = [t.shape for t in model.inputs]

    def time_encode(images: Any) -> float:
        started = time.perf_counter()
        model.encode(images)
        return 1e3 * (time.perf_counter() - started)

    x, y = batch_of(name, batch, shapes, model.engine.session.target_shapes(), model.outputs[0].shape[0])
    return {
        "state": model.state_dict,
        "gradients": lambda: model.gradients(x, y),
        "step": lambda: model.train_step(x, y)["loss"],
        "shapes": lambda: (shapes, model.engine.session.target_shapes(), model.outputs[0].shape[0]),
        "planned": lambda: model.memory(batch)["total"],
        "growth": lambda: memory("VmHWM") - before,
        "encode": model.encode,
        "time_encode": time_encode,
    }


def twin_of(name: str) -> tuple[Any, Any]:
    import torch_twins as twins

    make, loss = twins.of_full_size()[name]
    return make(), loss


def serve_torch(name: str, batch: int, mode: str, shapes: Any) -> Calls:
    import torch

    torch.set_num_threads(THREADS)
    torch.ones(8, 8) @ torch.ones(8, 8)  # the libraries' own memory is not the step's
    before = memory("VmRSS")
    net, loss_of = twin_of(name)
    arrays, targets = batch_of(name, batch, *shapes)
    x = [torch.from_numpy(a) for a in arrays]
    if mode != "eager":
        net = net.to(memory_format=torch.channels_last)
        x = [a.contiguous(memory_format=torch.channels_last) for a in x]
    y = x if targets is None else [torch.from_numpy(a) for a in targets]
    kind, arguments = optimizer_of(name)
    optimizer = getattr(torch.optim, kind)(net.parameters(), fused=True, **arguments)

    def forward(*images: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            outputs = net(*images)
        return loss_of([o.float() for o in outputs], y)

    run = torch.compile(forward) if mode == "compile" else forward

    def backward() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = run(*x)
        loss.backward()
        return float(loss.detach())

    def step() -> float:
        loss = backward()
        optimizer.step()
        return loss

    def gradients() -> dict[str, Any]:
        kept = {k: v.clone() for k, v in net.named_buffers()}
        backward()
        for k, v in net.named_buffers():  # running statistics: asking changes nothing
            v.copy_(kept[k])
        return {k: p.grad.contiguous().numpy() for k, p in net.named_parameters()}

    def load(state: dict[str, Any]) -> None:
        missing, extra = net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
        if extra or not all(k.endswith("num_batches_tracked") for k in missing):
            raise RuntimeError(f"the twin of {name} has other parameters: {missing}, {extra}")

    return {"load": load, "gradients": gradients, "step": step, "growth": lambda: memory("VmHWM") - before}


def serve(kind: str, arguments: tuple[Any, ...], pipe: Any) -> None:
    try:
        if kind == "torch_encoder":
            from cpu_layers import torch_encoder

            calls = torch_encoder(*arguments)
        else:
            calls = (serve_warploom if kind == "warploom" else serve_torch)(*arguments)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            name, values = request
            started = time.perf_counter()
            answer = calls[name](*values)
            pipe.send((1e3 * (time.perf_counter() - started), answer))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


class Worker:
    """A process that answers calls with (milliseconds, result)."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        context = mp.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(kind, arguments, other), daemon=True)
        self.process.start()
        other.close()
        self.receive()

    def receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise RuntimeError("the process died, most likely for want of memory") from None
        if isinstance(answer, str) and answer != "ready":
            raise RuntimeError(answer)
        return answer

    def timed(self, name: str, *arguments: Any) -> tuple[float, Any]:
        time.sleep(REST)
        return self.call(name, *arguments)

    def call(self, name: str, *arguments: Any) -> tuple[float, Any]:
        self.pipe.send((name, arguments))
        return self.receive()  # type: ignore[no-any-return]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(10)
