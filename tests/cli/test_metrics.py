"""The metrics by themselves, against written-out sums and the core's SSIM loss; and in a run's lines, files and closing words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from warploom import metrics
from warploom.cli import main
from warploom.runs.scores import Scores


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_errors_of_images(rng: np.random.Generator) -> None:
    a, b = rng.random((3, 2, 5, 7)), rng.random((3, 2, 5, 7))
    assert metrics.mse(a, b) == pytest.approx(float(((a - b) ** 2).mean()), rel=1e-5)
    assert metrics.mae(a, b) == pytest.approx(float(np.abs(a - b).mean()), rel=1e-5)
    assert metrics.psnr(a, b) == pytest.approx(-10 * math.log10(float(((a - b) ** 2).mean())), rel=1e-5)
    assert metrics.psnr(a, a) == math.inf
    assert metrics.psnr(2 * a, 2 * b, data_range=2.0) == pytest.approx(metrics.psnr(a, b), rel=1e-5)
    pixels = rng.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    assert metrics.mae(pixels, pixels / 255.0) == pytest.approx(0, abs=1e-7), "uint8 is scaled"


@pytest.mark.parametrize("shape", [(2, 3, 16, 13), (1, 1, 11, 11), (3, 2, 7, 20)])
def test_ssim_is_the_loss_s(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    a = rng.random(shape).astype(np.float32)
    b = np.clip(a + 0.2 * rng.standard_normal(shape), 0, 1).astype(np.float32)
    assert metrics.ssim(a, a) == pytest.approx(1)
    window = min(shape[2:])
    if window >= 11:
        x = wl.Input(shape[1:])
        model = wl.Model(x, wl.layers.Identity()(x))
        model.compile(loss="ssim", device="cpu", batch_size=shape[0])
        assert metrics.ssim(b, a) == pytest.approx(1 - model.evaluate(a, b)["loss"], rel=1e-4)
    else:
        assert metrics.ssim(a, b) < 0.99, "the window is cut to the image"


def test_classes() -> None:
    labels = np.array([[[0, 0, 1], [1, 2, -100]]])
    given = np.array([[[0, 1, 1], [1, 0, 3]]])
    assert metrics.pixel_accuracy(labels, given) == pytest.approx(3 / 5)
    # class 0: one pixel of three; 1: two of three; 2: never found; 3 stands at the ignored pixel only
    assert metrics.mean_iou(labels, given) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert metrics.mean_iou(labels, given, classes=9) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3), "classes nobody has do not count"
    assert math.isnan(metrics.pixel_accuracy(np.full((1, 2), -100), np.zeros((1, 2), int)))


def test_what_is_refused() -> None:
    image = np.zeros((1, 1, 4, 4), np.float32)
    cases = [
        (lambda: metrics.psnr(image, image[:, :, :2]), "psnr compares arrays of one shape"),
        (lambda: metrics.mae(image.astype(np.int32), image), "takes uint8 or float arrays, not int32"),
        (lambda: metrics.ssim(image[0], image[0]), "ssim takes images"),
        (lambda: metrics.mean_iou(np.zeros((1, 2)), np.zeros((1, 2))), "class numbers are integers, not float64"),
        (lambda: metrics.mean_iou(np.full((1, 2), 7), np.zeros((1, 2), int), classes=3), "labels hold 7 to 7; expected 0 to 2"),
        (lambda: metrics.pixel_accuracy(np.zeros((1, 2), int), np.zeros((2, 2), int)), "have one shape"),
    ]
    for call, text in cases:
        with pytest.raises((wl.ArgumentError, wl.DTypeError), match=text):
            call()


RUNS = {
    "cifar10_autoencoder": ([], {"psnr", "ssim_index", "mae"}),
    "gray_autoencoder": (["--set", "size=32", "--batch-size", "4"], {"psnr", "ssim_index", "mae"}),
    "unet_small": (["--set", "size=32", "--set", "classes=6", "--batch-size", "4"], {"pixel_accuracy", "mean_iou"}),
    "dsresnet": (["--set", "size=32", "--batch-size", "4"], {"depth_mae", "mask_iou"}),
    "liae_ud": (
        [*("--set", "resolution=32", "--set", "ae_dims=8", "--set", "e_dims=8", "--set", "d_dims=8", "--set", "d_mask_dims=4")],
        {"psnr", "mask_iou"},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_reports_them(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, expected = RUNS[name]
    source = ["--data", "patches"] if name == "cifar10_autoencoder" else []
    common = ["--model", name, *options, *source, "--limit", "8", "--epochs", "1", "--device", "cpu"]
    more = ["--batch-size", "8"] if name == "cifar10_autoencoder" else []
    assert main(["train", *common, *more, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    found = {key.removeprefix("test_") for key in row if key.startswith("test_")} - {"loss", "losses"}
    assert found == expected
    assert all(math.isfinite(row[f"test_{name}"]) for name in found)
    shown = metrics.text(row, "test_")
    assert shown
    assert out.count(shown) == 2, "in the epoch's line and in the closing words"
    mse = row.get("test_losses", {}).get("mse", row["test_loss"])
    if "psnr" in found and name != "liae_ud":
        assert row["test_psnr"] == pytest.approx(-10 * math.log10(mse), abs=1e-4)
    model = wl.load(tmp_path / "run/model.safetensors")
    if name == "unet_small":
        from warploom.data import tasks

        data = tasks.load("segmentation", "auto", (3, 32, 32), classes=6, limit=8)
        classes = model.predict([a[:] for a in data.test.x]).argmax(axis=1)
        labels = (data.test.y or [])[0]
        assert row["test_pixel_accuracy"] == pytest.approx(float((classes == labels).mean()), abs=1e-6)


def test_fit_tells_callbacks(rng: np.random.Generator) -> None:
    """What a user's own callback sees: Keras' names."""
    from warploom.data.dataset import Dataset
    from warploom.data.tasks import of_images

    x = rng.random((8, 3, 8, 8)).astype(np.float32)
    data = of_images(Dataset("mine", x, x))
    inputs = wl.Input((3, 8, 8))
    model = wl.Model(inputs, wl.layers.Conv2d(3, 3, padding=1)(inputs))
    model.compile(loss="mse", device="cpu", batch_size=4)
    history = model.fit(x, epochs=2, validation_data=x, callbacks=[Scores(model, data)])
    assert history["val_psnr"] == pytest.approx([-10 * math.log10(v) for v in history["val_loss"]])
    assert len(history["val_mae"]) == 2
