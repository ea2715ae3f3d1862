"""The harness must fail for kernels that are wrong. Here results are broken on purpose, and each way of being wrong is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import oracle
import pytest
from cases import Case, activation, conv, fused, mse, pool, sgd, upsample
from harness import Mismatch, Target, check
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
Break = Callable[[str, Tensors], None]
CASES = [
    conv((2, 3, 6, 5), 4, 3, pad=1),
    fused(conv((2, 3, 6, 8), 4, 3, pad=1), activation="relu", pool=2),
    pool((2, 3, 5, 6), 2),
    upsample((1, 3, 4, 5), 2, "bilinear"),
    activation(300, "sigmoid"),
    mse(257),
    sgd(259),
]


class FakeCore:
    """A device made of the oracle, in float32 and in the target's layouts, whose results can be broken."""

    Error = RuntimeError

    def __init__(self, target: Target, broken: Break | None = None, refused: str = "") -> None:
        self.target, self.broken, self.refused = target, broken, refused
        self.calls = 0

    def why_not(self, device: str, version: str, entry: str, attributes: dict[str, Any]) -> str:
        return self.refused

    def call(
        self, device: str, version: str, entry: str, attributes: dict[str, Any], inputs: Tensors, outputs: list[str], guard: bool
    ) -> Tensors:
        assert guard, "the harness must ask for guard bands"
        self.calls += 1
        case = next(c for c in CASES if c.attributes == attributes)
        shapes = {k: v.shape for k, v in harness.make_inputs(case, "integers").items()}
        shapes = {"saved": (4,), "y": shapes.get("dy", ())} | shapes
        logical = {k: harness.from_version(k, v, shapes[k], self.target) for k, v in inputs.items()}
        if case.family == "conv2d" and entry != "conv2d_forward":  # what `y` and `saved` stand for
            logical = {k: v for k, v in harness.make_inputs(case, self._fill(case, inputs)).items()} | {"dy": logical["dy"]}
        results = oracle.compute(entry, attributes, logical)
        results = {k: v for k, v in results.items() if k in outputs or k in inputs}
        narrow = {
            k: v.astype(np.int32 if k == "index" else np.float64 if k == "total" else np.float32) for k, v in results.items()
        }
        if self.broken:
            self.broken(entry, narrow)
        flat = {k: harness.to_version(k, v, self.target) for k, v in narrow.items()}
        return flat | ({"saved": np.zeros(4, np.uint8)} if "saved" in outputs else {})

    def _fill(self, case: Case, inputs: Tensors) -> str:
        dy = harness.make_inputs(case, "integers")["dy"]
        return "integers" if (harness.to_version("dy", dy, self.target) == inputs["dy"]).all() else "floats"


def run(target: Target, case: Case, broken: Break | None = None) -> list[str]:
    return check(FakeCore(target, broken), target, case, ("integers", "floats"))


TARGETS = [Target("fake", "nchw", "nchw", "oihw"), Target("fake", "nhwc", "nhwc", "ohwi"), Target("fake", "hwio", "nhwc", "hwio")]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_right_results_pass(target: Target, case: Case) -> None:
    assert run(target, case) == list(case.entries)


def _every(change: Callable[[NDArray[Any]], NDArray[Any] | None]) -> Break:
    def apply(entry: str, results: Tensors) -> None:
        for name in results:
            if (changed := change(results[name].copy())) is not None:
                results[name] = changed

    return apply


def _nan(a: NDArray[Any]) -> NDArray[Any] | None:
    if a.dtype.kind != "f":
        return None
    a.reshape(-1)[-1] = np.nan
    return a


