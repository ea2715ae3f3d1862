"""Images from any source, streamed: folders of mixed files, CIFAR-10, arrays on disk; names, labels, sizes, bad files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.data import cifar
from warploom.inference import images as images_module
from warploom.inference.images import Images, open_images

RNG = np.random.default_rng(3)


def write(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "I;16":
        Image.fromarray(RNG.integers(0, 65536, size[::-1]).astype(np.uint16)).save(path)
    else:
        Image.effect_noise(size, 60).convert(mode).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of files of several sizes and modes, and a text."""
    root = tmp_path / "photos"
    write(root / "cats/a.jpg")
    write(root / "cats/b.png", "L", (9, 30))
    write(root / "cats/c.png", "RGBA")
    write(root / "dogs/d.jpg", "CMYK", (40, 41))
    write(root / "dogs/e.png", "I;16")
    write(root / "dogs/f.bmp")
    (root / "notes.txt").write_text("x")
    return root


def collected(source: Images, **options: Any) -> tuple[list[np.ndarray], list[str]]:
    pixels: list[np.ndarray] = []
    names: list[str] = []
    for batch in source.batches(**options):
        assert [source.names[i] for i in batch.indices] == batch.names
        assert len(batch.sizes) == len(batch)
        pixels += list(batch.images)
        names += batch.names
    return pixels, names


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_mixed_files(photos: Path, channels: int) -> None:
    source = open_images(photos, channels=channels)
    assert source.names == ["cats/a.jpg", "cats/b.png", "cats/c.png", "dogs/d.jpg", "dogs/e.png", "dogs/f.bmp"]
    assert source.labels is not None
    assert (source.classes, source.labels.tolist()) == (["cats", "dogs"], [0, 0, 0, 1, 1, 1])
    assert any("1 other file left out: 1 .txt" in note for note in source.notes)
    sizes, shapes = [], []
    for batch in source.batches(4, fit="own"):
        assert len({image.shape for image in batch.images}) == 1
        assert batch.labels is not None
        sizes += batch.sizes
        shapes += [image.shape for image in batch.images]
    assert sizes == [(12, 20), (30, 9), (12, 20), (41, 40), (12, 20), (12, 20)]
    assert shapes == [(channels, *size) for size in sizes]
    pixels, names = collected(source, batch_size=4, size=(16, 8))
    assert names == source.names
    assert {p.shape for p in pixels} == {(channels, 16, 8)}


