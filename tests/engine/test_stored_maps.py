"""Which maps a plan stores in 16 bits, what that saves, and that a network trains as it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from networks import small_autoencoder, smooth_images
from warploom.runs.run import RunFolder

L = wl.layers
IMAGES = smooth_images(16).astype(np.float32) / 255


def compiled(model: Any, version: str = "v5", precision: str = "bf16", **settings: Any) -> Any:
    model.compile(**{"optimizer": "sgd", "loss": "mse", "batch_size": 4, "seed": 3} | settings, version=version,
                  device="emulated", precision=precision)  # fmt: skip
    return model


def halves(model: Any, batch: int = 2, training: bool = True) -> dict[str, str]:
    """The maps and gradients of a plan that stand in 16 bits."""
    buffers = model.engine.session.buffers(batch, training)
    return {b["name"]: b["dtype"] for b in buffers if b["dtype"] in ("bf16", "f16")}


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_the_autoencoders_step_fits_39_megabytes(version: str) -> None:
    memory = compiled(wl.models.cifar10_autoencoder(), version).engine.session.memory(64, True)
    assert memory["total"] < 39e6
    whole = compiled(wl.models.cifar10_autoencoder(), version, "tf32").engine.session.memory(64, True)
    assert 1.4 * memory["total"] < whole["total"] < 58e6


def test_every_map_between_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compiled(wl.models.cifar10_autoencoder())
    maps = ("pool1", "pool2", "relu3", "relu4")
    gradients = ("pool1.grad", "latent.grad")  # those of relu3 and relu4 stand where these did
    assert halves(model) == dict.fromkeys([*maps, *gradients], "bf16")
    assert halves(model, training=False) == dict.fromkeys(maps, "bf16")
    sizes = {b["name"]: b["bytes"] for b in model.engine.session.buffers(2, True)}
    assert sizes["relu4"] == 2 * 256 * 16 * 16 * 2
    assert sizes["pool1"] == sizes["pool1.grad"] == 2 * 256 * 16 * 16 * 2
    types = [(s["fusion"]["x_type"], s["fusion"]["y_type"]) for s in model.explain(2) if s["entry"] == "conv2d_forward"]
    assert types == [("f32", "bf16"), *[("bf16", "bf16")] * 3, ("bf16", "f32")]
    monkeypatch.setenv("WARPLOOM_MAPS", "float32")
    assert halves(compiled(wl.models.cifar10_autoencoder())) == {}
    monkeypatch.setenv("WARPLOOM_MAPS", "fp32")
    with pytest.raises(wl.Error, match=r'WARPLOOM_MAPS is "fp32"; expected float32, or nothing'):
        halves(compiled(wl.models.cifar10_autoencoder()))


def test_gradients_of_fp16_stay_float32() -> None:
    model = compiled(wl.models.cifar10_autoencoder(), precision="fp16")
    assert halves(model) == dict.fromkeys(("pool1", "pool2", "relu3", "relu4"), "f16")


@pytest.mark.parametrize(("version", "precision"), [("cpu", "fp32"), ("v5", "bf16"), ("v6", "fp32"), ("v7", "tf32")])
def test_a_pooled_map_lives_for_its_readers(version: str, precision: str) -> None:
    """Where the pool's codes tell all, the gradients of the convolution that the pool is folded into do not keep its output."""
    model = wl.models.cifar10_autoencoder()
    model.compile("sgd", "mse", version, "cpu" if version == "cpu" else "emulated", precision=precision, batch_size=4)
    session = model.engine.session
    lives = {b["name"]: b["last_step"] for b in session.buffers(4, True)}
    steps = session.explain(4, True)
    for pool, made_by, reader in (("pool1", "conv1", "conv2"), ("pool2", "conv2", "conv3")):
        last = steps[lives[pool]]
        assert (last["backward"], last["node"]) == (True, made_by if version == "cpu" else reader), pool


def test_other_precisions_and_versions_store_float32() -> None:
    for version, precision in (("v5", "tf32"), ("v5", "fp32"), ("v2", "fp32"), ("v6", "fp32")):
        assert halves(compiled(wl.models.cifar10_autoencoder(), version, precision)) == {}


def chain(*between: Any) -> Any:
    x = wl.Input((8, 8, 8), name="x")
    h = L.Conv2d(16, 3, padding=1, name="a")(x)
    for layer in between:
        h = layer(h)
    return wl.Model(x, L.Conv2d(8, 3, padding=1, name="b")(h), name="chain")


def test_what_others_read_is_float32() -> None:
    assert set(halves(compiled(chain()))) == {"a", "a.grad"}
    assert set(halves(compiled(chain(L.ReLU(name="r"))))) == {"r"}, "and its gradient in its place"
    for kind in (L.Sigmoid, L.Tanh, L.ELU):  # whose slopes are differences, of which 16 bits leave nothing where they are small
        assert halves(compiled(chain(kind(name="s")))) == {}
    assert set(halves(compiled(chain(L.Sigmoid(name="s"))), training=False)) == {"s"}
    assert halves(compiled(chain(L.BatchNorm2d(name="n")))) == {}
    assert halves(compiled(chain(L.GELU(name="g")))) == {}
    assert halves(compiled(chain(L.MaxPool2d(3, 2, name="p")))) == {}
    assert halves(compiled(chain(L.Conv2d(4, 1, name="few")))).keys() == {"a", "a.grad"}  # v5's kernels for few channels
    assert halves(compiled(chain(L.Conv2d(16, 3, padding=1, groups=16, name="depthwise")))) == {}