def _dropped_tile(a: NDArray[Any]) -> NDArray[Any]:
    flat = a.reshape(-1)
    flat[len(flat) // 2 :] = 0  # a block that never ran over an output that started as zeros
    return a


def _stale_tile(a: NDArray[Any]) -> NDArray[Any]:
    flat = a.reshape(-1)
    flat[-len(flat) // 2 :] = flat[: len(flat) - len(flat) // 2][: len(flat[-len(flat) // 2 :])]
    return a


def _one_off(a: NDArray[Any]) -> NDArray[Any]:
    a.reshape(-1)[0] += 1
    return a


def _sign(a: NDArray[Any]) -> NDArray[Any]:
    return -a


def _infinite(a: NDArray[Any]) -> NDArray[Any] | None:
    if a.dtype.kind != "f":
        return None
    a.reshape(-1)[0] = np.inf
    return a


def _rough(a: NDArray[Any]) -> NDArray[Any] | None:
    """Half precision somewhere on the way."""
    return a.astype(np.float16).astype(a.dtype) * (1 + 1e-3) if a.dtype.kind == "f" else None


BREAKS = {
    "nan": _nan, "infinite": _infinite, "zeros": np.zeros_like, "dropped tile": _dropped_tile, "stale tile": _stale_tile,
    "one element off": _one_off, "sign": _sign, "rough": _rough, "shifted": lambda a: np.roll(a, 1),
}  # fmt: skip


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize(
    "target", [TARGETS[0], Target("fake", "cpu", "nhwc", "hwio", exact=False, factor=16.0, local=False)], ids=str
)
def test_wrong_results_fail(target: Target, case: Case, broken: str) -> None:
    """Every entry on its own, so that a right first entry cannot hide a wrong second one."""
    for entry in case.entries:
        core = FakeCore(target, lambda e, results, entry=entry: _every(BREAKS[broken])(e, results) if e == entry else None)
        with pytest.raises(Mismatch, match=r"python tests/support/harness\.py fake"):
            check(core, target, case, ("integers", "floats"), (entry,))


@pytest.mark.parametrize("output", ["dx", "dw", "db"])
def test_each_output_is_looked_at(output: str) -> None:
    def only(entry: str, results: Tensors) -> None:
        if entry == "conv2d_backward" and output in results:
            results[output] = results[output] * 1.001

    with pytest.raises(Mismatch, match=f"'{output}'"):
        run(TARGETS[0], CASES[0], only)


def test_small_error_in_one_float_fails() -> None:
    """The bound is tight enough to see one missing term of 2,304, which changes a sum by about 2 %."""
    case = conv((1, 256, 4, 4), 2, 3, pad=1)
    expected, tolerance = harness.expect(case, "floats", "conv2d_forward", ("x", "w", "bias"))
    t = harness.make_inputs(case, "floats")
    got = expected["y"].astype(np.float32)
    assert harness.judge("y", got, expected["y"], tolerance["y"], False) == ""
    got[0, 1, 2, 2] -= t["x"][0, 77, 2, 2] * t["w"][1, 77, 1, 1]
    assert "1 of 32 elements" in harness.judge("y", got, expected["y"], tolerance["y"], False)


def test_different_bits_fail() -> None:
    """A result that is right but not reproducible: a sum in an order that changes."""

    class Restless(FakeCore):
        def call(self, *arguments: Any) -> Tensors:
            results = super().call(*arguments)
            if arguments[2] == "mse_loss":
                results["grad"] = np.nextafter(results["grad"], np.float32(self.calls % 2))
            return results

    with pytest.raises(Mismatch, match="other bits"):
        check(Restless(TARGETS[0]), TARGETS[0], mse(257), ("floats",))


def test_wrong_layout_fails() -> None:
    """A version that says NHWC and computes NCHW."""
    says, does = TARGETS[1], TARGETS[0]
    for case in CASES[:4]:
        with pytest.raises(Mismatch):
            check(FakeCore(does), says, case, ("integers",))


def test_missing_and_short_outputs_fail() -> None:
    with pytest.raises(Mismatch, match="missing"):
        run(TARGETS[0], CASES[0], lambda entry, results: results.clear())
    with pytest.raises(Mismatch, match="elements instead of"):
        run(TARGETS[0], CASES[0], _every(lambda a: a[:-1]))


def test_errors_of_the_device_fail_with_a_repro_line() -> None:
    class Faulty(FakeCore):
        def call(self, *arguments: Any) -> Tensors:
            raise RuntimeError("conv2d_forward wrote past the end of 'y'")

    with pytest.raises(Mismatch, match=r"wrote past the end of 'y'\n  python tests/support/harness\.py"):
        check(Faulty(TARGETS[0]), TARGETS[0], CASES[0], ("integers",))


@pytest.mark.parametrize("reason", ["no", "unsupported shape", " 3x3 only, please use v1 instead of this"])
def test_refusals_without_a_sentence_fail(reason: str) -> None:
    with pytest.raises(Mismatch, match="without a sentence"):
        check(FakeCore(TARGETS[0], refused=reason), TARGETS[0], CASES[0], ("integers",))


def test_refusals_with_a_sentence_run_nothing() -> None:
    core = FakeCore(TARGETS[0], refused="v9 takes kernels of 3x3 only; v1 takes any")
    assert check(core, TARGETS[0], CASES[0], ("integers",)) == []
    assert core.calls == 0
