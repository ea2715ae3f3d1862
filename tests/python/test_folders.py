"""Folders of one's own images: names, labels, the split, files that cannot be read, and images larger than the model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.data import tasks
from warploom.data.folder import spread

RNG = np.random.default_rng(0)


def write(path: Path, shade: int = -1, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size, size, 3), dtype=np.uint8) if shade < 0 else np.full((size, size, 3), shade, np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Twelve images, six of a kind; each one's shade is its number."""
    for i in range(12):
        write(tmp_path / ("good" if i < 6 else "scratched") / f"{i:02}.png", 10 * i)
    return tmp_path


def shades(images: Any) -> list[int]:
    return [int(image[0, 0, 0]) // 10 for image in images]


def test_names_and_labels_follow_their_images(classes: Path) -> None:
    data = wl.data.load(classes)
    assert (len(data.train), len(data.test)) == (11, 1)
    assert data.classes == ["good", "scratched"]
    assert data.test_files == ["scratched/09.png"]
    for images, files, labels in (
        (data.train, data.train_files, data.train_labels),
        (data.test, data.test_files, data.test_labels),
        (data.images, data.files, data.labels),
    ):
        assert labels is not None
        assert shades(images) == [int(Path(f).stem) for f in files]
        assert [data.classes[i] for i in labels] == [f.split("/")[0] for f in files]
    assert "2 classes: good, scratched" in data.notes[0]
    cut = data.limited(3, 1)
    assert (len(cut.train), len(cut.test), len(cut.files), len(cut.labels)) == (3, 1, 4, 4)


@pytest.mark.parametrize(("split", "tested"), [(0, []), (0.25, [3, 7, 11]), (0.5, [1, 3, 5, 7, 9, 11]), (0.01, [11])])
def test_the_split_is_the_users(classes: Path, split: float, tested: list[int]) -> None:
    data = wl.data.load(classes, split=split)
    assert shades(data.test) == tested
    assert sorted(shades(data.images)) == list(range(12))
    assert data.test.shape[1:] == (3, 32, 32)


def test_splits_that_cannot_be(classes: Path) -> None:
    for split in (1.0, -0.5, float("nan")):
        with pytest.raises(wl.DataError, match="split must be at least 0 and less than 1"):
            wl.data.load(classes, split=split)
    with pytest.raises(wl.DataError, match="has a training and a test part of its own"):
        wl.data.load("patches", split=0.5)
    assert not spread(0, 0.5).size


def test_train_and_test_folders_with_classes(tmp_path: Path) -> None:
    for i, name in enumerate(["train/a/0", "train/b/1", "train/b/2", "test/a/3", "test/b/4"]):
        write(tmp_path / f"{name}.png", 10 * i)
    data = wl.data.load(tmp_path)
    assert (shades(data.train), shades(data.test)) == ([0, 1, 2], [3, 4])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1, 0, 1]
    assert data.test_files == ["test/a/3.png", "test/b/4.png"]
    together = wl.data.load(tmp_path, split=0)
    assert (shades(together.train), len(together.test)) == ([0, 1, 2, 3, 4], 0)


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/1.png", "2.png"):
        write(tmp_path / name)
    assert wl.data.load(tmp_path).labels is None
    (tmp_path / "2.png").unlink()
    assert wl.data.load(tmp_path).classes == ["a", "b"]


def test_files_of_arrays_can_stay_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=np.zeros((6, 3, 32, 32), np.uint8), test=np.ones((4, 3, 32, 32), np.uint8))
    path = tmp_path / "x.npz"
    assert [len(wl.data.load(path, split=s).test) for s in (None, 0, 0.5)] == [4, 0, 5]
    assert len(wl.data.load(path, split=0).images) == 10


