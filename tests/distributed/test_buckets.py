"""The gradient in buckets that are final before backward ends: what the session tells, and when."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.distributed.reduction import Beside, bounds, common, cut

IMAGES = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)


def chain() -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.BatchNorm2d(name="bn")(wl.layers.Conv2d(8, 3, padding=1, name="c1")(x))
    h = wl.layers.Conv2d(8, 3, padding=1, name="c2")(wl.layers.ReLU()(h))
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c3")(h), name="chain")


def branches() -> wl.Model:
    """A layer that is used twice, and one beside it."""
    x = wl.Input((3, 8, 8), name="image")
    twice = wl.layers.Conv2d(3, 3, padding=1, name="twice")
    h = wl.layers.Add()(twice(twice(x)), wl.layers.Conv2d(3, 3, padding=1, name="beside")(x))
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="end")(h), name="branches")


def compiled(model: wl.Model, device: str) -> Any:
    model.compile(wl.optim.SGD(0.1), device=device, seed=1)
    return model.engine.session


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("make", [chain, branches])
@pytest.mark.parametrize("elements", [0, 64, 200, 1 << 20])
def test_a_bucket_is_final_when_it_is_told(device: str, make: Any, elements: int) -> None:
    session = compiled(make(), device)
    buckets = session.cut_buckets(elements)
    assert sum(count for _, count in buckets) == session.trainable_count
    assert {a for a, _ in buckets} == {0} | {a + n for a, n in buckets} - {session.trainable_count}  # no gap, no overlap
    assert all(count <= max(elements + 63, 64) for _, count in buckets) or elements == 0
    flat = np.empty(session.trainable_count, np.float32)
    for _ in range(3):  # calls, recorded, replayed
        session.write_flat("gradients", 0, np.full(session.trainable_count, np.nan, np.float32))
        seen: list[tuple[int, np.ndarray]] = []

        def ready(final: int, seen: list[tuple[int, np.ndarray]] = seen) -> None:
            session.read_flat("gradients", 0, flat)
            seen.append((final, flat.copy()))

        session.train_step([IMAGES], [], update=False, ready=ready)
        session.read_flat("gradients", 0, flat)
        finals = [final for final, _ in seen]
        assert finals == sorted(set(finals))
        assert finals[-1] == len(buckets)
        for final, then in seen:
            for first, count in buckets[:final]:
                assert then[first : first + count].tobytes() == flat[first : first + count].tobytes()
        if elements in (64, 200):  # the first is told while the last, of the first layer, is not begun
            first, count = buckets[-1]
            assert np.isnan(seen[0][1][first : first + count]).all()
        assert len(seen) == 1 or len(buckets) > 1


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_pieces_give_the_bits_of_a_whole_step(device: str) -> None:
    session = compiled(chain(), device)
    session.cut_buckets(64)
    whole, pieces = (np.empty(session.trainable_count, np.float32) for _ in range(2))
    told: list[int] = []
    for _ in range(3):
        session.train_step([IMAGES], [], update=False)
        session.read_flat("gradients", 0, whole)
        session.train_step([IMAGES], [], update=False, ready=told.append)
        session.read_flat("gradients", 0, pieces)
        assert pieces.tobytes() == whole.tobytes()
    assert len(told) > 3 * 2
    slot = model_slot(session)
    for how in ({}, {"ready": told.append}):  # the position moves once, not once a piece
        session.begin_epoch(slot, np.arange(4, dtype=np.int32))
        session.train_next(2, slot, update=False, **how)
        session.train_next(2, slot, update=False, **how)
        with pytest.raises(wl.Error, match="0 images of the epoch are left"):
            session.train_next(1, slot, update=False, **how)


def model_slot(session: Any) -> str:
    session.load_data("train", IMAGES)
    return "train"


def test_the_order_is_that_of_backward() -> None:
    """Not of the flat buffer: `beside` was made after `twice`, which backward finishes later."""
    for make, last in ((chain, "c1.weight"), (branches, "twice.weight")):
        model = make()
        session = compiled(model, "cpu")
        buckets = session.cut_buckets(64)
        place = {name: first for name, first, *_ in session.parameter_layout()}
        numbers = {first: k for k, (first, _) in enumerate(buckets)}
        order = sorted((name for name in place if name.endswith("weight")), key=lambda name: numbers[place[name]])
        assert order[-1] == last
        assert order[0] == ("c3.weight" if make is chain else "end.weight")


def test_an_error_in_the_middle_of_a_step_comes_out() -> None:
    session = compiled(chain(), "cpu")
    session.cut_buckets(64)

    def broken(final: int) -> None:
        raise wl.DeviceError(f"after {final}")

    with pytest.raises(wl.DeviceError, match="after"):
        session.train_step([IMAGES], [], update=False, ready=broken)
    session.train_step([IMAGES], [], update=False, ready=lambda final: None)  # the session is free again
    with pytest.raises(ValueError, match="without an update"):
        session.train_step([IMAGES], [], ready=print)


def test_a_fork_waits_for_the_step_and_not_for_what_is_called_within() -> None:
    """Else both would wait, a minute long, for each other. A child of the middle of a step is told that the session is lost."""
    session = compiled(chain(), "cpu")
    session.cut_buckets(64)
    flat, stop, codes = np.empty(session.trainable_count, np.float32), threading.Event(), []

    def ready(final: int) -> None:
        time.sleep(0.002)  # lets go of the interpreter: a fork() may begin here
        session.read_flat("gradients", 0, flat)

    def steps() -> None:
        while not stop.is_set():
            session.train_step([IMAGES], [], update=False, ready=ready)

    worker, started = threading.Thread(target=steps), time.monotonic()
    worker.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                try:
                    session.read_flat("gradients", 0, flat)
                except wl.DeviceError as error:
                    os._exit(8 if "forked while another thread was in the middle of a call" in str(error) else 1)
                os._exit(7)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        worker.join()
    assert set(codes) <= {7, 8}
    assert 8 in codes
    assert time.monotonic() - started < 30


def test_pieces_and_parts() -> None:
    for size in (1, 2, 3, 8):
        for piece in (slice(0, 64), slice(128, 1000), slice(640, 640)):
            parts = cut(piece, size)
            assert [part.start for part in parts] == [piece.start, *(part.stop for part in parts[:-1])]
            assert parts[-1].stop == piece.stop
        assert [part.stop for part in cut(slice(0, 1000), size)] == bounds(1000, size)[1:]
    assert common(slice(0, 10), slice(5, 20)) == slice(5, 10)
    assert common(slice(0, 5), slice(10, 20)) == slice(10, 10)


def test_work_beside_is_done_in_order_and_raises_where_it_is_taken() -> None:
    beside, done = Beside(), list[int]()
    beside.give(lambda: done.append(1))
    beside.give(lambda: {}["gone"])
    beside.give(lambda: done.append(3))
    assert beside.under_way == 3
    beside.take()
    with pytest.raises(KeyError, match="gone"):
        beside.take()
    beside.take()
    assert done == [1, 3]
    assert beside.under_way == 0


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_sizes_that_mean_nothing_are_refused(wrong: float) -> None:
    with pytest.raises(wl.ArgumentError, match="bucket_mb must be a number of MiB"):
        wl.distributed.Options(bucket_mb=wrong)
