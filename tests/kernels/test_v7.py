"""v7's own algorithms, wgmma fed by bulk copies: every box, chunk and phase against the oracle, and who computes the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import HALO_TILES, MODELS, PRECISIONS, Case, conv, fused, precise, stored, with_db
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, check, make_inputs, to_version

TARGETS: list[Target] = [t for t in kernel_targets() if t.version == "v7"]
ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")


def own(core: Any, target: Target, case: Case) -> tuple[str, ...]:
    """The entries that v7 computes itself."""
    return tuple(e for e in ENTRIES if algorithm(core, target.device, "v7", e, case).startswith("wgmma"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in HALO_TILES])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_halo_tile(core: Any, target: Target, case: Case) -> None:
    entries = own(core, target, case)
    assert entries, "a case of this list is for v7's own algorithms"
    # The checked emulator, where it is slow, for one precision.
    checked = target.device == "emulated:checked"
    if checked and case.work > 1e7 and case.attributes["precision"] != "bf16":
        pytest.skip("the fast emulator runs it")
    fills = ("floats",) if checked else ("integers", "floats")
    assert check(core, target, case, fills, entries, twice=not checked and case.work < 1e7) == list(entries)


# Many tiles of channels: blocks of nine taps, of an upsample of four sums, keep a large GPU busy. Smaller problems take fewer.
MANY_TAPS = [
    stored(precise(conv((3, 640, 6, 7), 640, 3, pad=1), "bf16"), "bf16", "bf16"),
    stored(precise(conv((2, 616, 6, 8), 640, 3, pad=1), "fp16"), "f16", "f32"),
    stored(precise(fused(conv((3, 264, 16, 10), 320, 3, pad=1), upsample=2), "bf16"), "bf16", "bf16"),
]


@pytest.mark.parametrize("case", [pytest.param(with_db(case), id=case.name) for case in MANY_TAPS])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_blocks_of_many_taps(core: Any, target: Target, case: Case) -> None:
    entry = "conv2d_backward_weight"
    assert algorithm(core, target.device, "v7", entry, case).startswith("wgmma")
    assert check(core, target, case, ("floats",), (entry,), twice=False) == [entry]


def test_there_are_targets(core: Any) -> None:
    assert {"emulated", "emulated:checked"} <= {t.device for t in TARGETS}


def test_most_of_the_zoo_is_its_own(core: Any) -> None:
    """Every convolution of the zoo with channels enough runs forward on wgmma, but for strides and groups, which go to v5."""
    target = TARGETS[0]
    for case in MODELS:
        a = case.attributes
        if a["groups"] > 1 or a["stride_h"] > 1 or a["C_in"] < 16 or a["C_in"] % 4 or a["C_out"] < 32:
            continue
        assert own(core, target, precise(case, "bf16"))[0] == "conv2d_forward", case.name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_answer_as_v5(core: Any, precision: str) -> None:
    """Only the order of the sum differs; a pool keeps the codes that v5's gradients read."""
    case = precise(fused(conv((3, 48, 9, 10), 40, 3, pad=1), activation="relu", pool=2), precision)
    t = make_inputs(case, "integers")
    outputs = {}
    for target in TARGETS[0], next(t for t in kernel_targets() if t.version == "v5"):
        given = {name: to_version(name, t[name], target) for name in ("x", "w", "bias")}
        outputs[target.version] = core.call(
            target.device, target.version, "conv2d_forward", case.attributes, given, ["y", "saved"], True
        )
    for name, value in outputs["v5"].items():
        np.testing.assert_array_equal(outputs["v7"][name], value, err_msg=name)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sources_off_the_copy_engines_grid(core: Any, precision: str) -> None:
    """The workspace that is planned serves both v7 and v6, whose kernels take what is not aligned to 16 bytes."""
    case = precise(conv((1, 32, 6, 6), 32, 3, pad=1), precision)
    for entry in ENTRIES:
        needs = core.needs("emulated", "v7", entry, case.attributes)["workspace"]
        assert needs >= core.needs("emulated", "v6", entry, case.attributes)["workspace"]