def test_fitting_is_what_training_does(photos: Path) -> None:
    trained_on = wl.data.load(photos, size=(16, 8), split=0)
    pixels, names = collected(open_images(photos), size=(16, 8))
    assert names == trained_on.files
    np.testing.assert_array_equal(np.stack(pixels), trained_on.images)
    stretched, _ = collected(open_images(photos), size=(16, 8), fit="stretch")
    with Image.open(photos / "dogs/d.jpg") as image:
        wanted = np.asarray(image.convert("RGB").resize((8, 16), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(stretched[3], wanted)
    assert not np.array_equal(stretched[3], pixels[3])
    with pytest.raises(wl.ArgumentError, match="unknown fit 'zoom'; expected one of crop, stretch, own"):
        open_images(photos).read(0, fit="zoom")


def test_the_parts_of_a_folder_are_those_of_training(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / f"{i:02}.png")
    data = wl.data.load(tmp_path)
    assert open_images(tmp_path, part="test").names == data.test_files == ["09.png", "19.png"]
    assert open_images(tmp_path, part="train").names == data.train_files
    write(tmp_path / "train/a/x.png")
    write(tmp_path / "test/a/y.png")
    write(tmp_path / "test/b/z.png")
    for path in tmp_path.glob("*.png"):
        path.unlink()
    tested = open_images(tmp_path, part="test")
    assert (tested.names, tested.classes) == (["test/a/y.png", "test/b/z.png"], ["a", "b"])
    assert open_images(tmp_path).names == ["train/a/x.png", "test/a/y.png", "test/b/z.png"]
    write(tmp_path / "train/Z/w.png")
    trained = open_images(tmp_path, part="train")  # a class has one number in both parts
    assert trained.labels is not None
    assert (trained.names, trained.classes, trained.labels.tolist()) == (
        ["train/Z/w.png", "train/a/x.png"],
        ["Z", "a", "b"],
        [0, 1],
    )
    with pytest.raises(wl.ArgumentError, match="unknown part 'valid'; expected one of auto, all, train, test"):
        open_images(tmp_path, part="valid")


def test_auto_is_the_test_part_where_there_is_one(photos: Path, tmp_path: Path) -> None:
    assert len(open_images(photos, part="auto")) == len(open_images(photos)) == 6
    assert len(open_images(photos / "cats/b.png", part="auto")) == 1
    assert len(open_images(ARRAYS, part="auto")) == 6
    np.savez(tmp_path / "parts.npz", x_train=ARRAYS, x_test=ARRAYS[:2])
    assert open_images(tmp_path / "parts.npz", part="auto").names == ["test/00000", "test/00001"]
    (tmp_path / "divided").mkdir()
    (photos / "cats").rename(tmp_path / "divided/train")
    (photos / "dogs").rename(tmp_path / "divided/test")
    assert all(name.startswith("test/") for name in open_images(tmp_path / "divided", part="auto").names)
    with pytest.raises(wl.DataError, match=r"holds one image: there is no test part; part all takes it \(--part all\)"):
        open_images(ARRAYS[0], part="test")


def test_all_bad_files_are_named_at_once(photos: Path) -> None:
    (photos / "cats/a.jpg").write_bytes(b"broken")
    whole = (photos / "dogs/d.jpg").read_bytes()
    (photos / "dogs/d.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "dogs/z.png").write_bytes(b"")
    given: list[str] = []
    with pytest.raises(wl.DataError) as caught:
        given.extend(name for batch in open_images(photos).batches(1, size=(8, 8)) for name in batch.names)
    text = str(caught.value)
    assert text.startswith("3 files cannot be used: ")
    assert all(name in text for name in ("a.jpg (6 bytes)", "d.jpg", "z.png (0 bytes)", "--skip-bad"))
    assert not given  # the first file is bad: nothing is computed, the others are only looked at
    skipped: list[str] = []
    source = open_images(photos, skip_bad=True)
    _, names = collected(source, size=(8, 8), skipped=skipped)
    assert skipped == ["cats/a.jpg", "dogs/d.jpg", "dogs/z.png"]
    assert names == ["cats/b.png", "cats/c.png", "dogs/e.png", "dogs/f.bmp"]
    for path in photos.rglob("*.*"):
        path.write_bytes(b"x")
    with pytest.raises(wl.DataError, match="7 files cannot be used"):
        collected(open_images(photos, skip_bad=True), size=(8, 8))


def test_a_file_that_is_gone_is_named(photos: Path) -> None:
    source = open_images(photos)
    (photos / "dogs/d.jpg").unlink()
    with pytest.raises(wl.DataError, match=r"there is no file .*d\.jpg"):
        collected(source)


def test_a_folder_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images there are, few are decoded and not yet given out."""
    for i in range(60):
        write(tmp_path / f"{i:02}.png")
    decoded = []
    original = images_module.folder.read_image
    monkeypatch.setattr(images_module.folder, "read_image", lambda *a, **k: decoded.append(a) or original(*a, **k))
    source = open_images(tmp_path)
    given = 0
    for batch in source.batches(4, size=(8, 8)):
        given += len(batch)
        assert len(decoded) - given <= 4 + 2 * 8 + 1
    assert given == len(decoded) == 60


def test_large_images_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "_BATCH_BYTES", 3 * 3 * 16 * 16)
    source = open_images([*_files(monkeypatch)])
    assert [len(batch) for batch in source.batches(64, size=(16, 16))] == [3, 3, 1]


def _files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(images_module.folder, "read_image", lambda p, c, s, stretch: (np.zeros((c, *s), np.uint8), s))
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    return [f"{i}.png" for i in range(7)]


def test_selections(photos: Path) -> None:
    source = open_images(photos)
    chosen = source.select([4, 1])
    assert chosen.names == ["dogs/e.png", "cats/b.png"]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(chosen.read(1), source.read(1))
    np.testing.assert_array_equal(chosen.select([True, False]).read(0), source.read(4))
    assert chosen.files == [photos / "dogs/e.png", photos / "cats/b.png"]
    assert open_images(photos, limit=2).names == source.limited(2).names == source.names[:2]
    assert len(source.limited(None)) == 6
    pixels, names = collected(chosen, size=(8, 8))
    assert names == chosen.names
    np.testing.assert_array_equal(pixels[0], source.read(4, size=(8, 8)))


def test_one_image_and_a_list_of_files(photos: Path) -> None:
    one = open_images(photos / "cats/b.png", channels=1)
    assert (one.names, one.read(0).shape) == (["b.png"], (1, 30, 9))
    listed = open_images([photos / "dogs/f.bmp", str(photos / "cats/a.jpg")])
    assert listed.names == [str(photos / "dogs/f.bmp"), str(photos / "cats/a.jpg")]
    assert [b.sizes for b in listed.batches()] == [[(12, 20), (12, 20)]]
    for wrong, said in (
        ([], "the list of image files is empty"),
        (photos / "notes.txt", "is no kind of images known here"),
        (photos / "missing", "there is no"),
    ):
        with pytest.raises(wl.DataError, match=said):
            open_images(wrong)
    with pytest.raises(wl.DataError, match="an image file gives 1 or 3 channels, but the network takes 8"):
        open_images(photos, channels=8)


ARRAYS = RNG.integers(0, 256, (6, 3, 10, 14), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "channels", "wanted"),
    [
        (ARRAYS, 3, ARRAYS),
        (ARRAYS.transpose(0, 2, 3, 1), 3, ARRAYS),
        (ARRAYS[0], 3, ARRAYS[:1]),
        (ARRAYS[0].transpose(1, 2, 0), 3, ARRAYS[:1]),
        (ARRAYS[:, 0], 1, ARRAYS[:, :1]),
        (ARRAYS[:, :1], 1, ARRAYS[:, :1]),
        (ARRAYS[0, 0], 1, ARRAYS[:1, :1]),
        (ARRAYS[:, 0], 3, np.repeat(ARRAYS[:, :1], 3, 1)),
        (ARRAYS[0, 0], 3, np.repeat(ARRAYS[:1, :1], 3, 1)),
        (np.concatenate([ARRAYS, ARRAYS[:, :1]], 1), 3, ARRAYS),
        (np.concatenate([ARRAYS, ARRAYS], 1), 6, np.concatenate([ARRAYS, ARRAYS], 1)),
        ((ARRAYS / 255).astype(np.float32), 3, (ARRAYS / 255).astype(np.float32)),
        (ARRAYS / 255, 3, (ARRAYS / 255).astype(np.float32)),
        (ARRAYS > 100, 3, (ARRAYS > 100).astype(np.float32)),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".npy", ".npz"])
def test_arrays_in_every_layout(given: np.ndarray, channels: int, wanted: np.ndarray, suffix: str, tmp_path: Path) -> None:
    source: Any = given
    if suffix:
        source = tmp_path / f"x{suffix}"
        (np.save if suffix == ".npy" else np.savez)(source, given)
    pixels, names = collected(open_images(source, channels=channels), batch_size=4)
    np.testing.assert_array_equal(np.stack(pixels), wanted)
    assert pixels[0].dtype == wanted.dtype
    assert names == [f"{i:05}" for i in range(len(wanted))]


def test_grey_from_colour_is_pillows() -> None:
    made, _ = collected(open_images(ARRAYS, channels=1))
    for rgb, grey in zip(ARRAYS, made, strict=True):
        wanted = np.asarray(Image.fromarray(rgb.transpose(1, 2, 0)).convert("L"))
        assert np.abs(grey[0].astype(int) - wanted).max() <= 1


def test_an_npy_file_stays_on_the_disk(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (20_000, 3, 32, 32)).flush()  # 61 MB, sparse
    tracemalloc.start()
    try:
        count = sum(len(batch) for batch in open_images(tmp_path / "x.npy").batches(64))
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert taken < 8e6  # the names are most of it


def test_the_parts_of_an_array_are_those_of_training(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.concatenate([ARRAYS] * 4))
    data = wl.data.load(tmp_path / "x.npy", shape=(3, 10, 14))
    for part, wanted in (("train", data.train), ("test", data.test)):
        np.testing.assert_array_equal(np.stack(collected(open_images(tmp_path / "x.npy", part=part))[0]), wanted)
    with pytest.raises(wl.DataError, match="holds one image: there is no test part"):
        open_images(ARRAYS[:1], part="test")


def test_archives_with_parts_and_labels(tmp_path: Path) -> None:
    path, y = tmp_path / "x.npz", np.arange(6)
    np.savez(path, x_train=ARRAYS[:4], y_train=y[:4], x_test=ARRAYS[4:], y_test=y[4:])
    both = open_images(path)
    assert both.names == ["train/00000", "train/00001", "train/00002", "train/00003", "test/00000", "test/00001"]
    assert both.labels is not None
    np.testing.assert_array_equal(both.labels, y)
    batches = list(both.batches(4))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert all(batch.labels is not None and batch.labels.tolist() == batch.indices.tolist() for batch in batches)
    pixels, _ = collected(both, batch_size=3)  # a batch ends where a part does
    np.testing.assert_array_equal(np.stack(pixels), ARRAYS)
    tested = open_images(path, part="test")
    assert tested.labels is not None
    assert tested.labels.tolist() == [4, 5]
    mixed = both.select([5, 0, 4, 1])
    np.testing.assert_array_equal(np.stack(collected(mixed)[0]), ARRAYS[[5, 0, 4, 1]])
    np.savez(path, images=ARRAYS, labels=y[:2])
    with pytest.raises(wl.DataError, match=r"labels are 6 class numbers, integers from 0 on, not int64 of shape \(2,\)"):
        open_images(path)
    np.savez(path, a=ARRAYS, b=ARRAYS)
    with pytest.raises(wl.DataError, match="holds a, b; expected images as train"):
        open_images(path)


def test_arrays_of_another_size_are_fitted() -> None:
    given = 64 + ARRAYS // 2  # away from black and white, where bytes are cut off between the filter's two passes
    whole, _ = collected(open_images(given), size=(5, 5))
    floats, _ = collected(open_images((given / 255).astype(np.float32)), size=(5, 5))
    assert (whole[0].dtype, whole[0].shape, floats[0].dtype) == (np.uint8, (3, 5, 5), np.float32)
    np.testing.assert_allclose(np.stack(floats), np.stack(whole) / 255, atol=0.01)
    floats, _ = collected(open_images((ARRAYS > 127).astype(np.float32)), size=(20, 20))
    assert (np.min(floats), np.max(floats)) == (0, 1)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (ARRAYS.astype(np.float32), r"holds values from 0 to 25\d; expected float32 in \[0, 1\]"),
        (ARRAYS.astype(np.int64), "holds int64; expected uint8, or floats in"),
        (np.where(np.arange(6)[:, None, None, None] == 4, np.nan, ARRAYS / 255), "holds NaN in image 4"),
        (ARRAYS[:0], "holds no image"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), "expected images"),
        (np.zeros((6, 5, 10, 14), np.uint8), "has images with 5 channels, but the network takes 3"),
    ],
)
def test_arrays_that_cannot_be_used(broken: np.ndarray, said: str) -> None:
    with pytest.raises(wl.DataError, match=said) as caught:
        collected(open_images(broken))
    assert "skip" not in str(caught.value)
    assert str(caught.value).count("array") == 1  # once, not for each image


def test_cifar_in_any_form(tmp_path: Path) -> None:
    pixels, labels = RNG.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8), np.arange(8)
    (tmp_path / "data_batch_1.bin").write_bytes(cifar.to_bytes(pixels[:5], labels[:5]))
    (tmp_path / "test_batch.bin").write_bytes(cifar.to_bytes(pixels[5:], labels[5:]))
    source = open_images(tmp_path)
    assert (len(source), source.classes[3], source.names[5]) == (8, "cat", "test/00000")
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, labels)
    np.testing.assert_array_equal(np.stack(collected(open_images(tmp_path, part="test"))[0]), pixels[5:])
    named = open_images("cifar10", data_dir=tmp_path, part="train", limit=2)
    np.testing.assert_array_equal(np.stack(collected(named)[0]), pixels[:2])
    with pytest.raises(wl.DataError, match="--data-dir is where CIFAR-10 is, but"):
        open_images(tmp_path, data_dir=tmp_path)
