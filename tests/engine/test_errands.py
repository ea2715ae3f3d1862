"""Weights that one step prepares for several calls, and what they leave to the last one: the plans, and the same bits as where
every call does it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target

L = wl.layers
TARGETS: list[Target] = [t for t in kernel_targets() if t.version in ("v5", "v7")]
SYNC = wl.distributed.Options(sync_batch_norm=True)
IMAGES = np.random.default_rng(7).random((4, 3, 8, 12), np.float32)


def network(norm: bool = False) -> wl.Model:
    """Odd numbers of channels, an upsample, a stride and a transposed convolution; `shared` is there twice."""
    x = wl.Input((3, 8, 12), name="x")
    h = L.MaxPool2d(2)(L.ReLU()(L.Conv2d(40, 3, padding=1, name="first")(x)))
    h = L.ReLU()(L.Conv2d(72, 3, padding=1, name="wide")(h))
    if norm:
        h = L.BatchNorm2d(name="norm")(h)
    shared = L.Conv2d(72, 3, padding=1, name="shared")
    h = L.ReLU()(shared(L.ReLU()(shared(h))))
    h = L.ReLU()(L.Conv2d(64, 3, stride=2, padding=1, name="strided")(h))
    h = L.ConvTranspose2d(48, 3, stride=2, padding=1, output_padding=1, name="back")(h)
    h = L.ReLU()(L.Conv2d(40, 3, padding=1, name="up")(L.Upsample(2)(h)))
    return wl.Model(x, L.Conv2d(3, 3, padding=1, name="last")(h), name="m")


def compiled(model: wl.Model, version: str, precision: str = "bf16", device: str = "emulated", **how: Any) -> wl.Model:
    how.setdefault("optimizer", "sgd")
    model.compile(how.pop("optimizer"), "mse", version, device, precision=precision, batch_size=4, seed=3, **how)
    return model


def errands(model: wl.Model, training: bool = True, batch: int = 2) -> list[tuple[bool, str]]:
    """Of each step that prepares weights, and of the last: whether it belongs to backward, and of what."""
    steps = model.engine.session.explain(batch, training)
    return [(bool(s["backward"]), str(s["along"])) for s in steps if s["entry"] == "run_errands"]


def test_plans_of_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One launch in the place of six before the first that needs it, one in the place of eight at the end."""
    rest = (True, "rest of mse_loss, conv5, conv4, conv3, conv2, conv1")
    model = compiled(wl.models.cifar10_autoencoder(), "v7")
    assert errands(model, batch=64) == [(False, "weights of conv2, conv3, conv4"), rest]
    entries = [f"{s['node']}.{s['entry']}" for s in model.explain(2)]
    assert entries[1:3] == ["conv2.run_errands", "conv2.conv2d_forward"]
    assert entries[-1] == ".run_errands"
    assert errands(model, training=False) == [(False, "weights of conv2, conv3, conv4")]
    for s in model.explain(2):  # those that are left prepare nothing
        if s["node"] in ("conv2", "conv3") and s["entry"] != "conv2d_backward_weight":
            assert s["workspace"] == 0, s
    memory = model.engine.memory(64)["total"]
    assert memory < 39_000_000
    v5 = compiled(wl.models.cifar10_autoencoder(), "v5")
    assert errands(v5, batch=64) == [(True, "rest of mse_loss, conv3, conv2, conv1")]  # conv4's 8.4 MB would be too much
    assert errands(v5, training=False) == []  # one layer sums taps: that is no more launches
    assert v5.engine.memory(64)["total"] < 40_000_000
    monkeypatch.setenv("WARPLOOM_ERRANDS", "0")
    apart = compiled(wl.models.cifar10_autoencoder(), "v7")
    assert errands(apart) == []
    assert len(apart.explain(2)) == len(entries) - 2
    assert memory <= apart.engine.memory(64)["total"] + 2 * 2**20
    monkeypatch.setenv("WARPLOOM_ERRANDS", "none")
    with pytest.raises(wl.Error, match=r'WARPLOOM_ERRANDS is "none"; expected 0, or nothing'):
        errands(compiled(wl.models.cifar10_autoencoder(), "v7"))


