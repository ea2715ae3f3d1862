"""Batch norms over the whole batch: the gradient of one call on it, the bits of one worker on any number, and faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from launching import environment, living, needs_mpi, results, run
from test_workers import alone
from warploom.distributed import tree
from warploom.distributed.groups import Alone
from warploom.distributed.meetings import Meetings, merge
from warploom.ground.atomic import read_tensors

SYNC = wl.distributed.Options(sync_batch_norm=True)
DEVICES = ["cpu", "emulated"]


def net(layers: Callable[[Any], Any] | None = None) -> wl.Model:
    """Batch norms with and without an activation behind them, one of them twice in use, and branches."""
    x = wl.Input((3, 8, 8), name="image")
    if layers is not None:
        return wl.Model(x, layers(x), name="net")
    h = wl.layers.BatchNorm2d(name="bn0")(x)
    h = wl.layers.ReLU()(wl.layers.BatchNorm2d(name="bn1")(wl.layers.Conv2d(6, 3, padding=1, bias=False, name="c1")(h)))
    again = wl.layers.BatchNorm2d(name="bn2")
    h = wl.layers.Add()(again(wl.layers.Conv2d(6, 3, padding=1, name="c2")(h)), again(h))
    h = wl.layers.LeakyReLU(0.1)(wl.layers.BatchNorm2d(name="bn3")(h))
    return wl.Model(x, wl.layers.Conv2d(3, 1, name="c3")(h), name="net")


def compiled(model: wl.Model, device: str = "cpu", loss: Any = "mse", **how: Any) -> wl.Model:
    model.compile(wl.optim.SGD(0.5), loss, device=device, seed=1, **how)
    return model


def moved(x: np.ndarray, y: np.ndarray, steps: int = 1, layers: Any = None, **how: Any) -> dict[str, np.ndarray]:
    """What steps change; running statistics as they are then."""
    model = compiled(net(layers), **how)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    for _ in range(steps):
        model.train_step(x, y)
    return {name: value if "running" in name else value - before[name] for name, value in model.state_dict().items()}


def images(count: int, mean: float = 0.0, std: float = 1.0, drift: float = 0.0) -> np.ndarray:
    """Sample k has its mean `drift` times k higher: the statistics of its shards differ."""
    x = np.random.default_rng(count).standard_normal((count, 3, 8, 8)) * std + mean
    return (x + drift * np.arange(count)[:, None, None, None]).astype(np.float32)


def exact(x: np.ndarray, y: np.ndarray, parts: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """The same step by PyTorch in double, batch norms over all of x."""
    torch = pytest.importorskip("torch")
    start = compiled(net()).state_dict()
    t = {name: torch.tensor(np.asarray(value, np.float64), requires_grad="running" not in name) for name, value in start.items()}
    f = torch.nn.functional

    def norm(h: Any, name: str) -> Any:
        return f.batch_norm(
            h, t[f"{name}.running_mean"], t[f"{name}.running_var"], t[f"{name}.weight"], t[f"{name}.bias"], True, 0.1, 1e-5
        )

    h = norm(torch.tensor(x.astype(np.float64)), "bn0")
    h = f.relu(norm(f.conv2d(h, t["c1.weight"], None, padding=1), "bn1"))
    h = norm(f.conv2d(h, t["c2.weight"], t["c2.bias"], padding=1), "bn2") + norm(h, "bn2")
    h = f.conv2d(f.leaky_relu(norm(h, "bn3"), 0.1), t["c3.weight"], t["c3.bias"])
    target = torch.tensor(y.astype(np.float64))
    loss = sum((b - a) / len(x) * ((h[a:b] - target[a:b]) ** 2).mean() for a, b in parts)
    loss.backward()
    return {name: v.numpy() if "running" in name else -0.5 * v.grad.numpy() for name, v in t.items()}


def distance(found: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> dict[str, float]:
    """Over the largest value of each; some gradients are 0 but for rounding, since a batch norm comes after."""
    return {name: float(abs(found[name] - right[name]).max() / (abs(right[name]).max() + 0.02)) for name in right}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("count", "shards"), [(8, 1), (8, 2), (10, 8), (13, 5), (3, 8)])
def test_a_step_is_that_of_one_call_on_the_whole_batch(device: str, count: int, shards: int) -> None:
    """Against float64, with shards of different sizes whose statistics differ; as near as one call is."""
    x, y = images(count, drift=0.5), images(count, std=0.3)
    right = exact(x, y, tree.cut(count, shards))
    found = distance(moved(x, y, device=device, distributed=SYNC, shards=shards), right)
    whole = distance(moved(x, y, device=device), right)
    assert max(whole.values()) < 4e-6
    assert max(found.values()) < 4e-6, found
    if shards > 1:  # and that of the shards by themselves is another
        parts = distance(moved(x, y, device=device, distributed=True, shards=shards), right)
        assert max(parts.values()) > 0.1


@pytest.mark.parametrize("device", DEVICES)
def test_many_steps_stay_together(device: str) -> None:
    x, y = images(12, drift=0.1), images(12, std=0.3)
    found, whole = (moved(x, y, 10, device=device, **how) for how in ({"distributed": SYNC, "shards": 4}, {}))
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, atol=2e-4 * abs(value).max() + 2e-6, err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_mean_and_a_small_variance(device: str) -> None:
    """Means of 1000 that differ by 0.01 between samples, a deviation of 0.1: float32 holds 6e-5 there; double statistics of it
    lose nothing more, whatever the number of shards."""
    x = images(16, mean=1000.0, std=0.1, drift=0.01)
    wide = x.astype(np.float64)
    y = images(16, std=0.3)
    statistics = wide.mean(axis=(0, 2, 3)), wide.var(axis=(0, 2, 3), ddof=1)
    for shards in (1, 2, 8):
        model = compiled(net(wl.layers.BatchNorm2d(momentum=1.0, name="bn")), device, distributed=SYNC, shards=shards)
        model.train_step(x, y)
        state = model.state_dict()
        np.testing.assert_allclose(state["bn.running_mean"], statistics[0], rtol=6e-8)
        np.testing.assert_allclose(state["bn.running_var"], statistics[1], rtol=2e-6)
    g = 2 * ((wide - wide.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(wide.var(axis=(0, 2, 3), keepdims=True) + 1e-5) - y)
    slopes = -0.5 * (g / y.size).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(state["bn.bias"], slopes, atol=2e-5)


def test_merged_moments_are_those_of_all() -> None:
    """Whatever is merged first; sums of x and of squares in float32 would leave nothing of this variance."""
    rng = np.random.default_rng(0)
    values = 1e4 + 0.01 * rng.standard_normal((6, 50)) + 0.02 * np.arange(6)[:, None]
    right = np.array([values.mean(), ((values - values.mean()) ** 2).sum(), values.size])
    for order in (range(6), [5, 0, 3, 1, 4, 2]):
        sets = [np.array([values[k].mean(), ((values[k] - values[k].mean()) ** 2).sum(), 50.0]) for k in order]
        for more in sets[1:]:
            merge(sets[0], more)
        np.testing.assert_allclose(sets[0], right, rtol=1e-9)
    channels = np.concatenate([np.array([1.0, np.nan]), np.array([2.0, 2.0]), [4.0]])
    merge(channels, np.array([3.0, 1.0, 2.0, 2.0, 4.0]))
    np.testing.assert_array_equal(channels, [2.0, np.nan, 12.0, np.nan, 8.0])


class Shards:
    """A session whose shards bring these numbers."""

    def __init__(self, count: int, backward: bool, brought: list[np.ndarray]) -> None:
        self.sizes, self.brought = [(count, backward)], brought

    def meetings(self) -> list[tuple[int, bool]]:
        return self.sizes

    def read_meeting(self, place: int, out: np.ndarray) -> None:
        out[:] = self.brought[place]


class Later(Exception):
    pass


class Told(Alone):
    """One of several workers; what they share is known once each has come to share it."""

    def __init__(self, rank: int, size: int, everyone: dict[int, np.ndarray]) -> None:
        self.rank, self.size, self.everyone = rank, size, everyone

    def share(self, buffer: Any, counts: Any) -> None:
        ends = np.cumsum(counts)
        self.everyone[self.rank] = buffer[ends[self.rank] - counts[self.rank] : ends[self.rank]].copy()
        if len(self.everyone) < self.size:
            raise Later
        buffer[:] = np.concatenate([self.everyone[rank] for rank in range(self.size)])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("leaves", [1, 2, 5, 7, 8])
def test_what_meets_has_the_same_bits_for_any_number_of_workers(leaves: int, backward: bool) -> None:
    """In double, of which float32 results would show little; against the tree as it is defined."""
    cut, rng = tree.cut(29, leaves), np.random.default_rng(3)
    brought = [rng.standard_normal(2 * 50) for _ in cut]
    if not backward:
        brought = [np.append(abs(numbers), 64.0 * (b - a)) for numbers, (a, b) in zip(brought, cut, strict=True)]

    def expected(first: int, end: int) -> np.ndarray:
        if end - first == 1:
            return brought[first] * ((cut[first][1] - cut[first][0]) / 29 if backward else 1)
        half = 1
        while 2 * half < end - first:
            half *= 2
        left, right = expected(first, first + half).copy(), expected(first + half, end)
        if backward:
            return left + right
        count, apart = left[-1] + right[-1], right[:50] - left[:50]
        squares = left[50:-1] + (right[50:-1] + apart * apart * (left[-1] * right[-1] / count))
        return np.concatenate([left[:50] + apart * (right[-1] / count), squares, [count]])

    right = expected(0, leaves).tobytes()
    for workers in range(1, 9):
        everyone: dict[int, np.ndarray] = {}
        for rank in [*range(workers), *range(workers)]:
            held = tree.held(leaves, rank, workers)
            mine = [brought[shard] for shard in held]
            meetings = Meetings(Shards(len(brought[0]), backward, mine), Told(rank, workers, everyone))
            try:
                found = meetings.merged((len(brought[0]), backward), cut, held)
            except Later:
                continue
            assert found.tobytes() == right, (workers, rank)
        assert len(everyone) == workers


@needs_mpi
@pytest.mark.parametrize("device", DEVICES)
def test_workers_give_the_bits_of_one(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 12 and a last one of 7: with 8 workers one of them has no shard then, and comes to every meeting."""
    without = alone(device)
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true}')
    expected = alone(device)
    assert expected["bits"] != without["bits"]
    assert np.isfinite(np.concatenate([np.ravel(n) for n in expected["numbers"]])).all()
    for workers in (2, 3, 4, 8) if device == "cpu" else (2, 4):
        code, out, err, _ = run(workers, device, "none", "0", "0")
        assert code == 0, err
        found = results(out)
        assert {result["bits"] for result in found} == {expected["bits"]}, workers
        assert all(result["numbers"] == expected["numbers"] for result in found), workers


