"""The learning-rate finder: it suggests a rate that trains, and leaves the model as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.cli import main

IMAGES = np.random.default_rng(0).random((40, 3, 8, 8), np.float32)


def made(ema: float = 0.0) -> wl.Model:
    x = wl.Input((3, 8, 8))
    h = wl.layers.Conv2d(6, 3, padding=1, name="c1")(x)
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(wl.layers.ReLU()(h)), name="found")
    model.compile(wl.optim.Adam(3e-4, ema=ema), batch_size=8, seed=1, device="cpu")
    return model


def test_the_suggestion_trains_better_than_its_neighbours_by_far() -> None:
    found = wl.lr_finder(made(), IMAGES, end_lr=10.0)
    assert found.lrs[0] == pytest.approx(1e-7)
    assert 1e-4 < found.suggestion < 0.3, found
    assert found.losses[-1] > min(found.losses), "it went on until the loss rose"

    def end(lr: float) -> float:
        model = made()
        model.optimizer.lr = lr
        try:
            return model.fit(IMAGES, epochs=6, verbose=False)["loss"][-1]
        except wl.DivergedError:
            return float("inf")

    best = end(found.suggestion)
    assert best < 0.8 * end(found.suggestion / 100)
    assert best < end(30.0)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_everything_is_as_before(ema: float) -> None:
    looked, plain = made(ema), made(ema)
    for model in (looked, plain):
        model.fit(IMAGES, epochs=1, verbose=False)
    wl.lr_finder(looked, IMAGES, IMAGES * 0.5, steps=20, end_lr=1e20)  # the loss becomes infinite on the way
    assert looked.optimizer.lr == 3e-4
    assert not looked.stop_training or looked.progress == plain.progress
    for model in (looked, plain):
        model.fit(IMAGES, epochs=3, start=model.progress, verbose=False)
    for name, value in plain.state_dict().items():
        assert value.tobytes() == looked.state_dict()[name].tobytes(), name


def test_a_fresh_model_is_still_drawn_by_its_seed() -> None:
    model = made()
    wl.lr_finder(model, IMAGES, steps=15)
    model.compile(seed=2, device="cpu")
    other = made()
    other.compile(seed=2, device="cpu")
    assert model.state_dict()["c1.weight"].tobytes() == other.state_dict()["c1.weight"].tobytes()


def test_rates_at_which_nothing_falls() -> None:
    with pytest.raises(wl.ArgumentError, match="start_lr must be less than end_lr"):
        wl.lr_finder(made(), IMAGES, start_lr=1.0, end_lr=0.1)
    with pytest.raises(wl.ArgumentError, match="steps must be at least 13"):
        wl.lr_finder(made(), IMAGES, steps=3)
    with pytest.raises(wl.Error, match="start_lr"):
        wl.lr_finder(made(), IMAGES, start_lr=1e8, end_lr=1e30)
    with pytest.raises(wl.StateError, match="compile"):
        wl.lr_finder(wl.models.autoencoder(size=8, widths=4), IMAGES)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["train", "--data", "patches", "--limit", "48", "--batch-size", "8", "--device", "cpu", "--find-lr"]
    assert main([*common, "--model", "autoencoder", "--set", "widths=8", "--out", str(tmp_path)]) == 0, capsys.readouterr().err
    assert "suggested: --lr " in capsys.readouterr().out
    with Image.open(tmp_path / "lr.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lr.png"], "nothing else is written"
    assert main([*common, "--resume", str(tmp_path)]) == 2
    assert "--find-lr is for the start of a training" in capsys.readouterr().err
