"""Nothing is left behind: the same work again and again needs no more memory, no more files and no more threads.

Counted are bytes that malloc has given out and pages that it mapped (of the engine, the kernels and NumPy), the interpreter's
own blocks, open files and threads: after the first rounds, after half of them and after all. What is left behind grows in both
halves.

    WARPLOOM_LEAK_ROUNDS=1000 pytest tests/reliability/test_leaks.py      # 10,000 steps, 1,000 models
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import warploom as wl

_ROUNDS = int(os.environ.get("WARPLOOM_LEAK_ROUNDS", "60"))
_IMAGES = np.random.default_rng(0).integers(0, 256, (80, 3, 8, 8), np.uint8)
_MOST = {"bytes": 8_000, "blocks": 400, "files": 0, "threads": 0}  # that a half may add


class _Mallinfo(ctypes.Structure):
    _NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def _held() -> dict[str, int]:
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return {
        "bytes": info.uordblks + info.hblkhd,
        "blocks": sys.getallocatedblocks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def _network(device: str, version: str) -> wl.Model:
    x = h = wl.Input((3, 8, 8), name="image")
    h = wl.layers.MaxPool2d(2)(wl.layers.ReLU()(wl.layers.Conv2d(4, 3, padding=1)(h)))
    h = wl.layers.Latent()(wl.layers.BatchNorm2d()(h))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(wl.layers.Upsample(2)(h)), name="small")
    model.compile(wl.optim.Adam(0.01, clip_norm=1.0), "mse", version, device, batch_size=8, seed=1)
    return model


class _Doubled(wl.data.Lazy):
    """Rows that are computed while the device works."""

    shape, dtype = _IMAGES.shape, np.dtype(np.float32)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        return _IMAGES[indices].astype(np.float32) / 255.0


def _steps(device: str, version: str, data: object) -> Callable[[Path], None]:
    model = _network(device, version)

    def round_of_ten_steps(place: Path) -> None:
        model.fit(data, epochs=1, verbose=False)

    return round_of_ten_steps


def _models(device: str, version: str) -> Callable[[Path], None]:
    def a_model(place: Path) -> None:
        model = _network(device, version)
        model.fit(_IMAGES[:16], epochs=1, validation_data=_IMAGES[:8], verbose=False)
        model.encode(_IMAGES[:5])
        model.save(place / "model.safetensors")
        wl.load(place / "model.safetensors").predict(_IMAGES[:3])
        with pytest.raises(wl.Error):
            model.predict(_IMAGES[:, :2])

    return a_model


_WORK: dict[str, Callable[[], Callable[[Path], None]]] = {
    "steps": lambda: _steps("cpu", "cpu", _IMAGES),
    "steps on rows made by a thread": lambda: _steps("cpu", "cpu", _Doubled()),
    "steps on the emulated device": lambda: _steps("emulated", "v5", _IMAGES),
    "models": lambda: _models("cpu", "cpu"),
    "models on the emulated device": lambda: _models("emulated", "v3"),
}


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a C library that does not tell what it has given out")
@pytest.mark.parametrize("work", _WORK)
def test_nothing_is_left_behind(work: str, tmp_path: Path) -> None:
    again = _WORK[work]()
    held = []
    for count in (max(20, _ROUNDS // 10), _ROUNDS // 2, _ROUNDS - _ROUNDS // 2):
        for _ in range(count):
            again(tmp_path)
        held.append(_held())
    first, second = ({name: after[name] - before[name] for name in _MOST} for before, after in itertools.pairwise(held))
    assert all(min(first[name], second[name]) <= _MOST[name] for name in _MOST), (first, second)  # a table that grew once is none
    print(first, second)
