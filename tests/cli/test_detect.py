"""`warploom detect`: from images to a detector's file, scores, pictures; exit codes; what it says of mistakes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from rich.cells import cell_len
from warploom.cli import main
from warploom.detect import Detector
from warploom.detect.pictures import coloured
from warploom.detect.trial import picture_names
from warploom.layers import Conv2d, Latent, MaxPool2d, ReLU, Upsample


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """It gives 0 for everything: an image's error is its brightness."""
    x = wl.Input((1, 16, 16), name="x")
    h = Latent()(MaxPool2d(2)(ReLU()(Conv2d(4, 3, padding=1, name="conv1")(x))))
    model = wl.Model(x, Conv2d(1, 3, padding=1, name="conv2")(Upsample(2)(h)), name="small")
    model.place(device="cpu")
    model.load_state_dict({k: v * (0.0 if k.startswith("conv2") else 1.0) for k, v in model.state_dict().items()})
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    model.save(path)
    return str(path)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dark normal images, and ones with a bright square, of mixed sizes, in the layout of MVTec AD."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    for part, count, bright in (("train/good", 12, False), ("test/good", 5, False), ("test/lamp", 5, True)):
        for i in range(count):
            height, width = rng.integers(14, 40, 2)
            pixels = rng.integers(0, 60, (height, width), dtype=np.uint8)
            mask = np.zeros_like(pixels)
            if bright:
                pixels[4:9, 3:8], mask[4:9, 3:8] = 250, 255
                (root / "ground_truth/lamp").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / f"ground_truth/lamp/{i}_mask.png")
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    return root


def fitted(network: str, images: Path, *options: str) -> str:
    assert main(["detect", "fit", network, str(images), "--out", "d.safetensors", *options]) == 0
    return "d.safetensors"


@pytest.mark.parametrize("options", [(), ("--own-size",), ("--own-size", "--scores", "mse+ssim+latent", "--pooling", "max")])
def test_from_images_to_results(network: str, images: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    file = fitted(network, images, *options)
    text = capsys.readouterr().out
    assert "the 0.99 quantile of 12 normal images" in " ".join(text.split())
    assert main(["detect", "run", file, str(images), "--out", "found"]) == 0
    assert "AUROC 1.0000" in capsys.readouterr().out
    out = Path("found")
    with (out / "scores.csv").open() as rows:
        table = list(csv.DictReader(rows))
    assert [r["name"] for r in table] == [f"test/{k}/{i}.png" for k in ("good", "lamp") for i in range(5)]
    assert list(table[0]) == ["name", "score", "normalized", "label", "threshold", "truth", "kind"]
    detector = wl.detect.load(file, device="cpu")
    np.testing.assert_array_equal(
        np.array([float(r["score"]) for r in table], np.float32), detector.decision_function(images / "test")
    )
    assert all((float(r["score"]) > float(r["threshold"])) == (r["label"] == "abnormal") for r in table)
    assert [r["label"] for r in table][5:] == ["abnormal"] * 5
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["image"]["auroc"], summary["kinds"]["lamp"]["abnormal"]) == (10, 1.0, 5)
    assert summary["pixel"]["auroc"] > 0.9
    assert summary["image"]["false_positive_rate"][0] == 0.0
    for row in table:
        with Image.open(images / row["name"]) as image, Image.open(out / "heatmaps" / row["name"]) as heat:
            assert heat.size == image.size
            assert heat.mode == "RGB"
        with Image.open(out / "masks" / row["name"]) as mask:
            found = np.asarray(mask)
        assert mask.size == image.size
        assert set(np.unique(found)) <= {0, 255}
        if row["truth"] == "abnormal":
            assert found[6, 5] == 255  # the square is found where it is
            assert found[-1, -1] == 0
    for name in ("overview.png", "scores.png", "roc_pr.png"):
        with Image.open(out / name) as picture:
            picture.load()


def test_colours_mean_the_same_on_every_image(network: str, images: Path) -> None:
    file = fitted(network, images)
    assert main(["detect", "run", file, str(images), "--out", "found", "--heat-maps", "plain", "--no-masks"]) == 0
    assert not Path("found/masks").exists()
    for finding in wl.detect.load(file, device="cpu").examine(images / "test"):
        with Image.open(Path("found/heatmaps/test") / finding.name) as heat:
            np.testing.assert_array_equal(np.asarray(heat), coloured(finding.heat_map))
    scale = coloured(np.linspace(0, 0.999, 256, dtype=np.float32)[None])[0].astype(int)
    assert len({tuple(c) for c in scale.tolist()}) > 200  # each value has its colour