@needs_mpi
@pytest.mark.parametrize("clip", ["1", "0"])
def test_with_buckets_and_a_shared_optimizer(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_CLIP", clip)
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true}')
    expected = alone("cpu")
    for more in ({"bucket_mb": 0.0002}, {"bucket_mb": 0.0002, "shard_optimizer": True}):
        monkeypatch.setenv("SMALL_OPTIONS", json.dumps({"sync_batch_norm": True, **more}))
        code, out, err, _ = run(2, "cpu", "none", "0", "0")
        assert code == 0, err
        assert {result["bits"] for result in results(out)} == {expected["bits"]}, more


@needs_mpi
def test_fast_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true}')
    expected = alone("cpu")
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true, "reduce": "fast"}')
    code, out, err, _ = run(3, "cpu", "none", "0", "0")
    assert code == 0, err
    found = results(out)
    assert len({result["bits"] for result in found}) == 1
    np.testing.assert_allclose(found[0]["numbers"][0], expected["numbers"][0], rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_recorded_pieces_give_the_bits_of_calls(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images(11), images(11, std=0.3)
    bits, replays = [], []
    for record in "10":
        monkeypatch.setenv("WARPLOOM_RECORD", record)
        model = compiled(net(), device, distributed=SYNC, shards=4)
        for rows in (11, 11, 11, 7, 11):  # other sizes of shards in between
            model.train_step(x[:rows], y[:rows])
        bits.append(b"".join(value.tobytes() for value in model.state_dict().values()))
        replays.append(model.engine.session.replays)
    assert bits[0] == bits[1]
    assert replays[1] == 0
    assert (replays[0] > 0) == (device == "emulated")


@pytest.mark.parametrize("device", DEVICES)
def test_shards_of_one_value(device: str) -> None:
    """A shard may have a single value per channel; the batch may not."""

    def flat(x: Any) -> Any:
        h = wl.layers.BatchNorm2d(name="bn")(wl.layers.Conv2d(5, 8, name="c")(x))
        return wl.layers.Reshape((3, 8, 8))(wl.layers.Linear(192, name="d")(wl.layers.Flatten()(h)))

    x, y = images(6, drift=0.5), images(6, std=0.3)
    found = moved(x, y, layers=flat, device=device, distributed=SYNC, shards=6)
    whole = moved(x, y, layers=flat, device=device)
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5 * abs(value).max() + 1e-7, err_msg=name)
    model = compiled(net(flat), device, distributed=SYNC, shards=6)
    with pytest.raises(wl.UnsupportedError, match="more than one value per channel; here a whole batch has one"):
        model.train_step(x[:1], y[:1])
    model.train_step(x, y)  # and goes on


def test_labels_that_are_ignored() -> None:
    """A shard without a label has no gradient of its own, but its values are in the statistics, and it keeps its share."""
    x, labels = images(4, drift=1.0), np.random.default_rng(0).integers(0, 3, (4, 8, 8))
    loss = wl.losses.CrossEntropy(ignore_index=-100)
    some = labels.copy()
    some[2:] = -100
    found = moved(x, some, loss=loss, distributed=SYNC, shards=2)
    whole = moved(x, some, loss=loss)  # whose mean is over the labels of one half
    for name, value in whole.items():
        factor = 1 if "running" in name else 0.5
        np.testing.assert_allclose(found[name], factor * value, atol=1e-5 * abs(value).max() + 1e-7, err_msg=name)


def test_frozen_layers_and_networks_without_batch_norm() -> None:
    x, y = images(6, drift=0.5), images(6, std=0.3)
    before = []
    for how in ({"distributed": SYNC, "shards": 3}, {}):
        model = net()
        for name in ("bn0", "c1", "bn1"):
            next(layer for layer in model.layers if layer.name == name).trainable = False
        compiled(model, **how)
        start = {name: value.copy() for name, value in model.state_dict().items()}
        model.train_step(x, y)
        before.append({name: value - start[name] for name, value in model.state_dict().items()})
    for name, value in before[1].items():
        np.testing.assert_allclose(before[0][name], value, atol=2e-5 * abs(value).max() + 1e-6, err_msg=name)

    def plain(x: Any) -> Any:
        return wl.layers.Conv2d(3, 3, padding=1, name="c")(x)

    sync, default = (moved(x, y, layers=plain, distributed=how, shards=3) for how in (SYNC, True))
    assert all(sync[name].tobytes() == default[name].tobytes() for name in default)


def test_gradients_and_evaluation_are_what_they_were() -> None:
    x, y = images(6, drift=0.5), images(6, std=0.3)
    model, plain = compiled(net(), distributed=SYNC, shards=3), compiled(net())
    for name, value in plain.engine.gradients([x], [y]).items():
        np.testing.assert_array_equal(model.engine.gradients([x], [y])[name], value)
    assert model.evaluate(x, y)["loss"] == pytest.approx(plain.evaluate(x, y)["loss"], rel=1e-6)
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))


