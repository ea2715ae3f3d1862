"""How far the cpu kernel set's float32 is from float64, and how far PyTorch's float32 is: every algorithm, and every network.

    python benchmarks/cpu_accuracy.py [--networks dsresnet ...] [--draws 5] [--out results.jsonl]

Errors are L2, relative: of the output, of dx and of dw for a layer; of all outputs and of all gradients as one vector for a
network, the median over some draws of weights and images. A sum that rounds to the other side of a ReLU's zero, or of another
pixel's maximum, switches a gradient on or off: for networks without batch norm the gradients are compared again with those of
float64 at the decisions that each side has taken, which leaves rounding alone. Layers are the zoo's, on maps of at most 32
pixels a side and with at most 256 channels.
benchmarks/cpu_tables.py puts the results into docs/cpu.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks")]
LAYERS = (
    # name, C_in, C_out, kernel, stride, pad, size, groups, upsample
    ("first 3x3", 3, 64, 3, 1, 1, 32, 1, 1),
    ("3x3, 16 channels", 16, 16, 3, 1, 1, 32, 1, 1),
    ("3x3, 64 channels", 64, 64, 3, 1, 1, 32, 1, 1),
    ("3x3, 256 channels", 256, 256, 3, 1, 1, 16, 1, 1),
    ("3x3, 256 to 128, small map", 256, 128, 3, 1, 1, 7, 1, 1),
    ("upsample, 3x3", 128, 256, 3, 1, 1, 16, 1, 2),
    ("upsample, 3x3, to 3 channels", 256, 3, 3, 1, 1, 32, 1, 2),
    ("last 3x3, to 3 channels", 128, 3, 3, 1, 1, 32, 1, 1),
    ("3x3, stride 2", 28, 56, 3, 2, 1, 32, 1, 1),
    ("4x4, stride 2", 64, 128, 4, 2, 1, 32, 1, 1),
    ("4x4, stride 2, 256 channels", 256, 64, 4, 2, 1, 16, 1, 1),
    ("4x4, stride 2, 2 groups", 64, 128, 4, 2, 1, 32, 2, 1),
    ("5x5, stride 2", 64, 128, 5, 2, 2, 32, 1, 1),
    ("5x5, stride 2, 256 channels", 256, 256, 5, 2, 2, 16, 1, 1),
    ("1x1", 64, 256, 1, 1, 0, 32, 1, 1),
    ("depthwise 11x11", 3, 3, 11, 1, 0, 32, 3, 1),
)
NETWORKS: dict[str, dict[str, Any]] = {
    "cifar10_autoencoder": {},
    "unet_small": {"size": 64},
    "unet_large": {"size": 32},
    "gray_autoencoder": {"size": 64},
    "dsresnet": {"size": 96},
    "liae_ud": {"size": 64},
}
BATCH = 4  # float64 in PyTorch takes its time
BATCHES = {"cifar10_autoencoder": 64}  # as it is trained: which algorithms run depends on the batch


def error(got: Any, right: Any) -> float:
    return float(np.linalg.norm((got.astype(np.float64) - right).ravel()) / np.linalg.norm(right.ravel()))


def layer_errors(layer: tuple[Any, ...]) -> list[dict[str, Any]]:
    import torch
    from cases import conv, fused
    from harness import Target, from_version, to_version
    from torch.nn import functional as F
    from warploom import _core as core

    name, c_in, c_out, kernel, stride, pad, size, groups, up = layer
    rng = np.random.default_rng(7)
    small = rng.standard_normal((2, c_in, size // up, size // up)).astype(np.float32)
    w = (rng.standard_normal((c_out, c_in // groups, kernel, kernel)) / np.sqrt(c_in * kernel * kernel / groups)).astype(
        np.float32
    )
    case = conv((2, c_in, size, size), c_out, kernel, stride=stride, pad=pad, groups=groups)
    case = fused(case, upsample=up) if up > 1 else case
    a = case.attributes
    dy = rng.standard_normal((2, c_out, a["OH"], a["OW"])).astype(np.float32)

    def torch_run(kind: Any) -> list[Any]:
        x, weight = (torch.tensor(v, dtype=kind, requires_grad=True) for v in (small, w))
        y = F.conv2d(F.interpolate(x, scale_factor=up) if up > 1 else x, weight, stride=stride, padding=pad, groups=groups)
        y.backward(torch.tensor(dy, dtype=kind))
        return [v.detach().double().numpy() for v in (y, x.grad, weight.grad)]

    right = torch_run(torch.float64)
    found = [("PyTorch", torch_run(torch.float32))]
    target = Target("cpu", "cpu", "nhwc", "hwio", False)
    given = {k: to_version(k, v, target) for k, v in (("x", small), ("w", w), ("dy", dy))}
    entries = (
        ("conv2d_forward", "xw", "y", dy),
        ("conv2d_backward_input", ("dy", "w"), "dx", small),
        ("conv2d_backward_weight", ("dy", "x"), "dw", w),
    )
    chosen = ""
    for algorithm in ("", *ALGORITHMS):
        os.environ["WARPLOOM_CPU_CONV"] = algorithm
        if core.why_not("cpu", "cpu", "conv2d_forward", a):
            continue
        got = []
        for entry, inputs, output, like in entries:
            result = core.call("cpu", "cpu", entry, a, {k: given[k] for k in inputs}, [output])
            got.append(from_version(output, result[output], like.shape, target))
        found.append((algorithm, got))
    del os.environ["WARPLOOM_CPU_CONV"]
    records = [{"algorithm": n, "errors": [error(g, r) for g, r in zip(got, right, strict=True)]} for n, got in found]
    own = next(r for r in records if r["algorithm"] == "")
    chosen = next(
        (r["algorithm"] for r in records if r["algorithm"] not in ("", "PyTorch") and r["errors"] == own["errors"]), "?"
    )
    return [r | {"layer": name, "chosen": r["algorithm"] == chosen} for r in records if r["algorithm"]]


ALGORITHMS = (
    "pointwise", "depthwise", "direct", "columns", "winograd2", "winograd4", "upsample9", "upsample25", "upsample81",
    "strided25", "strided36", "rows", "im2col",
)  # fmt: skip


WITHOUT_NORMS = ("cifar10_autoencoder", "liae_ud")  # what predict() computes is then what a training step does


class Deciding:
    """In torch.nn.functional's place: writes down what passes a ReLU and which pixel a maximum takes, or does as was written."""

    def __init__(self, taken: list[Any] | None = None) -> None:
        self.taken = iter(taken) if taken is not None else None
        self.written: list[Any] = []
        self.results: list[Any] = []  # of float64, in order

    def __getattr__(self, name: str) -> Any:
        from torch.nn import functional

        return getattr(functional, name)

    def decide(self, own: Any) -> Any:
        decided = next(self.taken) if self.taken is not None else own
        self.written.append(decided)
        return decided

    def relu(self, x: Any) -> Any:
        return self.leaky_relu(x, 0.0)

    def leaky_relu(self, x: Any, slope: float) -> Any:
        import torch

        y = torch.where(self.decide(x > 0), x, slope * x)
        self.results.append(y.detach())
        return y

    def max_pool2d(self, x: Any, size: int) -> Any:
        from torch.nn import functional

        self.results.append(x.detach())
        y, index = functional.max_pool2d(x, size, return_indices=True)
        index = self.decide(index)
        return x.flatten(2).gather(2, index.flatten(2)).reshape(y.shape)


