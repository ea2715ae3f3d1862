"""Which images of a source are normal, and where their masks lie; tiles; the drawn set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warploom.data.textures import DEFECTS, cloth, make_textures
from warploom.detect.cutting import cut_tiles
from warploom.detect.sets import abnormal_ones, check_masks, examined, normal_ones, read_mask
from warploom.errors import ArgumentError, DataError
from warploom.inference.images import open_images


def write(root: Path, names: Sequence[str], size: tuple[int, int] = (6, 4)) -> None:
    """Images of that (width, height); masks are white in their first row."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((size[1], size[0]), 10 * i % 250, np.uint8)
        if "mask" in name or "ground_truth" in name:
            pixels[:] = 0
            pixels[0] = 255
        Image.fromarray(pixels).save(path)


MVTEC = ["train/good/0.png", "train/good/1.png", "test/good/0.png", "test/hole/0.png", "test/cut/0.png", "test/cut/1.png"]


def test_the_layout_of_mvtec(tmp_path: Path) -> None:
    write(tmp_path, [*MVTEC, "ground_truth/hole/0_mask.png", "ground_truth/cut/0_mask.png", "ground_truth/cut/1_mask.png"])
    normal = normal_ones(examined(tmp_path, channels=1, part="train"))
    assert normal.images.names == ["train/good/0.png", "train/good/1.png"]
    found = examined(tmp_path, channels=1)
    assert found.images.names == ["test/cut/0.png", "test/cut/1.png", "test/good/0.png", "test/hole/0.png"]
    assert found.kinds == ["cut", "cut", "good", "hole"]
    assert found.truth is not None
    assert found.truth.tolist() == [True, True, False, True]
    assert found.masks is not None
    masks = [m and m.relative_to(tmp_path).as_posix() for m in found.masks]
    assert masks == ["ground_truth/cut/0_mask.png", "ground_truth/cut/1_mask.png", None, "ground_truth/hole/0_mask.png"]
    assert abnormal_ones(found).images.names == [n for n in found.images.names if "good" not in n]
    within = examined(tmp_path / "test", channels=1)  # the folder of the test images by itself
    assert within.truth is not None
    assert (within.kinds, within.truth.tolist(), within.masks) == (found.kinds, found.truth.tolist(), found.masks)
    one = examined(tmp_path / "test" / "hole", channels=1)  # nothing is known of it
    assert (one.truth, one.kinds) == (None, [])


@pytest.mark.parametrize("names", [("normal", "abnormal", "mask"), ("Good", "bad", "masks"), ("ok", "crack", "ground_truth")])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_the_layout_of_anomalib(tmp_path: Path, names: tuple[str, str, str], ending: str) -> None:
    good, bad, mask = names
    write(tmp_path, [f"{good}/{i}.png" for i in range(3)] + [f"{bad}/x{i}.png" for i in range(2)])
    write(tmp_path, [f"{mask}/x0{ending}.png"])
    found = examined(tmp_path, channels=1)
    assert found.truth is not None
    assert found.truth.sum() == 2
    assert len(found.truth) == 5  # masks are no images
    assert found.masks is not None
    assert [m.name for m in found.masks if m] == [f"x0{ending}.png"]
    assert any("1 abnormal images have no mask" in note for note in found.notes)
    assert normal_ones(found).images.names == [f"{good}/{i}.png" for i in range(3)]
    assert any("2 images of other kinds left out" in note for note in normal_ones(found).notes)
    assert [n.split("/")[0] for n in abnormal_ones(examined(tmp_path / bad, channels=1)).images.names] == ["x0.png", "x1.png"]


def test_masks_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "images", ["a.png", "b.png"])
    write(tmp_path / "true", ["b_mask.png"])
    found = examined(tmp_path / "images", channels=3, masks=tmp_path / "true")
    assert found.masks is not None
    assert [m and m.name for m in found.masks] == [None, "b_mask.png"]
    write(tmp_path / "others", ["z.png"])
    with pytest.raises(DataError, match="holds no mask of these images"):
        examined(tmp_path / "images", channels=3, masks=tmp_path / "others")
    with pytest.raises(DataError, match="no folder of masks"):
        examined(tmp_path / "images", channels=3, masks=tmp_path / "nowhere")
    with pytest.raises(DataError, match="masks belong to a folder"):
        examined(tmp_path / "images" / "a.png", channels=3, masks=tmp_path / "true")