class _Counted:
    """Alone, with the numbers that meet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[np.ndarray] = []
        monkeypatch.setattr(Alone, "share", lambda group, buffer, counts: self.found.append(buffer.copy()))


def test_what_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each use of a batch norm forward, and backward where a gradient goes on; a worker merges what it holds first."""
    model = compiled(net(), distributed=SYNC, shards=4)
    meetings = model.engine.session.meetings()
    assert meetings == [(7, False)] + [(13, False)] * 4 + [(12, True)] * 4  # none backward for the input
    counted = _Counted(monkeypatch)
    model.train_step(images(6), images(6))
    shared = [buffer for buffer in counted.found if buffer.size in (7, 13, 12)]
    assert [buffer.size for buffer in shared[:9]] == [count for count, _ in meetings]
    assert shared[0][-1] == 6 * 64


@pytest.mark.parametrize("device", DEVICES)
def test_memory_is_that_of_all_shards(device: str) -> None:
    session = compiled(net(), device).engine.session
    one, three = session.memory(4, True, 1), session.memory(4, True, 3)
    held = ("activations", "gradients", "saved", "workspace", "fragmentation", "weight_gradients")
    assert {name: three[name] for name in held} == {name: 3 * one[name] for name in held}
    assert three["weights"] == one["weights"]
    assert three["total"] - one["total"] == 2 * sum(one[name] for name in held)


