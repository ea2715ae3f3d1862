"""`warploom train --recipe`, `recipes`, `search` and `cluster`: from a folder of images to what is alike."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.cli import main
from warploom.data import cifar
from warploom.runs.run import RunFolder

needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
KINDS = ("checks", "rows", "spots")


def picture(kind: str, seed: int, size: int = 20) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + rng.integers(0, 4, 2)[:, None, None]
    plain = {"checks": (x // 2 + y // 2) % 2, "rows": y // 2 % 2, "spots": (x % 3 == 0) & (y % 3 == 0)}[kind]
    pixels = 80 + 90 * plain[..., None] * rng.uniform(0.9, 1.1, 3) + 3 * rng.standard_normal((size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for k, kind in enumerate(KINDS):
        (root / kind).mkdir()
        for i in range(12):
            picture(kind, 100 * k + i).save(root / kind / f"{kind}{i:02}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    numbers = ["--set", "centres=64", "--set", "patches=8000", "--set", "iterations=4"]
    assert (
        main(["train", "--recipe", "whitened_dictionary", "--data", str(photos), "--size", "16", *numbers, "--out", str(out)])
        == 0
    )
    return out


def test_a_run_of_a_recipe(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {p.name for p in run.iterdir()} == {"model.safetensors", "recipe.json"}
    about = json.loads((run / "recipe.json").read_text())
    assert (about["recipe"], about["seed"], about["arguments"]["centres"]) == ("whitened_dictionary", 0, 64)
    model = wl.load(run / "model.safetensors")
    assert model.inputs[0].shape == (3, 16, 16)
    for more in (["--recipe", "whitened_dictionary"], []):
        assert main(["train", *more, "--data", str(photos), "--out", str(run)]) == 2
        assert "already holds what a recipe has learnt" in capsys.readouterr().err


@pytest.mark.parametrize("theirs", [False, True])
def test_a_refused_recipe_leaves_no_folder(
    theirs: bool, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it was there before."""
    out = tmp_path / "run"
    if theirs:
        out.mkdir()
    refused = ["train", "--recipe", "wide_filters", "--set", "patch=8", "--data", str(photos), "--size", "16", "--out", str(out)]
    assert main(refused) == 2
    assert "patch must be odd" in capsys.readouterr().err.replace("\n", " ")
    assert out.exists() == theirs


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    def fail() -> None:
        with RunFolder(tmp_path / "run").held():
            (tmp_path / "run" / "notes.txt").write_text("mine")
            raise wl.DataError("in the middle")

    with pytest.raises(wl.DataError, match="in the middle"):
        fail()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(wl.recipes.BY_NAME)
    assert [name for name, row in rows.items() if row["default"]] == [wl.recipes.DEFAULT]
    assert rows["kernel_network"]["arguments"]["filters"] == [64, 1024]
    assert main(["recipes"]) == 0
    assert "centres=1600" in "".join(capsys.readouterr().out.split())


