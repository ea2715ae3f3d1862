"""A thousand single bit flips in each of our files, and in the archive of CIFAR-10: each is refused or changes no number."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.data import cifar
from warploom.runs.run import RunFolder

_FLIPS = 1000


def flip_bits(path: Path, read: Callable[[], Any], seed: int = 0) -> tuple[int, int]:
    """(refused, without effect); the test fails where a flip changes what is read or ends in another error."""
    whole, expected = path.read_bytes(), read()
    refused = harmless = 0
    for bit in np.random.default_rng(seed).choice(8 * len(whole), _FLIPS, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read()
        except wl.DataError:
            refused += 1
            continue
        assert found == expected, f"bit {bit % 8} of byte {bit // 8}"
        harmless += 1
    path.write_bytes(whole)
    assert read() == expected
    return refused, harmless


def bits(arrays: dict[str, Any]) -> dict[str, Any]:
    return {k: (str(v.dtype), v.shape, hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest()) for k, v in arrays.items()}


def network() -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv")(x), name="small")


@pytest.fixture
def trained() -> wl.Model:
    model = network()
    model.compile(wl.optim.Adam(0.01), batch_size=4, device="cpu")
    model.fit(np.random.default_rng(0).random((8, 3, 8, 8), np.float32), epochs=1, verbose=False)
    return model


def test_model_file(trained: wl.Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)

    def read() -> Any:
        model = wl.load(path)
        return bits(model.state_dict()), model.config()

    refused, harmless = flip_bits(path, read)
    assert refused > 0.98 * _FLIPS, (refused, harmless)


def test_checkpoint(trained: wl.Model, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(trained, wl.optim.schedules.PlateauLR())
    other = network()
    other.compile(wl.optim.Adam(0.01), batch_size=4, device="cpu")

    def read() -> Any:
        schedule = wl.optim.schedules.PlateauLR()
        progress = folder.restore(other, schedule)
        return bits(other.state_dict()), bits(other.engine.optimizer_state()), progress, schedule.state()

    refused, harmless = flip_bits(folder.checkpoint_path, read)
    assert refused > 0.98 * _FLIPS, (refused, harmless)


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_archive(layout: str, tmp_path: Path) -> None:
    import pickle

    rng = np.random.default_rng(0)
    path = tmp_path / f"cifar-10-{layout}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("data_batch_1", "test_batch"):
            pixels, labels = rng.integers(0, 256, (6, 3072), dtype=np.uint8), rng.integers(0, 10, 6)
            if layout == "binary":
                content = cifar.to_bytes(pixels, labels)
            else:
                content = pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
            member = tarfile.TarInfo(f"cifar-10/{name}{'.bin' if layout == 'binary' else ''}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    def read() -> Any:
        found = cifar.find(path)
        assert found is not None
        return found.train.tobytes(), found.test.tobytes(), found.train_labels.tolist(), found.test_labels.tolist()  # type: ignore[union-attr]

    refused, harmless = flip_bits(path, read)
    assert refused > 0.98 * _FLIPS, (
        refused,
        harmless,
    )  # the others: the time and the name in gzip's header, the last bits' padding


def test_an_archive_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            content = cifar.to_bytes(np.zeros((2, 3072), np.uint8), np.zeros(2))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 8, len(whole) // 2, 20, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(wl.DataError, match="damaged or cut short"):
            cifar.find(path)
