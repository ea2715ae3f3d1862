"""The moving average of the weights: what it is, who sees it, and that a run which goes on has its bits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from safetensors.numpy import load_file
from warploom.cli import main
from warploom.distributed.groups import Alone
from warploom.distributed.world import World

IMAGES = np.random.default_rng(0).random((24, 3, 8, 8), np.float32)
DECAY = 0.9


def made(ema: float = DECAY, device: str = "cpu", **options: Any) -> wl.Model:
    x = wl.Input((3, 8, 8))
    h = wl.layers.BatchNorm2d(name="bn")(wl.layers.Conv2d(4, 3, padding=1, name="c1")(x))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(wl.layers.ReLU()(h)), name="ema_net")
    optimizer = wl.optim.Adam(1e-2, clip_norm=1.0, ema=ema)
    model.compile(optimizer, batch_size=8, seed=1, device=device, **options)
    return model


def bits(model: wl.Model) -> str:
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_the_average_is_that_of_the_weights(device: str) -> None:
    """A training without an average has the weights, from which the average follows."""
    plain, averaged = made(ema=0.0, device=device), made(device=device)
    expected: dict[str, Any] = {}
    for step in range(1, 13):
        plain.train_step(IMAGES[:8])
        averaged.train_step(IMAGES[:8])
        kept = 0.0 if step == 1 else min(DECAY, step / (step + 9))
        for name, value in plain.state_dict().items():
            expected[name] = kept * expected[name] + (1 - kept) * value if kept else value.astype(float)
    for name, value in averaged.state_dict().items():
        weights = plain.state_dict()[name]
        if "running" in name or "num_batches" in name:  # statistics are no weights
            assert value.tobytes() == weights.tobytes()
            continue
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
        assert np.abs(value - weights).max() > 1e-4, "the average differs from the weights"
        trained = averaged.engine.optimizer_state()[f"ema/{name}"]
        assert trained.tobytes() == weights.tobytes(), "what is trained is as without an average"


def test_everything_that_reads_weights_sees_the_average(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Look(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            seen["in a batch"] = self.model.evaluate(IMAGES)["loss"]

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            self.model.save(tmp_path / "net.safetensors")
            seen["validation"], seen["at the end"] = logs["val_loss"], self.model.evaluate(IMAGES)["loss"]

    looked, plain = made(), made()
    loss = looked.fit(IMAGES, epochs=3, validation_data=IMAGES, callbacks=[Look()], verbose=False)["loss"]
    assert plain.fit(IMAGES, epochs=3, verbose=False)["loss"] == loss, "looking changes nothing"
    assert bits(looked) == bits(plain)
    value = looked.evaluate(IMAGES)["loss"]
    assert seen == {"in a batch": value, "validation": value, "at the end": value}
    saved = wl.load(tmp_path / "net.safetensors")
    assert bits(saved) == bits(looked)
    np.testing.assert_array_equal(saved.predict(IMAGES), looked.predict(IMAGES))
    without = made(ema=0.0)
    without.fit(IMAGES, epochs=3, verbose=False)
    assert without.evaluate(IMAGES)["loss"] != value


def test_a_stopped_fit_goes_on_with_the_same_bits() -> None:
    whole, halves = made(), made()
    whole.fit(IMAGES, epochs=4, verbose=False)
    halves.fit(IMAGES, epochs=2, verbose=False)
    halves.predict(IMAGES)
    state, optimizer = halves.state_dict(), halves.engine.optimizer_state()
    other = made()
    other.load_state_dict(state)
    other.engine.set_optimizer_state(optimizer)
    other.fit(IMAGES, epochs=4, start=halves.progress, verbose=False)
    halves.fit(IMAGES, epochs=4, start=halves.progress, verbose=False)
    assert bits(whole) == bits(halves) == bits(other)
    assert whole.engine.optimizer_state()["ema/c1.weight"].tobytes() == other.engine.optimizer_state()["ema/c1.weight"].tobytes()


def test_loaded_weights_are_weights_and_average() -> None:
    model = made()
    model.fit(IMAGES, epochs=2, verbose=False)
    given = {name: value * 0.5 for name, value in model.state_dict().items()}
    model.load_state_dict(given)
    assert all(model.engine.optimizer_state()[f"ema/{n}"].tobytes() != given[n].tobytes() for n in ("c1.weight",)), "not yet"
    before = model.evaluate(IMAGES)["loss"]
    assert model.engine.optimizer_state()["ema/c1.weight"].tobytes() == given["c1.weight"].tobytes()
    assert model.evaluate(IMAGES)["loss"] == before


def test_divergence_brings_the_last_good_average_back() -> None:
    model = made()
    model.fit(IMAGES, epochs=1, verbose=False)
    good = bits(model)
    bad = IMAGES.copy()
    bad[0] = 1e30
    with pytest.raises(wl.DivergedError):
        model.fit(bad, epochs=2, verbose=False)
    assert bits(model) == good
    model.predict(IMAGES)
    assert model.engine.optimizer_state()["ema/c1.weight"].tobytes() == model.state_dict()["c1.weight"].tobytes()


def test_shards_average_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warploom.model.init", lambda: World(Alone()))
    plain, averaged = made(ema=0.0, distributed=True, shards=2), made(distributed=True, shards=2)
    plain.fit(IMAGES, epochs=2, verbose=False)
    averaged.fit(IMAGES, epochs=2, validation_data=IMAGES, verbose=False)
    assert averaged.engine.optimizer_state()["ema/c1.weight"].tobytes() == plain.state_dict()["c1.weight"].tobytes()
    assert averaged.state_dict()["c1.weight"].tobytes() != plain.state_dict()["c1.weight"].tobytes()


def test_a_run_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", "patches", "--limit", "24", "--batch-size", "8", "--device", "cpu", "--ema", "0.9", "--optimizer", "adam"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["train", *common, "--epochs", "2", "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main(["train", *common, "--epochs", "1", "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "2"]) == 0, capsys.readouterr().err
    for file in ("model.safetensors", "checkpoint.safetensors"):
        a, b = load_file(whole / file), load_file(halves / file)
        assert sorted(a) == sorted(b)
        assert all(a[k].tobytes() == b[k].tobytes() for k in a), file
    checkpoint = load_file(whole / "checkpoint.safetensors")
    assert any(name.startswith("optimizer/ema/") for name in checkpoint)
    assert main(["train", "--resume", str(halves), "--epochs", "3", "--ema", "0.5"]) == 2
    assert "--ema cannot change when a run goes on" in capsys.readouterr().err


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), "high"])
def test_decays_that_cannot_be(value: Any) -> None:
    with pytest.raises(wl.Error, match="ema"):
        wl.optim.SGD(1e-3, ema=value)


def test_a_decay_stays_while_training() -> None:
    model = made()
    model.train_step(IMAGES[:8])
    model.optimizer.ema = 0.5
    with pytest.raises(wl.ArgumentError, match="ema cannot be changed while training"):
        model.train_step(IMAGES[:8])