def test_search(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture("rows", 999).save(tmp_path / "asked.png")
    out = tmp_path / "alike.png"
    arguments = ["search", str(run), str(tmp_path / "asked.png"), "--in", str(photos), "-n", "5"]
    assert main([*arguments, "--json", "--out", str(out)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [Path(near["name"]).parts[0] for near in found["nearest"]] == ["rows"] * 5
    likeness = [near["likeness"] for near in found["nearest"]]
    assert likeness == sorted(likeness, reverse=True)
    with Image.open(out) as drawn:
        assert drawn.size[0] > drawn.size[1] > 100
    assert main(arguments) == 0
    assert "asked.png" in capsys.readouterr().out


def test_an_image_of_the_gallery_does_not_find_itself(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = photos / "spots" / "spots03.png"
    assert main(["search", str(run), str(own), "--in", str(photos), "-n", "3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(found["nearest"]) == 3
    assert all("spots03" not in near["name"] for near in found["nearest"])


def test_an_array_that_is_searched_for_its_own_images(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.stack([np.asarray(Image.open(photos / "rows" / f"rows{i:02}.png")) for i in range(6)])
    for name in ("one.npy", "copy.npy"):
        np.save(tmp_path / name, images)
    for source, likeness in (("one.npy", False), ("copy.npy", True)):
        assert main(["search", str(run), str(tmp_path / "one.npy"), "--in", str(tmp_path / source), "-n", "3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [len(row["nearest"]) for row in found] == [3] * 6
        assert all((row["nearest"][0]["name"] == row["image"]) == likeness for row in found)


def test_clusters(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clusters.csv"
    assert main(["cluster", str(run), str(photos), "-k", "2-4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [k for k, _ in found["tried"]] == [2, 3, 4]
    assert max(found["tried"], key=lambda t: t[1])[0] == 3
    assert found["purity"] == 1.0
    assert sum(c["images"] for c in found["clusters"]) == 36
    assert main(["cluster", str(run), str(photos), "-k", "3", "--out", str(out)]) == 0
    assert "silhouette" in capsys.readouterr().out
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert len({(row["image"].split("/")[0], row["cluster"]) for row in rows}) == 3
    assert out.with_suffix(".png").is_file()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--recipe", "whitened"], "unknown recipe 'whitened'"),
        (["train", "--recipe", "whitened_dictionary", "--lr", "0.1", "--epochs", "2"], "--epochs, --lr has no meaning"),
        (["train", "--recipe", "whitened_dictionary", "--set", "size=8", "--set", "k=3"], "has no argument 'k'"),
        (["search", "RUN", "nothing.png", "--in", "PHOTOS"], "there is no"),
        (["search", "RUN", "PHOTOS", "--in", "PHOTOS", "--out", "a.jpg"], "no .png file"),
        (["cluster", "RUN", "PHOTOS", "-k", "1"], "no number of clusters"),
        (["cluster", "RUN", "PHOTOS", "-k", "50"], "between 2 and the 36 images"),
        (["cluster", "RUN", "PHOTOS", "-o", "a.txt"], "no .csv file"),
    ],
)
def test_what_is_refused(arguments: list[str], text: str, run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [{"RUN": str(run), "PHOTOS": str(photos)}.get(a, a) for a in arguments]
    assert main(given) == 2
    assert text in capsys.readouterr().err.replace("\n", " ")


@needs_sklearn
def test_classify_learns_its_features_where_no_network_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = ["--set", "filters=16x32", "--set", "pools=2x5", "--set", "patches=8000", "--set", "iterations=4"]
    assert main(["classify", wl.recipes.DEFAULT, str(photos), *numbers, "--json"]) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count(f"{photos}: ") == 1, "what the images are is said once"
    found = json.loads(told.out)
    assert found["trained"]["committee"]["accuracy"] == 1.0
    assert set(found) == {"trained", "pixels", "files", "skipped"}
    assert "learnt in" in told.err
    (run,) = (tmp_path / "runs").iterdir()
    assert {p.name for p in run.iterdir()} == {"model.safetensors", "recipe.json", "classify"}
    assert main(["classify", str(run), "--no-controls"]) == 0  # the same network, the same images
    assert "committee" in capsys.readouterr().out
    again = json.loads((run / "classify" / "report.json").read_text())["trained"]["committee"]
    assert again | {"seconds": 0} == found["trained"]["committee"] | {"seconds": 0}
    # Of many images every one is a landmark, where the memory holds them; what is asked for is done.
    monkeypatch.setattr("warploom.cli.classify._EXACT_FROM", 10)
    for asked, method, landmarks in (
        ([], "rbf", 33), (["--landmarks", "9"], "committee", 9), (["--methods", "rbf", "--landmarks", "all"], "rbf", 33),
        (["--methods", "rbf"], "rbf", 30),
    ):  # fmt: skip
        assert main(["classify", str(run), "--no-controls", *asked]) == 0
        (made,) = json.loads((run / "classify" / "report.json").read_text())["trained"].items()
        assert (made[0], made[1]["chosen"]["landmarks"]) == (method, landmarks)
        assert made[1]["accuracy"] == 1.0
    monkeypatch.setattr("warploom.classify.kernel_ridge.memory_bytes", lambda device: 1000)
    assert main(["classify", str(run), "--no-controls"]) == 0
    assert "committee" in capsys.readouterr().out


@needs_sklearn
def test_joined_networks_have_components_each(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["filters=4x6", "wide=2x8", "pools=2x5", "centres=8", "patches=4000", "iterations=2"]
    given = [word for setting in small for word in ("--set", setting)]
    assert main(["classify", "joined", str(photos), *given, "--components", "4", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["trained"]["committee"]["chosen"]["components"] == 12
    assert found["pixels"]["committee"]["chosen"]["components"] == 4


def test_what_classify_needs_is_said_before_anything_is_learnt(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARPLOOM_CACHE", str(tmp_path / "cache"))
    np.save("unlabelled.npy", np.zeros((20, 3, 32, 32), np.uint8))

    def offline(folder: Path) -> Path:
        raise wl.DataError("CIFAR-10 cannot be downloaded (no network connection to it)")

    monkeypatch.setattr(cifar, "_download", offline)
    for arguments, said in (
        ([], "CIFAR-10 cannot be downloaded"),
        ([wl.recipes.DEFAULT, "unlabelled.npy"], "have no labels: expected CIFAR-10, class sub-folders"),
        ([wl.recipes.DEFAULT, str(photos), "--set", "filter=5"], "has no argument 'filter'"),
        ([wl.recipes.DEFAULT, str(photos), "--landmarks", "every"], "expected a whole number from 2 to 30,000, or all"),
        (["--using", "x.safetensors"], "name its run"),
        (["whitened", str(photos)], "there is no whitened"),
        ([wl.recipes.DEFAULT, str(photos), "--out", "unlabelled.npy/deep"], "cannot write"),
    ):
        assert main(["classify", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
