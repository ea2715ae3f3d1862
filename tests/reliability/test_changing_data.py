"""What changes under a run: memory-mapped files that are cut short or overwritten, a run folder that is deleted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main
from warploom.ground.lazy import Normalized
from warploom.runs.run import Recorder, RunFolder
from warploom.train.watch import Watch

_IMAGES = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)


def network() -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv")(x), name="small")
    model.compile(wl.optim.SGD(0.01), batch_size=8, device="cpu")
    return model


class Between(wl.Callback):
    """Does something after the first epoch."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action, self.epochs = action, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.epochs += 1
        if epoch == 0:
            self.action()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", _IMAGES)
    return tmp_path / "x.npy"


def overwrite(path: Path, *, quietly: bool = False) -> None:
    """Other pixels in place; quietly: with the time of the last change put back."""
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(200)
        file.write(bytes(4000))
    if quietly:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "cut short": lambda path: os.truncate(path, 5000),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": overwrite,
    "overwritten, with its old time": lambda path: overwrite(path, quietly=True),
    "longer": lambda path: os.truncate(path, 1_000_000),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("lazy", [False, True])
def test_a_file_that_changes(change: str, lazy: bool, path: Path) -> None:
    mapped = np.load(path, mmap_mode="r")
    x: Any = Normalized(mapped[4:], (0.5,), (0.5,)) if lazy else mapped[4:]
    y = None if not lazy else np.zeros((60, 3, 8, 8), np.float32)
    between = Between(lambda: CHANGES[change](path))
    with pytest.raises(wl.DataError, match=r"x\.npy was (changed|cut short) while it was trained on"):
        network().fit(x, y, epochs=3, callbacks=[between], verbose=False)
    assert between.epochs == 1


def test_files_that_are_replaced_or_deleted_stay_what_they_were(path: Path) -> None:
    def losses(action: Callable[[], Any]) -> Any:
        np.save(path, _IMAGES)
        return network().fit(np.load(path, mmap_mode="r"), epochs=3, callbacks=[Between(action)], verbose=False)["loss"]

    def replaced() -> None:
        np.save(path.with_name("new.npy"), np.zeros_like(_IMAGES))
        os.replace(path.with_name("new.npy"), path)

    expected = losses(lambda: None)
    assert losses(replaced) == expected
    assert losses(path.unlink) == expected


def test_between_two_batches(path: Path) -> None:
    """The feed looks before and after every batch, so none is handed out that was read from a changed file."""
    mapped = np.load(path, mmap_mode="r")
    watch = Watch([mapped])
    watch.check()
    watch.check_contents()
    overwrite(path)
    with pytest.raises(wl.DataError, match="was changed"):
        watch.check()


def test_a_run_on_a_file_that_is_cut_short(path: Path, tmp_path: Path) -> None:
    """The command line: one sentence, exit code 2, and the last checkpoint is good."""
    script = f"""
import os, sys
from warploom.cli import main
from warploom.runs.run import Recorder
before = Recorder.on_epoch_end
def after(self, epoch, logs):
    before(self, epoch, logs)
    os.truncate({str(path)!r}, 1000)
Recorder.on_epoch_end = after
sys.exit(main(sys.argv[1:]))
"""
    wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m").save(tmp_path / "m.safetensors")
    command = ["train", "--model", str(tmp_path / "m.safetensors"), "--data", str(path), "--device", "cpu", "--epochs", "4"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--batch-size", "8", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "x.npy was cut short while it was trained on" in done.stderr
    np.save(path, _IMAGES)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_run_folder_that_goes_away(how: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    def gone() -> None:
        os.rename(folder.path, tmp_path / "elsewhere")
        if how == "deleted":
            shutil.rmtree(tmp_path / "elsewhere")
        if how == "replaced":
            folder.path.mkdir()

    between = Between(gone)
    with folder.held(), pytest.raises(wl.DataError, match="was deleted or moved while training in it"):
        network().fit(_IMAGES, epochs=3, callbacks=[Recorder(folder), between], verbose=False)
    assert folder.path.exists() == (how == "replaced")
    assert how != "replaced" or not os.listdir(folder.path)
