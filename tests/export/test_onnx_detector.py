"""Detectors in ONNX Runtime: scores, labels, heat maps and masks are the detector's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import export_cases as cases
import numpy as np
import pytest
import warploom as wl
from numpy.typing import NDArray
from warploom.cli import main
from warploom.export.onnx_detector import below

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
Array = NDArray[Any]
FLOAT32 = 1e-5  # relative to the largest value


def pictures(shape: tuple[int, ...], count: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def network(kind: str) -> wl.Model:
    layers = wl.layers
    if kind == "cifar10":
        return cases.randomised(cases.network("cifar10_autoencoder", {"size": (16, 24)}))
    if kind == "grey":
        return cases.randomised(cases.network("gray_autoencoder", {"size": 32, "width": 4}))
    if kind == "vector":  # a latent without places
        x = wl.Input((2, 6, 5), name="score")  # as an output of the detector is named
        h = layers.Latent(name="code")(layers.Linear(7, name="in")(layers.Flatten()(x)))
        return cases.randomised(wl.Model(x, layers.Reshape((2, 6, 5))(layers.Linear(60, name="out")(h)), name="vector"))
    x = wl.Input((3, 17, 11), name="x")  # a latent whose size does not divide the image's
    h = layers.Latent(name="code")(layers.Conv2d(5, 3, stride=2, name="down")(x))
    return cases.randomised(wl.Model(x, layers.ConvTranspose2d(3, 3, stride=2, name="up")(h), name="odd"))


def check(detector: wl.detect.Detector, path: Path, layout: str = "nchw") -> dict[str, Array]:
    shape = detector.model.inputs[0].shape
    wl.export.detector(detector, path, uint8=layout)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = pictures(shape, 6, 99)
    fed = pixels if layout == "nchw" else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    (value,) = session.get_inputs()
    found = dict(zip([o.name.rstrip("_") for o in session.get_outputs()], session.run(None, {value.name: fed}), strict=True))
    own = list(detector.examine(pixels))
    right: dict[str, Any] = {
        "score": [f.score for f in own], "normalized": [f.normalized for f in own], "map": [f.map for f in own],
        "heat_map": [f.heat_map for f in own],
    }  # fmt: skip
    for name, values in right.items():
        assert found[name].dtype == np.float32
        assert cases.far(found[name], np.array(values, np.float32)) < FLOAT32, name
    assert found["abnormal"].tolist() == [f.abnormal for f in own]
    clear = np.abs(np.stack([f.heat_map for f in own]) - 0.5) > 1e-5  # a value at the threshold may round to either side
    assert (found["mask"] == np.stack([f.mask for f in own]))[clear].all()
    assert clear.mean() > 0.99
    return found


@pytest.mark.parametrize("kind", ["cifar10", "grey", "vector", "odd"])
@pytest.mark.parametrize("scores", ["mse", "ssim", "latent", "mse:2+ssim+latent:0.5"])
def test_every_score(kind: str, scores: str, tmp_path: Path) -> None:
    model = network(kind)
    detector = wl.detect.Detector(model, scores, device="cpu", bank=30).fit(pictures(model.inputs[0].shape, 9, 1))
    check(detector, tmp_path / "d.onnx")


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "max"}, {"pooling": "mean"}, {"pooling": "top", "share": 0.2}, {"blur": 0.0}, {"blur": 7.0},
        {"neighbours": 1}, {"neighbours": 1000, "bank": 5}, {"contamination": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_every_option(options: dict[str, Any], tmp_path: Path) -> None:
    model = network("cifar10")
    detector = wl.detect.Detector(model, "mse+latent", device="cpu", **options).fit(pictures((3, 16, 24), 9, 1))
    found = check(detector, tmp_path / "d.onnx", "nhwc")
    assert set(found["abnormal"].tolist()) == {True, False} or options.get("contamination") != 0.5


def test_floats_and_what_the_file_says(tmp_path: Path) -> None:
    model = network("cifar10")
    detector = wl.detect.Detector(model, "ssim", device="cpu").fit(pictures((3, 16, 24), 9, 1))
    path = wl.export.detector(detector, tmp_path / "d.onnx")
    for d in wl.export.compare_detector(detector, path):
        assert d.largest_difference < FLOAT32 * d.largest_value
    file = onnx.load(path)
    said = {entry.key: entry.value for entry in file.metadata_props}
    assert float(said["warploom.threshold"]) == detector.threshold_
    assert float(said["warploom.pixel_threshold"]) == detector.pixel_threshold_
    assert wl.detect.Steps.from_dict(json.loads(said["warploom.steps"])) == detector.steps
    assert (said["warploom.part"], said["warploom.scaled"]) == ("detector", "outside")
    assert "Detector of abnormal images: ssim on cifar10_autoencoder. Takes images of 3x16x24" in file.doc_string
    with pytest.raises(wl.DataError, match="holds no network of warploom"):
        wl.export.read_onnx(path)


def test_images_of_their_own_size(tmp_path: Path) -> None:
    """The graph is that of images of the network's size, as long as these are looked at as a whole."""
    model = network("grey")
    normal = pictures((1, 32, 32), 8, 1)
    check(wl.detect.Detector(model, own_size=True, tile=64, device="cpu").fit(normal), tmp_path / "d.onnx")
    detector = wl.detect.Detector(model, own_size=True, tile=16, device="cpu").fit(normal)
    with pytest.raises(wl.ArgumentError, match="looks at images of 32x32 in tiles of 16"):
        wl.export.detector(detector, tmp_path / "t.onnx")


def test_what_is_refused(tmp_path: Path) -> None:
    detector = wl.detect.Detector(network("grey"), device="cpu")
    with pytest.raises(wl.StateError, match="needs a fitted detector"):
        wl.export.detector(detector, tmp_path / "d.onnx")
    with pytest.raises(wl.ArgumentError, match="unknown layout"):
        wl.export.detector(detector, tmp_path / "d.onnx", uint8="hwc")
    with pytest.raises(wl.ArgumentError, match=r"does not end in \.onnx"):
        wl.export.detector(detector, tmp_path / "d.pt")
    assert not list(tmp_path.iterdir())


def test_a_score_is_above_the_threshold_exactly_where_it_is_here() -> None:
    """The graph compares float32 numbers, the detector a float32 number with a float64 threshold."""
    rng = np.random.default_rng(0)
    for threshold in [*rng.random(200), 0.1, 0.5, 1e-30]:
        near = np.float32(threshold)
        for score in (np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(1))):
            assert bool(score > below(float(threshold))) == (float(score) > threshold)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network("cifar10")
    file = tmp_path / "det.safetensors"
    wl.detect.Detector(model, device="cpu").fit(pictures((3, 16, 24), 9, 1)).save(file)
    assert main(["export", str(file), "--uint8", "nhwc", "--verify", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(tmp_path / "det.onnx")]
    assert said["outputs"]["mask"] == [16, 24]
    assert [v["output"] for v in said["verified"]] == ["score", "map", "heat_map"]
    for arguments in (["--to", "torch"], ["--part", "encoder"], ["--skips"]):
        assert main(["export", str(file), *arguments]) == 2
        assert "is a detector, which is exported as a whole" in capsys.readouterr().err
    assert main(["export", str(file), "-o", str(file)]) == 2