def residual(activation: Any = None) -> Any:
    x = wl.Input((8, 8, 8), name="x")
    h = L.Conv2d(16, 3, padding=1, name="a")(x)
    y = L.Conv2d(16, 3, padding=1, name="b")(h)
    y = L.Add(name="sum")([y, h])
    if activation:
        y = activation(y)
    return wl.Model(x, L.Conv2d(8, 3, padding=1, name="c")(y), name="residual")


def test_sums_and_activations_between() -> None:
    model = compiled(residual(L.ReLU(name="r")))
    assert halves(model).keys() == {"a", "b", "a.grad"}, "the sum and its activation in the place of b, and then their gradient"
    entries = [s["entry"] for s in model.engine.session.explain(2, True)]
    assert entries.count("add") == 2, "the sum, and that of its gradients"
    # An output, or what a loss reads, is whole; so is a map that somebody asks for.
    x = wl.Input((8, 8, 8), name="x")
    h = L.Latent(name="latent")(L.Conv2d(16, 3, padding=1, name="a")(x))
    two = wl.Model(x, [L.Conv2d(8, 3, padding=1, name="b")(h), h], name="two")
    assert halves(compiled(two, loss=["mse", "mse"])) == {}


def train(version: str, precision: str, steps: int, model: Any = None, lr: float = 0.02) -> tuple[list[float], Any]:
    model = compiled(model or small_autoencoder(wl, (16, 8)), version, precision, optimizer=wl.optim.SGD(lr, 0.9))
    return [model.train_step(IMAGES[4 * (i % 4) : 4 * (i % 4) + 4])["loss"] for i in range(steps)], model


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_the_first_gradients_are_those_of_float32_maps(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands are rounded either way: weights move alike to the bit. A bias sums a rounded gradient: within its rounding."""
    found = []
    for maps in ("", "float32"):
        monkeypatch.setenv("WARPLOOM_MAPS", maps)
        model = compiled(small_autoencoder(wl, (64, 32)), version)
        assert bool(halves(model)) == (maps == "")
        found.append(model.engine.session.gradients([IMAGES[:4]], []))
    for name, value in found[1].items():
        if name.endswith("weight") or name == "conv5.bias":
            np.testing.assert_array_equal(found[0][name], value, err_msg=name)
        else:
            np.testing.assert_allclose(found[0][name], value, atol=2.0**-8 * np.abs(value).max(), rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("version", ["v5", "v7"])
def test_losses_follow_float32(version: str, precision: str) -> None:
    """200 steps: every loss within 5 % of float32's, the mean of the last 20 within 2 %."""
    whole, _ = train("v2", "fp32", 200)
    half, model = train(version, precision, 200)
    assert halves(model, 4)
    np.testing.assert_allclose(half, whole, rtol=0.05)
    assert np.mean(half[-20:]) == pytest.approx(np.mean(whole[-20:]), rel=0.02)
    assert whole[-1] < 0.5 * whole[0], "the network learns"


def test_a_residual_network_follows_float32() -> None:
    """Sums, their gradients and activations of their own in 16 bits."""
    x = np.random.default_rng(5).random((8, 8, 8, 8), np.float32)
    losses = []
    for version, precision in (("v2", "fp32"), ("v5", "bf16")):
        model = compiled(residual(L.Sigmoid(name="s")), version, precision, optimizer=wl.optim.SGD(0.1))
        losses.append([model.train_step(x[:4])["loss"] for _ in range(20)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.03)


@pytest.mark.parametrize("version", ["v5", "v7"])
def test_same_bits_recorded_resumed_and_not(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def state(record: bool, resumed: bool) -> dict[str, Any]:
        monkeypatch.setenv("WARPLOOM_RECORD", str(int(record)))
        network = small_autoencoder(wl, (32, 32))
        _, model = train(version, "bf16", 2 if resumed else 5, network)
        if resumed:
            path = tmp_path / f"{record}"
            path.mkdir()
            folder = RunFolder(path)
            folder.write_checkpoint(model)
            model = compiled(small_autoencoder(wl, (32, 32)), version, optimizer=wl.optim.SGD(0.02, 0.9))
            folder.restore(model)
            for i in range(2, 5):
                model.train_step(IMAGES[4 * (i % 4) : 4 * (i % 4) + 4])
        return dict(model.state_dict())

    first, *others = (state(record, resumed) for record in (True, False) for resumed in (False, True))
    for other in others:
        for name, value in first.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_a_requested_map_is_whole() -> None:
    """Python sees float32: the map that is asked for is not stored in 16 bits in that plan."""
    x = np.random.default_rng(3).random((2, 8, 8, 8), np.float32)
    model = compiled(chain(L.ReLU(name="r"), L.Latent(name="latent")))
    latent = model.encode(x)
    exact = compiled(chain(L.ReLU(name="r"), L.Latent(name="latent")), "v2", "fp32").encode(x)
    assert latent.dtype == np.float32
    assert (latent.view(np.uint32) & 0xFFFF).any(), "more digits than bf16 has"
    np.testing.assert_allclose(latent, exact, atol=0.02)
    assert halves(model, training=False).keys() == {"r"}


def test_the_plan_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    from warploom.cli import main

    command = [
        "explain",
        "cifar10_autoencoder",
        "--version",
        "v5",
        "--device",
        "emulated",
        "--precision",
        "bf16",
        "--batch-size",
        "2",
    ]
    assert main([*command, "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert {s["fusion"]["y_type"] for s in steps if s["entry"] == "conv2d_forward"} == {"bf16", "f32"}
