"""Where a training's numbers go: any tracker with four methods, and TensorBoard's event files, read back."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main

IMAGES = np.random.default_rng(0).random((24, 3, 8, 8), np.float32)


def made() -> wl.Model:
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(x), name="logged")
    model.compile(wl.optim.SGD(0.1), batch_size=8, seed=1, device="cpu")
    return model


class Kept:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def log_hyperparameters(self, values: Mapping[str, Any]) -> None:
        self.calls.append(("hyperparameters", dict(values)))

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append(("metrics", dict(values), step))

    def log_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.calls.append(("image", name, image, step))

    def close(self) -> None:
        self.calls.append(("close",))


def test_a_logger_is_told_everything_in_order() -> None:
    kept, model = Kept(), made()
    history = model.fit(
        IMAGES, epochs=2, validation_data=IMAGES, callbacks=[wl.callbacks.Logging(kept, IMAGES[:4], {"note": "x"})], verbose=False
    )
    assert [call[0] for call in kept.calls] == ["hyperparameters", "metrics", "image", "metrics", "image", "close"]
    values = kept.calls[0][1]
    assert (values["optimizer"], values["lr"], values["batch_size"], values["note"]) == ("sgd", 0.1, 8, "x")
    for epoch in (0, 1):
        metrics, step = kept.calls[1 + 2 * epoch][1:]
        assert step == epoch + 1
        assert metrics["loss"] == history["loss"][epoch]
        assert metrics["val_loss"] == history["val_loss"][epoch]
    picture = kept.calls[-2][2]
    assert picture.shape == (3, 16, 32)
    np.testing.assert_array_equal(picture[:, :8, :8], IMAGES[0])
    np.testing.assert_array_equal(picture[:, 8:, 24:], np.clip(model.predict(IMAGES[:4])[3], 0, 1))


def test_it_is_closed_when_training_fails() -> None:
    kept, model = Kept(), made()
    model.optimizer.lr = 1e30
    with pytest.raises(wl.DivergedError):
        model.fit(IMAGES, epochs=3, callbacks=[wl.callbacks.Logging(kept)], verbose=False)
    assert kept.calls[-1] == ("close",)


def events(folder: Path) -> list[Any]:
    """Of all event files, which are records of length, checksum, bytes, checksum."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    found = []
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(proto.Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_s_files_hold_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    model, board = made(), wl.callbacks.TensorBoard(tmp_path / "logs", IMAGES[:4])
    history = model.fit(IMAGES, epochs=2, validation_split=0.25, callbacks=[board], verbose=False)
    model.fit(IMAGES, epochs=3, start=model.progress, callbacks=[board], verbose=False)  # it can be used again
    read = scalars(tmp_path / "logs")
    assert read["val_loss"] == [(i + 1, pytest.approx(v)) for i, v in enumerate(history["val_loss"])]
    assert [step for step, _ in read["loss"]] == [1, 2, 3]
    tags = {value.tag for event in events(tmp_path / "logs") for value in event.summary.value}
    assert {"reconstructions", "hyperparameters/text_summary"} <= tags
    sizes = [(v.image.height, v.image.width) for e in events(tmp_path / "logs") for v in e.summary.value if v.HasField("image")]
    assert sizes == [(16, 32)] * 3
    (tmp_path / "file").write_text("")
    with pytest.raises(wl.DataError, match="choose another place"):
        made().fit(IMAGES, epochs=1, callbacks=[wl.callbacks.TensorBoard(tmp_path / "file")], verbose=False)


def test_a_run_logs_for_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    out = tmp_path / "run"
    common = ["train", "--data", "patches", "--limit", "16", "--batch-size", "8", "--device", "cpu"]
    assert main([*common, "--epochs", "1", "--out", str(out), "--log", "tensorboard"]) == 0, capsys.readouterr().err
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 0, capsys.readouterr().err
    read = scalars(out / "tensorboard")
    assert [step for step, _ in read["val_psnr"]] == [1, 2]
    assert main([*common, "--out", str(tmp_path / "b"), "--log", "paper"]) == 2
    assert "--log 'paper' is not known; expected tensorboard" in capsys.readouterr().err


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(wl.StateError, match="pip install tensorboardX"):
        wl.callbacks.TensorBoard()
    assert main(["train", "--log", "tensorboard", "--data", "patches"]) == 2
    assert "pip install tensorboardX" in capsys.readouterr().err
