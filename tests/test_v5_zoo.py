"""Every convolution of the model zoo on v5: taken, or refused with the reason. Asks the tables; computes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cases import MODELS, PRECISIONS, Case, fused, precise

DEVICE = "emulated"
ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "conv2d_backward_bias")


def reasons(core: Any, case: Case) -> dict[str, str]:
    asked = {entry: core.why_not(DEVICE, "v5", entry, case.attributes) for entry in ENTRIES}
    return {entry: why for entry, why in asked.items() if why}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_v5_takes_every_layer_of_the_zoo(core: Any, precision: str) -> None:
    assert len(MODELS) > 50
    refused = {case.layer: why for case in MODELS if (why := reasons(core, precise(case, precision)))}
    assert not refused


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_v5_does_not_fold_has_a_reason(core: Any, precision: str) -> None:
    """An activation is folded forward and runs as an operation of its own backward; a pool is folded all ways or,
    for few channels in groups, refused; nobody is left without a sentence."""
    for case in MODELS:
        a = case.attributes
        plain = replace(fused(case, activation="relu"), layer=case.layer)
        found = reasons(core, precise(plain, precision))
        grouped = a["groups"] > 1 and max(a["C_in"], a["C_out"]) // a["groups"] <= 4
        if grouped:
            assert all("operation of its own" in why for why in found.values()), (case.layer, found)
            continue
        assert "conv2d_forward" not in found, (case.layer, found)
        assert set(found) == set(ENTRIES[1:]), case.layer
        for why in found.values():
            assert "as an operation of its own the activation's gradient moves three maps" in why
        if a["OH"] > 1 and a["OW"] > 1:
            assert not reasons(core, precise(fused(case, activation="relu", pool=2), precision)), case.layer
        if a["H"] % 2 == a["W"] % 2 == 0 and a["stride_h"] == 1:
            assert not reasons(core, precise(fused(case, upsample=2), precision)), case.layer


def test_a_gradient_is_never_read_less_than_a_pass_moves(core: Any) -> None:
    """The paper of docs/kernels.md: conv3 and conv4 of the CIFAR-10 autoencoder."""
    layers = {case.layer: case for case in MODELS if case.layer.startswith("cifar10.")}

    def reads(case: Case) -> int:
        why = core.why_not(DEVICE, "v5", "conv2d_backward_input", precise(case, "bf16").attributes)
        return int(why.split(" times;")[0].split()[-1])

    assert reads(fused(layers["cifar10.conv3"], activation="relu")) == 9 + 9 + 1
    assert reads(fused(layers["cifar10.conv4"], activation="relu")) == 9 + 9 + 1
    assert reads(fused(layers["cifar10.conv4"], activation="relu", upsample=2)) == 4 + 4 + 1
