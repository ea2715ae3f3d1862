"""Harness of the shared operations: runs the cases of kernels/ops/<name>/reference.py through _core.call and judges the outputs.

    python tests/support/shared_ops.py emulated:checked v1 batch_norm_forward nchw_small

is the line that a failing test prints. A reference.py holds

    CASES: list[tuple[str, str, dict]]                    # (entry, case name, attributes)
    inputs(entry, attributes, rng) -> {tensor: array}     # everything the case gives, float64 or integers; cast here
    reference(entry, attributes, inputs) -> {tensor: array}       # float64: every output and updated tensor
    GRADIENTS: {entry: f(attributes, inputs) -> (scalar(inputs) -> float, {output: input it is the gradient of})}
    tolerance(entry, attributes) -> float                 # optional: allowed error over the largest |expected| of the tensor
    magnitude(entry, attributes, inputs) -> {tensor: float}       # optional: what errors are measured by, where terms cancel
    NO_NAN: {entry: {tensor, ...}}                        # optional: inputs in which a NaN has no agreed meaning

Attributes that begin with an underscore are for reference.py alone (which optional inputs to leave out, how large a mean is);
only "_refused" means something here: the words with which the entry must refuse the case. Outputs are asked for all together,
then with each optional one left out.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from harness import Mismatch, Target, judge
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "kernels" / "ops"
DTYPES = {"f32": np.float32, "f64": np.float64, "u8": np.uint8, "i32": np.int32}


@cache
def load(folder: str) -> ModuleType:
    """kernels/ops/<folder>/reference.py as a module."""
    name = f"reference_{folder}"
    spec = importlib.util.spec_from_file_location(name, FOLDER / folder / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def folders() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob("*/reference.py"))


@dataclass(frozen=True)
class SharedCase:
    """One entry of one shared operation with the attributes of one case."""

    module: ModuleType = field(hash=False)
    entry: str
    name: str
    attributes: Attributes = field(hash=False, compare=False)

    def __str__(self) -> str:
        return f"{self.entry}-{self.name}"

    @property
    def public(self) -> Attributes:
        """The attributes that the entry knows."""
        return {k: v for k, v in self.attributes.items() if not k.startswith("_")}

    @property
    def refused(self) -> str:
        return str(self.attributes.get("_refused", ""))

    def draw(self) -> Tensors:
        """The inputs as reference.py gives them: float64."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        drawn: Tensors = self.module.inputs(self.entry, self.attributes, rng)
        return drawn

    def expect(self, inputs: Tensors) -> Tensors:
        wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in inputs.items()}
        with np.errstate(all="ignore"):
            results: Tensors = self.module.reference(self.entry, self.attributes, wide)
        return results

    def relative(self, inputs: Tensors, expected: Tensors) -> float:
        """Allowed error over a tensor's largest value: float32 rounding, and a little more for long sums."""
        if hasattr(self.module, "tolerance"):
            return float(self.module.tolerance(self.entry, self.attributes))
        largest = max((v.size for v in inputs.values()), default=1)
        smallest = min((v.size for v in expected.values() if v.size), default=1)
        return 2e-6 * max(1.0, largest / smallest) ** 0.25

    def bound(self, name: str, inputs: Tensors, expected: Tensors) -> float:
        with warnings.catch_warnings():  # inputs full of NaN have no magnitude
            warnings.simplefilter("ignore")
            sizes = self.module.magnitude(self.entry, self.attributes, inputs) if hasattr(self.module, "magnitude") else {}
        finite = np.abs(expected[name][np.isfinite(expected[name])])
        return self.relative(inputs, expected) * float(max(finite.max(initial=0.0), sizes.get(name, 0.0)))


def discover() -> list[SharedCase]:
    """Every case of every folder."""
    found = [SharedCase(load(f), entry, name, attributes) for f in folders() for entry, name, attributes in load(f).CASES]
    names = [str(case) for case in found]
    assert len(set(names)) == len(names), f"two cases have the same name: {sorted({n for n in names if names.count(n) > 1})}"
    return found


def entries_with_reference() -> set[str]:
    return {case.entry for case in discover()}


