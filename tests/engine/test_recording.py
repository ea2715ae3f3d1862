"""Steps that are recorded once and replayed (on cuda: CUDA graphs) do what the calls do, bit by bit, and notice every change.

The emulated device records as a GPU does, so that what decides when to record and when to replay is tested without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import device_mark, kernel_targets
from harness import Target
from networks import as_floats, small_autoencoder, smooth_images

TARGETS = [
    pytest.param(t, id=str(t), marks=device_mark(t.device))
    for t in kernel_targets()
    if t.device == "cuda" or (t.device == "emulated" and t.version in ("v2", "v4")) or str(t) == "emulated:checked-v1"
]
IMAGES = smooth_images(40)
Run = Callable[[Any], list[float]]


@pytest.fixture
def wl() -> Any:
    return pytest.importorskip("warploom")


def trained(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target, record: bool, run: Run) -> Any:
    monkeypatch.setenv("WARPLOOM_RECORD", str(int(record)))
    model = small_autoencoder(wl)
    model.compile(wl.optim.Adam(lr=1e-3), "mse", version=target.version, device=target.device, batch_size=8, seed=3)
    losses = run(model)
    return losses, model.state_dict(), model.engine.session.replays


def assert_same(
    wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target, run: Callable[[Any], list[float]], replays: int
) -> None:
    calls, state, none = trained(wl, monkeypatch, target, False, run)
    replayed, recorded_state, count = trained(wl, monkeypatch, target, True, run)
    assert none == 0
    assert count == replays
    assert replayed == calls
    for name, value in state.items():
        np.testing.assert_array_equal(recorded_state[name], value, err_msg=name)


def epoch(session: Any, order: list[int], sizes: list[int]) -> list[float]:
    session.begin_epoch("train", np.array(order, np.int32))
    losses = []
    for size in sizes:
        session.train_next(size)
        losses.append(session.loss())
    return losses


@pytest.mark.parametrize("target", TARGETS)
def test_steps_on_resident_data(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    def run(model: Any) -> list[float]:
        session = model.engine.session
        session.load_data("train", IMAGES[:20])
        losses = epoch(session, list(range(20)), [8, 8, 4])  # a smaller last batch is a step of its own
        losses += epoch(session, list(range(19, -1, -1)), [8, 8, 4])  # another order, the same memory: 4 replays in two epochs
        session.set_optimizer(lr=5e-3)  # lies on the device
        losses += epoch(session, list(range(20)), [8, 8, 4])  # 3
        return losses

    assert_same(wl, monkeypatch, target, run, 1 + 3 + 3)


@pytest.mark.parametrize("target", TARGETS)
def test_what_moves_is_recorded_anew(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    def run(model: Any) -> list[float]:
        session = model.engine.session
        session.load_data("train", IMAGES[:16])
        losses = epoch(session, list(range(16)), [8, 8])  # 1 replay
        session.load_data("train", IMAGES[16:32])  # perhaps at the same address
        losses += epoch(session, list(range(16)), [8, 8])  # 1
        losses += epoch(session, list(range(12)) * 2, [8, 8, 8])  # more rows: 2
        model.predict(as_floats(IMAGES), batch_size=40)  # a larger arena
        losses += epoch(session, list(range(16)), [8, 8])  # 1
        session.set_optimizer(max_norm=0.5)  # one call more in every update
        losses += epoch(session, list(range(16)), [8, 8])  # 1
        return losses

    assert_same(wl, monkeypatch, target, run, 6)


@pytest.mark.parametrize("target", TARGETS)
def test_batches_from_the_host(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    images = as_floats(IMAGES)

    def run(model: Any) -> list[float]:
        losses = [model.train_step(images[8 * k : 8 * k + 8])["loss"] for k in range(4)]  # 3 replays
        losses += [model.evaluate(images[:16])["loss"] for _ in range(2)]  # two batches each, of data loaded anew: 2
        gradients = [model.gradients(images[:8], images[8:16]) for _ in range(2)]  # 1, and no update
        losses += [float(np.abs(g["conv1.weight"]).sum()) for g in gradients]
        outputs = [model.predict(images[8 * k : 8 * k + 8]) for k in range(3)]  # 2
        return losses + [float(o.sum()) for o in outputs]

    assert_same(wl, monkeypatch, target, run, 8)


@pytest.mark.parametrize("target", [t for t in TARGETS if t.values[0].device == "emulated:checked"])
def test_an_error_leaves_recordings_as_they_were(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setenv("WARPLOOM_RECORD", "1")
    model = small_autoencoder(wl)
    model.compile(wl.optim.SGD(lr=1e-3), "mse", version=target.version, device=target.device, batch_size=8, seed=3)
    session = model.engine.session
    session.load_data("train", IMAGES[:16])
    epoch(session, list(range(16)), [8, 8])
    with pytest.raises(ValueError, match="does not fit"):
        session.train_next(8)
    assert len(epoch(session, list(range(16)), [8, 8])) == 2
    assert session.replays == 3


@pytest.mark.parametrize("target", TARGETS)
def test_a_device_that_cannot_record_is_given_the_calls(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    if not target.device.startswith("emulated"):
        pytest.skip("only the emulated device can be told to refuse")

    def losses() -> tuple[list[float], int]:
        model = small_autoencoder(wl)
        model.compile(wl.optim.SGD(lr=1e-3), "mse", version=target.version, device=target.device, batch_size=8, seed=3)
        found = [model.train_step(as_floats(IMAGES[:8]))["loss"] for _ in range(3)]
        return found, model.engine.session.replays

    monkeypatch.setenv("WARPLOOM_RECORD", "1")
    recorded = losses()
    monkeypatch.setenv("WARPLOOM_EMULATOR_RECORD_FAILS", "1")
    with pytest.warns(wl.FallbackWarning, match="cannot record a step"):
        called = losses()
    assert called[0] == recorded[0]
    assert (recorded[1], called[1]) == (2, 0)
