"""Data of every model: synthetic samples, folders of partners, warps, weights of faces; and what is refused, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.cli import main
from warploom.data import paired, synthetic, tasks
from warploom.data.photos import TEST, TRAIN, Photographs
from warploom.data.warp import Warped, face_weights
from warploom.ground.lazy import Cycled, Lazy, Normalized
from warploom.train.targets import to_host

SHAPE = (3, 32, 32)
FACES = ("src_image", "src_mask", "dst_image", "dst_mask", "src_weight", "dst_weight")


@pytest.fixture(scope="module")
def photos() -> Photographs:
    return Photographs.load()


def test_synthetic_samples(photos: Photographs) -> None:
    for kind, names in (
        ("images", {"images"}),
        ("segmentation", {"images", "labels"}),
        ("composites", {"bg", "fg_bg", "depth", "mask"}),
        ("faces", {"src", "dst", "src_mask", "dst_mask"}),
    ):
        made = synthetic.make(kind, photos, 3, 24, 40, 5, TRAIN)
        again = synthetic.make(kind, photos, 2, 24, 40, 5, TRAIN)
        other = synthetic.make(kind, photos, 2, 24, 40, 5, TEST)
        assert set(made) == names
        for name, arrays in made.items():
            assert {a.shape[:2] for a in arrays} == {(24, 40)}
            assert {a.dtype.name for a in arrays} == {"uint8"}
            assert all((a == b).all() for a, b in zip(arrays, again[name], strict=False))
            assert any((a != b).any() for a, b in zip(again[name], other[name], strict=True))
    composite = {k: v[0].astype(int) for k, v in synthetic.make("composites", photos, 1, 64, 64, 0, TRAIN).items()}
    inside = composite["mask"] > 0
    assert 0.01 < inside.mean() < 0.6
    changed = (composite["bg"] != composite["fg_bg"]).any(axis=2)
    assert changed[inside].mean() > 0.9
    assert changed[~inside].mean() < 0.05, "only the edge"
    labels = np.stack(synthetic.make("segmentation", photos, 20, 64, 64, 0, TRAIN)["labels"])
    assert set(np.unique(labels)) == set(range(len(synthetic.SHAPES) + 1))


def test_training_and_test_crops_are_disjoint(photos: Photographs) -> None:
    for left, right in zip(*photos.regions, strict=True):
        assert left.base is right.base
        assert left.shape[1] + right.shape[1] == left.base.shape[1]


@pytest.mark.parametrize(("kind", "classes"), [("segmentation", 6), ("composites", 0), ("faces", 0)])
def test_folders_hold_what_was_made(kind: str, classes: int, photos: Photographs, tmp_path: Path) -> None:
    """Written and read again, the samples are the ones made in memory."""
    synthetic.write(kind, photos, tmp_path / "d", 3, 32, 32, 0)
    options: dict[str, Any] = {"targets": FACES, "classes": classes, "seed": 0}
    read = tasks.load(kind, str(tmp_path / "d"), SHAPE, **options)
    made = tasks.load(kind, "auto", SHAPE, limit=3, **options)
    assert (len(read.train), len(read.test)) == (3, 1)
    assert read.fingerprint() == made.limited(3).fingerprint()
    for a, b in zip([*read.train.x, *(read.train.y or [])], [*made.train.x, *(made.train.y or [])], strict=True):
        np.testing.assert_array_equal(a[:], b[:])


def save(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def segmentation(folder: Path, count: int = 4, size: int = 32) -> Path:
    for i in range(count):
        save(folder / "images" / f"{i}.jpg", np.full((size, size, 3), 40 * i, np.uint8))
        save(folder / "labels" / f"{i}.png", np.full((size, size), i % 3, np.uint8))
    return folder


def test_every_tenth_is_for_testing_and_labels_are_kept(tmp_path: Path) -> None:
    data = tasks.load("segmentation", str(segmentation(tmp_path)), SHAPE, classes=3)
    assert (len(data.train), len(data.test)) == (3, 1)
    assert data.train.y is not None
    assert data.train.y[0][:, 0, 0].tolist() == [0, 1, 2]
    values = data.train.x[0][:]
    assert values.dtype == np.float32
    assert values.min() == -1.0
    palette = Image.fromarray(np.full((32, 32), 1, np.uint8))
    palette.putpalette([0, 0, 0, 200, 10, 10] + [0] * 762)
    palette.save(tmp_path / "labels" / "0.png")
    ignored = np.full((40, 48), 255, np.uint8)
    ignored[:, :24] = 2
    save(tmp_path / "labels" / "1.png", ignored)
    save(tmp_path / "images" / "1.jpg", np.zeros((40, 48, 3), np.uint8))
    labels = (tasks.load("segmentation", str(tmp_path), SHAPE, classes=3).train.y or [])[0]
    assert set(labels[0].ravel()) == {1}, "palette images count by index"
    assert set(labels[1].ravel()) == {-100, 2}, "255 is ignored; cut and resized without mixing"


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        return segmentation(tmp_path / name)

    lonely = folder("lonely")
    (lonely / "labels" / "2.png").unlink()
    extra = folder("extra")
    save(extra / "labels" / "9.png", np.zeros((32, 32), np.uint8))
    sized = folder("sized")
    save(sized / "labels" / "1.png", np.zeros((32, 30), np.uint8))
    coloured = folder("coloured")
    save(coloured / "labels" / "1.png", np.zeros((32, 32, 3), np.uint8))
    beyond = folder("beyond")
    save(beyond / "labels" / "1.png", np.full((32, 32), 7, np.uint8))
    broken = folder("broken")
    (broken / "images" / "1.jpg").write_bytes(b"no image")
    twice = folder("twice")
    save(twice / "images" / "1.png", np.zeros((32, 32, 3), np.uint8))
    empty = folder("empty")
    for path in (empty / "labels").iterdir():
        path.unlink()
    for place, text in (
        (lonely, r"labels has no partner for images/2.jpg: add files of the same names, or remove these"),
        (extra, r"images has no partner for labels/9.png"),
        (sized, r"labels/1.png has 30x32 pixels, but its partner .*1.jpg has 32x32"),
        (coloured, r"1.png is an image of mode RGB; a label map holds one class number a pixel"),
        (beyond, r"1.png holds the label 7 at row 0, column 0; the model has the classes 0 to 2"),
        (broken, r"1.jpg \(8 bytes\) cannot be read as an image"),
        (twice, r"1.jpg and .*1.png have one name"),
        (empty, r"labels holds no images"),
        (tmp_path / "beyond" / "images", r"has no sub-folder images; data for segmentation have images/, labels/"),
        (tmp_path / "nowhere", r"there is no folder .*nowhere'; this model takes auto, or a folder with images/, labels/"),
    ):
        with pytest.raises(wl.DataError, match=text):
            tasks.load("segmentation", str(place), SHAPE, classes=3)
    (tmp_path / "c" / "bg").mkdir(parents=True)
    with pytest.raises(wl.DataError, match="has no sub-folder fg_bg; data for composites have bg/, fg_bg/, depth/, mask/"):
        tasks.load("composites", str(tmp_path / "c"), SHAPE)
    with pytest.raises(wl.DataError, match=r"src_mask/ \(optional\)"):
        tasks.load("faces", str(tmp_path / "c"), SHAPE, targets=FACES)


def test_people_with_different_counts_and_no_masks(tmp_path: Path) -> None:
    for person, count in (("src", 4), ("dst", 9)):
        for i in range(count):
            save(tmp_path / person / f"{i}.png", np.full((32, 32, 3), (10 * i, 20, 30), np.uint8))
    data = tasks.load("faces", str(tmp_path), SHAPE, targets=FACES)
    assert (len(data.train), len(data.test)) == (8, 1)
    y = dict(zip(FACES, data.train.y or [], strict=True))
    assert [int(v) for v in y["src_image"][:][:, 2, 0, 0]] == [0, 10, 20, 0, 10, 20, 0, 10], "BGR; the fewer come again"
    assert (y["dst_weight"][:] == 255).all()
    assert (y["dst_mask"][:] == 255).all()


def test_faces_with_and_without_warps() -> None:
    for warp in (True, False):
        data = tasks.load("faces", "auto", SHAPE, targets=FACES, limit=4, warp=warp)
        for part, bent in ((data.train, warp), (data.test, False)):
            assert part.y is not None
            assert np.array_equal(part.x[0][0:2], part.y[FACES.index("src_image")][0:2]) is not bent


def test_warps() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (3, 1, 64, 64)).copy()
    warped = Warped(ramp, 7, count=6)
    whole = warped[:]
    np.testing.assert_array_equal(whole[[4, 1]], warped[np.array([4, 1])])
    assert (whole[0] != whole[3]).any(), "the same image, warped in another way"
    warped.epoch = 1
    assert (warped[:] != whole).any()
    warped.epoch = 0
    np.testing.assert_array_equal(warped[:], whole)
    pixels = ramp / np.float32(255)
    moved = np.abs(whole[:3] - pixels)
    assert moved[:, :, :, [0, -1]].max() < 1e-6, "borders keep their place"
    assert 0.03 < moved.max() < 0.25
    assert (np.diff(whole, axis=3) >= -1e-6).all(), "nothing folds"


def test_weights_of_faces() -> None:
    size = 64
    masks = np.zeros((2, 1, size, size), np.uint8)
    masks[1] = 255
    masks[0, 0, 16:48, 16:48] = 255
    weights = face_weights(masks).astype(float) / 255
    assert (weights[1] == 1).all()
    at = np.arange(size)
    window = np.exp(-0.5 * ((at[:, None] - at[None]) / 2.0) ** 2)
    window /= np.exp(-0.5 * (np.arange(-40, 41) / 2.0) ** 2).sum()
    blurred = window @ (masks[0, 0] / 255.0) @ window.T
    np.testing.assert_allclose(weights[0, 0], 2 * np.clip(blurred, 0, 0.5), atol=0.003)


class Doubled(Lazy):
    """What a user may write: rows made on demand."""

    def __init__(self, source: Any) -> None:
        self.source, self.shape, self.dtype = source, source.shape, np.dtype(np.float32)

    def rows(self, indices: Any) -> Any:
        return np.float32(2) * self.source[indices] * np.float32(1 + self.epoch)


def test_arrays_made_on_demand_train_like_arrays() -> None:
    x = np.random.default_rng(0).random((10, 3, 8, 8), np.float32)
    results = []
    for given in (Doubled(x), 2 * x):
        image = wl.Input((3, 8, 8))
        model = wl.Model(image, wl.layers.Conv2d(3, 3, padding=1)(image))
        model.compile("sgd", "mse", device="cpu", batch_size=4)
        history = model.fit(given, x, epochs=1, validation_data=(given, x))
        results.append((history["loss"], history["val_loss"], model.predict(given).tobytes(), model.evaluate(given, x)))
    assert results[0] == results[1]


def test_lazy_arrays() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    normalized = Normalized(images, (0.5, 0.25), (0.5, 0.125))
    mean, deviation = np.array([0.5, 0.25]).reshape(1, 2, 1, 1), np.array([0.5, 0.125]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(normalized[1:], (images[1:] / 255.0 - mean) / deviation, atol=1e-6)
    np.testing.assert_array_equal(Cycled(images, 8)[5:], images[[2, 0, 1]])
    assert to_host(np.arange(3)).dtype == np.float32


def test_make_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    assert main(["make-data", "unet_small", str(out), "--count", "6", "--size", "32"]) == 0
    assert "6 training and 1 test samples (segmentation, 32x32)" in capsys.readouterr().out
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))[:2] == [
        "test/images/00000.png",
        "test/labels/00000.png",
    ]
    arrays, _ = paired.load("segmentation", out, 32, 32, 6)
    assert arrays["labels"].shape == (6, 32, 32)
    assert main(["make-data", "unet_small", str(out)]) == 2
    assert "is there already and not an empty folder" in capsys.readouterr().err
    mine = tmp_path / "photos"
    save(mine / "a.png", np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    assert main(["make-data", "cifar10_autoencoder", str(tmp_path / "c"), "--count", "2", "--photos", str(mine)]) == 0
    assert len(list((tmp_path / "c").rglob("*.png"))) == 3
    assert main(["make-data", "resnet", str(tmp_path / "x")]) == 2
    assert "unknown model 'resnet'" in capsys.readouterr().err