@dataclass(frozen=True)
class Tensor:
    name: str
    role: str
    dtype: Any
    optional: bool


def signature(core: Any, case: SharedCase) -> dict[str, Tensor]:
    """An attribute "dtype" is that of the tensor whose type is uint8 where nothing is said."""
    described = next(e for e in core.entries() if e["name"] == case.entry)
    kinds = DTYPES | {"u8": DTYPES.get(case.attributes.get("dtype", "u8"), np.uint8)}
    return {t["name"]: Tensor(t["name"], t["role"], kinds[t["dtype"]], t["optional"]) for t in described["tensors"]}


def cast(tensors: dict[str, Tensor], inputs: Tensors) -> Tensors:
    unknown = set(inputs) - set(tensors)
    assert not unknown, f"reference.py gives inputs that the entry does not have: {sorted(unknown)}"
    return {k: np.ascontiguousarray(v, dtype=tensors[k].dtype).reshape(-1) for k, v in inputs.items()}


def requests(tensors: dict[str, Tensor], expected: Tensors) -> list[list[str]]:
    """Which outputs to ask for: all of them; then each optional one left out, as long as one is left to compute."""
    outputs = [t for t in tensors.values() if t.role == "out" and t.name in expected]
    outputs = [t for t in outputs if not t.optional or expected[t.name].size]  # an empty one counts as not wanted
    missing = [t.name for t in tensors.values() if t.role == "out" and not t.optional and t.name not in expected]
    assert not missing, f"reference.py does not compute {missing}"
    every = [t.name for t in outputs]
    found = [every]
    for t in outputs:
        rest = [n for n in every if n != t.name]
        if t.optional and (rest or any(x.role == "inout" for x in tensors.values())):
            found.append(rest)
    return found


def repro(target: Target, case: SharedCase) -> str:
    return f"python tests/support/shared_ops.py {target.device} {target.version} {case.entry} {case.name}"


def compare(target: Target, case: SharedCase, inputs: Tensors, expected: Tensors, got: Tensors, names: list[str]) -> None:
    """Every named output; where the reference has a NaN (or an infinity) the result must have the same, elsewhere a number."""
    for name in names:
        if name not in got:
            raise Mismatch(f"output '{name}' is missing\n  {repro(target, case)}")
        right, value = expected[name].reshape(-1), got[name].reshape(-1)
        problem = ""
        if value.shape != right.shape:
            problem = f"'{name}' has {value.size} elements, the reference {right.size}"
        elif value.dtype.kind in "iu":
            problem = judge(name, value, right, 0.0, True)
        else:
            special = ~np.isfinite(right)
            with np.errstate(over="ignore", invalid="ignore"):
                differs = (np.isnan(value) != np.isnan(right)) | (np.isinf(right) & (value != right))
            if (differs & special).any():
                at = int(np.argmax(differs & special))
                problem = f"'{name}': element {at} must be {right[at]}, but is {value[at]}"
            else:
                bound = case.bound(name, inputs, expected)
                problem = judge(name, value[~special], right[~special], bound, False)
        if problem:
            raise Mismatch(f"{case}: {problem}\n  {repro(target, case)}")


def run(core: Any, target: Target, case: SharedCase, inputs: Tensors, twice: bool) -> None:
    """The case with the given inputs and every choice of outputs; raises Mismatch."""
    tensors = signature(core, case)
    given = cast(tensors, inputs)
    expected = case.expect(given)
    updated = [name for name, t in tensors.items() if t.role == "inout" and name in given]
    for name in updated:
        assert name in expected, f"reference.py does not compute the updated '{name}'"
    for i, outputs in enumerate(requests(tensors, expected)):
        try:
            runs = [
                core.call(target.device, target.version, case.entry, case.public, given, outputs, True)
                for _ in range(2 if twice and i == 0 else 1)
            ]
        except (core.Error, ValueError, TypeError) as e:
            raise Mismatch(f"{case}: {type(e).__name__}: {e}\n  {repro(target, case)}") from e
        compare(target, case, given, expected, runs[0], outputs + updated)
        for name, value in runs[-1].items():
            if value.tobytes() != runs[0][name].tobytes():
                raise Mismatch(f"{case}: '{name}' has other bits when run again\n  {repro(target, case)}")


