"""The commands that use a trained network: evaluate, reconstruct, encode, classify."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from rich.cells import cell_len
from warploom.cli import main
from warploom.cli.reconstruct import error_colours, file_name
from warploom.data import cifar
from warploom.inference.trained import open_trained
from warploom.layers import Conv2d, Latent, MaxPool2d, ReLU, Upsample

needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network that was trained a little."""
    x = h = wl.Input((3, 16, 16), name="image")
    h = Latent()(MaxPool2d(2)(ReLU()(Conv2d(8, 3, padding=1)(h))))
    model = wl.Model(x, Conv2d(3, 3, padding=1)(Upsample(2)(h)), name="small")
    model.compile(wl.optim.Adam(lr=3e-3), device="cpu", batch_size=8, seed=1)
    model.fit(shades(64)[0], epochs=30, verbose=False)
    path = tmp_path_factory.mktemp("net") / "small.safetensors"
    model.save(path)
    return str(path)


def shades(count: int, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds: dark above and bright below, or the other way round; and noise."""
    rng = np.random.default_rng(count)  # of its own: what a test sees must not depend on the tests before it
    labels = rng.permutation(np.arange(count) % 2)
    ramp = np.linspace(0, 200, size)[None, None, :, None]
    images = np.where(labels[:, None, None, None] == 1, ramp, ramp[:, :, ::-1]) + rng.integers(0, 55, (count, 3, size, size))
    return images.astype(np.uint8), labels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    images, labels = shades(24)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / ("rising" if label else "falling") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image.transpose(1, 2, 0))
        (picture.resize((20 + i, 31)) if i % 3 == 0 else picture).save(path)
    return tmp_path / "photos"


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(a) for a in arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("warploom: error: ")
    assert text.count("\n") == 1
    return text


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LONG = "a folder of photographs with a rather long name that goes on and on"
SCREENS = [
    "evaluate NET ODD",
    "reconstruct NET ODD --count 2 --out OUT/a.png",
    "encode NET ODD --out OUT/a.npy",
    "search NET ODD --in ODD",
    "cluster NET ODD --clusters 2",
    "detect fit NET ODD --out OUT/d.safetensors",
    "detect run DETECTOR ODD --out OUT/d",
    "classify NET ODD --methods linear --out OUT/c",
    "export NET --out OUT/a.onnx",
    "bench NET --seconds 0.01",
    "report NET --data ODD --out OUT/a.html",
    "evaluate --help",
    "--help",
]


@pytest.mark.parametrize("words", SCREENS)
def test_a_screen_of_eighty_columns_and_none_of_its_codes(
    words: str, net: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are long, or look like rich's markup, or hold codes of a terminal: they are shown as they are."""
    if words.startswith("export"):
        pytest.importorskip("onnx")
    for name, new in (("falling", LONG), ("rising", "x[")):
        (photos / name).rename(photos / new)
    for number, new in enumerate(["b].png", "[red]:smile:.png", "\x1b[31m.png"]):
        sorted((photos / "x[").glob("[0-9]*.png"))[number].rename(photos / "x[" / new)
    if not words.startswith("classify"):  # which divides what there is
        for file in [*(photos / "x[").glob("[0-9]*.png"), *sorted((photos / LONG).iterdir())[4:]]:
            file.unlink()
    if "DETECTOR" in words:
        assert main(["detect", "fit", net, str(photos), "--out", str(tmp_path / "detector.safetensors")]) == 0
    monkeypatch.chdir(tmp_path)
    shorter = {"NET": net, "ODD": "photos", "DETECTOR": "detector.safetensors", "OUT": "out"}
    arguments = [next((w.replace(k, v) for k, v in shorter.items() if w.startswith(k)), w) for w in words.split()]
    screens = {}
    for name, value in (("COLUMNS", "80"), ("TERM", "xterm"), ("NO_COLOR", "1"), ("NO_COLOR", "")):
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", Terminal())
        shutil.rmtree("out", ignore_errors=True)
        assert main(arguments) == 0
        screens[value] = sys.stdout.getvalue()  # type: ignore[attr-defined]
    text = screens["1"]
    assert "\x1b" not in text
    assert max(map(cell_len, text.splitlines())) <= 80, max(text.splitlines(), key=cell_len)
    if words.startswith(("search", "detect run")):
        assert all(name in text for name in ("x[/b].png", "x[/[red]:smile:.png", "x[/\\x1b[31m.png"))


# evaluate
def test_evaluate(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "evaluate", net, photos, "--part", "all", "--scores", tmp_path / "s.csv")
    images = wl.data.load(photos, size=16, split=0).images
    outputs = wl.load(net).predict(images)
    assert found["images"] == 24
    assert found["psnr"] == pytest.approx(wl.metrics.psnr(images, outputs), abs=1e-3)
    assert found["mae"] == pytest.approx(wl.metrics.mae(images, outputs), rel=1e-4)
    assert found["ssim_index"] == pytest.approx(wl.metrics.ssim(images, outputs), rel=1e-4)
    each = rows(tmp_path / "s.csv")
    assert [r["name"] for r in each] == wl.data.load(photos, size=16, split=0).files
    assert float(each[3]["psnr"]) == pytest.approx(wl.metrics.psnr(images[3], outputs[3]), abs=1e-3)
    worst = max(each, key=lambda r: float(r["mse"]))
    assert found["worst"][0]["name"] == worst["name"]
    text = said(capsys, "evaluate", net, photos, "--part", "test")
    assert "2 images" in text
    assert "PSNR" in text
    assert "2 classes: falling, rising" in text


def test_a_place_where_nothing_can_be_written_is_said_first(
    net: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wl.Model, "encode", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(wl.Model, "reconstruct", lambda *_: pytest.fail("computed"))
    (tmp_path / "file").write_text("")
    for arguments in (
        ["evaluate", net, photos, "--scores", tmp_path / "file/scores.csv"],
        ["evaluate", net, photos, "--scores", tmp_path],
        ["classify", net, photos, "--out", tmp_path / "file"],
        ["encode", net, photos, "--out", tmp_path / "file/features.npy"],
        ["detect", "fit", net, photos, "--out", tmp_path / "file/detector.safetensors"],
    ):
        assert "cannot write " in refused(capsys, *arguments)


def test_all_of_new_images_and_the_test_part_of_old_ones(net: str, photos: Path, tmp_path: Path, capsys: Any) -> None:
    assert told(capsys, "evaluate", net, photos)["images"] == 24
    assert len(told(capsys, "reconstruct", net, photos, "--out", tmp_path / "out")["images"]) == 24
    one = next(photos.rglob("*.png"))
    assert "1 image\n" in said(capsys, "evaluate", net, one)
    assert "1 image: written" in said(capsys, "reconstruct", net, one, "--out", tmp_path / "one.png")
    train = ["train", "--data", photos, "--size", 16, "--epochs", 1, "--batch-size", 4, "--out", tmp_path / "run"]
    said(capsys, *train, "--model", "autoencoder", "--device", "cpu")
    for named in ([], [photos], [str(photos) + "/"]):
        assert told(capsys, "evaluate", tmp_path / "run", *named)["images"] == 2, named


def test_evaluate_at_own_sizes(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "evaluate", net, photos, "--part", "all", "--fit", "own", "--scores", tmp_path / "s.csv")
    model, errors, pixels = wl.load(net), 0.0, 0
    for row in rows(tmp_path / "s.csv"):
        image = pixels_of(photos / row["name"])
        assert (int(row["height"]), int(row["width"])) == image.shape[:2]
        error = np.square(image / 255 - model.reconstruct(image))
        assert float(row["mse"]) == pytest.approx(error.mean(), rel=1e-4)
        errors, pixels = errors + error.sum(), pixels + error.size
    assert found["mse"] == pytest.approx(errors / pixels, rel=1e-4)


def test_a_run_is_evaluated_on_its_own_test_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", shades(20, 32)[0])
    said(
        capsys,
        "train",
        "--data",
        tmp_path / "x.npy",
        "--epochs",
        1,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    )
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    found = told(capsys, "evaluate", tmp_path / "run")
    assert found["images"] == 2
    assert found["mse"] == pytest.approx(last["test_loss"], rel=1e-4)
    assert found["psnr"] == pytest.approx(last["test_psnr"], abs=1e-3)
    assert found["ssim_index"] == pytest.approx(last["test_ssim_index"], abs=1e-4)


def test_what_stood_in_for_cifar10_is_what_later_commands_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def offline(folder: Path) -> Path:
        asked.append(folder)
        raise wl.DataError("CIFAR-10 cannot be downloaded (no network connection to it)")

    monkeypatch.setenv("WARPLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "_download", offline)
    options = ["--set", "widths=4,4", "--limit", 16, "--limit-test", 8, "--batch-size", 8, "--device", "cpu"]
    said(capsys, "train", "--model", "autoencoder", "--set", "size=32", *options, "--epochs", 1, "--out", tmp_path / "run")
    assert len(asked) == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == "patches"
    said(capsys, "evaluate", tmp_path / "run", "--limit", 4)
    said(capsys, "train", "--resume", tmp_path / "run", "--epochs", 2)
    assert len(asked) == 1


def test_networks_for_other_things_are_evaluated_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--model", "unet_small", "--set", "size=16", "--limit", 6, "--epochs", 1, "--batch-size", 2, "--device", "cpu"]
    said(capsys, "train", *common, "--out", tmp_path / "run")
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    found = told(capsys, "evaluate", tmp_path / "run", "--device", "cpu")
    assert found["mean_iou"] == pytest.approx(last["test_mean_iou"], abs=1e-6)
    assert found["loss"] == pytest.approx(last["test_loss"], rel=0.2)  # a mean over batches of another size
    assert "which is evaluated on the test part of its run's data" in refused(capsys, "evaluate", tmp_path / "run", tmp_path)
    assert "does not reconstruct its input" in refused(capsys, "reconstruct", tmp_path / "run")


# reconstruct
def test_reconstruct_into_a_picture(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "reconstruct", net, photos, "--part", "all", "--count", 4, "--out", tmp_path / "p.png")
    assert "4 images" in text
    with Image.open(tmp_path / "p.png") as picture:
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.parametrize("triples", [False, True])
def test_reconstruct_into_files(
    triples: bool, net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (41, 18), 90).save(photos / "rising" / "wide.jpg")
    more = ["--triples"] if triples else []
    found = told(capsys, "reconstruct", net, photos, "--part", "all", "--out", tmp_path / "out", *more)
    model = wl.load(net)
    assert len(found["images"]) == 25
    for name in found["images"]:
        made = pixels_of(tmp_path / "out" / (f"{name}.png" if name.endswith("jpg") else name))
        image = pixels_of(photos / name)
        height, width = image.shape[:2]
        assert made.shape == (height, width * (3 if triples else 1), 3)
        wanted = np.rint(np.clip(model.reconstruct(image), 0, 1) * 255)
        output = made[:, width : 2 * width] if triples else made
        assert np.abs(output - wanted).max() <= 1
        if triples:
            np.testing.assert_array_equal(made[:, :width], image)


def test_names_stay_inside_the_folder() -> None:
    assert file_name("a/b.png") == "a/b.png"
    assert file_name("a/b.jpg") == "a/b.jpg.png"
    assert file_name("test/00001") == "test/00001.png"
    for name in ("/etc/passwd.png", "../../x.png", "a/../../../x.png"):
        assert not Path(file_name(name)).is_absolute()
        assert ".." not in Path(file_name(name)).parts


def test_colours_of_errors_mean_the_same_on_every_image() -> None:
    image = np.zeros((3, 1, 4), np.float32)
    colours = error_colours(image, image + np.array([0.0, 0.05, 0.125, 0.5], np.float32))
    np.testing.assert_allclose(colours[:, 0].T, [[0, 0, 0], [0.6, 0, 0], [1, 0.5, 0], [1, 1, 1]], atol=1e-6)


# encode
def test_encode_into_npy(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "encode", net, photos, "--out", tmp_path / "f.npy")
    data = wl.data.load(photos, size=16, split=0)
    wanted = wl.load(net).encode(data.images)
    features = np.load(tmp_path / "f.npy", mmap_mode="r")
    np.testing.assert_array_equal(features, wanted.reshape(24, -1))
    index = rows(tmp_path / "f.csv")
    assert [r["name"] for r in index] == data.files
    assert data.labels is not None
    assert [int(r["label"]) for r in index] == data.labels.tolist()
    assert [r["class"] for r in index] == [data.classes[i] for i in data.labels]
    assert (found["rows"], found["shape"], found["labels"]) == (24, [512], True)
    said(capsys, "encode", net, photos, "--out", tmp_path / "m.npy", "--keep-shape", "--dtype", "fp16", "--limit", 5)
    maps = np.load(tmp_path / "m.npy")
    assert (maps.shape, maps.dtype) == ((5, 8, 8, 8), np.float16)
    np.testing.assert_allclose(maps, wanted[:5], rtol=1e-3, atol=1e-3)


def test_encode_into_npz(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "encode", net, photos, "--out", tmp_path / "f.npz")
    data = wl.data.load(photos, size=16, split=0)
    with np.load(tmp_path / "f.npz") as archive:
        np.testing.assert_array_equal(archive["features"], wl.load(net).encode(data.images).reshape(24, -1))
        assert archive["names"].tolist() == data.files
        np.testing.assert_array_equal(archive["labels"], data.labels)
        assert archive["classes"].tolist() == ["falling", "rising"]
    with zipfile.ZipFile(tmp_path / "f.npz") as archive:
        assert archive.testzip() is None
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["f.npz"]


@needs_pyarrow
def test_encode_into_parquet(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet

    said(capsys, "encode", net, photos, "--out", tmp_path / "f.parquet", "--batch-size", 7)
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    data = wl.data.load(photos, size=16, split=0)
    features = np.array(table["features"].to_pylist(), np.float32)
    np.testing.assert_array_equal(features, wl.load(net).encode(data.images).reshape(24, -1))
    assert table["name"].to_pylist() == data.files
    assert table["class"].to_pylist()[0] == "falling"


def test_bad_files_while_encoding(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "falling" / "zz.png").write_bytes(b"broken")
    (tmp_path / "f.npy").write_bytes(b"old")
    assert "zz.png (6 bytes) cannot be read as an image" in refused(capsys, "encode", net, photos, "--out", tmp_path / "f.npy")
    assert (tmp_path / "f.npy").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npy", "photos"]
    found = told(capsys, "encode", net, photos, "--out", tmp_path / "f.npy", "--skip-bad")
    assert (found["rows"], found["skipped"]) == (24, ["falling/zz.png"])
    assert np.load(tmp_path / "f.npy").shape == (24, 512)
    assert len(rows(tmp_path / "f.csv")) == 24


def test_what_cannot_be_encoded_is_said(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--fit", "own"], "features of one length need images of one size"),
        (["--out", "f.h5"], "expected a file that ends with .npy, .npz, .parquet"),
        (["--dtype", "int8"], "unknown type 'int8'; expected one of fp32, fp16"),
        (["--fit", "zoom"], "unknown fit 'zoom'"),
        (["--part", "half"], "unknown part 'half'"),
    ):
        assert words in refused(capsys, "encode", net, photos, *arguments)
    assert "what it was trained on stands in no file beside it: name the data" in refused(capsys, "encode", net)
    x = wl.Input((3, 16, 16))
    wl.Model(x, Conv2d(3, 3, padding=1)(x)).save(tmp_path / "plain.safetensors")
    assert "has no latent" in refused(capsys, "encode", tmp_path / "plain.safetensors", photos)


# classify
@needs_sklearn
def test_classify(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), (test_x, test_y) = shades(80), shades(30)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=test_x, y_test=test_y)
    common = ["classify", net, tmp_path / "d.npz", "--out", tmp_path / "out", "--landmarks", 30]
    common += ["--methods", "linear,hinge,rbf,committee"]
    found = told(capsys, *common)
    assert set(found) == {"trained", "untrained", "pixels", "files", "skipped"}
    for features in ("trained", "untrained", "pixels"):
        for method in ("linear", "hinge", "rbf", "committee"):
            result = found[features][method]
            assert result["accuracy"] > 0.9, (features, method)
            assert np.sum(result["confusion"]) == 30
    assert found["trained"]["linear"]["features"] == 512
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json", "predictions.csv", "confusion.png", "classifier-linear.safetensors", "classifier-hinge.safetensors",
        "classifier-rbf.safetensors", "classifier-committee.safetensors",
    }  # fmt: skip
    predicted = rows(tmp_path / "out/predictions.csv")
    assert [r["label"] for r in predicted] == [str(v) for v in test_y]
    best = max(found["trained"].values(), key=lambda r: r["accuracy"])
    assert np.mean([r["predicted"] == r["label"] for r in predicted]) == best["accuracy"]
    with Image.open(tmp_path / "out/confusion.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    text = said(capsys, *common[:-4], "--methods", "linear", "--no-controls")
    assert "untrained" not in text
    assert "linear, by class" in text


def test_what_classify_lacks_is_said_before_anything_is_encoded(
    net: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    monkeypatch.setattr(wl.Model, "encode", lambda *_: pytest.fail("encoded"))
    assert "classify needs scikit-learn: pip install scikit-learn" in refused(
        capsys, "classify", net, photos, "--out", tmp_path / "out"
    )


@needs_sklearn
def test_bad_files_while_classifying(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["classify", net, photos, "--out", tmp_path / "out"]
    fit = [*common, "--methods", "linear", "--no-controls"]
    (photos / "rising/no.png").write_bytes(b"none")
    (photos / "falling/00.png").write_bytes(b"broken")
    said_so = refused(capsys, *fit)
    assert all(text in said_so for text in ("2 files cannot be used", "00.png (6 bytes)", "no.png (4 bytes)", "--skip-bad"))
    found = told(capsys, *fit, "--skip-bad")
    assert sorted(found["skipped"]) == ["falling/00.png", "rising/no.png"]
    images = len(list(photos.rglob("*.png"))) - 2
    assert found["trained"]["linear"]["rows"] + len(rows(tmp_path / "out/predictions.csv")) == images
    using = [*common, "--using", tmp_path / "out/classifier-linear.safetensors", "--skip-bad"]
    assert told(capsys, *using)["images"] == images
    assert "left out, since they cannot be read: falling/00.png, rising/no.png" in said(capsys, *using)


@needs_sklearn
def test_classes_for_new_images(net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "classify", net, photos, "--out", tmp_path / "out", "--methods", "linear", "--no-controls", "--landmarks", 9)
    loose = tmp_path / "loose"
    loose.mkdir()
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        (loose / f"{i}.png").write_bytes(path.read_bytes())
    using = ["--using", tmp_path / "out/classifier-linear.safetensors", "--out", tmp_path / "new"]
    found = told(capsys, "classify", net, loose, *using)
    assert found["images"] == 24
    assert "accuracy" not in found
    assert {r["predicted"] for r in rows(tmp_path / "new/predictions.csv")} == {"falling", "rising"}
    labelled = told(capsys, "classify", net, photos, *using)
    assert labelled["accuracy"] > 0.8
    assert "have no labels: expected CIFAR-10, class sub-folders, or a .npz file" in refused(capsys, "classify", net, loose)
    assert "expected some of linear, hinge, rbf, committee" in refused(capsys, "classify", net, photos, "--methods", "svm")
    assert "features of one length" in refused(capsys, "classify", net, photos, "--fit", "own")
    other = open_trained(net).model.resized(8, 8)
    other.save(tmp_path / "other.safetensors")
    assert "the classifier takes 512 features, not 128" in refused(
        capsys, "classify", tmp_path / "other.safetensors", loose, *using
    )
    assert not list(Path(net).parent.glob("classify/.*"))
