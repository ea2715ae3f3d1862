"""Data sources: layouts, conversions, and clear errors for what is missing, cut short or damaged."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.data import cifar, pickles
from warploom.data.dataset import Dataset
from warploom.train.feed import epoch_order

RECORD = 3073


def fake_images(count: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, count)


def write_binary(folder: Path, count: int = 20, batches: int = 5) -> Path:
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for i in range(batches):
        (place / f"data_batch_{i + 1}.bin").write_bytes(cifar.to_bytes(*fake_images(count, i)))
    (place / "test_batch.bin").write_bytes(cifar.to_bytes(*fake_images(count, 9)))
    return place


def python_batch(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> bytes:
    batch = {b"batch_label": b"x", b"labels": labels.tolist(), b"data": images.reshape(len(images), 3072), b"filenames": [b"a"]}
    return pickle.dumps(batch, protocol=2)


def test_binary_layout(tmp_path: Path) -> None:
    write_binary(tmp_path)
    for folder in (tmp_path, tmp_path / "cifar-10-batches-bin"):
        data = wl.data.cifar10(folder)
        assert data.train.shape == (100, 3, 32, 32)
        assert data.train.dtype == np.uint8
        images, labels = fake_images(20, 3)
        np.testing.assert_array_equal(data.train[60:80], images)
        assert data.train_labels is not None
        np.testing.assert_array_equal(data.train_labels[60:80], labels)
    assert "subset" in data.notes[0]


def test_python_layout(tmp_path: Path) -> None:
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for i in range(5):
        (place / f"data_batch_{i + 1}").write_bytes(python_batch(*fake_images(7, i)))
    (place / "test_batch").write_bytes(python_batch(*fake_images(7, 9)))
    data = wl.data.load("cifar10", data_dir=tmp_path)
    np.testing.assert_array_equal(data.train[7:14], fake_images(7, 1)[0])
    np.testing.assert_array_equal(data.test, fake_images(7, 9)[0])
    np.testing.assert_array_equal(data.test_labels, fake_images(7, 9)[1])


@pytest.mark.parametrize("binary", [True, False])
def test_archives(tmp_path: Path, binary: bool) -> None:
    name, suffix = ("cifar-10-binary.tar.gz", ".bin") if binary else ("cifar-10-python.tar.gz", "")
    with tarfile.open(tmp_path / name, "w:gz") as archive:
        for part in ["data_batch_1", "test_batch"]:
            images, labels = fake_images(5)
            content = cifar.to_bytes(images, labels) if binary else python_batch(images, labels)
            info = tarfile.TarInfo(f"cifar-10-batches/{part}{suffix}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert wl.data.cifar10(tmp_path).train.shape == (5, 3, 32, 32)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(wl.DataError, match="damaged or cut short"):
        wl.data.cifar10(tmp_path)


def test_truncated_file(tmp_path: Path) -> None:
    place = write_binary(tmp_path)
    file = place / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(wl.DataError, match=r"data_batch_2\.bin has 61,360 bytes; expected 30,730,000"):
        wl.data.cifar10(tmp_path)


def test_mixture_of_whole_and_short_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cut short exactly between two records is found by the others being whole."""
    monkeypatch.setattr(cifar, "_OFFICIAL", 20)
    place = write_binary(tmp_path)
    assert "subset" not in wl.data.cifar10(tmp_path).notes[0]
    file = place / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[: 10 * RECORD])
    with pytest.raises(wl.DataError, match=r"data_batch_4\.bin has 30,730 bytes \(10 records\); expected 61,460 bytes"):
        wl.data.cifar10(tmp_path)
    file.unlink()
    with pytest.raises(wl.DataError, match=r"lacks data_batch_4\.bin"):
        wl.data.cifar10(tmp_path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(wl.DataError, match="no CIFAR-10 in"):
        wl.data.cifar10(tmp_path / "nowhere")
    with pytest.raises(wl.DataError, match="no CIFAR-10 in"):
        wl.data.load("auto", data_dir=tmp_path)
    place = write_binary(tmp_path)
    (place / "test_batch.bin").unlink()
    with pytest.raises(wl.DataError, match=r"lacks test_batch\.bin"):
        wl.data.cifar10(tmp_path)
    (place / "test_batch.bin").write_bytes(b"\x63" + bytes(3072))
    with pytest.raises(wl.DataError, match="label 99"):
        wl.data.cifar10(tmp_path)
    (place / "test_batch.bin").write_bytes(b"")
    with pytest.raises(wl.DataError, match="0 bytes"):
        wl.data.cifar10(tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a pickle ran this",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": _Evil(), b"labels": []}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 11]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, protocol=2),
        pickle.dumps([1, 2, 3]),
        python_batch(*fake_images(3))[:-50],
        b"",
        b"not a pickle",
    ],
    ids=["code", "floats", "label", "count", "width", "list", "short", "empty", "text"],
)
def test_pickles_that_are_refused(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(wl.DataError, match="data_batch_1"):
        pickles.load_batch(content, "data_batch_1")
    assert "ran this" not in capsys.readouterr().out


def test_fortran_ordered_pickle() -> None:
    images, labels = fake_images(4)
    batch = {b"labels": labels.tolist(), b"data": np.asfortranarray(images.reshape(4, 3072))}
    np.testing.assert_array_equal(pickles.load_batch(pickle.dumps(batch, protocol=2), "x")[0], images)


def test_patches() -> None:
    from warploom.data import patches

    a, b, c = patches.load(3, 50, 20), patches.load(3, 50, 20), patches.load(4, 50, 20)
    assert a.train.shape == (50, 3, 32, 32)
    assert a.test.shape == (20, 3, 32, 32)
    np.testing.assert_array_equal(a.train, b.train)
    assert (a.train != c.train).any()
    assert a.train.std() > 20  # photographs, not flat areas only
    assert "grace_hopper.jpg" in a.notes[0]


def test_folder_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        sub = tmp_path / f"class{i % 2}"
        sub.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60 + i, 3), dtype=np.uint8)).save(sub / f"{i:02}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"\(66x40 and the like\) are shrunk to 32x32 pixels; pass size="):
        data = wl.data.load(str(tmp_path))
    assert (data.train.shape, data.test.shape) == ((11, 3, 32, 32), (1, 3, 32, 32))
    assert wl.data.load(str(tmp_path), shape=(1, 16, 24)).train.shape == (11, 1, 16, 24)
    (tmp_path / "class0" / "04.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(wl.DataError, match=r"04\.png \(11 bytes\) cannot be read as an image"):
        wl.data.load(str(tmp_path))


def test_folder_keeps_exact_pixels(tmp_path: Path) -> None:
    images, _ = fake_images(3)
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / part / f"{i}.png")
    data = wl.data.load(str(tmp_path))
    np.testing.assert_array_equal(data.train, images)
    np.testing.assert_array_equal(data.test, images)


def test_empty_folder_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(wl.DataError, match="neither CIFAR-10 nor images"):
        wl.data.load(str(tmp_path))
    with pytest.raises(wl.DataError, match="there is no data 'cifar11'"):
        wl.data.load("cifar11")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(wl.DataError, match="no kind of data known here"):
        wl.data.load(str(tmp_path / "x.txt"))
    with pytest.raises(wl.DataError, match="the model takes 1x28x28"):
        wl.data.load("cifar10", shape=(1, 28, 28))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(tmp_path: Path, dtype: str, layout: str, suffix: str) -> None:
    images = fake_images(20)[0]
    stored = images if dtype == "uint8" else images.astype(np.float32) / np.float32(255)
    path = tmp_path / f"data{suffix}"
    given = stored if layout == "nchw" else np.ascontiguousarray(stored.transpose(0, 2, 3, 1))
    if suffix == ".npy":
        np.save(path, given)
    else:
        np.savez(path, train=given[:18], test=given[18:])
    data = wl.data.load(str(path))
    np.testing.assert_array_equal(data.train, stored[:18])
    np.testing.assert_array_equal(data.test, stored[18:])


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    def expect(array: np.ndarray[Any, Any], text: str) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(wl.DataError, match=text):
            wl.data.load(str(tmp_path / "a.npy"))

    expect(np.zeros((4, 3, 31, 32), np.uint8), r"shape \(4, 3, 31, 32\); the model takes \(N, 3, 32, 32\)")
    expect(np.zeros((4, 3, 32, 32)), "holds float64; expected uint8, or float32")
    expect(np.full((4, 3, 32, 32), 2, np.float32), "holds values from 0 to 2")
    broken = np.zeros((4, 3, 32, 32), np.float32)
    broken[2, 1, 5, 5] = np.nan
    expect(broken, "NaN in image 2")
    expect(np.zeros((0, 3, 32, 32), np.uint8), "holds no image")
    expect(np.zeros((1, 3, 32, 32), np.uint8), "at least 2")
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-10])
    with pytest.raises(wl.DataError, match="damaged, cut short"):
        wl.data.load(str(tmp_path / "a.npy"))
    np.savez(tmp_path / "b.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(wl.DataError, match="expected one named train"):
        wl.data.load(str(tmp_path / "b.npz"))
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(wl.DataError, match="damaged"):
        wl.data.load(str(tmp_path / "c.npz"))


def test_auto_falls_back_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from warploom.data import patches

    def offline(folder: Path) -> Path:
        raise wl.DataError("CIFAR-10 cannot be downloaded (no network connection to it)")

    monkeypatch.setenv("WARPLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(cifar, "_download", offline)
    small = patches.load(0, 10, 4)
    monkeypatch.setattr(patches, "load", lambda seed=0: Dataset("patches", small.train, small.test, notes=list(small.notes)))
    data = wl.data.load("auto")
    assert data.name == "patches"
    assert data.notes[0].startswith("training on patches instead of CIFAR-10")
    with pytest.raises(wl.DataError, match="cannot be downloaded"):
        wl.data.load("cifar10")


def test_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_binary(tmp_path)
    monkeypatch.setenv("WARPLOOM_CACHE", str(tmp_path))
    assert len(wl.data.cifar10().train) == 100


def test_limit_and_fingerprint() -> None:
    images, labels = fake_images(30)
    data = Dataset("x", images, images[:5], labels, labels[:5])
    cut = data.limited(8)
    assert (len(cut.train), len(cut.test)) == (8, 5)
    assert data.limited(None) is data
    assert data.fingerprint() != cut.fingerprint()
    changed = Dataset("x", images.copy(), images[:5])
    assert changed.fingerprint() == data.fingerprint()
    changed.train[29, 2, 31, 31] ^= 1
    assert changed.fingerprint() != data.fingerprint()


def test_epoch_order() -> None:
    a = epoch_order(0, 0, 1000)
    assert a.dtype == np.int32
    np.testing.assert_array_equal(np.sort(a), np.arange(1000))
    np.testing.assert_array_equal(a, epoch_order(0, 0, 1000))
    assert (a != epoch_order(0, 1, 1000)).any()
    assert (a != epoch_order(1, 0, 1000)).any()
    assert a[:4].tolist() == epoch_order(0, 0, 1000)[:4].tolist()
    np.testing.assert_array_equal(epoch_order(0, 0, 5, shuffle=False), np.arange(5))
