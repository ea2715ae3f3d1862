"""Sizes nobody means, from a user or from a file: one sentence each, no crash, no memory, no time (cases: hostile_sizes.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from warploom import _core

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("kind", ["layers", "files", "core", "calls"])
def test_sizes_that_overflow(kind: str) -> None:
    environment = dict(os.environ, WARPLOOM_THREADS="1", PYTHONPATH=os.pathsep.join([*sys.path, str(HERE)]))
    ran = subprocess.run(
        [sys.executable, str(HERE / "hostile_sizes.py"), kind], env=environment, capture_output=True, text=True, timeout=900
    )
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, f"{lines[-1] if lines else ''}: exit {ran.returncode}\n{ran.stderr[-2000:]}"
    assert lines[-1] == "done"
    assert len(lines) > 100


def small() -> wl.Model:
    x = wl.Input((1, 2, 2), name="x")
    return wl.Model(x, wl.layers.Conv2d(1, 1, name="c")(x))


@pytest.mark.parametrize("rows", [2**31, 2**32 + 2])
def test_more_rows_than_are_counted(rows: int) -> None:
    """Lazy zeros: no memory stands behind them."""
    many = np.broadcast_to(np.zeros((1, 1, 2, 2), np.uint8), (rows, 1, 2, 2))
    model = small()
    model.compile(batch_size=2, device="cpu")
    for call in (model.fit, model.predict, model.evaluate, model.train_step, model.gradients):
        with pytest.raises(wl.ArgumentError, match=rf"x holds {rows} samples; .* at most 2147483647"):
            call(many)
    with pytest.raises(wl.ArgumentError, match="y holds"):
        model.fit(np.zeros((2, 1, 2, 2), np.uint8), many)
    session = model.engine.session  # below the package's own checks
    for step in (session.train_step, session.evaluate_step):
        with pytest.raises(ValueError, match=f"holds {rows} samples"):
            step([many], [])
    with pytest.raises(ValueError, match=f"holds {rows} samples"):
        session.load_data("train", many)


def test_memory_of_the_largest_batch_is_a_number_or_a_sentence() -> None:
    model = small()
    model.compile(batch_size=2, device="cpu")
    engine = model.engine
    assert 2**31 * 16 < engine.memory(2**31 - 1)["total"] < 2**40
    large = wl.models.gray_autoencoder(size=64, width=4)
    large.compile(batch_size=2, device="cpu")
    assert large.engine.memory(2**31 - 1)["total"] > 2**31 * 64 * 64 * 4


def test_an_order_is_the_callers_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """begin_epoch checks the order and uses what it has checked, whatever happens to the array meanwhile."""
    model = small()
    model.compile(batch_size=2, device="cpu")
    session = model.engine.session
    session.load_data("train", np.zeros((4, 1, 2, 2), np.uint8))
    order = np.arange(4, dtype=np.int32)
    session.begin_epoch("train", order)
    order[:] = 2**30
    session.train_next(2)
    with pytest.raises(wl.GraphError, match="the order names image"):
        session.begin_epoch("train", order)


def test_shapes_of_arrays() -> None:
    array = _core.array_empty((4, 4), "float32", "cpu")
    assert array.reshape(-1).shape == (16,)
    assert array.reshape(2, -1).shape == (2, 8)
    for shape in ((-2, -8), (-1, -1), (-16,), (3, -1), (2**32, 2**32), (0, -1)):
        with pytest.raises(ValueError, match="cannot"):
            array.reshape(*shape)
    with pytest.raises(ValueError, match="addressed"):
        _core.array_empty((2**32, 2**32), "float32", "cpu")
