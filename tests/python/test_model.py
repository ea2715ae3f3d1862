"""Model: training, prediction, sharing of parameters, files, and errors. On the fast host kernels and tiny networks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from safetensors.numpy import save_file
from warploom import _core
from warploom.ground import hardware
from warploom.train.feed import DeviceFeed, StreamFeed, make_feed
from warploom.train.loop import Progress

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
TEST = IMAGES[:10]


def tiny(channels: int = 4) -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.ReLU()(wl.layers.Conv2d(channels, 3, padding=1, name="conv1")(x))
    h = wl.layers.Latent()(wl.layers.MaxPool2d(2)(h))
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv2")(wl.layers.Upsample(2)(h)), name="tiny")


def compiled(lr: float = 0.05, batch_size: int = 16, **more: Any) -> wl.Model:
    model = tiny()
    model.compile(wl.optim.SGD(lr=lr, momentum=0.9), "mse", version="cpu", device="cpu", batch_size=batch_size, **more)
    return model


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


def test_the_model_of_the_specification() -> None:
    model = wl.models.cifar10_autoencoder()
    assert model.count_parameters() == 751_875
    state = model.state_dict()
    assert list(state) == [f"conv{i}.{s}" for i in range(1, 6) for s in ("weight", "bias")]
    assert state["conv4.weight"].shape == (256, 128, 3, 3)
    for i in range(1, 6):
        w = state[f"conv{i}.weight"]
        assert w.std() == pytest.approx(math.sqrt(2 / (w[0].size)), rel=0.05)
        assert not state[f"conv{i}.bias"].any()


def test_fit_lowers_the_loss_and_reports() -> None:
    model = compiled()
    history = model.fit(IMAGES, epochs=4, validation_data=TEST)
    assert history["loss"][-1] < history["loss"][0]
    assert set(history.history) == {"loss", "val_loss", "seconds", "images_per_second"}
    assert history.epoch == [0, 1, 2, 3]
    assert history["val_loss"][-1] == model.evaluate(TEST)["loss"]


def test_same_seed_same_bits() -> None:
    a, b, c = compiled(seed=3), compiled(seed=3), compiled(seed=4)
    losses = [m.fit(IMAGES, epochs=2)["loss"] for m in (a, b, c)]
    assert losses[0] == losses[1] != losses[2]
    assert equal(a.state_dict(), b.state_dict())


def test_streamed_data_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = compiled(), compiled(), compiled()
    a.fit(IMAGES, epochs=2)
    b.fit(IMAGES, IMAGES.copy(), epochs=2)  # targets of their own
    floats = IMAGES.astype(np.float32) * np.float32(1 / 255)
    c.fit(floats, epochs=2)
    assert equal(a.state_dict(), b.state_dict())
    assert equal(a.state_dict(), c.state_dict())
    assert isinstance(make_feed(a.engine, [IMAGES], [IMAGES], 16), DeviceFeed)
    monkeypatch.setattr("warploom.train.feed.memory_bytes", lambda device: 1000)
    assert isinstance(make_feed(a.engine, [IMAGES], [IMAGES], 16), StreamFeed)
    d = compiled()
    d.fit(IMAGES, epochs=2)
    assert equal(a.state_dict(), d.state_dict())


def test_memory_mapped_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    a, b = compiled(), compiled()
    a.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), epochs=1)
    b.fit(IMAGES, epochs=1)
    assert equal(a.state_dict(), b.state_dict())


def test_errors_of_the_feeding_thread_arrive() -> None:
    class Broken:
        dtype, shape = np.dtype(np.uint8), IMAGES.shape

        def __getitem__(self, rows: Any) -> Any:
            raise OSError("the disk went away")

    model = compiled()
    broken: Any = Broken()
    feed = StreamFeed(model.engine, [broken], [broken], 16)
    feed.begin(np.arange(50, dtype=np.int32))
    with pytest.raises(OSError, match="the disk went away"):
        feed.train(16)
    feed.close()


class StopAt(wl.Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if (self.epoch, batch) == self.at:
            self.model.stop_training = True


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 1), (1, 3), (2, 2)])
def test_stop_and_go_on_with_the_same_bits(epoch: int, batch: int) -> None:
    whole, halves = compiled(), compiled()
    expected = whole.fit(IMAGES, epochs=3, validation_data=TEST)
    halves.fit(IMAGES, epochs=3, validation_data=TEST, callbacks=[StopAt(epoch, batch)])
    assert (halves.progress.epoch, halves.progress.batch) == (epoch, batch + 1)  # after batch 3 only the validation is left
    rest = halves.fit(IMAGES, epochs=3, validation_data=TEST, start=halves.progress)
    assert equal(whole.state_dict(), halves.state_dict())
    assert rest["loss"][-1] == pytest.approx(expected["loss"][-1], rel=1e-12)


def test_learning_rate_changes_take_effect() -> None:
    model = compiled()
    model.train_step(IMAGES[:16])
    before = model.state_dict()
    model.optimizer.lr = 0.0
    model.train_step(IMAGES[:16])
    assert equal(before, model.state_dict())


def test_train_step_gradients_and_last_batch() -> None:
    model = compiled(lr=0.5)
    x = IMAGES[:5].astype(np.float32) / 255
    before, gradients = model.state_dict(), model.gradients(x)
    assert equal(before, model.state_dict())  # gradients() changes nothing
    loss = model.train_step(x)["loss"]
    assert loss == pytest.approx(float(np.mean((compiled().predict(x) - x) ** 2)), rel=1e-5)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, before[name] - 0.5 * gradients[name], rtol=1e-5, atol=1e-7)
    assert model.train_step(x, x)["loss"] < loss


def test_targets_of_another_shape() -> None:
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, wl.layers.Conv2d(2, 3)(x), name="other")
    model.compile(version="cpu", device="cpu", batch_size=2)
    y = np.zeros((2, 2, 6, 6), np.float32)
    assert model.train_step(IMAGES[:2], y)["loss"] > 0
    assert model.memory()["total"] > 0
    with pytest.raises(wl.ArgumentError, match="y=None reconstructs x"):
        model.train_step(IMAGES[:2])
    with pytest.raises(wl.ArgumentError, match=r"y has shape \(2, 2, 5, 6\)"):
        model.train_step(IMAGES[:2], y[:, :, :5])
    with pytest.raises(wl.ArgumentError, match="different numbers of samples"):
        model.train_step(IMAGES[:2], y[:1])


def test_encode_is_the_encoder() -> None:
    model = compiled()
    first = model.encode(TEST)
    assert first.shape == (10, 4, 4, 4)
    np.testing.assert_array_equal(first, model.encoder.predict(TEST))
    model.fit(IMAGES, epochs=1)
    second = model.encode(TEST)
    assert (first != second).any()
    np.testing.assert_array_equal(second, model.encoder.predict(TEST))
    assert (model.encoder.device, model.encoder.version) == (model.device, model.version)
    assert list(model.encoder.state_dict()) == ["conv1.weight", "conv1.bias"]
    np.testing.assert_array_equal(model.encode(TEST, batch_size=3), second)


def test_models_of_the_same_layers_share_parameters() -> None:
    x = wl.Input((3, 8, 8))
    conv = wl.layers.Conv2d(3, 3, padding=1, name="conv")
    a, b = wl.Model(x, conv(x), name="a"), wl.Model(x, wl.layers.ReLU()(conv(x)), name="b")
    a.compile(version="cpu", device="cpu", batch_size=4)
    b.compile(version="cpu", device="cpu", batch_size=4)
    a.train_step(IMAGES[:4])
    assert equal(a.state_dict(), b.state_dict())
    b.train_step(IMAGES[:4])
    assert equal(a.state_dict(), b.state_dict())
    np.testing.assert_array_equal(np.maximum(a.predict(TEST), 0), b.predict(TEST))


def test_frozen_layers_stay() -> None:
    model = tiny()
    model.layer("conv1").trainable = False
    model.compile(wl.optim.SGD(lr=0.1), version="cpu", device="cpu", batch_size=10)
    before = model.state_dict()
    model.train_step(IMAGES[:10])
    after = model.state_dict()
    assert np.array_equal(before["conv1.weight"], after["conv1.weight"])
    assert not np.array_equal(before["conv2.weight"], after["conv2.weight"])
    assert list(model.gradients(IMAGES[:10])) == ["conv2.weight", "conv2.bias"]
    assert model.count_parameters(trainable_only=True) == 3 * 4 * 9 + 3


def test_compile_again() -> None:
    model = compiled(seed=1)
    first = model.state_dict()
    model.compile(version="cpu", device="cpu", seed=2)
    assert not equal(first, model.state_dict())  # never trained: drawn anew
    model.train_step(IMAGES[:4])
    trained = model.state_dict()
    model.compile(version="cpu", device="cpu", seed=3)
    assert equal(trained, model.state_dict())  # trained: kept


def test_state_dict_round_trip_and_refusals() -> None:
    a, b = compiled(seed=1), compiled(seed=2)
    b.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(a.predict(TEST), b.predict(TEST))
    state: dict[str, Any] = a.state_dict()
    with pytest.raises(wl.ArgumentError, match=r"it lacks conv1\.bias; it has unknown conv9\.bias"):
        b.load_state_dict({("conv9.bias" if k == "conv1.bias" else k): v for k, v in state.items()})
    with pytest.raises(wl.ArgumentError, match=r"conv1\.bias has shape \(5,\)"):
        b.load_state_dict({**state, "conv1.bias": np.zeros(5, np.float32)})
    with pytest.raises(TypeError, match="has dtype int64"):
        b.load_state_dict({**state, "conv1.bias": np.zeros(4, np.int64)})
    with pytest.raises(wl.DataError, match="holds NaN"):
        b.load_state_dict({**state, "conv1.bias": np.full(4, np.nan, np.float32)})
    assert equal(a.state_dict(), b.state_dict())  # a refused state dict changes nothing
    state["conv1.bias"][:] = 9  # copies
    assert equal(a.state_dict(), b.state_dict())


def test_save_and_load(tmp_path: Path) -> None:
    model = compiled()
    model.fit(IMAGES, epochs=1)
    model.save(tmp_path / "m.safetensors")
    again = wl.load(tmp_path / "m.safetensors")
    assert equal(model.state_dict(), again.state_dict())
    np.testing.assert_array_equal(model.predict(TEST), again.predict(TEST))
    np.testing.assert_array_equal(model.encode(TEST), again.encode(TEST))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]  # nothing temporary is left
    again.save(tmp_path / "n.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "n.safetensors").read_bytes()
    again.compile(version="cpu", device="cpu", batch_size=10)
    assert equal(model.state_dict(), again.state_dict())


def test_files_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    with pytest.raises(wl.DataError, match="there is no file"):
        wl.load(file)
    compiled().save(file)
    content = file.read_bytes()
    for damaged in (content[:-10], content[:20], b"", b"hello", content[:8] + b"x" + content[9:]):
        file.write_bytes(damaged)
        with pytest.raises(wl.DataError, match="damaged"):
            wl.load(file)
    save_file({"w": np.zeros(3, np.float32)}, file)
    with pytest.raises(wl.DataError, match="without a warploom network"):
        wl.load(file)
    for graph in (1, {}, [], {"name": "x", "inputs": [], "layers": [{"class": "os"}], "calls": []}):
        ours = {"format": "warploom-model-1", "graph": graph}
        save_file({"w": np.zeros(3, np.float32)}, file, {"warploom": json.dumps(ours)})
        with pytest.raises(wl.DataError, match="does not describe a network"):
            wl.load(file)


def test_inputs_that_are_refused() -> None:
    model = compiled()
    floats = IMAGES.astype(np.float32) / 255
    broken = floats.copy()
    broken[3, 1, 2, 2] = np.nan
    cases: list[tuple[Any, type[Exception], str]] = [
        ((floats * 9).astype(np.int64), TypeError, "x has dtype int64; input 'image' of model 'tiny' takes float32"),
        (floats[:, :2], ValueError, r"takes \(N, 3, 8, 8\)"),
        (floats[:0], ValueError, "x is empty"),
        (broken, wl.DataError, r"x holds NaN at index \(3, 1, 2, 2\)"),
        ("images", TypeError, "x must be a NumPy array, not str"),
        ([floats, floats], ValueError, "takes 1 input array"),
    ]
    for value, kind, text in cases:
        for call in (model.predict, model.fit, model.evaluate, model.train_step, model.encode):
            with pytest.raises(kind, match=text):
                call(value)
    for value, kind, text in (  # predict() and encode() take these
        (floats.transpose(0, 2, 3, 1), ValueError, "looks like NHWC"),
        (floats[0], ValueError, r"for one sample use x\[None\]"),
        (floats[:, :, :4], ValueError, r"takes \(N, 3, 8, 8\)"),
    ):
        for call in (model.fit, model.evaluate, model.train_step):
            with pytest.raises(kind, match=text):
                call(value)
    with pytest.raises(wl.ArgumentError, match="validation_data has shape"):
        model.fit(IMAGES, validation_data=IMAGES[:, :2])
    with pytest.raises(TypeError, match="callbacks must be"):
        model.fit(IMAGES, callbacks=[print])  # type: ignore[list-item]
    with pytest.raises(wl.ArgumentError, match="epochs must be at least 1"):
        model.fit(IMAGES, epochs=0)


def test_uncompiled_models() -> None:
    model = tiny()
    assert model.predict(TEST).shape == TEST.shape
    for call in (model.fit, model.evaluate, model.train_step, model.gradients):
        with pytest.raises(wl.StateError, match=r"call model\.compile"):
            call(IMAGES)
    assert model.memory(batch_size=4)["weights"] > 0
    assert model.explain(batch_size=4)


def test_compile_refuses() -> None:
    model = tiny()
    for arguments, text in (
        ({"version": "v99"}, "unknown version 'v99'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"optimizer": "sgdd"}, "unknown optimizer 'sgdd'"),
        ({"loss": "mae!"}, "unknown loss 'mae!'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"loss": wl.losses.MSE(output=1)}, "the model has 1 output"),
    ):
        with pytest.raises(ValueError, match=text):
            model.compile(**arguments)  # type: ignore[arg-type]
    if not any(d["usable"] for d in wl.devices() if d["kind"] == "cuda"):
        with pytest.raises(wl.DeviceError, match="device cuda is not usable"):
            model.compile(device="cuda")
        with pytest.warns(wl.FallbackWarning, match="needs a CUDA device"):
            model.compile(version="v1")
        assert (model.device, model.version) == ("cpu", "cpu")
    with pytest.raises(wl.UnsupportedError, match="version v1 does not run on device cpu"):
        model.compile(version="v1", device="cpu")


def test_divergence_stops_and_restores() -> None:
    model = compiled(lr=1e-3)
    model.fit(IMAGES, epochs=1)
    good = model.state_dict()
    model.optimizer.lr = 1e30
    with pytest.raises(wl.DivergedError, match="the loss became"):
        model.fit(IMAGES, epochs=3, start=Progress(1))
    assert equal(good, model.state_dict())
    assert math.isfinite(model.evaluate(TEST)["loss"])


def test_devices_and_versions() -> None:
    names = [d["name"] for d in wl.devices()]
    assert "cpu" in names
    assert any(n.startswith("cuda") for n in names)
    for row in wl.devices():
        assert row["usable"] != bool(row["why"])
    rows = wl.versions()
    assert rows[-1]["name"] == "cpu"
    assert json.dumps([rows, wl.devices()])


def test_resolution_of_device_and_version() -> None:
    have_cuda = any(d["usable"] for d in wl.devices() if d["kind"] == "cuda")
    names = [v["name"] for v in wl.versions() if v["name"] != "cpu"]
    newest = [name for name in names if not {v["name"]: v["float32_from"] for v in _core.versions()}[name]][-1]
    assert hardware.resolve("cpu").device == "cpu"
    assert hardware.resolve("auto", "emulated").version == newest, "in float32, whoever has kernels of its own for it"
    anywhere = [v["name"] for v in _core.versions() if v["name"] in names and not v["compute_capability"]]
    assert hardware.resolve("auto", "emulated", precision="bf16").version == anywhere[-1]
    assert hardware.resolve().device == ("cuda:0" if have_cuda else "cpu")
    if not have_cuda:
        choice = hardware.resolve("v1")
        assert (choice.device, choice.version) == ("cpu", "cpu")
        assert "needs a CUDA device" in choice.note
        assert hardware.resolve("v1", kernels_first=True)[:2] == ("emulated", ["v1"])
    with pytest.raises(wl.UnsupportedError, match="version cpu does not run on device emulated"):
        hardware.resolve("cpu", "emulated")


def test_a_version_of_one_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """v7 is there on the emulated device and on 9.0; elsewhere it is named, refused, and what remains is listed."""
    assert hardware.resolve("v7", "emulated").version == "v7"
    newest = [v["name"] for v in _core.versions() if v["name"] != "cpu" and not v["compute_capability"]][-1]
    here = hardware._libraries()
    emulated = next(library for library in here if library["kind"] == "emulated")
    for major, minor, there in ((9, 0, True), (8, 9, False), (10, 0, False)):
        gpu = emulated["devices"][0] | {"name": "a GPU", "compute_major": major, "compute_minor": minor}
        library = emulated | {"kind": "cuda", "devices": [gpu]}
        monkeypatch.setattr(hardware, "_libraries", lambda library=library: [library])
        assert ("v7" in hardware.devices()[1]["versions"]) == there
        versions = [v | {"kinds": [*v["kinds"], "cuda"]} for v in _core.versions()]
        monkeypatch.setattr(hardware, "_versions", lambda versions=versions: versions)
        if there:
            assert hardware.resolve("v7").version == "v7"
        else:
            with pytest.raises(wl.UnsupportedError, match=r"version v7 needs compute capability 9\.0, and a GPU, .* has another"):
                hardware.resolve("v7")
        assert hardware.resolve(precision="bf16").version == newest


def test_emulated_device_agrees() -> None:
    losses = []
    for version, device in (("cpu", "cpu"), ("auto", "emulated")):
        model = tiny()
        model.compile(wl.optim.SGD(lr=0.05), version=version, device=device, batch_size=16, seed=0)
        losses.append(model.fit(IMAGES, epochs=2, validation_data=TEST)["val_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
