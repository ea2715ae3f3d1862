"""Operands off the grid of 16 bytes, as other libraries' arrays may be: kernels that load 16 bytes at a time take another way."""

from __future__ import annotations

from typing import Any

import harness
import oracle
import pytest
from cases import Case, conv, precise
from conftest import device_mark, kernel_targets

CASES = [
    conv((2, 32, 7, 9), 128, 3, pad=1),  # the widest tile
    conv((40, 32, 8, 8), 128, 3, pad=1),  # in several runs
    conv((2, 32, 8, 8), 64, 3, pad=1),
    conv((2, 64, 8, 6), 128, 3, stride=2, pad=1),
]
CHOSEN = [
    pytest.param(target, case if precision == "fp32" else precise(case, precision), id=f"{target}-{case.name}-{precision}")
    for target in kernel_targets()
    for precision in {"v2": ("fp32",), "v5": ("bf16", "fp16", "tf32"), "v7": ("bf16",)}.get(target.version, ())
    for case in CASES
    if target.device in ("cuda", "emulated", "emulated:checked")
]


@pytest.mark.parametrize(
    ("target", "case"), [pytest.param(*p.values, id=p.id, marks=device_mark(p.values[0].device)) for p in CHOSEN]
)
def test_gradients_of_weights(core: Any, target: harness.Target, case: Case) -> None:
    if core.why_not(target.device, target.version, "conv2d_backward_weight", case.attributes):
        pytest.skip("refused")
    inputs = harness.make_inputs(case, "integers")
    given = {name: harness.to_version(name, inputs[name], target) for name in ("x", "dy")}
    call = (target.device, target.version, "conv2d_backward_weight", case.attributes, given, ["dw"], True)
    got = core.call(*call, offset=4)["dw"]
    expected = oracle.compute("conv2d_backward", case.attributes, inputs)["dw"]
    assert (harness.from_version("dw", got, expected.shape, target) == expected).all()  # sums of small integers are exact


def test_an_offset_is_a_multiple_of_four(core: Any) -> None:
    for offset in (-4, 2, 2048):
        with pytest.raises(ValueError, match="offset is a multiple of 4 bytes"):
            core.call("cpu", "cpu", "activation_forward", {"count": 1, "kind": "relu"}, {}, offset=offset)