def test_the_command_that_counts_memory() -> None:
    own = ["dsresnet", "--batch-size", "16", "--version", "cpu", "--json"]

    def asked(*more: str) -> dict[str, Any]:
        done = subprocess.run(command("memory", *own, *more), capture_output=True, text=True, env=environment(), check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    plain, sync = asked("--workers", "2"), asked("--workers", "2", "--sync-batch-norm")
    assert (plain["samples_at_once"], sync["samples_at_once"]) == (2, 8)
    plain, sync = plain["whole_optimizer"], sync["whole_optimizer"]
    assert sync["weight_gradients"] == 4 * plain["weight_gradients"]
    assert 3.9 * plain["activations"] < sync["activations"] < 4.1 * plain["activations"]
    assert asked("--sync-batch-norm")["samples_at_once"] == 16


def test_shards_that_are_not_under_way() -> None:
    session = compiled(net()).engine.session
    x = images(2)
    numbers = np.empty(7)
    for call in (lambda: session.go_on(0), lambda: session.read_meeting(1, numbers), lambda: session.take_gradients(0)):
        with pytest.raises(wl.Error, match="no shard is under way in place"):
            call()
    session.train_step([x], [x], update=False, place=1)
    with pytest.raises(wl.Error, match="is to meet others yet"):
        session.take_gradients(1)
    with pytest.raises(wl.Error, match="a meeting has 7 numbers, not 8"):
        session.read_meeting(1, np.empty(8))
    for _ in session.meetings():
        session.go_on(1)
    with pytest.raises(wl.Error, match="has met all others"):
        session.go_on(1)
    session.take_gradients(1)
    for wrong in ({"update": True, "place": 0}, {"update": False, "place": 0, "ready": print}):
        with pytest.raises(ValueError, match="neither an update nor ready"):
            session.train_step([x], [x], **wrong)
    with pytest.raises(ValueError, match="place is below"):
        session.train_step([x], [x], update=False, place=1 << 20)


def test_a_place_alone_has_the_gradients_of_a_step() -> None:
    """In any place, and again after another network's size of batch."""
    session = compiled(net()).engine.session
    x, y = images(5, drift=0.5), images(5, std=0.3)
    flat, numbers = (np.empty(session.trainable_count, np.float32) for _ in range(2))
    session.train_step([x], [y], update=False)
    session.read_flat("gradients", 0, flat)
    for place in (2, 0, 1, 2):
        session.train_step([x[:3]], [y[:3]], update=False)
        session.train_step([x], [y], update=False, place=place)
        for count, _ in session.meetings():
            session.read_meeting(place, np.empty(count))
            session.go_on(place)
        session.take_gradients(place)
        session.read_flat("gradients", 0, numbers)
        np.testing.assert_allclose(numbers, flat, atol=2e-6 * abs(flat).max())


@pytest.mark.parametrize("device", DEVICES)
def test_what_another_thread_computes_in_between_changes_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may between two steps; here at every meeting, with a batch larger than the shards."""
    x, y = images(6, drift=0.5), images(6, std=0.3)
    bits, seen = [], []
    for between in (False, True):
        model = compiled(net(), device, distributed=SYNC, shards=3)
        if between:
            monkeypatch.setattr(Alone, "share", lambda *_, model=model: seen.append(model.predict(x)))
        for _ in range(3):
            model.train_step(x, y)
        bits.append([value.tobytes() for value in model.state_dict().values()])
    assert bits[0] == bits[1]
    assert len(seen) >= 3 * 9


# ---- Several workers: faults, resuming, other numbers of them ----


@needs_mpi
@pytest.mark.parametrize(("rank", "meeting"), [(0, 1), (1, 12), (2, 25)])
def test_a_worker_killed_before_a_meeting(rank: int, meeting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for it there."""
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true}')
    code, _, err, _ = run(3, "cpu", "kill meeting", str(rank), str(meeting), seconds=60)
    assert code != 0
    said = [line for line in err.splitlines() if line.startswith("warploom:")]
    assert len(said) == 1, err
    assert f"rank {rank} on host {os.uname().nodename} was killed by signal 9 (SIGKILL); all workers were stopped" in said[0]
    killed = next(float(line.split()[1]) for line in err.splitlines() if line.startswith("killed "))
    assert time.time() - killed < 10
    limit = time.monotonic() + 5
    while living("small.py", ours=True) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not living("small.py", ours=True)