def test_json_is_json_and_nothing_else(network: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["detect", "fit", network, str(images), "--out", "d.safetensors", "--json", "--abnormal", str(images / "test")]) == 0
    )
    fit = json.loads(capsys.readouterr().out)
    assert fit["images"] == 12
    assert fit["threshold_from"] == "the best F1 (1.000) between 12 normal and 5 abnormal images"
    assert main(["detect", "run", "d.safetensors", str(images), "--json", "--heat-maps", "none"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert (run["abnormal"], len(run["rows"]), run["folder"]) == (5, 10, "detections/set")
    assert not Path("detections/set/heatmaps").exists()
    assert main(["detect", "run", "d.safetensors", str(images), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "detections/set-2"  # results are not mixed


def test_exit_codes(network: str, images: Path) -> None:
    file = fitted(network, images)
    assert main(["detect", "run", file, str(images / "test/good"), "--threshold", "1"]) == 0
    assert main(["detect", "run", file, str(images / "test/good"), "--threshold", "1", "--exit-code"]) == 0
    assert main(["detect", "run", file, str(images / "test/lamp"), "--exit-code"]) == 1
    assert main(["detect", "run", file, str(images / "test/lamp")]) == 0


def test_single_images_and_arrays(network: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fitted(network, images)
    several = [str(p) for p in sorted((images / "test/lamp").iterdir())]
    assert main(["detect", "run", file, *several, "--out", "several"]) == 0
    assert len(list(Path("several/heatmaps").rglob("*.png"))) == 5
    assert main(["detect", "run", file, several[0], "--out", "one"]) == 0
    assert Path("one/heatmaps/0.png").exists()
    np.save("x.npy", np.random.default_rng(0).integers(0, 255, (4, 20, 30), dtype=np.uint8))
    assert main(["detect", "run", file, "x.npy", "--out", "array"]) == 0
    assert Path("array/heatmaps/00003.png").exists()


def test_classes_of_the_fit_are_those_of_the_run(network: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    x = (rng.random((30, 16, 16)) * np.array([60, 60, 250])[y][:, None, None]).astype(np.uint8)
    np.savez("d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    fitted(network, Path("d.npz"), "--normal", "0,1")
    capsys.readouterr()
    assert main(["detect", "run", "d.safetensors", "d.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"]["auroc"] == 1.0
    assert {k: v["images"] for k, v in found["kinds"].items()} == {"0": 10, "1": 10, "2": 10}


def test_ctrl_c_keeps_what_was_found(network: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fitted(network, images)
    whole = Detector.examine

    def interrupted(self: Detector, *arguments: Any, **options: Any) -> Iterator[Any]:
        for finding in whole(self, *arguments, **options):
            if finding.index == 7:
                raise KeyboardInterrupt
            yield finding

    monkeypatch.setattr(Detector, "examine", interrupted)
    assert main(["detect", "run", file, str(images), "--out", "found"]) == 130
    assert len(Path("found/scores.csv").read_text().splitlines()) == 8
    assert len(list(Path("found/masks").rglob("*.png"))) == 7
    assert json.loads(Path("found/summary.json").read_text())["interrupted"] is True


def test_bad_files(network: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fitted(network, images)
    for name in ("bad1.png", "bad2.png"):
        (images / "test/good" / name).write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["detect", "run", file, str(images), "--out", "found"]) == 2
    error = capsys.readouterr().err
    assert "bad1.png" in error
    assert "bad2.png" in error
    assert main(["detect", "run", file, str(images), "--out", "found2", "--skip-bad"]) == 0
    assert "2 files that cannot be read left out" in " ".join(capsys.readouterr().out.split())
    summary = json.loads(Path("found2/summary.json").read_text())
    assert (summary["images"], summary["skipped"]) == (10, ["test/good/bad1.png", "test/good/bad2.png"])
    assert summary["image"]["auroc"] == 1.0  # truths have not moved


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "nowhere", "set"], "there is no nowhere"),
        (["fit", "NETWORK", "nowhere"], "there is no 'nowhere'"),
        (["fit", "NETWORK", "set", "--scores", "magic"], "unknown score 'magic'"),
        (["fit", "NETWORK", "set", "--contamination", "0.9"], "contamination must be"),
        (["fit", "NETWORK", "set", "--pooling", "sum"], "unknown pooling 'sum'"),
        (["fit", "NETWORK", "set", "--out", "d.pkl"], "a detector is a .safetensors file"),
        (["fit", "NETWORK", "set", "--tile", "32"], "tile is for own_size=True"),
        (["fit", "NETWORK", "set", "--normal", "hat"], "there is no hat"),
        (["run", "NETWORK", "set"], "a network and no detector"),
        (["run", "nowhere", "set"], "there is no file nowhere"),
        (["run", "set", "set"], "set is a folder; expected the file of a detector"),
        (["run", "d.safetensors", "set", "--heat-maps", "rainbow"], "unknown heat maps 'rainbow'"),
        (["run", "d.safetensors", "set", "--threshold", "-1"], "a score is a number from 0 on"),
        (["run", "d.safetensors", "set", "--out", "set"], "not an empty folder"),
        (["run", "d.safetensors", "set", "--normal", ","], "names or numbers of classes"),
        (["run", "d.safetensors", "set", "--masks", "set/train"], "holds no mask of these images"),
        (["tiles", "set", "--out", "x.png"], "written as a .npy file"),
        (["tiles", "set", "--size", "500"], "smaller than a tile of 500x500"),
        (["sample", "set"], "not empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, network: str, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted(network, images)
    capsys.readouterr()
    assert main(["detect", *(network if a == "NETWORK" else a for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_tiles_and_sample(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "sample", "cloth", "--count", "5"]) == 0
    assert main(["detect", "tiles", "cloth", "--grey", "--size", "24", "--count", "50"]) == 0
    tiles = np.load("tiles.npy")
    assert (tiles.shape, tiles.dtype) == ((50, 1, 24, 24), np.uint8)


@pytest.mark.parametrize("command", [[], ["fit"], ["run"], ["tiles"], ["sample"]])
def test_help_fits(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["detect", *command, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= 80
    for raw in ("INTEGER", "FLOAT", "<int", "PATH", "…", "2147483647"):
        assert raw not in text


def test_names_of_pictures_stay_in_the_folder() -> None:
    names = ["a/b.jpg", "a/b.png", "a/B.PNG", "/etc/x.png", "../../y.png", "..", "z", "a\\c.png", "a/b.png"]
    found = picture_names(names)
    assert len({n.lower() for n in found}) == len(names)
    for name in found:
        assert name.endswith(".png")
        assert not name.startswith("/")
        assert ".." not in Path(name).parts
