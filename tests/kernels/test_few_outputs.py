"""v5's kernel for few outputs: every box and phase against the oracle, and which convolutions it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from cases import FEW_OUTPUTS, MODELS, PRECISIONS, Case, conv, fused, precise
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, check

TARGETS: list[Target] = [t for t in kernel_targets() if t.version == "v5"]
ENTRIES = ("conv2d_forward", "conv2d_backward_input")


def taken(core: Any, case: Case, device: str = "emulated", version: str = "v5") -> list[str]:
    """The entries that the kernel computes."""
    return [e for e in ENTRIES if algorithm(core, device, version, e, case).endswith(", columns")]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FEW_OUTPUTS])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_few_outputs(core: Any, target: Target, case: Case) -> None:
    entries = tuple(taken(core, case, target.device))
    assert entries == (ENTRIES[0] if case.attributes["C_out"] <= 4 else ENTRIES[1],), "a case of this list is for this kernel"
    fills = ("floats",) if target.device == "emulated:checked" else ("integers", "floats")
    assert check(core, target, case, fills, entries, twice=target.device != "emulated:checked") == list(entries)


def test_there_are_targets() -> None:
    assert {"emulated", "emulated:checked"} <= {t.device for t in TARGETS}


LEFT_TO_THE_GENERAL_KERNELS = [
    conv((1, 64, 8, 8), 3, 1),  # one tap
    conv((1, 64, 8, 8), 5, 3, pad=1),
    conv((1, 64, 8, 8), 3, 5, pad=2),  # 75 columns
    conv((1, 64, 8, 8), 3, 3, stride=2, pad=1),
    conv((1, 28, 8, 8), 3, 3, pad=1),
    conv((1, 130, 8, 8), 3, 3, pad=1),  # rows that are not 16-byte aligned
    conv((1, 64, 8, 8), 2, 3, pad=1, groups=2),
    fused(conv((1, 64, 8, 8), 3, 3, pad=1), activation="relu", pool=2),
    fused(conv((1, 3, 8, 8), 64, 3, pad=1), activation="relu", pool=2),
    fused(conv((1, 3, 8, 8), 64, 3, pad=1), upsample=2),
    conv((1, 3, 8, 8), 130, 3, pad=1),
    conv((1, 5, 8, 8), 64, 3, pad=1),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in LEFT_TO_THE_GENERAL_KERNELS])
def test_what_is_left_to_the_general_kernels(core: Any, case: Case, precision: str) -> None:
    assert taken(core, precise(case, precision)) == []


def test_float32_is_not_taken(core: Any) -> None:
    for case in FEW_OUTPUTS:
        assert taken(core, precise(case, "fp32")) == []


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("version", ["v5", "v7"])
def test_layers_of_the_zoo(core: Any, version: str, precision: str) -> None:
    """The last layers of the autoencoders, three colours or one, and nothing else of more channels."""
    found = {case.layer: entries for case in MODELS if (entries := taken(core, precise(case, precision), version=version))}
    assert found == {
        "cifar10.conv5": ["conv2d_forward"],
        "liae.image": ["conv2d_forward"],
        "gray.enc1": ["conv2d_backward_input"],
        "gray.dec4": ["conv2d_backward_input"],
        "gray.dec4_skips": ["conv2d_backward_input"],
        "cifar10.conv1": ["conv2d_backward_input"],
    }
    last = fused(conv((64, 256, 32, 32), 3, 3, pad=1), upsample=2)
    assert taken(core, precise(last, precision), version=version) == ["conv2d_forward"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_choice_answers_everything(core: Any, precision: str) -> None:
    """Name, workspace and what runs come from one list, by the shape alone."""
    few, general = conv((2, 64, 8, 8), 3, 3, pad=1), conv((2, 64, 8, 8), 64, 3, pad=1)
    upsampled = fused(conv((2, 64, 8, 8), 24, 3, pad=1), upsample=2)

    def needs(entry: str, case: Case) -> tuple[str, int]:
        found = core.needs("emulated", "v5", entry, precise(case, precision).attributes)
        assert found["algorithm"].startswith("mma ")
        return found["algorithm"].partition(", ")[2], found["workspace"]

    scale = needs("conv2d_backward_input", general)[1]  # of fp16 gradients
    assert (scale > 0) == (precision == "fp16")
    for entry, case, expected in (
        ("conv2d_forward", few, ("columns", 0)),
        ("conv2d_forward", fused(few, upsample=2), ("columns", 0)),
        ("conv2d_forward", upsampled, ("summed taps", 16 * 64 * 24 * 4)),
        ("conv2d_backward_input", upsampled, ("summed taps", 16 * 64 * 24 * 4 + scale)),
        ("conv2d_forward", conv((2, 3, 8, 8), 64, 3, pad=1), ("few channels", 0)),
        ("conv2d_forward", general, ("", 0)),
        ("conv2d_backward_input", general, ("", scale)),
    ):
        assert needs(entry, case) == expected, f"{case.name} {entry}"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_takes_it(precision: str) -> None:
    """A plan chooses before there are addresses."""
    x = wl.Input((3, 8, 12), name="image")
    hidden = wl.layers.ReLU()(wl.layers.Conv2d(36, 3, padding=1, name="first")(x))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="last")(hidden))
    model.compile(loss="mse", version="v5", device="emulated", batch_size=2, precision=precision, seed=1)
    steps = {(step["node"], step["entry"]): step for step in model.explain(2)}
    last = steps["last", "conv2d_forward"]
    assert last["algorithm"].endswith(", columns")
    assert last["workspace"] == 0
    images = np.random.default_rng(0).random((2, 3, 8, 12), np.float32)
    got = model.predict(images)
    model.compile(loss="mse", version="v2", device="emulated", batch_size=2, seed=1)
    np.testing.assert_allclose(got, model.predict(images), atol=0.03)
