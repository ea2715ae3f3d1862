"""Images changed at random: by seed, epoch and sample alone, whatever the batch, and the same in a training that goes on."""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark
from safetensors.numpy import load_file
from warploom.cli import find_rate, main
from warploom.ground.augmented import Augmented, Changes, on_device

IMAGES = np.random.default_rng(0).random((30, 3, 8, 10), np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (30, 3, 8, 10), np.uint8)
ALL: dict[str, Any] = {"flip": True, "shift": 2, "noise": 0.1, "cutout": 3}


@pytest.mark.parametrize("images", [IMAGES, BYTES], ids=["float32", "uint8"])
def test_a_sample_depends_on_its_number_and_the_epoch_alone(images: np.ndarray) -> None:
    for part in (0, 1):
        whole = wl.data.augmented(images, **ALL)[part]
        assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
        whole.epoch = 3
        order = np.random.default_rng(2).permutation(30)
        all_at_once = whole[order]
        single = np.concatenate([whole[i : i + 1] for i in order])
        assert all_at_once.tobytes() == single.tobytes()
        whole.epoch = 4
        assert (whole[order] != all_at_once).any(axis=(1, 2, 3)).mean() > 0.8, "another epoch changes others"
        other = wl.data.augmented(images, **ALL, seed=1)[part]
        other.epoch = 3
        assert (other[order] != all_at_once).any(axis=(1, 2, 3)).mean() > 0.8


def test_flips_and_shifts_are_those_of_a_mirrored_image() -> None:
    x, y = wl.data.augmented(IMAGES, flip=True, shift=2)
    np.testing.assert_array_equal(x[:], y[:])
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    found = set()
    for image, made in zip(padded, x[:], strict=True):
        places = [
            (flip, dy, dx)
            for flip in (False, True)
            for dy in range(5)
            for dx in range(5)
            if ((image[:, :, ::-1] if flip else image)[:, dy : dy + 8, dx : dx + 10] == made).all()
        ]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 15
    assert 0.1 < np.mean([flip for flip, *_ in found]) < 0.9


def test_noise_and_holes_are_in_the_input_only() -> None:
    x, y = wl.data.augmented(IMAGES, noise=0.1)
    np.testing.assert_array_equal(y[:], IMAGES)
    noise = x[:] - IMAGES
    assert abs(noise.std() - 0.1) < 0.005
    assert abs(noise.mean()) < 0.005
    assert np.abs(np.corrcoef(noise.reshape(30, -1)) - np.eye(30)).max() < 0.3, "each sample has noise of its own"
    bytes_noise = wl.data.augmented(BYTES // 2 + 64, noise=0.05)[0][:].astype(float) - (BYTES // 2 + 64)
    assert abs(bytes_noise.std() - 0.05 * 255) < 0.7
    x, y = wl.data.augmented(IMAGES + 1, cutout=3)
    np.testing.assert_array_equal(y[:], IMAGES + 1)
    holes = (x[:] == 0).all(axis=1)
    assert ((x[:] == IMAGES + 1) | holes[:, None]).all()
    assert set(holes.sum(axis=(1, 2))) <= {4, 6, 9}
    assert len({tuple(np.argwhere(h)[0]) for h in holes}) > 10


def made(device: str = "cpu", version: str = "auto", **options: Any) -> wl.Model:
    x = wl.Input((3, 8, 10))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(x), name="seeing")
    settings: dict[str, Any] = {"batch_size": 7, "seed": 1, "device": device, "version": version}
    model.compile(wl.optim.Adam(1e-2), **settings | options)
    return model


class Elsewhere(wl.data.Lazy):
    """The same rows, of which fit() does not know that the device can make them."""

    def __init__(self, half: wl.data.Lazy) -> None:
        self.half, self.shape, self.dtype = half, half.shape, half.dtype

    def rows(self, indices: np.ndarray) -> np.ndarray:
        self.half.epoch = self.epoch
        return self.half.rows(indices)


def bits(model: wl.Model) -> bytes:
    return b"".join(value.tobytes() for value in model.state_dict().values())


def mapped(images: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


PLACES = [("cpu", "cpu"), ("emulated", "v1"), ("emulated", "v3"), ("emulated:checked", "v4")]


@pytest.mark.parametrize("options", [ALL, {"flip": True, "shift": 2}, {"noise": 0.1}], ids=["all", "both", "noise"])
@pytest.mark.parametrize("images", [IMAGES, BYTES], ids=["float32", "uint8"])
@pytest.mark.parametrize(
    ("device", "version"), [pytest.param(*place, marks=device_mark(place[0]), id="-".join(place)) for place in PLACES]
)
def test_the_device_makes_the_bits_of_the_host(
    device: str, version: str, images: np.ndarray, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that stay on the device, batches fed from a file, and rows that the host has made; recorded steps among them."""
    by_host = made(device, version)
    halves = [Elsewhere(half) for half in wl.data.augmented(images, **options)]
    losses = by_host.fit(*halves, epochs=3, verbose=False)["loss"]
    validated = by_host.evaluate(*halves)["loss"]

    def refuse(*_: Any) -> np.ndarray:
        raise AssertionError("the host makes rows")

    monkeypatch.setattr(Augmented, "rows", refuse)
    for given in (images, mapped(images, tmp_path)):
        model = made(device, version)
        assert model.fit(*wl.data.augmented(given, **options), epochs=3, verbose=False)["loss"] == losses
        assert bits(model) == bits(by_host)
        if device == "emulated" and given is images:
            assert model.engine.session.replays > 5, "steps are recorded"
        assert model.evaluate(*wl.data.augmented(given, **options))["loss"] == validated


def test_parts_and_shards_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are added up, and a validation split: the first rows keep their numbers."""
    made_by = []
    for wrap in (Elsewhere, lambda half: half):
        model = made(batch_size=3, accumulate=3)
        x, y = (wrap(half) for half in wl.data.augmented(IMAGES, **ALL))
        losses = model.fit(x, y, epochs=2, validation_split=0.2, verbose=False)
        made_by.append((losses["loss"], losses["val_loss"], bits(model)))
    assert made_by[0] == made_by[1]


def test_a_training_that_goes_on_sees_the_same() -> None:
    whole, halves, stopped = made(), made(), made()
    losses = whole.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, verbose=False)["loss"]
    halves.fit(*wl.data.augmented(IMAGES, **ALL), epochs=2, verbose=False)
    rest = halves.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, start=halves.progress, verbose=False)["loss"]
    assert rest == losses[2:]
    assert bits(whole) == bits(halves) != bits(made())

    class Stop(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            self.model.stop_training = batch == 2

    stopped.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, callbacks=[Stop()], verbose=False)
    stopped.update_progress()
    assert stopped.progress.batch == 3
    stopped.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, start=stopped.progress, verbose=False)
    assert bits(whole) == bits(stopped)
    other = made()
    other.fit(*wl.data.augmented(IMAGES, **ALL, seed=2**64 - 1), epochs=4, verbose=False)
    assert bits(whole) != bits(other)