def test_weights_in_use_twice_are_prepared_once() -> None:
    first, rest = errands(compiled(network(), "v7"))
    assert first == (False, "weights of wide, shared, back, up, strided, shared@2")
    more = errands(compiled(network(), "v7"), batch=64)[1][1]
    assert rest[0]
    assert "shared" not in more, "its gradient is a sum of two, made before"
    assert "wide" in more


def deep(layers: int, channels: int = 32) -> wl.Model:
    h = x = wl.Input((channels, 8, 8), name="x")
    for i in range(layers):
        h = L.Conv2d(channels, 3, padding=1, name=f"c{i}")(h)
    return wl.Model(x, h, name="deep")


def test_a_launch_takes_twenty_four() -> None:
    model = compiled(deep(26), "v7")
    assert errands(model, training=False) == [
        (False, "weights of " + ", ".join(f"c{i}" for i in r)) for r in (range(24), range(24, 26))
    ]
    rest = errands(model, batch=64)[-1][1]
    assert rest == "rest of " + ", ".join(f"c{i}" for i in reversed(range(12))), "two sums each, of the last steps"


def test_weights_for_backward_that_take_much_are_prepared_late() -> None:
    """6 layers of 512 channels, 4.7 MB each."""
    backward = [of for late, of in errands(compiled(deep(6, 512), "v7")) if late]
    assert backward[0].startswith("weights of c5, c4")


def test_others_wait_for_gradients() -> None:
    """Where buckets of the gradient are sent while the rest is computed, no sum waits for the end; the bits are the same."""
    images = np.random.default_rng(2).random((4, 32, 8, 8), np.float32)
    model = compiled(deep(4), "v7")
    assert errands(model)[-1][1].startswith("rest of ")
    told: list[int] = []
    early = compiled(deep(4), "v7").engine.session
    early.cut_buckets(9 * 32 * 32)
    for _ in range(2):
        model.train_step(images)
        early.train_step([images], [], update=False, ready=told.append)
        early.update()
    assert len(told) > 4, "more than one call a step"
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(early.get_parameter(name), value, err_msg=name)


@pytest.mark.parametrize(("version", "device"), [("auto", "cpu"), ("v1", "emulated"), ("v4", "emulated"), ("v6", "emulated")])
def test_others_prepare_nothing(version: str, device: str) -> None:
    left = [(True, "rest of mse_loss")] if version == "v6" else []
    assert errands(compiled(network(), version, "fp32", device)) == left


def test_folded_weights_are_made_within_the_step() -> None:
    """At inference a batch norm goes into weights that no step before can have prepared."""
    x = wl.Input((32, 8, 8), name="x")
    h = L.BatchNorm2d(name="n")(L.Conv2d(32, 3, padding=1, name="folded")(x))
    h = L.Conv2d(32, 3, padding=1, name="b")(L.ReLU()(L.Conv2d(32, 3, padding=1, name="a")(h)))
    model = compiled(wl.Model(x, h, name="m"), "v7")
    assert errands(model, training=False) == [(False, "weights of a, b")]
    assert errands(model)[0] == (False, "weights of folded, a, b")


def test_two_losses_have_one_total() -> None:
    x = wl.Input((32, 8, 8), name="x")
    h = L.Conv2d(32, 3, padding=1, name="a")(x)
    two = wl.Model(x, [h, L.Conv2d(32, 3, padding=1, name="b")(h)], name="two")
    two.compile("sgd", ["mse", "mse"], "v7", "emulated", precision="bf16", batch_size=4, seed=3)
    model = two
    assert errands(model)[-1][1].count("mse_loss") == 1
    images = np.random.default_rng(2).random((4, 32, 8, 8), np.float32)
    told = model.train_step(images, [images, images])["loss"]
    mean, samples = model.engine.session.take_mean_loss()
    assert samples == 4
    assert mean == pytest.approx(told, rel=1e-6)


