"""Every convolution of the model zoo on v5: taken, or refused with the reason. Asks the tables; computes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cases import MODELS, PRECISIONS, Case, activation, conv, fused, pool, precise, upsample

DEVICE = "emulated"
ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "conv2d_backward_bias")
APART = "; as operations of their own v5 takes the convolution and the rest"


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
            assert set(found) == set(ENTRIES), case.layer
            for entry, why in found.items():
                start = "v5 leaves groups of at most 4 channels" if entry != ENTRIES[3] else "folded into v5's gradients"
                assert why.startswith(start), (case.layer, entry, why)
                assert why.endswith(APART), (case.layer, entry, why)
            continue
        assert "conv2d_forward" not in found, (case.layer, found)
        assert set(found) == set(ENTRIES[1:]), case.layer
        for why in found.values():
            assert why.endswith("the activation's gradient moves three maps" + APART)
        if a["OH"] > 1 and a["OW"] > 1:
            assert not reasons(core, precise(fused(case, activation="relu", pool=2), precision)), case.layer
        if a["H"] % 2 == a["W"] % 2 == 0 and a["stride_h"] == 1:
            assert not reasons(core, precise(fused(case, upsample=2), precision)), case.layer


def test_a_gradient_is_never_read_less_than_a_pass_moves(core: Any) -> None:
    """The paper of docs/kernels/v5.md: conv3 and conv4 of the CIFAR-10 autoencoder."""
    layers = {case.layer: case for case in MODELS if case.layer.startswith("cifar10.")}

    def reads(case: Case) -> int:
        why = core.why_not(DEVICE, "v5", "conv2d_backward_input", precise(case, "bf16").attributes)
        return int(why.split(" times;")[0].split()[-1])

    assert reads(fused(layers["cifar10.conv3"], activation="relu")) == 9 + 9 + 1
    assert reads(fused(layers["cifar10.conv4"], activation="relu")) == 9 + 9 + 1
    assert reads(fused(layers["cifar10.conv4"], activation="relu", upsample=2)) == 4 + 4 + 1


PLAIN = conv((2, 8, 12, 12), 8, 3, pad=1)
DEPTHWISE = conv((2, 8, 12, 12), 8, 3, pad=1, groups=8)
REFUSED = [  # what is folded in, and how the refusal starts
    (PLAIN, {"activation": "relu", "pool": 3}, "v5 folds a max pool of 2x2 into a convolution, not of 3x3"),
    (PLAIN, {"activation": "sigmoid", "pool": 2}, "v5 folds no sigmoid in front"),
    (PLAIN, {"activation": "leaky_relu", "slope": -0.5, "pool": 2}, "v5 tells the slope of a leaky ReLU"),
    (PLAIN, {"upsample": 3}, "v5 folds nearest upsampling by 2 into a convolution, not by 3"),
    (
        conv((2, 8, 12, 12), 8, 3, stride=2, pad=1),
        {"upsample": 2},
        "v5 folds an upsample only into a convolution of stride 1",
    ),
    (DEPTHWISE, {"activation": "relu", "pool": 2}, "v5 leaves groups of at most 4 channels to v2's kernels"),
]


@pytest.mark.parametrize("precision", ["fp32", *PRECISIONS])
@pytest.mark.parametrize(("case", "folded", "start"), REFUSED, ids=[start[:40] for _, _, start in REFUSED])
def test_what_a_refusal_says_v5_takes_apart_it_takes(
    core: Any, case: Case, folded: dict[str, Any], start: str, precision: str
) -> None:
    found = reasons(core, precise(fused(case, **folded), precision))
    assert set(found) - {"conv2d_backward_bias"} == set(ENTRIES[:3])  # an upsample in front is nothing to the sum of dy
    for why in found.values():
        assert why.startswith("v5 leaves float32 to v2's kernels" if precision == "fp32" else start)
        assert why.endswith(APART)
    assert not reasons(core, precise(case, precision))
    a = case.attributes
    parts = [activation(1000, folded["activation"])] if "activation" in folded else []
    parts += [pool((a["N"], a["C_out"], a["OH"], a["OW"]), folded["pool"])] if "pool" in folded else []
    parts += [upsample((a["N"], a["C_in"], 4, 4), folded["upsample"])] if "upsample" in folded else []
    for part in parts:
        for entry in part.entries:
            assert not core.why_not(DEVICE, "v5", entry, part.attributes), entry


@pytest.mark.parametrize("precision", ["fp32", *PRECISIONS])
def test_strides_past_the_grid_are_v1s(core: Any, precision: str) -> None:
    case = conv((1, 2, 300, 300), 2, 1, stride=300)
    assert list(reasons(core, precise(case, precision)).values()) == [
        "stride_h * stride_w must be at most 65535, one grid row each; v1 takes any stride, in fp32"
    ]
    assert not core.why_not(DEVICE, "v1", "conv2d_backward_input", precise(case, "fp32").attributes)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_shape_that_no_version_takes_says_so(core: Any, precision: str) -> None:
    row = conv((1, 8, 1, 9), 8, 1)
    odd = conv((1, 8, 9, 9), 8, 3, pad=1)
    odd = replace(odd, values=tuple((odd.attributes | {"upsample": 2}).items()))
    for why in reasons(core, precise(fused(row, pool=2), precision)).values():
        assert why == "a map of less than 2x2 pixels has no window of 2x2 to pool, in no version"
    for why in reasons(core, precise(odd, precision)).values():
        assert why == "an image upsampled by 2 has an even height and width, in every version"
