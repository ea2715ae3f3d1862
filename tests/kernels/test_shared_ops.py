"""Every shared operation (kernels/ops/<name>) on every device against its reference; the references by numerical gradients; and
the harness itself by results and references that are wrong on purpose.

All versions share one implementation, so one version per device runs every case, and the others the first case of each entry.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import shared_ops
from conftest import device_mark, kernel_targets
from harness import Mismatch, Target
from shared_ops import SharedCase, check, check_gradients, check_nan, discover

TARGETS: list[Target] = kernel_targets()
CASES = discover()
RUNNING = [case for case in CASES if not case.refused]
FIRST = [next(c for c in RUNNING if c.entry == entry) for entry in dict.fromkeys(c.entry for c in RUNNING)]


def leaders() -> list[Target]:
    """One target per device: the first version it has."""
    found: dict[str, Target] = {}
    for target in TARGETS:
        found.setdefault(target.device, target)
    return list(found.values())


def param(target: Target, *others: Any) -> Any:
    name = "-".join([str(target), *(str(o) for o in others)])
    return pytest.param(target, *others, id=name, marks=device_mark(target.device))


def test_every_shared_operation_has_a_reference() -> None:
    definitions = (Path(shared_ops.FOLDER).parent / "ops.def").read_text().splitlines()
    declared = {line.split("(")[1].split(",")[0] for line in definitions if line.startswith("WL_SHARED_OP(")}
    assert shared_ops.entries_with_reference() == declared


@pytest.mark.parametrize(("target", "case"), [param(t, c) for c in CASES for t in leaders()])
def test_case(core: Any, target: Target, case: SharedCase) -> None:
    check(core, target, case, twice=target.device != "emulated:checked")


@pytest.mark.parametrize(
    ("target", "case"), [param(t, c) for c in FIRST for t in TARGETS if t not in leaders() and t.device != "emulated:checked"]
)
def test_first_case_on_the_other_versions(core: Any, target: Target, case: SharedCase) -> None:
    check(core, target, case, twice=False)


@pytest.mark.parametrize(("target", "case"), [param(t, c) for c in FIRST for t in leaders() if t.device != "emulated"])
def test_nan_goes_where_it_must(core: Any, target: Target, case: SharedCase) -> None:
    check_nan(core, target, case)


@pytest.mark.parametrize("case", [c for c in RUNNING if c.entry in c.module.GRADIENTS], ids=str)
def test_gradient_of_the_reference(case: SharedCase) -> None:
    empty = any(v.size == 0 for v in case.draw().values())
    assert check_gradients(case) or empty


@pytest.mark.parametrize("entry", sorted({c.entry for c in CASES if c.entry.endswith(("_backward", "_loss"))}))
def test_every_gradient_is_checked(entry: str) -> None:
    case = next(c for c in RUNNING if c.entry == entry)
    assert entry in case.module.GRADIENTS, f"{entry} needs a scalar in GRADIENTS of its reference.py"


# ---- The same bits in another process, with other threads or another order of the emulated threads ----

DIGEST = """
import hashlib, sys
import harness, shared_ops
from warploom import _core
device, version = sys.argv[1:]
target = harness.target(_core, device, version)
digest = hashlib.sha256()
class Recording:
    Error, why_not, entries = _core.Error, _core.why_not, _core.entries
    def call(self, *arguments):
        results = _core.call(*arguments)
        for name in sorted(results):
            digest.update(results[name].tobytes())
        return results
for case in shared_ops.discover():
    if not case.refused and (device == "cpu" or sum(v.size for v in case.draw().values()) < 5000):
        shared_ops.check(Recording(), target, case, twice=False)