HOW: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": wl.optim.SGD(0.1, 0.9)},
    "clipped adam": {"optimizer": wl.optim.Adam(1e-3, clip_norm=0.01)},
    "accumulated": {"accumulate": 2},
    "shards that meet": {"distributed": SYNC, "shards": 2},
}


def trained(target: Target, precision: str, norm: bool, steps: int, **how: Any) -> tuple[list[Any], dict[str, Any], Any]:
    model = compiled(network(norm), target.version, precision, target.device, **how)
    losses = [model.train_step(IMAGES[:4])["loss"] for _ in range(steps)]
    return losses, model.state_dict(), model.predict(IMAGES)


@pytest.mark.parametrize(("how", "precision"), [*((how, "bf16") for how in HOW), ("sgd", "fp16"), ("sgd", "tf32")])
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_same_bits(target: Target, how: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if target.device == "emulated:checked" and how not in ("sgd", "shards that meet"):
        pytest.skip("the plans of the others are those of sgd")
    steps, norm = 1 if target.device == "emulated:checked" else 3, how == "shards that meet"
    found = []
    for wanted in ("", "0"):
        monkeypatch.setenv("WARPLOOM_ERRANDS", wanted)
        found.append(trained(target, precision, norm, steps, **HOW[how]))
    assert found[0][0] == found[1][0]
    for name, value in found[1][1].items():
        np.testing.assert_array_equal(found[0][1][name], value, err_msg=name)
    np.testing.assert_array_equal(found[0][2], found[1][2])
    start = compiled(network(norm), target.version, precision, target.device, **HOW[how]).state_dict()
    assert all(np.any(start[f"{n}.weight"] != found[0][1][f"{n}.weight"]) for n in ("wide", "shared", "strided", "back", "up"))


def test_frozen_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their weights are prepared like others', and change no bit of those that learn."""
    states = []
    for wanted in ("", "0"):
        monkeypatch.setenv("WARPLOOM_ERRANDS", wanted)
        model = network()
        next(x for x in model.layers if x.name == "shared").trainable = False
        compiled(model, "v7")
        for _ in range(3):
            model.train_step(IMAGES[:4])
        states.append(model.state_dict())
        assert bool(errands(model)) == (wanted == "")
    for name, value in states[1].items():
        np.testing.assert_array_equal(states[0][name], value, err_msg=name)


@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS])
def test_weights_that_are_not_aligned(core: Any, target: Target) -> None:
    """The copy engine cannot read them: v7 says so; v5, which prepares nothing of a plain convolution, does not look at them."""
    rng = np.random.default_rng(3)
    x, w = rng.random(2 * 6 * 6 * 32, np.float32), rng.random(9 * 32 * 40, np.float32)
    sizes = {"N": 2, "C_in": 32, "H": 6, "W": 6, "C_out": 40, "KH": 3, "KW": 3, "OH": 6, "OW": 6, "precision": "bf16"}
    sizes |= {f"pad_{side}": 1 for side in ("top", "bottom", "left", "right")}
    given = {"x": x, "w": w, "prepared": np.zeros(9 * 64 * 128, np.uint8)}
    right = core.call(target.device, target.version, "conv2d_forward", sizes, {"x": x, "w": w}, ["y"], True, offset=4)
    if target.version == "v7":
        with pytest.raises(wl.DeviceError, match="begin at a multiple of 16 bytes; copy them, or leave out what was prepared"):
            core.call(target.device, target.version, "conv2d_forward", sizes, given, ["y"], True, offset=4)
        return
    off = core.call(target.device, target.version, "conv2d_forward", sizes, given, ["y"], True, offset=4)
    np.testing.assert_array_equal(off["y"], right["y"])
