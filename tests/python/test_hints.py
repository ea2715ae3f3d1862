"""What a person passes by mistake, and the sentence that says how it is meant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.layers import Conv2d, MaxPool2d, Upsample

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
IMAGES = np.random.default_rng(0).random((5, 3, 8, 8), np.float32)


def made(channels: int = 3, sides: tuple[int, int] = (8, 8)) -> wl.Model:
    x = wl.Input((channels, *sides), name="image")
    model = wl.Model(x, Conv2d(channels, 3, padding=1)(x))
    model.compile("sgd", device="cpu", batch_size=4)
    return model


@pytest.mark.parametrize(
    ("channels", "value", "said"),
    [
        (3, lambda: Image.new("RGB", (8, 8)), "one image as HWC: use numpy.asarray(x).transpose(2, 0, 1)[None]"),
        (3, lambda: Image.new("RGB", (90, 70)), "one image as HWC: resize it to 8x8"),
        (3, lambda: IMAGES.transpose(0, 2, 3, 1), "it looks like NHWC: use x.transpose(0, 3, 1, 2)"),
        (3, lambda: IMAGES[0], "for one sample use x[None]"),
        (1, lambda: IMAGES[:, 0], "for grey images use x[:, None]"),
        (3, lambda: IMAGES[:, 0], "for grey images use x[:, None].repeat(3, 1)"),
        (3, lambda: Image.new("L", (8, 8)), "for one grey image use numpy.asarray(x)[None, None].repeat(3, 1)"),
        (1, lambda: Image.new("L", (8, 8)), "for one grey image use numpy.asarray(x)[None, None]"),
        (3, lambda: list(IMAGES), "model 'model' takes 1 input array(s) (image), not 5"),
    ],
)
def test_what_training_does_not_take_is_explained(channels: int, value: Callable[[], Any], said: str) -> None:
    with pytest.raises(wl.ArgumentError) as caught:
        made(channels).fit(value(), epochs=1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("channels", "value", "said"),
    [
        (1, lambda: IMAGES, "the network takes 1 channel, these have 3"),
        (3, lambda: "photos/", "str: load the images first"),
        (3, lambda: Path("photos"), "load the images first"),
        (3, lambda: wl.data.Dataset("own", IMAGES, IMAGES), "pass a part of it, .train, .test or .images"),
        (3, lambda: (batch for batch in IMAGES), "generator: collect its batches"),
        (3, lambda: (IMAGES * 255).astype(np.int64), "convert it with x.astype(numpy.uint8)"),
        (3, lambda: (IMAGES * 9000).astype(np.int32), "convert it with x.astype(numpy.float32)"),
    ],
)
def test_what_is_not_taken_is_explained(channels: int, value: Callable[[], Any], said: str) -> None:
    with pytest.raises(wl.ArgumentError) as caught:
        made(channels).predict(value())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_torch
def test_loaders_and_tensors_of_pytorch() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(IMAGES)), batch_size=2)
    with pytest.raises(wl.DTypeError, match=r"DataLoader: collect its batches into one array .* train_step\(\) on each"):
        made().fit(loader, epochs=1)
    with pytest.raises(wl.DTypeError, match=r"pass x.detach\(\)") as caught:
        made().predict(torch.from_numpy(IMAGES).requires_grad_())
    assert "numpy()" not in str(caught.value)  # PyTorch's own sentence
    model = made()
    np.testing.assert_array_equal(model.predict(torch.from_numpy(IMAGES)), model.predict(IMAGES))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.bool_])
def test_floats_and_booleans_of_other_widths_are_taken(dtype: Any) -> None:
    model = made()
    given = (IMAGES > 0.5) if dtype is np.bool_ else IMAGES.astype(dtype)
    np.testing.assert_array_equal(model.predict(given), model.predict(given.astype(np.float32)))
    assert model.evaluate(given)["loss"] == model.evaluate(given.astype(np.float32))["loss"]
    model.fit(given, epochs=1, verbose=False)


def test_a_file_of_float64_is_not_copied_into_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES.astype(np.float64))
    with pytest.raises(wl.DTypeError, match="convert it with"):
        made().predict(np.load(tmp_path / "x.npy", mmap_mode="r"))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.keras", "a.h5", "a.onnx", "a.npz", "a.pkl", "a.CKPT"])
def test_a_file_is_not_given_another_programs_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(wl.ArgumentError, match=r"writes \.safetensors files, not .*: name it a\.safetensors"):
        made().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.safetensors", "a", "net.v2"])
def test_other_names_are_the_users(name: str, tmp_path: Path) -> None:
    made().save(tmp_path / name)
    assert wl.load(tmp_path / name).count_parameters() == made().count_parameters()


def test_an_odd_size_has_a_way_out() -> None:
    x = wl.Input((3, 30, 45), name="image")
    model = wl.Model(x, Conv2d(3, 3, padding=1)(Upsample(2)(MaxPool2d(2)(x))))
    model.compile("sgd", device="cpu", batch_size=2)
    images = np.zeros((2, 3, 30, 45), np.float32)
    with pytest.raises(wl.ArgumentError, match=r"Input\(\(3, 30, 44\)\), and cut the images to it \(x\[:, :, :30, :44\]\)"):
        model.fit(images, epochs=1)
    x = wl.Input((3, 30, 44), name="image")
    fits = wl.Model(x, Conv2d(3, 3, padding=1)(Upsample(2)(MaxPool2d(2)(x))))
    fits.compile("sgd", device="cpu", batch_size=2)
    fits.fit(images[:, :, :30, :44], epochs=1, verbose=False)


@needs_torch
def test_state_dicts_go_both_ways() -> None:
    model = wl.models.cifar10_autoencoder()
    module = torch.nn.Module()
    for name, value in model.state_dict().items():
        layer, kind = name.split(".")
        if not hasattr(module, layer):
            shape = value.shape
            module.add_module(layer, torch.nn.Conv2d(shape[1], shape[0], shape[2], padding=1))
        assert getattr(getattr(module, layer), kind).shape == value.shape
    module.load_state_dict(wl.interop.to_torch(model.state_dict()))
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), model.state_dict()[name])
    with torch.no_grad():
        module.conv1.weight.mul_(2.0)
    model.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(model.state_dict()["conv1.weight"], module.state_dict()["conv1.weight"].numpy())


def test_to_torch_without_torch_says_so() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nimport warploom as wl\n"
        "try: wl.interop.to_torch({})\nexcept wl.StateError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "to_torch() needs PyTorch: pip install torch"


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict", "encode"])
def test_pixels_as_floats_are_pointed_out_wherever_they_come_in(call: str) -> None:
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.Latent()(Conv2d(3, 3, padding=1)(x))
    model = wl.Model(x, Conv2d(3, 3, padding=1)(h))
    model.compile(wl.optim.SGD(1e-9), device="cpu", batch_size=5)
    more = {"epochs": 1, "verbose": False} if call == "fit" else {}
    with pytest.warns(UserWarning, match="which look like pixels: pass them as uint8, or divide by 255") as caught:
        getattr(model, call)(np.rint(IMAGES * 255), **more)
    assert caught[0].filename == __file__
    model.decoder.predict(IMAGES * 255)  # codes are not pixels; warnings are errors here
