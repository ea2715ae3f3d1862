"""Same seed, same bits: in another process, with other threads, feeds, logs, checkpoints and validation, for every version.

What is the same as what stands as a table in docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.ground.lazy import Lazy
from warploom.runs.run import Recorder, RunFolder

_IMAGES = np.random.default_rng(0).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8)  # the last batch is a smaller one


def targets() -> list[tuple[str, str]]:
    """(version, device): the cpu kernel set, and every version on the emulated device."""
    emulated = next((d["versions"] for d in wl.devices() if d["name"] == "emulated" and d["usable"]), [])
    return [("cpu", "cpu"), *((version, "emulated") for version in emulated)]


def network(version: str, device: str) -> wl.Model:
    """Convolutions, a norm with running statistics, a pooling, an upsampling and a merge."""
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.ReLU(name="r1")(wl.layers.Conv2d(8, 3, padding=1, name="c1")(x))
    h = wl.layers.Upsample(2, name="up")(wl.layers.Latent(name="latent")(wl.layers.MaxPool2d(2, name="pool")(h)))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(h), name="small")
    model.compile(wl.optim.Adam(0.01, clip_norm=1.0), "mse", version, device, batch_size=4, seed=3)
    return model


def digest(model: wl.Model, losses: list[float]) -> str:
    """Of every bit of the weights, the optimizer's state and the losses."""
    found = hashlib.sha256(np.array(losses, np.float64).tobytes())
    for part in (model.state_dict(), model.engine.optimizer_state()):
        for name in sorted(part):
            found.update(name.encode() + np.ascontiguousarray(part[name]).tobytes())
    return found.hexdigest()


def train(version: str, device: str, x: Any = None, **options: Any) -> str:
    model = network(version, device)
    history = model.fit(_IMAGES if x is None else x, epochs=2, **{"verbose": False, **options})
    return digest(model, history["loss"])


class Rows(Lazy):
    """The same images, as they are asked for."""

    shape, dtype = _IMAGES.shape, _IMAGES.dtype

    def rows(self, indices: Any) -> Any:
        return _IMAGES[indices]


class Curious(wl.Callback):
    """Asks for everything after every batch."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.model.update_progress()
        self.model.evaluate(_IMAGES[:3])
        self.model.predict(_IMAGES[:2])
        self.model.state_dict()


def mapped(folder: Path) -> Any:
    np.save(folder / "x.npy", _IMAGES)
    return np.load(folder / "x.npy", mmap_mode="r")


def checkpointed(version: str, device: str, folder: Path) -> str:
    """Stopped after every epoch: a new model takes up the checkpoint."""
    files, losses = RunFolder(folder), []
    start = None
    for epoch in (1, 2):
        model = network(version, device)
        if start is not None:
            start = files.restore(model)
        losses += model.fit(_IMAGES, epochs=epoch, callbacks=[Recorder(files)], verbose=False, start=start)["loss"]
        start = model.progress
    return digest(model, losses)


def elsewhere(version: str, device: str, threads: str) -> str:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_same_bits as t; print(t.train({version!r}, {device!r}))"
    environment = dict(os.environ, WARPLOOM_THREADS=threads, PYTHONHASHSEED="7")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


WAYS: dict[str, Callable[[str, str, Path], str]] = {
    "again": lambda v, d, _: train(v, d),
    "another process, one thread": lambda v, d, _: elsewhere(v, d, "1"),
    "another process, three threads": lambda v, d, _: elsewhere(v, d, "3"),
    "rows computed on demand, prefetched": lambda v, d, _: train(v, d, Rows()),
    "memory-mapped": lambda v, d, folder: train(v, d, mapped(folder)),
    "float32 made by the caller": lambda v, d, _: train(v, d, _IMAGES * np.float32(1 / 255)),
    "with validation": lambda v, d, _: train(v, d, validation_data=_IMAGES[:5]),
    "callbacks that ask for everything": lambda v, d, _: train(v, d, callbacks=[Curious()]),
    "stopped and gone on with after every epoch": checkpointed,
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize(("version", "device"), targets(), ids=str)
def test_same_bits(version: str, device: str, way: str, tmp_path: Path) -> None:
    if device == "emulated" and "process" in way and version not in ("v1", "v5"):
        pytest.skip("another process is tried with the cpu kernels, v1 and v5")
    assert WAYS[way](version, device, tmp_path) == train(version, device)


def test_progress_on_the_terminal_changes_nothing() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        loud = train("cpu", "cpu", verbose=True)
    assert loud == train("cpu", "cpu")


def test_another_seed_gives_other_bits() -> None:
    model = network("cpu", "cpu")
    model.compile(wl.optim.Adam(0.01, clip_norm=1.0), "mse", "cpu", "cpu", batch_size=4, seed=4)
    assert digest(model, model.fit(_IMAGES, epochs=2, verbose=False)["loss"]) != train("cpu", "cpu")


def test_the_sets_are_told_apart(tmp_path: Path) -> None:
    """Two instruction sets may give other last bits: which one ran stands in config.json."""
    from warploom.ground import hardware

    kept = {device: hardware.instructions(device) for device in ("cpu", "emulated")}
    assert kept["emulated"] == "emulated"
    assert json.dumps(kept)
    assert kept["cpu"]


def test_the_set_that_was_asked_for_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """WARPLOOM_CPU_ISA chooses among the sets of an installation; the best comes first."""
    from warploom.ground import hardware

    there = [{"kind": "cpu", "usable": True, "path": f"/somewhere/_lib/cpu_{isa}.so"} for isa in ("avx512", "avx2")]
    monkeypatch.setattr(hardware, "_libraries", lambda: there)
    monkeypatch.delenv("WARPLOOM_CPU_ISA", raising=False)
    assert hardware.instructions("cpu") == "avx512"
    for asked, told in (("avx2", "avx2"), ("avx512", "avx512"), ("", "avx512"), ("sse9", "")):
        monkeypatch.setenv("WARPLOOM_CPU_ISA", asked)
        assert hardware.instructions("cpu") == told
