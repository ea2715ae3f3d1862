"""The convolution algorithms of the cpu kernel set, each forced over every shape it takes, on every instruction set there is.

The cost rule would choose some of them for few shapes only, and an instruction set narrower than this CPU's never.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import oracle
import pytest
from cases import CONV_ENTRIES, SMALL, Case, conv, fused
from conftest import kernel_targets
from harness import Target, check, make_inputs, targets

# The convolution algorithms of the cpu kernel set, each forced over every shape it takes; the cost rule would choose some of them
# for few shapes only. Those that only reorder sums are exact for whole numbers.
CPU_ALGORITHMS = {
    "im2col": True,
    "rows": True,
    "pointwise": True,
    "depthwise": True,
    "direct": True,
    "columns": True,
    "upsample9": True,
    "upsample25": True,
    "upsample81": False,
    "winograd2": False,
    "winograd4": False,
    "strided25": False,
    "strided36": False,
}


def _cpu_grid() -> Iterator[Case]:
    """What decides how an algorithm of the cpu kernel set goes about its work, on odd sizes: small or many weights, few or many
    images, every kind of kernel that has an algorithm of its own."""
    kinds = ((3, 1, 1), (1, 1, 0), (3, 2, 1), (4, 2, 1), (5, 2, 2))
    for kernel, stride, pad in kinds:
        for c in (1, 3, 16, 17):
            yield conv((1, c, 5, 7), 18 - c, kernel, stride=stride, pad=pad)
        yield conv((5, 7, 5, 7), 18, kernel, stride=stride, pad=pad)  # images enough for parts of them
        yield conv((17, 2, 2, 2), 3, kernel, stride=stride, pad=pad)
        yield conv((1, 4, 33, 31), 16, kernel, stride=stride, pad=pad)
        yield conv((2, 72, 9, 7), 72, kernel, stride=stride, pad=pad)  # weights too many for a worker's own cache
    for size, c_in, c_out in ((1, 3, 4), (2, 20, 7), (6, 72, 72)):
        for n in (1, 5):
            yield fused(conv((n, c_in, 2 * size, 4 * size), c_out, 3, pad=1), activation="leaky_relu", slope=0.25, upsample=2)
            yield fused(conv((n, c_in, 4 * size, 2 * size), c_out, 3, pad=1), activation="relu", pool=2)
            yield fused(conv((n, c_in, 5, 7), c_out, 4, stride=2, pad=1), activation="sigmoid")
    for c in (1, 3, 16, 17):
        for high, wide in ((1, 1), (5, 7)):  # of the small map
            yield fused(conv((1, c, 2 * high, 2 * wide), 18 - c, 3, pad=1), upsample=2)
        for kernel, stride, pad in ((3, 1, 1), (1, 1, 0), (3, 2, 1), (4, 2, 2), (5, 2, 2)):
            yield conv((1, c, 1, 1), 18 - c, kernel, stride=stride, pad=pad)
        yield fused(conv((1, c, 6, 14), 18 - c, 3, pad=1), activation="relu", pool=2, upsample=2)
    yield fused(conv((1, 2, 66, 62), 5, 3, pad=1), activation="relu", upsample=2)
    yield fused(conv((1, 3, 33, 31), 5, 3, pad=1), activation="relu", pool=2)
    yield conv((1, 17, 33, 31), 17, 3, pad=1, groups=17)
    yield conv((1, 5, 1, 1), 5, 3, pad=1, groups=5)
    yield conv((1, 160, 5, 5), 100, 3, pad=1)  # a gradient of the weights too large to keep in parts
    yield conv((2, 300, 3, 5), 20, 1)  # sums longer than a chain


TARGETS: list[Target] = kernel_targets()
CPU_GRID = list(_cpu_grid())


@pytest.mark.parametrize(("algorithm", "exact"), CPU_ALGORITHMS.items())
def test_cpu_algorithm(core: Any, monkeypatch: pytest.MonkeyPatch, algorithm: str, exact: bool) -> None:
    monkeypatch.setenv("WARPLOOM_CPU_CONV", algorithm)
    target = next(t for t in TARGETS if t.version == "cpu")
    target = replace(target, exact=exact)
    ran = 0
    for case in [*SMALL, *CPU_GRID]:
        if case.family == "conv2d":
            ran += len(check(core, target, case, ("integers", "floats") if exact else ("floats",), twice=False))
    assert ran >= 8, f"the case list hardly tests {algorithm}: {ran} entries ran"


# ---- Odd sizes: what every algorithm is for, where oracle, PyTorch and the emulated versions must say the same ----

MAPS = ((1, 1), (5, 7), (33, 31))  # of the image in memory: before an upsample
ALL_CHANNELS = [(c, 18 - c) for c in range(1, 18)]
FEW_IN = [(1 + c % 3, c) for c in range(1, 18)]
FEW_OUT = [(16, 1), (16, 2), (16, 3), (32, 4)]


@dataclass(frozen=True)
class Kind:
    kernel: int
    stride: int
    pad: int
    algorithms: tuple[str, ...]
    fold: tuple[tuple[str, Any], ...] = ()
    depthwise: bool = False


KINDS = {
    "3x3": Kind(3, 1, 1, ("im2col", "rows", "direct", "columns", "winograd2", "winograd4")),
    "3x3, pooled": Kind(3, 1, 1, ("im2col", "direct", "winograd2", "winograd4"), (("activation", "relu"), ("pool", 2))),
    "upsample, 3x3": Kind(3, 1, 1, ("im2col", "columns", "upsample9", "upsample25", "upsample81"), (("upsample", 2),)),
    "upsample, 3x3, pooled": Kind(3, 1, 1, ("im2col", "upsample9"), (("activation", "relu"), ("pool", 2), ("upsample", 2))),
    "1x1": Kind(1, 1, 0, ("im2col", "rows", "pointwise")),
    "3x3, stride 2": Kind(3, 2, 1, ("im2col", "rows", "strided25", "strided36")),
    "4x4, stride 2": Kind(4, 2, 2, ("im2col", "rows", "strided25", "strided36")),
    "5x5, stride 2": Kind(5, 2, 2, ("im2col", "rows", "strided36")),
    "6x6, stride 2": Kind(6, 2, 3, ("im2col", "rows", "strided36")),
    "depthwise": Kind(3, 1, 1, ("im2col", "depthwise"), depthwise=True),
}  # fmt: skip


def odd_cases(kind: Kind, every: int = 1) -> Iterator[tuple[Case, list[str]]]:
    """One image of every map and number of channels, and the algorithms that must take it. every: only each so many channels;
    on the large map every other."""
    fold = dict(kind.fold)
    for high, wide in MAPS:
        some = slice(None, None, max(every, 2) if high > 9 else every)
        pairs = ALL_CHANNELS[some]
        pairs += FEW_IN[some] if "direct" in kind.algorithms else []
        pairs += FEW_OUT[some] if "columns" in kind.algorithms else []
        up = fold.get("upsample", 1)
        if min(high, wide) * up < fold.get("pool", 1):
            continue  # nothing left
        for c_in, c_out in [(c, c) for c, _ in pairs] if kind.depthwise else dict.fromkeys(pairs):
            groups = c_in if kind.depthwise else 1
            case = conv((1, c_in, up * high, up * wide), c_out, kind.kernel, stride=kind.stride, pad=kind.pad, groups=groups)
            takes = {"direct": c_in <= 3, "columns": c_in % 16 == 0 and c_out <= 4}
            yield fused(case, **fold), [a for a in kind.algorithms if takes.get(a, True)]


def forced(core: Any, target: Target, case: Case, algorithms: list[str]) -> None:
    """Each algorithm must compute all gradients of the case right."""
    try:
        for algorithm in algorithms:
            os.environ["WARPLOOM_CPU_CONV"] = algorithm
            ran = check(core, target, case, ("floats",), twice=False)
            assert tuple(ran) == CONV_ENTRIES, f"{algorithm} refuses {set(CONV_ENTRIES) - set(ran)} of {case.name}"
    finally:
        os.environ.pop("WARPLOOM_CPU_CONV", None)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_sizes(core: Any, kind: str) -> None:
    target = replace(next(t for t in TARGETS if t.version == "cpu"), exact=False)
    emulated = [t for t in TARGETS if t.device == "emulated"]
    for i, (case, algorithms) in enumerate(odd_cases(KINDS[kind])):
        forced(core, target, case, algorithms)
        if case.work < 1e6 and emulated:  # the versions take turns
            check(core, emulated[i % len(emulated)], case, ("floats",), twice=False)


def as_torch(torch: Any, case: Case) -> None:
    a, t = case.attributes, {k: v.astype(np.float64) for k, v in make_inputs(case, "floats").items()}
    x, w, bias = (torch.tensor(t[k], requires_grad=True) for k in ("x", "w", "bias"))
    y = torch.nn.functional.interpolate(x, scale_factor=a["upsample"]) if a["upsample"] > 1 else x
    y = torch.nn.functional.conv2d(y, w, bias, stride=a["stride_h"], padding=a["pad_top"], groups=a["groups"])
    y = torch.relu(y) if a["activation"] == "relu" else y
    y = torch.nn.functional.max_pool2d(y, a["pool"]) if a["pool"] > 1 else y
    y.backward(torch.tensor(t["dy"]))
    given = t["x"], t["w"], t["bias"]
    ours = (oracle.fused_conv2d(a, *given)["y"], *oracle.fused_conv2d_backward(a, t["dy"], *given))
    for got, right in zip(ours, (y.detach(), x.grad, w.grad, bias.grad), strict=True):
        np.testing.assert_allclose(got, right.numpy(), rtol=1e-9, atol=1e-11 * float(right.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_odd_sizes_as_torch(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: the oracle's gradients are checked in test_oracle.py")
    for case, _ in odd_cases(KINDS[kind]):
        as_torch(torch, case)


# A process has one cpu kernel set, the widest: the others have one of their own each, and fewer channels.
NARROW = """
import test_cpu_algorithms as tests
from warploom import _core
tests.every_algorithm(_core)
"""


def every_algorithm(core: Any) -> None:
    target = replace(next(t for t in targets(core) if t.version == "cpu"), exact=False)
    for kind in KINDS.values():
        for case, algorithms in odd_cases(kind, every=4):
            forced(core, target, case, algorithms)


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_narrower_instruction_sets(core: Any, isa: str) -> None:
    found = [x for x in core.libraries() if x["kind"] == "cpu" and f"cpu_{isa}" in x["path"]]
    if not found or not found[0]["usable"]:
        pytest.skip(f"no kernel set for {isa} that this CPU runs")
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": paths, "WARPLOOM_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", NARROW], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
