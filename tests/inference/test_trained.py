"""A trained network opened for use: from a run's folder, a model's file, a checkpoint; what it takes, and what is said if not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from safetensors.numpy import save_file
from warploom.cli import main
from warploom.ground.lazy import Normalized
from warploom.inference.trained import open_trained

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "x.npy", IMAGES)
    command = ["train", "--data", str(folder / "x.npy"), "--epochs", "1", "--batch-size", "4", "--keep-best", "--device", "cpu"]
    assert main([*command, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("name", ["", "model.safetensors", "checkpoint.safetensors", "best.safetensors"])
def test_every_file_of_a_run_gives_the_network(run: Path, name: str) -> None:
    trained = open_trained(run / name)
    assert (trained.kind, trained.shape, trained.size, trained.reconstructs) == ("images", (3, 32, 32), (32, 32), True)
    assert trained.config is not None
    assert (trained.config.epochs, [row["epoch"] for row in trained.rows], trained.notes) == (1, [1], [])
    np.testing.assert_array_equal(trained.model.predict(IMAGES), wl.load(run).predict(IMAGES))
    np.testing.assert_array_equal(trained.data().test.x[0], IMAGES[11:])
    assert trained.title == {"": "run", "model.safetensors": "run"}.get(name, name.split(".")[0])


def test_a_file_elsewhere(run: Path, tmp_path: Path) -> None:
    wl.load(run).save(tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_text('{"another": "program"}')
    trained = open_trained(tmp_path / "net.safetensors", batch_size=5)
    assert (trained.kind, trained.config, trained.rows, trained.batch_size) == ("images", None, [], 5)
    with pytest.raises(wl.DataError, match="what it was trained on stands in no file beside it: name the data"):
        trained.data()
    (tmp_path / "net.safetensors").rename(tmp_path / "model.safetensors")
    trained = open_trained(tmp_path)  # the weights are good, whatever that file is
    assert trained.config is None
    assert len(trained.notes) == 1
    assert "what the network was trained on is not known" in trained.notes[0]


def test_a_run_that_went_on_from_a_file_that_is_gone(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model": str(tmp_path / "gone.safetensors")}))
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert open_trained(tmp_path).kind == "images"


def test_what_is_no_trained_network(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    for given, said in (
        (tmp_path / "gone", "there is no .*gone; expected the folder of a run, or a .safetensors file$"),
        ("unet_small", "there is no unet_small; .*: unet_small is a network by name, which has no weights yet"),
        (tmp_path / "empty", "holds no trained network"),
        (tmp_path / "other.safetensors", "without a warploom network in it"),
        (tmp_path / "checkpoint.safetensors", "is a checkpoint, whose network stands in a config.json beside it: there is none"),
    ):
        with pytest.raises(wl.DataError, match=said):
            open_trained(given)
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    with pytest.raises(wl.DataError, match="is no checkpoint of a run"):
        open_trained(tmp_path / "checkpoint.safetensors")
    with pytest.raises(wl.Error, match="unknown device"):
        open_trained(run, device="abacus")


def test_pixels_are_scaled_as_in_training(tmp_path: Path) -> None:
    model = wl.models.unet_small(size=16, classes=4)
    model.save(tmp_path / "seg.safetensors")
    trained = open_trained(tmp_path / "seg.safetensors")
    assert (trained.kind, trained.reconstructs) == ("segmentation", False)
    small = IMAGES[:, :, :16, :16]
    wanted = Normalized(small, (128 / 255,), (128 / 255,))[:]
    np.testing.assert_array_equal(trained.prepare(small), wanted)
    floats = (small / 255).astype(np.float32)
    np.testing.assert_allclose(trained.prepare(floats), wanted, atol=1e-6)
    np.testing.assert_allclose(trained.pixels(trained.prepare(floats)), floats, atol=1e-6)
    with pytest.raises(wl.ArgumentError, match=r"seg does not reconstruct its input: \(3, 16, 16\) becomes \(4, 16, 16\)"):
        trained.require_reconstruction()


def test_networks_that_take_something_else(tmp_path: Path) -> None:
    model = wl.models.dsresnet(size=32, width=2)
    model.save(tmp_path / "two.safetensors")
    with pytest.raises(wl.ArgumentError, match=r"two does not take one image, but bg \(3, 32, 32\), bg_fg \(3, 32, 32\)"):
        open_trained(tmp_path / "two.safetensors").single()
    x = wl.Input((3, 8, 8))
    wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(x)).save(tmp_path / "plain.safetensors")
    plain = open_trained(tmp_path / "plain.safetensors")
    with pytest.raises(wl.GraphError, match="has no latent"):
        plain.require_latent()
    assert plain.require_reconstruction() is plain.model


def test_an_untrained_twin_is_the_control(run: Path) -> None:
    trained = open_trained(run)
    control = trained.untrained(seed=3)
    assert control.model.device == trained.model.device
    assert control.model.state_dict()["conv1.weight"].shape == (256, 3, 3, 3)
    assert not np.array_equal(control.model.state_dict()["conv1.weight"], trained.model.state_dict()["conv1.weight"])
    again = trained.untrained(seed=3).model.state_dict()
    for name, value in control.model.state_dict().items():
        np.testing.assert_array_equal(value, again[name])


def test_place_binds_for_inference() -> None:
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, wl.layers.Latent()(wl.layers.Conv2d(3, 3, padding=1)(x)))
    model.place("cpu", "cpu", "fp32-exact")
    exact = model.predict(IMAGES[:, :, :8, :8])
    assert model.engine.precision == model.encoder.engine.precision == "fp32-exact"
    model.place()
    np.testing.assert_allclose(model.predict(IMAGES[:, :, :8, :8]), exact, atol=1e-5)
    assert model.encoder.engine.precision == "fp32"
    with pytest.raises(wl.StateError, match="needs a compiled model"):
        model.fit(IMAGES)
