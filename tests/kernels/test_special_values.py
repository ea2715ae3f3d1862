"""One NaN, infinity, negative zero, denormal or huge number in one input of every operation: all kernel sets agree with the
float64 oracle on where NaN and infinity appear, and the rest is as right as ever.

Exact sums of products (fp32-exact) keep them local: an output is spoilt only by what its window holds. Schemes with fewer
multiplications (fp32 on cpu and v6) mix neighbouring windows; there, none of the oracle's NaN may get lost.
"""

from __future__ import annotations

from typing import Any

import cases
import harness
import numpy as np
import oracle
import pytest
import shared_ops
from warploom import _core

SPECIAL = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "-0": -0.0, "denormal": 1e-41, "huge": 1e9}
TARGETS = [t for t in harness.targets(_core) if not t.device.startswith("emulated:")]
CONVS = [
    cases.conv((2, 3, 9, 8), 5, 3, pad=1),
    cases.conv((1, 16, 12, 12), 16, 3, pad=1),
    cases.conv((1, 16, 10, 10), 16, 3),
    cases.conv((2, 8, 7, 6), 8, 1),
    cases.conv((1, 4, 11, 11), 6, 5, stride=2),
    cases.conv((1, 8, 9, 9), 8, 3, groups=8),
    cases.conv((1, 8, 9, 9), 16, 3, groups=2),
    cases.fused(cases.conv((1, 16, 8, 8), 16, 3, pad=1), activation="relu", pool=2),
    cases.fused(cases.conv((1, 16, 8, 8), 16, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2),
    cases.fused(cases.conv((1, 8, 8, 8), 8, 3, pad=1), activation="leaky_relu", slope=0.25),
    cases.fused(cases.conv((1, 16, 8, 8), 16, 3, pad=1), upsample=2, activation="relu"),
]
OTHERS = [
    cases.pool((2, 3, 8, 9), 2),
    cases.pool((1, 8, 9, 9), 3, 2),
    *(
        cases.upsample((1, 4, 4, 3), scale, mode)
        for mode in ("nearest", "bilinear")
        for scale in ((1, 1), (2, 1), (1, 3), (3, 2))
    ),
    *(cases.activation(37, kind, 0.25) for kind in ("none", "relu", "leaky_relu", "sigmoid")),
    cases.mse(37),
    cases.sgd(37),
    cases.add(37),
]


def places(array: np.ndarray[Any, Any]) -> list[int]:
    return sorted({array.size // 2, array.size - 1})


def judge(got: Any, right: Any, where: str, *, local: bool, bound: float) -> None:
    with np.errstate(over="ignore"):
        right32 = right.astype(np.float32).astype(np.float64)
    if not local:
        lost = np.isnan(right32) & ~np.isnan(got)  # of an infinity the difference of two may be left
        assert not lost.any() or "nan at" not in where, f"{where}: {lost.sum()} NaN got lost"
        return
    for name, test in (("NaN", np.isnan), ("infinite", np.isinf)):
        wrong = np.argwhere(test(got) != test(right32))
        assert not len(wrong), (
            f"{where}: {len(wrong)} elements wrongly {name} or not, first {wrong[0].tolist()}: "
            f"{got[tuple(wrong[0])]} for {right32[tuple(wrong[0])]}"
        )
    inf = np.isinf(right32)
    assert (np.sign(got[inf]) == np.sign(right32[inf])).all(), f"{where}: an infinity has the wrong sign"
    finite = np.isfinite(right32)
    off = np.abs(got[finite] - right32[finite])
    assert (off <= bound).all(), f"{where}: off by {off.max()}, allowed {bound}"


def run(target: harness.Target, case: cases.Case, entry: str, given: dict[str, Any], padded: bool) -> None:
    """Every special value at every place of every float input of the entry."""
    words, outputs = harness.VARIANTS[entry][0]
    names = [w.rstrip("*") for w in words.split()]
    outputs = outputs.split()
    conv = case.family == "conv2d"
    for name in [n for n in names if n in given and given[n].dtype.kind == "f"]:
        if (name == "w" and (padded or "dx" in outputs)) or (name == "dy" and padded and "dw" in outputs):
            continue  # a product with a zero beyond the border may be made or not
        # Likewise a pixel at the border of x, with gradients beyond it.
        for at in places(given[name])[: 1 if name == "x" and "dw" in outputs else 2]:
            for special, value in SPECIAL.items():
                inputs = {k: np.array(v) for k, v in given.items()}
                inputs[name].reshape(-1)[at] = value
                if case.family == "max_pool2d":
                    a = case.attributes
                    _, inputs["index"] = oracle.max_pool2d(inputs["x"], (a["KH"], a["KW"]), (a["stride_h"], a["stride_w"]))
                if case.family == "activation" and name == "x":
                    inputs["y"] = oracle.activation(inputs["x"].astype(float), case.attributes["kind"], 0.25).astype(np.float32)
                flat = {w: harness.to_version(w, inputs[w], target) for w in names if w in inputs}
                if "saved*" in words:
                    flat |= harness.from_forward(_core, target, case, inputs)
                results = _core.call(target.device, target.version, entry, case.attributes, flat, outputs)
                with np.errstate(all="ignore"):
                    wanted = "conv2d_backward" if conv and "backward" in entry else entry
                    tensors = inputs if conv and "backward" in entry else {k: inputs[k] for k in names if k in inputs}
                    expected = oracle.compute(wanted, case.attributes, tensors)
                for output in [*outputs, *(k for k in flat if k in expected and k not in ("y", "index", *outputs))]:
                    right = np.asarray(expected[output])
                    got = harness.from_version(output, results[output], right.shape, target)
                    where = f"{target} {case.name} {entry}: {special} at {at} of {name}, output {output}"
                    if right.dtype.kind in "iu":
                        assert np.array_equal(got, right), where
                        continue
                    exact = case.attributes.get("precision") == "fp32-exact" or not conv or target.local
                    largest = np.abs(right[np.isfinite(right)]).max(initial=1.0)
                    judge(got.astype(float), right, where, local=exact, bound=2e-5 * float(largest))


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("case", CONVS, ids=lambda c: c.name)
def test_convolutions(target: harness.Target, case: cases.Case) -> None:
    """Forward and backward, x, weights, bias and gradients; exact on every kernel set, and as each does it by itself."""
    padded = case.attributes["pad_top"] > 0
    given = harness.make_inputs(case, "floats")
    ran = 0
    for precision in ("fp32-exact", "fp32") if not target.local else ("fp32-exact",):
        precise = cases.precise(case, precision)
        for entry in case.entries:
            if any(_core.why_not(target.device, target.version, e, precise.attributes) for e in (entry, "conv2d_forward")):
                continue
            run(target, precise, entry, given, padded)
            ran += 1
    assert ran or case.attributes["upsample"] > 1 or case.attributes["activation"] != "none"


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("case", OTHERS, ids=lambda c: c.name)
def test_other_operations(target: harness.Target, case: cases.Case) -> None:
    for entry in case.entries:
        if not _core.why_not(target.device, target.version, entry, case.attributes):
            run(target, case, entry, harness.make_inputs(case, "floats"), False)


def small_shared() -> list[shared_ops.SharedCase]:
    """The first three cases of each shared entry that are not large."""
    chosen: dict[str, list[shared_ops.SharedCase]] = {}
    for case in shared_ops.discover():
        if not case.refused and len(chosen.setdefault(case.entry, [])) < 3 and sum(v.size for v in case.draw().values()) < 4000:
            chosen[case.entry].append(case)
    return [case for list_ in chosen.values() for case in list_]


@pytest.mark.parametrize("target", [t for t in TARGETS if t.version in ("cpu", "v1", "v3")], ids=str)
@pytest.mark.parametrize("case", small_shared(), ids=str)
def test_shared_operations(target: harness.Target, case: shared_ops.SharedCase) -> None:
    """The versions share one implementation for each layout."""
    tensors = shared_ops.signature(_core, case)
    skipped = getattr(case.module, "NO_NAN", {}).get(case.entry, set())
    for name, value in case.draw().items():
        if value.dtype.kind != "f" or name in skipped or not value.size or tensors[name].dtype not in (np.float32, np.float64):
            continue
        for special, number in SPECIAL.items():
            inputs = {k: np.array(v) for k, v in case.draw().items()}
            inputs[name].reshape(-1)[value.size * 2 // 3] = number
            given = shared_ops.cast(tensors, inputs)
            expected = case.expect(given)
            outputs = shared_ops.requests(tensors, expected)[0]
            results = _core.call(target.device, target.version, case.entry, case.public, given, outputs)
            for output in [*outputs, *(k for k, t in tensors.items() if t.role == "inout" and k in given)]:
                right, got = expected[output].reshape(-1), results[output].reshape(-1)
                if right.dtype == np.float64 and got.dtype == np.float32:  # what float32 cannot hold is infinite
                    with np.errstate(over="ignore"):
                        right = right.astype(np.float32).astype(np.float64)
                where = f"{target} {case}: {special} in {name}, output {output}"
                if got.dtype.kind in "iu":
                    assert np.array_equal(got, right), where
                    continue
                # Infinite or NaN is not agreed: formulas differ in whether they take the difference of two infinities.
                wrong = np.flatnonzero(np.isfinite(got) != np.isfinite(right))
                assert not len(wrong), f"{where}: {got[wrong[0]]} for {right[wrong[0]]} at {wrong[0]}"
                if special != "huge":  # which swallows the others
                    finite = np.isfinite(right)
                    off = np.abs(got[finite] - right[finite]).max(initial=0.0)
                    assert off <= 4 * case.bound(output, given, expected) + 1e-30, f"{where}: off by {off}"


def bce(prediction: float, target: float) -> tuple[float, float]:
    import warploom as wl

    values = []
    for device, version in (("cpu", "auto"), ("emulated", "v1"), ("emulated", "v3")):
        p, t = np.array([[prediction]], np.float32), np.array([[target]], np.float32)
        loss, grad = wl.ops.bce_with_logits_loss(p, t, device=device, version=version)
        values.append((float(loss), float(grad[0, 0])))
    assert len(set(values)) == 1, values
    return values[0]


def test_cross_entropy_of_infinite_logits() -> None:
    """The limit: nothing where the target agrees, infinity where it does not."""
    assert bce(np.inf, 0.0) == (np.inf, 1.0)
    assert bce(np.inf, 1.0) == (0.0, 0.0)
    assert bce(-np.inf, 0.0) == (0.0, 0.0)
    assert bce(-np.inf, 1.0) == (np.inf, -1.0)
    assert bce(np.inf, 0.5) == (np.inf, 0.5)