CLI = [
    *("train", "--model", "autoencoder", "--set", "norm=batch", "--set", "widths=4,8", "--size", "16", "--data", "patches"),
    *("--limit", "24", "--batch-size", "8", "--device", "cpu", "--schedule", "none", "--sync-batch-norm"),
]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "warploom", *arguments]


@needs_mpi
def test_a_run_goes_on_with_the_same_bits_on_another_number(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for arguments in (
        [*CLI, "--epochs", "3", "--shards", "8", "--out", str(whole)],
        [*CLI, "--epochs", "1", "--workers", "2", "--out", str(parts)],
        ["train", "--resume", str(parts), "--epochs", "3", "--workers", "3"],
    ):
        code, out, err, _ = run(1, command=command(*arguments), seconds=240)
        assert code == 0, err
        assert "batch norms take the statistics of the whole batch" in out + err
    expected, found = (read_tensors(folder / "checkpoint.safetensors")[0] for folder in (whole, parts))
    assert expected.keys() == found.keys()
    assert all(expected[name].tobytes() == found[name].tobytes() for name in expected)


def test_the_option_needs_shards() -> None:
    code, _, err, _ = run(1, command=command(*CLI), seconds=60)
    assert code == 2
    assert "--sync-batch-norm is for several workers: add --workers N, or --shards N to begin with one" in err