print(digest.hexdigest())
"""


def digest(target: Target, **environment: str) -> str:
    paths = os.pathsep.join(p for p in sys.path if p)
    full = {**os.environ, "PYTHONPATH": paths, **environment}
    command = [sys.executable, "-c", DIGEST, target.device, target.version]
    done = subprocess.run(command, env=full, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("target", [param(t) for t in leaders() if t.device in ("cpu", "emulated:checked")])
def test_same_bits_with_any_number_of_threads(core: Any, target: Target) -> None:
    seeds = ("1", "2") if target.device.startswith("emulated") else ("", "")
    first, second = (
        digest(target, WARPLOOM_THREADS=threads, **({"WARPLOOM_EMULATOR_SEED": seed} if seed else {}))
        for threads, seed in zip(("1", "3"), seeds, strict=True)
    )
    assert first == second


# ---- The harness: a small operation of its own, and ways to get it wrong ----

FAKE = Target("fake", "v9")


def fake_module() -> ModuleType:
    """y = 2 x + 1 and a gradient, as a reference.py would say it."""
    module = ModuleType("reference_fake")
    module.CASES = [("double_backward", "some", {"count": 40, "_scale": 3.0})]  # type: ignore[attr-defined]

    def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {"x": attributes["_scale"] * rng.standard_normal(40), "dy": rng.standard_normal(40)}

    def reference(entry: str, attributes: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
        return {"dx": 2 * t["x"] * t["dy"], "sum": np.array([t["dy"].sum()])}

    def scalar(attributes: dict[str, Any], t: dict[str, Any]) -> Any:
        return lambda moved: float((moved["x"] ** 2 * moved["dy"]).sum()), {"dx": "x"}

    module.inputs, module.reference = inputs, reference  # type: ignore[attr-defined]
    module.GRADIENTS = {"double_backward": scalar}  # type: ignore[attr-defined]
    return module


MODULE = fake_module()
FAKE_CASE = SharedCase(MODULE, *MODULE.CASES[0])


class FakeCore:
    """A device made of the reference, in float32, whose results can be broken."""

    Error = RuntimeError

    def __init__(self, change: Any = None, refused: str = "") -> None:
        self.change, self.refused, self.calls = change, refused, 0

    def entries(self) -> list[dict[str, Any]]:
        roles = {"x": "in", "dy": "in", "dx": "out", "sum": "out"}
        tensors = [{"name": n, "role": r, "dtype": "f32", "optional": n == "sum"} for n, r in roles.items()]
        return [{"name": "double_backward", "tensors": tensors, "attributes": ["count"]}]

    def why_not(self, device: str, version: str, entry: str, attributes: dict[str, Any]) -> str:
        return self.refused

    def call(
        self, device: str, version: str, entry: str, attributes: dict[str, Any], inputs: Any, outputs: list[str], guard: bool
    ) -> Any:
        assert guard, "the harness must ask for guard bands"
        assert attributes == {"count": 40}, "what begins with an underscore is not the kernel's"
        self.calls += 1
        wide = {k: v.astype(np.float64) for k, v in inputs.items()}
        results = {k: v.astype(np.float32) for k, v in MODULE.reference(entry, attributes, wide).items() if k in outputs}
        if self.change:
            self.change(results, self.calls)
        return results


def test_right_results_pass() -> None:
    core = FakeCore()
    check(core, FAKE, FAKE_CASE)
    check_nan(core, FAKE, FAKE_CASE)
    assert check_gradients(FAKE_CASE) == 12


def _set(name: str, index: Any, value: float) -> Any:
    def change(results: dict[str, Any], call: int) -> None:
        if name in results:
            results[name][index] = value

    return change


def _scale(results: dict[str, Any], call: int) -> None:
    results["dx"] = results["dx"] * np.float32(1.00002)


def _restless(results: dict[str, Any], call: int) -> None:
    results["dx"][3] = np.nextafter(results["dx"][3], np.float32(99 if call % 2 else -99))


def _short(results: dict[str, Any], call: int) -> None:
    results["dx"] = results["dx"][:-1]


def _only_alone(results: dict[str, Any], call: int) -> None:
    if "sum" not in results:
        results["dx"][:] = 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_set("dx", 39, np.nan), "1 of them NaN"),
        (_set("dx", slice(20, None), 0.0), "elements are wrong"),
        (_set("dx", 0, np.inf), "elements are wrong"),
        (_set("sum", 0, 17.0), "'sum'"),
        (_scale, "'dx'"),
        (_restless, "other bits"),
        (_short, "39 elements"),
        (lambda results, call: results.clear(), "is missing"),
        (_only_alone, "'dx'"),
    ],
)
def test_wrong_results_fail(change: Any, text: str) -> None:
    with pytest.raises(Mismatch, match=text):
        check(FakeCore(change), FAKE, FAKE_CASE)


def test_a_swallowed_nan_fails() -> None:
    def swallow(results: dict[str, Any], call: int) -> None:
        for name in results:
            results[name] = np.nan_to_num(results[name])

    with pytest.raises(Mismatch, match="with a NaN in 'x'"):
        check_nan(FakeCore(swallow), FAKE, FAKE_CASE)


def test_a_wrong_reference_fails() -> None:
    def wrong(entry: str, attributes: dict[str, Any], t: dict[str, Any]) -> dict[str, Any]:
        right = MODULE.reference(entry, attributes, t)
        return right | {"dx": right["dx"] * 1.001}

    with pytest.raises(Mismatch, match="difference quotient"):
        check_gradients(FAKE_CASE, wrong)


def test_refusals_must_be_asked_for() -> None:
    with pytest.raises(Mismatch, match="is refused: v9 takes nothing of this kind"):
        check(FakeCore(refused="v9 takes nothing of this kind"), FAKE, FAKE_CASE)
    expected = replace(FAKE_CASE, attributes=FAKE_CASE.attributes | {"_refused": "nothing of this"})
    check(FakeCore(refused="v9 takes nothing of this kind"), FAKE, expected)
    for reason in ("", "no", "something else altogether, sorry"):
        with pytest.raises(Mismatch, match="must be refused"):
            check(FakeCore(refused=reason), FAKE, expected)