def test_all_bad_files_are_named_at_once(classes: Path) -> None:
    (classes / "good" / "02.png").write_bytes(b"broken")
    (classes / "scratched" / "08.png").write_bytes((classes / "scratched" / "08.png").read_bytes()[:60])
    (classes / "good" / "03.png").write_bytes(b"")
    with pytest.raises(wl.DataError) as caught:
        wl.data.load(classes)
    text = str(caught.value)
    assert text.startswith("3 files cannot be used: ")
    for name in ("02.png (6 bytes)", "03.png (0 bytes)", "08.png (60 bytes)"):
        assert text.count(name) == 1, text
    assert text.endswith("leave them out with --skip-bad (skip_bad=True)")
    data = wl.data.load(classes, skip_bad=True)
    assert sorted(shades(data.images)) == [0, 1, 4, 5, 6, 7, 9, 10, 11]
    assert any("3 files that cannot be read left out: 02.png, 03.png, 08.png" in note for note in data.notes)
    assert [int(Path(f).stem) for f in data.files] == shades(data.images)


def test_many_bad_files_make_no_endless_error(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.jpg").write_bytes(b"x")
    for skip in (False, True):  # where none is good, leaving out does not help
        with pytest.raises(wl.DataError, match=r"40 files cannot be used: .*; and 30 more: remove or replace them$"):
            wl.data.load(tmp_path, skip_bad=skip)


def test_what_is_no_image_here_is_said(classes: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.txt", ".hidden.heic", ".cache/d.png"):
        (classes / name).parent.mkdir(exist_ok=True)
        (classes / name).write_bytes(b"x")
    data = wl.data.load(classes)
    assert len(data.images) == 12
    assert "3 other files left out: 2 .heic, 1 .txt" in data.notes
    only = classes / "phone"
    only.mkdir()
    (only / "a.heic").write_bytes(b"x")
    with pytest.raises(wl.DataError, match=r"holds neither CIFAR-10 nor images .*: 1 other file left out: 1 .heic, convert them"):
        wl.data.load(only)


def test_images_are_not_shrunk_silently(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", size=96)
    with pytest.warns(UserWarning, match=r"96x96 and the like\) are shrunk to 32x32 pixels; pass size=\.\.\."):
        wl.data.load(tmp_path)
    data = wl.data.load(tmp_path, size=96)  # warnings are errors here
    assert data.train.shape[1:] == (3, 96, 96)
    assert not any("are shrunk to" in note for note in data.notes)
    assert wl.data.load(tmp_path, size=(64, 80)).train.shape[1:] == (3, 64, 80)
    told = tasks.load("images", str(tmp_path), (3, 32, 32)).notes
    assert any("shrunk to 32x32 pixels; --size trains at another size" in note for note in told)
    with pytest.raises(wl.ArgumentError, match="size and shape"):
        wl.data.load(tmp_path, size=8, shape=(3, 8, 8))


def test_a_dataset_says_what_it_is_in_a_line(classes: Path) -> None:
    text = repr(wl.data.load(classes))
    assert "11 training and 1 test images of 3x32x32, uint8; 2 classes" in text
    assert len(text) < 400
    assert len(repr(wl.data.load("patches"))) < 600


def paired(folder: Path) -> None:
    for i in range(6):
        write(folder / "images" / f"{i}.png", 10 * i, 16)
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16), i, np.uint8)).save(folder / "labels" / f"{i}.png")


def test_bad_files_among_partners(tmp_path: Path) -> None:
    paired(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    Image.fromarray(np.full((16, 16), 99, np.uint8)).save(tmp_path / "labels" / "3.png")  # no such class
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "labels" / "4.png")  # another size
    with pytest.raises(wl.DataError) as caught:
        tasks.load("segmentation", str(tmp_path), (3, 16, 16), classes=6)
    for part in ("3 files cannot be used", "1.png (1 bytes)", "holds the label 99", "has 16x8 pixels, but its partner"):
        assert part in str(caught.value)
    data = tasks.load("segmentation", str(tmp_path), (3, 16, 16), classes=6, skip_bad=True)
    labels = np.concatenate([data.train.y[0], data.test.y[0]])  # type: ignore[index]
    assert sorted(labels[:, 0, 0].tolist()) == [0, 2, 5]
    assert any("3 samples of images left out: 1, 3, 4" in note for note in data.notes)
    images = np.concatenate([data.train.x[0][:], data.test.x[0][:]])
    np.testing.assert_allclose(images[:, 0, 0, 0], (10.0 * labels[:, 0, 0] - 128) / 128, atol=1e-5)