def check(core: Any, target: Target, case: SharedCase, twice: bool = True) -> None:
    """The whole test of a case on a target."""
    why = core.why_not(target.device, target.version, case.entry, case.public)
    if case.refused:
        if case.refused not in why or len(why.split()) < 4:
            raise Mismatch(f"{case}: must be refused with '...{case.refused}...', got {why!r}\n  {repro(target, case)}")
        return
    if why:
        raise Mismatch(f"{case} is refused: {why}\n  {repro(target, case)}")
    run(core, target, case, case.draw(), twice)


def check_nan(core: Any, target: Target, case: SharedCase) -> None:
    """One NaN in each float input in turn: it must reach exactly the outputs that the reference says."""
    tensors = signature(core, case)
    skipped = getattr(case.module, "NO_NAN", {}).get(case.entry, set())
    for name, value in case.draw().items():
        if value.dtype.kind != "f" or name in skipped or not value.size or tensors[name].dtype not in (np.float32, np.float64):
            continue
        inputs = {k: np.array(v) for k, v in case.draw().items()}
        inputs[name].reshape(-1)[value.size * 2 // 3] = np.nan
        try:
            run(core, target, case, inputs, False)
        except Mismatch as e:
            raise Mismatch(f"with a NaN in '{name}': {e}") from e


# ---- The references themselves ----


def check_gradients(case: SharedCase, reference: Callable[..., Tensors] | None = None, probes: int = 12) -> int:
    """Central differences, float64, against what the reference computes; returns how many elements were probed."""
    maker = case.module.GRADIENTS.get(case.entry)
    if maker is None or case.refused:
        return 0
    inputs = {k: np.array(v, dtype=np.float64 if v.dtype.kind == "f" else v.dtype) for k, v in case.draw().items()}
    scalar, pairs = maker(case.attributes, inputs)  # may add what the entry itself does not read, such as a beta
    entry_inputs = {k: v for k, v in inputs.items() if k in case.draw()}
    gradients = (reference or case.module.reference)(case.entry, case.attributes, entry_inputs)
    rng, probed = np.random.default_rng(5), 0
    for output, name in pairs.items():
        if output not in gradients or not inputs[name].size:
            continue
        gradient, tensor = gradients[output].reshape(-1), inputs[name]
        assert gradient.size == tensor.size, f"{case}: '{output}' has {gradient.size} elements, '{name}' {tensor.size}"
        step = 1e-5 * (float(tensor.std()) or 1.0)
        for i in rng.choice(tensor.size, min(probes, tensor.size), replace=False):
            values = []
            for sign in (1.0, -1.0):
                moved = {k: np.array(v) for k, v in inputs.items()}
                moved[name].reshape(-1)[i] += sign * step
                values.append(float(scalar(moved)))
            slope = (values[0] - values[1]) / (2 * step)
            noise = 1e-14 * max(abs(values[0]), abs(values[1])) / step
            allowed = 1e-5 * float(np.abs(gradient).max()) + 10 * noise + 1e-9
            if not abs(slope - gradient[i]) <= allowed:
                raise Mismatch(
                    f"{case}: the reference's '{output}' is {gradient[i]:.9g} at {i}, the difference quotient of '{name}' "
                    f"{slope:.9g} (allowed {allowed:.2g})"
                )
            probed += 1
    return probed


def main(arguments: list[str]) -> int:
    if len(arguments) < 3:
        print(__doc__)
        return 2
    import harness
    from warploom import _core

    device, version, entry, *names = arguments
    chosen = harness.target(_core, device, version)
    cases = [c for c in discover() if c.entry == entry and (not names or c.name in names)]
    if chosen is None or not cases:
        print(f"no device '{device}' with version '{version}'" if chosen is None else f"no case {entry} {' '.join(names)}")
        return 2
    wrong = 0
    for case in cases:
        try:
            check_gradients(case)
            check(_core, chosen, case)
            if not case.refused:
                check_nan(_core, chosen, case)
            print(f"{chosen} {case}: right")
        except Mismatch as e:
            wrong += 1
            print(e)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