def test_masks_are_above_half_of_their_largest_value(tmp_path: Path) -> None:
    for largest in (1, 128, 255):
        Image.fromarray(np.array([[0, largest // 4, largest]], np.uint8)).save(tmp_path / "m.png")
        assert read_mask(tmp_path / "m.png").tolist() == [[False, False, True]]
    Image.fromarray(np.zeros((1, 3), np.uint8)).save(tmp_path / "m.png")
    assert not read_mask(tmp_path / "m.png").any()
    with pytest.raises(DataError, match="has 1x3 pixels, but its image 2x3"):
        read_mask(tmp_path / "m.png", (2, 3))


def test_bad_masks_are_all_named(tmp_path: Path) -> None:
    write(tmp_path, [*MVTEC, "ground_truth/hole/0_mask.png"])
    for name in ("ground_truth/cut/0_mask.png", "ground_truth/cut/1_mask.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2 files cannot be used: .*cut/0_mask\.png.*cut/1_mask\.png"):
        check_masks(examined(tmp_path, channels=1))


def test_classes_that_are_normal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (20, 8, 8, 3), dtype=np.uint8), np.arange(20) % 4
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    train = examined(tmp_path / "d.npz", channels=3, part="train", normal=["0", "2"])
    assert len(normal_ones(train).images) == 10
    test = examined(tmp_path / "d.npz", channels=3, normal=["2"])
    assert test.truth is not None
    assert test.truth.tolist() == [True, True, False, True] * 2
    assert test.images.names[0] == "test/00000"
    limited = examined(tmp_path / "d.npz", channels=3, normal=["2"], limit=1)
    assert limited.kinds == ["0", "1", "2", "3"]
    with pytest.raises(ArgumentError, match="there is no 7"):
        examined(tmp_path / "d.npz", channels=3, normal=["7"])
    np.save(tmp_path / "d.npy", x)
    assert examined(tmp_path / "d.npy", channels=3).truth is None
    with pytest.raises(ArgumentError, match="has no classes"):
        examined(tmp_path / "d.npy", channels=3, normal=["0"])
    write(tmp_path / "animals", ["cat/1.png", "dog/1.png", "eel/1.png"])
    named = examined(tmp_path / "animals", channels=1, normal=["dog", "2"])
    assert named.truth is not None
    assert named.truth.tolist() == [True, False, False]
    assert examined(tmp_path / "animals", channels=1).truth is None  # nobody said which are normal


def test_sets_without_normal_images(tmp_path: Path) -> None:
    write(tmp_path, ["bad/1.png", "bad/2.png"])
    with pytest.raises(DataError, match="holds no normal image"):
        normal_ones(examined(tmp_path, channels=1))
    write(tmp_path / "only", ["mask/1.png", "masks/2.png"])
    with pytest.raises(DataError, match="holds masks only"):
        examined(tmp_path / "only", channels=1)
    write(tmp_path / "fine", ["good/1.png", "good/2.png"])
    with pytest.raises(DataError, match="holds normal images only"):
        abnormal_ones(examined(tmp_path / "fine", channels=1))


def test_tiles_are_parts_of_their_images() -> None:
    base = np.arange(30 * 40, dtype=np.float32).reshape(1, 1, 30, 40) / 1200
    images = open_images(np.concatenate([base, base[:, :, ::-1]]), channels=1)
    tiles = cut_tiles(images, 7, 11, seed=3)
    assert tiles.shape == (11, 1, 7, 7)
    for tile in tiles[:, 0]:  # neighbouring values of the image are neighbours in the tile
        np.testing.assert_allclose(np.diff(tile, axis=1), 1 / 1200, atol=1e-5)
        np.testing.assert_allclose(np.abs(np.diff(tile, axis=0)), 40 / 1200, atol=1e-5)
    np.testing.assert_array_equal(tiles, cut_tiles(images, 7, 11, seed=3))
    assert len(np.unique(cut_tiles(images, 7, 200)[:, 0, 0, 0])) > 60
    with pytest.raises(DataError, match="smaller than a tile of 31x31"):
        cut_tiles(images, 31, 5)


def test_the_drawn_set(tmp_path: Path) -> None:
    made = make_textures(tmp_path / "set", 5, seed=1)
    assert made == ["train/good", "test/good", *(f"test/{d}" for d in DEFECTS)]
    found = examined(tmp_path / "set", channels=1)
    assert found.masks is not None
    for i, mask in enumerate(found.masks):
        image = found.images.read(i)
        assert 140 <= min(image.shape[1:]) <= max(image.shape[1:]) <= 280
        if mask is not None:
            assert 20 < read_mask(mask, (image.shape[1], image.shape[2])).sum() < 0.05 * image.size
    with pytest.raises(DataError, match="not empty"):
        make_textures(tmp_path / "set", 1)
    same = [cloth(np.random.default_rng(7), d)[0] for d in ("scratch", "scratch")]
    np.testing.assert_array_equal(*same)