def test_targets_of_another_kind_are_made_by_the_host() -> None:
    """An input alone, with a target of its own: what is no pair out of one augmented() is fed as any other rows."""
    x, _ = wl.data.augmented(IMAGES, **ALL)
    model, plain = made(), made()
    assert (
        model.fit(x, IMAGES, epochs=1, verbose=False)["loss"] == plain.fit(Elsewhere(x), IMAGES, epochs=1, verbose=False)["loss"]
    )
    undamaged, _ = wl.data.augmented(IMAGES, flip=True)
    assert on_device([undamaged], [undamaged]) is not None
    assert on_device([x], [x]) is None, "the target would be damaged too"
    assert on_device([x], [wl.data.augmented(IMAGES, **ALL, seed=1)[1]]) is None


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (IMAGES[0], {}, "as an array"),
        (IMAGES.astype(int), {}, "uint8 or float32"),
        (IMAGES, {"shift": 8}, "8 pixels on their short side"),
        (IMAGES, {"cutout": 9}, "8 pixels on their short side"),
        (IMAGES, {"noise": -1.0}, "noise"),
        (IMAGES, {"noise": 1e7}, "noise"),
        (IMAGES, {"shift": -1}, "shift must be at least 0"),
        (np.where(IMAGES > 0.9, np.float32(np.nan), IMAGES), {}, "NaN at index"),
    ],
)
def test_what_is_refused(images: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(wl.Error, match=said):
        wl.data.augmented(images, **options)


COMMON = ["--data", "patches", "--limit", "40", "--limit-test", "8", "--batch-size", "8", "--device", "cpu"]
CHANGES = ["--flip", "--shift", "4", "--noise", "0.1", "--cutout", "8"]


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in load_file(folder / "checkpoint.safetensors").items()}


def test_a_run_says_it_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, halves, again, plain = (tmp_path / name for name in ("whole", "halves", "again", "plain"))
    assert main(["train", *COMMON, *CHANGES, "--epochs", "2", "--out", str(whole)]) == 0, capsys.readouterr().err
    said = "images flipped left to right in half of the cases and shifted by up to 4 pixels, inputs with noise of deviation 0.1"
    assert f"training with {said}" in " ".join(capsys.readouterr().out.split())
    config = json.loads((whole / "config.json").read_text())
    assert {key: config[key] for key in ("flip", "shift", "noise", "cutout")} == {
        "flip": True,
        "shift": 4,
        "noise": 0.1,
        "cutout": 8,
    }
    assert main(["train", *COMMON, *CHANGES, "--epochs", "1", "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "2"]) == 0, capsys.readouterr().err
    assert main(["train", "--config", str(whole / "config.json"), "--out", str(again)]) == 0
    assert main(["train", *COMMON, "--epochs", "2", "--out", str(plain)]) == 0
    assert weights(whole) == weights(halves) == weights(again) != weights(plain)
    capsys.readouterr()
    assert main(["train", "--resume", str(halves), "--epochs", "3", "--shift", "2"]) == 2
    assert "--shift cannot change when a run goes on (it has 4)" in capsys.readouterr().err
    assert main(["explain", str(whole), "--device", "cpu", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert len(notes) == 1
    assert said in notes[0]
    assert main(["report", str(whole), "--device", "cpu"]) == 0
    assert said in html.unescape((whole / "report.html").read_text())


def test_a_learning_rate_is_found_on_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(find_rate, "lr_finder", lambda model, x, y, **_: seen.append((x, y)) or sys.exit(0))
    with pytest.raises(SystemExit):
        main(["train", *COMMON, "--find-lr", "--flip", "--noise", "0.5", "--seed", "3"])
    x, y = seen[0]
    assert x.changes == y.changes == Changes(flip=True, noise=0.5, seed=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shift", "32"], "32 pixels on their short side: shift must be less (it is 32)"),
        (["--cutout", "33"], "cutout at most that (it is 33)"),
        (["--shift", "-1"], "-1 is out of range: expected at least 0"),
        (["--noise", "nan"], "noise must be finite"),
        (["--noise", "-1"], "noise must be finite and between 0 and"),
        (
            ["--model", "unet_small", "--flip"],
            "are for models whose target is their input, and unet_small is trained on segmentation",
        ),
        (["--recipe", "kernel_network", "--flip"], "--flip has no meaning with --recipe"),
    ],
)
def test_what_a_command_line_is_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *COMMON[:2], *options, "--out", str(tmp_path / "run")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
