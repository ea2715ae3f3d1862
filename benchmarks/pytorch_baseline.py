"""The same operations and the same training step in PyTorch, timed the same way: what compare_versions.py stands beside.

Every way of running it that a user would try is timed and reported by name: layout, precision, eager, CUDA graph, torch.compile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import oracle
import torch
import torch.nn.functional as F
from cases import Case
from harness import make_inputs
from numpy.typing import NDArray

Array = NDArray[Any]
CAPTURED = ("graph", "whole", "tuned")  # the whole step, optimizer included, is one CUDA graph
MODES = {"compile": "max-autotune", "whole": "default", "tuned": "max-autotune-no-cudagraphs"}  # of torch.compile
FLUSH_BYTES = 192 << 20  # more than any GPU's L2 cache


def spread(milliseconds: list[float]) -> dict[str, Any]:
    p10, median, p90 = (float(np.percentile(milliseconds, p)) for p in (10, 50, 90))
    return {"milliseconds": median, "p10": p10, "p90": p90, "repeats": len(milliseconds)}


@contextmanager
def precision(name: str) -> Iterator[None]:
    """fp32 means fp32: no TF32 unless it is asked for."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class PyTorchBaseline:
    def __init__(self, device: str, ways: Sequence[str] = ("eager", "graph")) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ImportError("this torch sees no GPU")
        self.device = torch.device(device)
        self.on_gpu = self.device.type == "cuda"
        self.ways = [w for w in ways if w not in CAPTURED or self.on_gpu]
        self.precisions = ["fp32", "tf32", "bf16"] if self.on_gpu else ["fp32"]
        self.note = {"device": device, "measured": True, "note": "", "torch_device": self.name()}
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=self.device) if self.on_gpu else None
        torch.backends.cudnn.benchmark = True

    def name(self) -> str:
        return str(torch.cuda.get_device_name(self.device)) if self.on_gpu else f"{torch.get_num_threads()} threads"

    def time(self, work: Callable[[], Any], repeat: int, cold: bool = True) -> list[float]:
        for _ in range(3):
            work()
        times = []
        for _ in range(repeat):
            if not self.on_gpu:
                start = time.perf_counter()
                work()
                times.append((time.perf_counter() - start) * 1e3)
                continue
            if cold and self.flush is not None:
                self.flush.zero_()
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            work()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last))
        return times

    # ---- Operations ----

    def operations(self, case: Case, entry: str, repeat: int) -> Iterator[dict[str, Any]]:
        """One record per layout and precision; nothing for operations that PyTorch does not have alone."""
        a = case.attributes
        if case.family != "conv2d" or a["upsample"] > 1 or entry == "conv2d_backward_bias":
            return
        if entry != "conv2d_forward" and (a["activation"] != "none" or a["pool"] > 1):
            return  # what is folded in is timed forward only
        for layout in ("nchw", "channels_last"):
            for name in self.precisions:
                with precision(name):
                    record = {"version": f"torch {layout} {name}", "entry": entry, "precision": name} | self.note
                    try:
                        work, expected = self._operation(case, entry, layout, name)
                        error = self._error(work(), expected)
                        if not error <= {"tf32": 1e-2, "bf16": 3e-2}.get(name, 2e-5):
                            yield record | {"wrong": f"relative error {error:.2e}"}
                            continue
                        times = spread(self.time(work, repeat))
                    except RuntimeError as e:
                        yield record | {"refused": str(e).splitlines()[0]}
                        continue
                    yield record | times | {"gflops": case.flops(entry) / times["milliseconds"] / 1e6, "error": error}

    def _operation(self, case: Case, entry: str, layout: str, name: str) -> tuple[Callable[[], Any], Any]:
        a, inputs = case.attributes, make_inputs(case, "floats")
        form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        t = {}
        for key, value in inputs.items():
            tensor = torch.tensor(value, device=self.device)
            t[key] = tensor.contiguous(memory_format=form) if tensor.ndim == 4 else tensor
        pads = (a["pad_left"], a["pad_right"], a["pad_top"], a["pad_bottom"])
        even = pads[0] == pads[1] and pads[2] == pads[3]
        if not even and entry != "conv2d_forward":
            raise RuntimeError("asymmetric padding is timed forward only")
        padding = (pads[2], pads[0]) if even else (0, 0)
        stride = (a["stride_h"], a["stride_w"])

        activate = {
            "none": lambda y: y,
            "relu": F.relu,
            "leaky_relu": lambda y: F.leaky_relu(y, a["negative_slope"]),
            "sigmoid": torch.sigmoid,
        }[a["activation"]]

        def forward(u: dict[str, Any] = t) -> Any:
            x = u["x"] if even else F.pad(u["x"], pads)
            y = F.conv2d(x, u["w"], u["bias"], stride=stride, padding=padding, groups=a["groups"])
            y = activate(y)
            return F.max_pool2d(y, a["pool"]) if a["pool"] > 1 else y

        def backward(*wanted: bool) -> Callable[..., Any]:
            def gradients(u: dict[str, Any] = t) -> Any:
                out = torch.ops.aten.convolution_backward(
                    u["dy"], u["x"], u["w"], [a["C_out"]], stride, padding, (1, 1), False, (0, 0), a["groups"], list(wanted)
                )
                return next(g for g, w in zip(out, wanted, strict=True) if w)

            return gradients

        work = {
            "conv2d_forward": forward,
            "conv2d_backward_input": backward(True, False, False),
            "conv2d_backward_weight": backward(False, True, False),
            "conv2d_backward": backward(True, True, True),
        }[entry]
        result = {"conv2d_forward": "y", "conv2d_backward_weight": "dw"}.get(entry, "dx")
        if self.on_gpu:  # float64 on the GPU is a reference as good as NumPy's, and quick
            with torch.no_grad():
                expected = work({k: v.double() for k, v in t.items()}).cpu().numpy()
        else:
            expected = oracle.compute("conv2d_forward" if entry == "conv2d_forward" else "conv2d_backward", a, inputs)[result]
        if name == "bf16":
            t.update({k: v.bfloat16() if v.is_floating_point() else v for k, v in t.items()})
        return (lambda: work()), expected

    @staticmethod
    def _error(got: Any, expected: Array) -> float:
        return float(np.linalg.norm(got.detach().float().cpu().numpy() - expected) / np.linalg.norm(expected))

    # ---- The training step ----

    def steps(self, batch: int, repeat: int, wanted: Sequence[str] = ("fp32", "tf32", "bf16")) -> Iterator[dict[str, Any]]:
        names = [n for n in (["fp32", "tf32", "bf16"] if self.on_gpu else ["fp32", "bf16"]) if n in wanted]
        for way in self.ways:
            for layout in ("channels_last",) if way in ("whole", "tuned") else ("nchw", "channels_last"):
                for name in names:
                    record = {"version": f"torch {way} {layout} {name}", "batch": batch, "precision": name} | self.note
                    try:
                        with precision(name):
                            times, memory = self._step(way, layout, name, batch, repeat)
                    except Exception as e:  # one way that fails must not hide the others
                        yield record | {"refused": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
                        continue
                    found = spread(times)
                    yield record | found | {"images_per_second": batch / found["milliseconds"] * 1e3, "peak_bytes": memory}

    def _step(self, way: str, layout: str, name: str, batch: int, repeat: int) -> tuple[list[float], int]:
        torch.manual_seed(0)
        form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        model = network().to(self.device, memory_format=form)
        x = torch.rand(batch, 3, 32, 32, device=self.device).contiguous(memory_format=form)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, foreach=True)
        narrow = name == "bf16"
        if way in MODES:
            model = torch.compile(model, mode=MODES[way])

        def step() -> Any:
            optimizer.zero_grad(set_to_none=way != "graph")  # compiled: gradients of the graph's own memory
            with torch.autocast(self.device.type, dtype=torch.bfloat16) if narrow else nullcontext():
                loss = F.mse_loss(model(x), x)
            loss.backward()
            optimizer.step()
            return loss

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        work: Callable[[], Any] = step
        if way in CAPTURED:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            optimizer.zero_grad(set_to_none=way != "graph")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            work = graph.replay
        times = self.time(work, repeat, cold=False)
        return times, int(torch.cuda.max_memory_allocated(self.device)) if self.on_gpu else 0


def network() -> torch.nn.Module:
    """The CIFAR-10 autoencoder."""

    def conv(c_in: int, c_out: int) -> torch.nn.Conv2d:
        return torch.nn.Conv2d(c_in, c_out, 3, padding=1)

    down, up, relu = torch.nn.MaxPool2d(2), torch.nn.Upsample(scale_factor=2), torch.nn.ReLU()
    return torch.nn.Sequential(
        conv(3, 256), relu, down, conv(256, 128), relu, down, conv(128, 128), relu, up, conv(128, 256), relu, up, conv(256, 3)
    )