def decisions_of(model: Any, x: Any, exact: Deciding) -> list[Any]:
    """Those of our own forward pass, in the twin's order: each of its maps is the closest of ours."""
    import torch

    values = [t for call in model.calls for t in call.outputs if type(call.layer).__name__ in ("ReLU", "LeakyReLU")]
    ours = [torch.from_numpy(v) for v in model.engine.predict(x, values)]
    found = []
    for wanted, decided in zip(exact.results, exact.written, strict=True):
        alike = [v for v in ours if v.shape == wanted.shape]
        nearest = min(alike, key=lambda v: float((v - wanted).norm()))
        assert float((nearest - wanted).norm() / wanted.norm()) < 1e-4, "this map of the twin is none of ours"
        if decided.dtype == torch.bool:
            found.append(nearest > 0)
        else:
            found.append(torch.nn.functional.max_pool2d(nearest, 2, return_indices=True)[1])
    return found


def network_errors(name: str, draws: int) -> dict[str, Any]:
    import torch
    import torch_twins as twins
    import warploom as wl
    from networks import as_floats, smooth_images
    from warploom import models

    arguments, batch = NETWORKS[name], BATCHES.get(name, BATCH)
    made: dict[str, Any] = {
        "cifar10_autoencoder": (twins.Cifar10, twins.cifar10_loss),
        "unet_small": (partial(twins.UNet, False, 32), twins.unet_loss),
        "unet_large": (partial(twins.UNet, True, 256), twins.unet_loss),
        "gray_autoencoder": (twins.Gray, twins.gray_loss),
        "dsresnet": (twins.DsResNet, twins.dsresnet_loss),
        "liae_ud": (partial(twins.Liae, 64, 256, 64, 64, 22), twins.liae_loss(64)),
    }
    objective = models.objective(name, **({"size": 64} if name == "liae_ud" else {}))
    rows: list[list[float]] = []
    apart: list[float] = []  # our gradients from PyTorch's: small beside both errors where both took the same other decision
    for draw in range(draws):
        model = models.get(name, **arguments)
        model.compile(wl.optim.SGD(lr=0.0), objective.make_losses(), version="cpu", device="cpu", batch_size=batch, seed=draw)
        rng = np.random.default_rng(draw)
        x = [as_floats(smooth_images(batch, t.shape, seed=draw + i)) for i, t in enumerate(model.inputs)]
        shapes = model.engine.session.target_shapes()
        y = (
            x
            if objective.data == "images"
            else [as_floats(smooth_images(batch, s if len(s) == 3 else (1, *s), seed=50 + i)) for i, s in enumerate(shapes)]
        )
        if objective.data == "segmentation":
            y = [rng.integers(0, model.outputs[0].shape[0], (batch, *shapes[0]))]
        if objective.data == "composites":
            y[1] = (y[1] > 0.5).astype(np.float32)
        twin = made[name][0]()
        twin.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()}, strict=False)

        def run(kind: Any, decide: Any = torch.nn.functional, twin: Any = twin, x: Any = x, y: Any = y) -> tuple[Any, Any]:
            net = copy.deepcopy(twin).to(kind)
            twins.F = torch.nn.functional
            with torch.no_grad():
                outputs = copy.deepcopy(net).eval()(*[torch.tensor(v).to(kind) for v in x])
            twins.F = decide
            made[name][1](net(*[torch.tensor(v).to(kind) for v in x]), [torch.tensor(v).to(kind) for v in y]).backward()
            twins.F = torch.nn.functional
            return [o.double().numpy() for o in outputs], {k: p.grad.double().numpy() for k, p in net.named_parameters()}

        def flat(values: Any) -> Any:
            return np.concatenate([np.asarray(v, np.float64).ravel() for v in values])

        exactly, roundly = Deciding(), Deciding()
        right, theirs = run(torch.float64, exactly), run(torch.float32, roundly)
        predicted = model.predict(x)
        outputs = [predicted] if len(right[0]) == 1 else predicted
        gradients = model.gradients(x, None if objective.data == "images" else y)
        row = []
        for mine, his, exact in (
            (outputs, theirs[0], right[0]),
            *[([d[k] for k in right[1]] for d in (gradients, theirs[1], right[1]))],
        ):
            truth = flat(exact)
            row += [error(flat(mine), truth), error(flat(his), truth)]
        apart.append(float(np.linalg.norm(flat(mine) - flat(his)) / np.linalg.norm(truth)))
        if name in WITHOUT_NORMS:
            taken = decisions_of(model, x, exactly)
            for mine, decided in ((gradients, taken), (theirs[1], roundly.written)):
                truth = flat(run(torch.float64, Deciding(decided))[1].values())
                row.append(error(flat([mine[k] for k in right[1]]), truth))
            for decided in (taken, roundly.written):
                row.append(sum(int((a != b).sum()) for a, b in zip(decided, exactly.written, strict=True)))
        rows.append(row)
    median = [float(v) for v in np.median(rows, axis=0)]
    record = {"network": name, "arguments": arguments, "draws": draws, "outputs": median[:2], "gradients": median[2:4]}
    record["gradients_by_draw"] = [[*row[2:4], a] for row, a in zip(rows, apart, strict=True)]
    if name in WITHOUT_NORMS:
        record |= {"at_own_decisions": median[4:6], "other_decisions": median[6:]}
    return record


def main() -> int:
    from machine import about_run, cpu_name

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--no-layers", action="store_true", help="networks only")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    options = parser.parse_args()
    about = about_run(ROOT) | {"cpu": cpu_name(), "benchmark": "cpu_accuracy"}
    records = [] if options.no_layers else [r for layer in LAYERS for r in layer_errors(layer)]
    for r in records:
        errors = " ".join(f"{e:.2e}" for e in r["errors"])
        print(f"{r['layer']:30} {r['algorithm']:12} {errors}{'  <- chosen' if r['chosen'] else ''}")
    for name in options.networks:
        records.append(network_errors(name, options.draws))
        pairs = {k: v for k, v in records[-1].items() if isinstance(v, list) and k != "gradients_by_draw"}
        print(name, *(f"{k} {v[0]:.3g} PyTorch {v[1]:.3g}" for k, v in pairs.items()), flush=True)
    if options.out:
        with options.out.open("a") as file:
            file.writelines(json.dumps(r | about) + "\n" for r in records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
