"""Slopes of the activation before a convolution, taken along by the gradient of its input: every way of v5 and v7, and plans, in
which that gradient stands where the activation's output did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from cases import PRECISIONS, Case, after, conv, fused, precise, stored
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, as_stored, attributes_of, check, from_forward, make_inputs, storage, to_version

TARGETS: list[Target] = [t for t in kernel_targets() if t.version in ("v5", "v7")]
DX = "conv2d_backward_input"
# (what the algorithm's name ends in on v5, the convolution)
WAYS: list[tuple[str, Case]] = [
    ("fp16", conv((3, 72, 9, 11), 40, 3, pad=1)),
    ("fp16", conv((1, 6, 7, 5), 10, 3, pad=1)),
    ("fp16", conv((2, 32, 11, 10), 32, 3, stride=2, pad=1)),
    ("fp16", conv((2, 16, 8, 7), 24, 3, pad=1, groups=2)),
    ("fp16", fused(conv((2, 64, 12, 8), 64, 3, pad=1), activation="relu", pool=2)),
    ("few channels", conv((2, 33, 16, 17), 3, 3, pad=1)),
    ("few channels", fused(conv((2, 64, 16, 16), 3, 3, pad=1), upsample=2)),
    ("summed taps", fused(conv((2, 40, 12, 10), 24, 3, pad=1), upsample=2)),
]
CASES = [
    (way, precise(after(case, kind, slope), precision))
    for way, case in WAYS
    for kind, slope in (("relu", 0.0), ("leaky_relu", 0.25))
    for precision in PRECISIONS
]


@pytest.mark.parametrize(("way", "case"), [pytest.param(*c, id=c[1].name) for c in CASES])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_slopes(core: Any, target: Target, way: str, case: Case) -> None:
    if way == "summed taps" and target.version == "v7":
        assert algorithm(core, target.device, target.version, DX, case).startswith("wgmma")
    elif way != "fp16":
        assert algorithm(core, target.device, target.version, DX, case).endswith(way)
    checked = target.device == "emulated:checked"
    assert check(core, target, case, ("floats",) if checked else ("integers", "floats"), (DX,), twice=not checked) == [DX]


IN_PLACE = [case for _, case in CASES] + [
    precise(stored(after(case, "relu"), "bf16"), "bf16") for _, case in WAYS if case.attributes["C_in"] > 4
]


@pytest.mark.parametrize("case", IN_PLACE, ids=lambda case: case.name)
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_in_the_place_of_x(core: Any, target: Target, case: Case) -> None:
    """dx where x stood: the same bits, and on the checked device no element written before whoever needs it has read it."""
    t = make_inputs(case, "floats")
    given = as_stored({name: to_version(name, t[name], target) for name in ("dy", "w", "x")}, storage(case))
    given |= from_forward(core, target, case, t)
    attributes = attributes_of(case, DX)
    apart = core.call(target.device, target.version, DX, attributes, given, ["dx"], True)["dx"]
    within = core.call(target.device, target.version, DX, attributes, given, ["dx"], True, over={"dx": "x"})["x"]
    np.testing.assert_array_equal(within, apart)


def test_what_a_call_puts_over_what(core: Any) -> None:
    case = precise(after(conv((1, 8, 4, 4), 8, 3, pad=1), "relu"), "fp16")
    target = next(t for t in kernel_targets() if (t.device, t.version) == ("emulated", "v5"))
    for here, over in ((case, {"dx": "z"}), (stored(case, "f16"), {"dx": "x"})):  # the gradient of an f16 map is float32
        t = make_inputs(here, "floats")
        given = as_stored({name: to_version(name, t[name], target) for name in ("dy", "w", "x")}, storage(here))
        with pytest.raises(ValueError, match=f"no input '{over['dx']}' was given that is stored like 'dx'"):
            core.call("emulated", "v5", DX, attributes_of(here, DX), given, ["dx"], True, over=over)
        with pytest.raises(ValueError, match="over is for calls with guard and without repeat"):
            core.call("emulated", "v5", DX, attributes_of(here, DX), given, ["dx"], over={"dx": "x"})


def test_who_takes_no_slopes(core: Any) -> None:
    """All others, and what no epilogue holds: one sentence, and the plan keeps the step."""
    plain = after(conv((2, 32, 8, 8), 32, 3, pad=1), "relu")
    for device, version in [("cpu", "cpu"), *(("emulated", f"v{i}") for i in (1, 2, 3, 4, 6))]:
        why = core.why_not(device, version, DX, plain.attributes | {"precision": "fp32"})
        assert "operation of its own" in why, version
    for version in ("v5", "v7"):
        for kind in ("sigmoid", "tanh"):
            case = precise(after(conv((2, 32, 8, 8), 32, 3, pad=1), kind), "bf16")
            assert "relu and leaky_relu" in core.why_not("emulated", version, DX, case.attributes)
        columns = precise(after(conv((2, 3, 16, 16), 64, 3, pad=1), "relu"), "bf16")
        assert "columns" in core.why_not("emulated", version, DX, columns.attributes)


def compiled(
    activation: Any, version: str, *, twice: bool = False, branches: bool = False, output: bool = False, precision: str = "bf16"
) -> wl.Model:
    x = wl.Input((16, 8, 8), name="x")
    h = activation(wl.layers.Conv2d(16, 3, padding=1, name="a")(x))
    y = wl.layers.Conv2d(16, 3, padding=1, name="b")(h)
    if twice:
        y = wl.layers.Add()([y, h])
    if branches:  # backward meets the later of the two first, before there is a gradient
        y = wl.layers.Add()([y, wl.layers.Conv2d(16, 3, padding=1, name="c")(h)])
    model = wl.Model(x, [y, h] if output else y, name="m")
    device = "cpu" if version == "cpu" else "emulated"
    model.compile(wl.optim.SGD(0.05), "mse", version, device, precision=precision, batch_size=2, seed=5)
    return model


def steps(activation: Any, version: str, **settings: Any) -> list[str]:
    return [str(s["entry"]) for s in compiled(activation, version, **settings).engine.session.explain(2, True)]


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_plans(version: str) -> None:
    relu, leaky, sigmoid = wl.layers.ReLU(), wl.layers.LeakyReLU(0.1), wl.layers.Sigmoid()
    for kind in (relu, leaky):
        assert "activation_backward" not in steps(kind, version)
        # Somebody else's gradient is added first: the slopes are of the sum.
        assert steps(kind, version, twice=True).count("activation_backward") == 1
        assert steps(kind, version, branches=True).count("activation_backward") == 1
        assert steps(kind, version, output=True).count("activation_backward") == 1
    assert steps(sigmoid, version).count("activation_backward") == 1


def in_place(model: wl.Model) -> bool:
    """Whether the gradient of the activation has no buffer but that of the activation's output."""
    lives = {str(b["name"]): b for b in model.engine.session.buffers(2, True)}
    entries = [(s["node"], s["entry"]) for s in model.engine.session.explain(2, True)]
    taken, read = entries.index(("b", "conv2d_backward_input")), entries.index(("a", "conv2d_backward_weight"))
    if "r.grad" in lives:
        assert lives["r"]["last_step"] >= taken
        return False
    assert lives["r"]["last_step"] >= read > taken, "until the gradient is used up"
    return True


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_the_gradient_stands_where_the_output_did(version: str) -> None:
    """Where nobody reads the output any more, and the two are stored alike; gradients are near those of the host's float32."""
    batch = np.random.default_rng(4).standard_normal((2, 16, 8, 8)).astype(np.float32)
    for settings in ({}, {"twice": True}, {"branches": True}, {"output": True}):
        for precision in ("tf32", "bf16", "fp16"):
            relu = wl.layers.ReLU(name="r")
            model = compiled(relu, version, precision=precision, **settings)
            assert in_place(model) == (not settings and precision != "fp16"), (settings, precision)
            exact = compiled(wl.layers.ReLU(name="r"), "cpu", precision="fp32", **settings)
            exact.load_state_dict(model.state_dict())
            targets = [np.zeros((2, 16, 8, 8), np.float32)] * (2 if "output" in settings else 1)
            found, right = (m.engine.session.gradients([batch], targets) for m in (model, exact))
            for name, value in right.items():
                assert np.linalg.norm(found[name] - value) < 0.05 * np.linalg.norm(value), (settings, precision, name)


def test_a_network_trains_alike(core: Any) -> None:
    """Folded or not: the weights after three steps, against the version that keeps the step (its products are rounded alike)."""
    images = np.random.default_rng(1).random((6, 3, 16, 16), np.float32)
    found = []
    for version in ("v5", "v6"):
        x = wl.Input((3, 16, 16), name="x")
        h = wl.layers.LeakyReLU(0.2)(wl.layers.Conv2d(16, 3, padding=1, name="a")(x))
        h = wl.layers.ReLU()(wl.layers.Conv2d(16, 3, padding=1, name="b")(h))
        model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(h), name="m")
        precision = "bf16" if version == "v5" else "fp32"
        model.compile(wl.optim.SGD(0.05), "mse", version, "emulated", precision=precision, batch_size=3, seed=2)
        model.fit(images, epochs=2, verbose=False)
        found.append(model.state_dict())
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], atol=2e-3, rtol=0)
