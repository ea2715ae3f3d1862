"""db taken along by the gradient of the weights: every way of v5 and v7 against the oracle, who takes it, plans and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from cases import PRECISIONS, Case, conv, fused, precise, stored, with_db
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, as_stored, attributes_of, check, from_forward, make_inputs, storage, to_version

TARGETS: list[Target] = [t for t in kernel_targets() if t.version in ("v5", "v7")]
DW, DB = "conv2d_backward_weight", "conv2d_backward_bias"
BOTH, X, Y = ("bf16", "bf16"), ("bf16", "f32"), ("f32", "bf16")
# (what the algorithm's name ends in on v5, the convolution, how x and y may be stored besides float32)
WAYS: list[tuple[str, Case, tuple[tuple[str, str], ...]]] = [
    ("16", conv((3, 72, 9, 11), 40, 3, pad=1), (BOTH, X, Y)),
    ("16", conv((1, 6, 7, 5), 10, 3, pad=1), (BOTH,)),  # pairs
    ("16", conv((2, 5, 7, 9), 7, 3, pad=1), (BOTH,)),  # single elements
    ("16", conv((1, 36, 9, 9), 132, 3, pad=1), (BOTH,)),  # three tiles of 64 channels, the last one short
    ("16", conv((2, 32, 11, 10), 32, 3, stride=2, pad=1), ()),
    ("16", conv((2, 16, 8, 7), 24, 3, pad=1, groups=2), ()),
    ("16", conv((70, 12, 1, 1), 20, 1), ()),
    ("16", conv((2, 64, 8, 8), 5, 3, pad=1), ()),  # the narrow tile
    ("16", conv((9, 40, 12, 20), 72, (3, 2), pad=1), (BOTH, X, Y)),  # runs that meet in a second pass
    ("16", conv((1, 40, 6, 6), 40, 4, pad=2), (BOTH,)),  # sixteen taps: of their groups one sums
    ("16", conv((17, 64, 4, 4), 136, 3, pad=1), (BOTH, Y)),
    ("16", conv((2, 32, 33, 31), 40, 3, pad=1), (BOTH,)),
    ("16", fused(conv((3, 32, 10, 6), 48, 3, pad=1), activation="relu", pool=2), (BOTH, X)),
    ("16", fused(conv((2, 32, 7, 5), 64, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2), (BOTH, Y)),
    ("16", fused(conv((2, 40, 9, 14), 144, 3, pad=1), activation="relu", pool=2), (BOTH,)),
    ("16", fused(conv((1, 32, 2, 260), 32, 3, pad=1), pool=2), (BOTH,)),  # boxes of whole windows, however flat the map
    ("16", fused(conv((1, 32, 260, 3), 32, 3, pad=1), activation="relu", pool=2), ()),
    ("16", fused(conv((1, 7, 6, 9), 9, 3, pad=1), activation="relu", pool=2), ()),
    ("16", fused(conv((1, 64, 6, 8), 64, 4, pad=(1, 2, 2, 0)), upsample=2), ()),
    ("few channels", conv((2, 3, 32, 32), 72, 3, pad=1), (Y,)),
    ("few channels", conv((3, 3, 33, 31), 18, 3, pad=1), ()),
    ("few channels", conv((2, 1, 34, 30), 17, 4, stride=2, pad=1), (Y,)),
    ("few channels", conv((300, 3, 8, 8), 17, 3, pad=1), ()),  # runs of many boxes
    ("few channels", conv((1, 4, 21, 20), 130, 4, stride=2, pad=(1, 2, 0, 3)), ()),
    ("few channels", fused(conv((2, 3, 16, 24), 72, 3, pad=1), activation="relu", pool=2), (Y,)),
    ("few channels", fused(conv((1, 4, 19, 27), 21, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2), (Y,)),
    ("few channels", conv((1, 24, 9, 11), 3, 3, pad=1), (X,)),
    ("few channels", conv((1, 66, 13, 12), 4, (5, 3), pad=(2, 1, 0, 3)), ()),
    ("few channels", conv((1, 35, 12, 10), 1, 1), ()),
    ("few channels", fused(conv((2, 130, 20, 36), 3, 3, pad=1), upsample=2), (X,)),
    ("summed taps", fused(conv((2, 40, 12, 10), 24, 3, pad=1), upsample=2), (BOTH, X, Y)),
    ("summed taps", fused(conv((5, 17, 8, 8), 33, 3, pad=1), upsample=2), ()),
    ("summed taps", fused(conv((3, 40, 10, 12), 72, 3, pad=1), upsample=2), (BOTH, X, Y)),
    ("summed taps", fused(conv((9, 72, 16, 4), 32, 3, pad=1), upsample=2), (BOTH,)),
]
CASES = [(way, with_db(precise(case, p))) for way, case, _ in WAYS for p in PRECISIONS]
CASES += [(way, with_db(stored(precise(case, "bf16"), *t))) for way, case, types in WAYS for t in types]


def named(cases: list[tuple[str, Case]]) -> list[Any]:
    return [pytest.param(*c, id=c[1].name) for c in cases]


@pytest.mark.parametrize(("way", "case"), named(CASES))
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_db(core: Any, target: Target, way: str, case: Case) -> None:
    name = algorithm(core, target.device, target.version, DW, case)
    dense = way == "summed taps" and target.version == "v7" and name.startswith("wgmma")
    assert dense or name.endswith(way) or case.attributes["precision"] == "tf32"
    if target.version == "v7" and name == algorithm(core, target.device, "v5", DW, case):
        pytest.skip("v5's kernels")
    checked = target.device == "emulated:checked"
    assert check(core, target, case, ("floats",) if checked else ("integers", "floats"), (DW,), twice=not checked) == [DW]


@pytest.mark.parametrize("version", ["v5", "v7"])
@pytest.mark.parametrize(("way", "case"), named([c for c in CASES if c[1].attributes["precision"] != "tf32"]))
def test_dw_keeps_its_bits(core: Any, version: str, way: str, case: Case) -> None:
    """Whether db goes along or not, and wherever the maps lie in memory, dw is the same."""
    target = next(t for t in TARGETS if (t.device, t.version) == ("emulated", version))
    t = make_inputs(case, "floats")
    given = as_stored({n: to_version(n, t[n], target) for n in ("dy", "x")}, storage(case)) | from_forward(core, target, case, t)
    a = attributes_of(case, DW)
    both = core.call("emulated", version, DW, a, given, ["dw", "db"], True)
    alone = core.call("emulated", version, DW, a | {"with_db": 0}, given, ["dw"], True)
    np.testing.assert_array_equal(both["dw"], alone["dw"])
    whole = {n: to_version(n, v, target) for n, v in make_inputs(case, "integers").items() if n in ("dy", "x")}
    given |= as_stored(whole, storage(case))
    right = core.call("emulated", version, DW, a, given, ["dw", "db"], True)
    off = core.call("emulated", version, DW, a, given, ["dw", "db"], True, offset=4)
    for name in ("dw", "db"):  # sums of small whole numbers are exact
        np.testing.assert_array_equal(off[name], right[name], err_msg=name)


def test_who_takes_no_db(core: Any) -> None:
    """All others, in one sentence, and v5 and v7 where they compute in float32."""
    plain = with_db(conv((2, 32, 8, 8), 32, 3, pad=1)).attributes
    small = with_db(precise(conv((2, 8, 8, 8), 8, 3, pad=1, groups=4), "bf16")).attributes  # v2's kernels
    for device, version in [("cpu", "cpu"), *(("emulated", f"v{i}") for i in range(1, 8))]:
        assert "operation of its own" in core.why_not(device, version, DW, plain | {"precision": "fp32"}), version
        if version in ("v5", "v6", "v7"):
            assert "operation of its own" in core.why_not(device, version, DW, small), version


def steps(version: str, precision: str) -> dict[str, str]:
    """What each step that is of a convolution's gradients takes along, by layer and entry."""
    x = wl.Input((3, 16, 16), name="x")
    h = wl.layers.MaxPool2d(2)(wl.layers.ReLU()(wl.layers.Conv2d(32, 3, padding=1, name="few")(x)))
    h = wl.layers.ReLU()(wl.layers.Conv2d(32, 3, padding=1, name="own")(h))
    h = wl.layers.ReLU()(wl.layers.Conv2d(32, 3, padding=1, name="up")(wl.layers.Upsample(2)(h)))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="last")(h), name="m")
    model.compile("sgd", "mse", version, "emulated", precision=precision)
    return {f"{s['node']}.{s['entry']}": str(s["along"]) for s in model.engine.session.explain(2, True) if s["backward"]}


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_plans(version: str) -> None:
    found = steps(version, "bf16")
    for layer in ("few", "own", "up", "last"):
        assert found[f"{layer}.{DW}"] == "db"
    assert not [step for step in found if step.endswith(DB)]
    assert found["last.conv2d_backward_input"] == "slopes of relu"
    apart = steps(version, "fp32")
    assert apart.get(f"last.{DW}") == ""
    assert f"last.{DB}" in apart


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_a_networks_gradients(core: Any, version: str) -> None:
    """Of weights and biases, against v6, whose float32 sums db by itself: as near as 8 bits of a product are."""
    images = np.random.default_rng(1).random((3, 3, 16, 16), np.float32)
    found = []
    for name, precision in ((version, "bf16"), ("v6", "fp32")):
        x = wl.Input((3, 16, 16), name="x")
        h = wl.layers.MaxPool2d(2)(wl.layers.LeakyReLU(0.2)(wl.layers.Conv2d(32, 3, padding=1, name="a")(x)))
        h = wl.layers.ReLU()(wl.layers.Conv2d(40, 3, padding=1, name="b")(h))
        h = wl.layers.ReLU()(wl.layers.Conv2d(32, 3, padding=1, name="c")(wl.layers.Upsample(2)(h)))
        model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="d")(h), name="m")
        model.compile("sgd", "mse", name, "emulated", precision=precision, batch_size=3, seed=2)
        found.append(model.gradients(images))
    assert len(found[0]) == 8
    for name, value in found[0].items():
        error = np.linalg.norm(value - found[1][name]) / np.linalg.norm(found[1][name])
        assert error < 0.02, (name, error)
