"""v5's kernels for convolutions with few channels on one side: every box, window and sum against the oracle; who takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import FEW_CHANNELS, MODELS, PRECISIONS, Case, conv, fused, precise
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, check, make_inputs, to_version

TARGETS: list[Target] = [t for t in kernel_targets() if t.version == "v5"]
ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")


def own(core: Any, target: Target, case: Case) -> tuple[str, ...]:
    """The entries that go to these kernels."""
    return tuple(e for e in ENTRIES if algorithm(core, target.device, "v5", e, case).endswith(", few channels"))


def expected(case: Case) -> tuple[str, ...]:
    """Few inputs: forward and dw. Few outputs: dx and dw."""
    a = case.attributes
    found = ["conv2d_forward"] * (a["C_in"] <= 4) + ["conv2d_backward_input"] * (a["C_out"] <= 4)
    return (*found, *["conv2d_backward_weight"] * (max(a["C_in"], a["C_out"]) >= 16 and a["activation"] != "sigmoid"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FEW_CHANNELS])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_few_channels(core: Any, target: Target, case: Case) -> None:
    entries = own(core, target, case)
    assert entries == expected(case)
    # The checked emulator, where it is slow, for one precision.
    checked = target.device == "emulated:checked"
    if checked and case.work > 1e6 and case.attributes["precision"] != "bf16":
        pytest.skip("the fast emulator runs it")
    fills = ("floats",) if checked else ("integers", "floats")
    assert check(core, target, case, fills, entries, twice=not checked) == list(entries)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_layers_of_the_zoo(core: Any, precision: str) -> None:
    layers = {case.layer: case for case in MODELS}
    forward, dx, dw = ENTRIES

    def taken(layer: str, **folded: Any) -> tuple[str, ...]:
        return own(core, TARGETS[0], precise(fused(layers[layer], **folded), precision))

    assert taken("cifar10.conv1", activation="relu", pool=2) == (forward, dw)
    assert taken("cifar10.conv5", upsample=2) == (dx, dw)
    assert taken("gray.enc1") == taken("unet_large.prep0") == taken("dsresnet.enc1a") == (forward, dw)
    assert taken("cifar10.conv2") == ()
    assert taken("liae.down1") == ()  # 75 products
    assert taken("liae.image") == (dx, dw)


def test_four_of_the_largest_gradients_fit_into_fp16(core: Any) -> None:
    """An upsample shows a pixel four times: the sum of its gradients must not leave the range to which one of them was scaled."""
    target = TARGETS[0]
    case = precise(fused(conv((1, 32, 16, 16), 3, 3, pad=1), upsample=2), "fp16")
    t = make_inputs(case, "integers")
    dy = np.full_like(t["dy"], 0.9990234)  # just below a power of two: scaled to just below 2^15
    given = {"dy": dy, "x": np.ones_like(t["x"]), "w": np.ones_like(t["w"])}
    given = {k: to_version(k, v, target) for k, v in given.items()}
    dx = core.call(target.device, "v5", ENTRIES[1], case.attributes, {k: given[k] for k in ("dy", "w")}, ["dx"], False)["dx"]
    dw = core.call(target.device, "v5", ENTRIES[2], case.attributes, {k: given[k] for k in ("dy", "x")}, ["dw"], False)["dw"]
    assert np.allclose(dx.max(), 4 * 27 * 0.9990234, rtol=1e-3)
    assert np.allclose(dw.max(), 16 * 16 * 0.9990234, rtol=1e-3)


@pytest.mark.parametrize(
    "case",
    [
        conv((2, 5, 16, 16), 5, 3, pad=1),  # five channels
        conv((2, 3, 7, 9), 64, 3, pad=1),  # 63 pixels
        conv((2, 3, 30, 30), 32, 3, stride=3, pad=1),
        conv((2, 3, 30, 30), 32, 3, stride=(1, 2), pad=1),
        conv((2, 4, 30, 30), 32, 5, pad=2),  # 100 products
        conv((2, 4, 30, 30), 6, 3, pad=1, groups=2),
        fused(conv((2, 3, 30, 30), 32, 3, pad=1), upsample=2),
    ],
    ids=lambda case: case.name,
)
def test_what_the_general_kernels_keep(core: Any, case: Case) -> None:
    assert own(core, TARGETS[0], precise(case, "bf16")) == ()
