"""Any number of workers gives the bits of one: cpu and emulated, batch norm, dropout, clipping, resident and streamed data."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import warploom as wl
from launching import SMALL, needs_mpi, results, run


def alone(device: str) -> dict[str, Any]:
    code, out, err, _ = run(1, device, "none", "0", "0", command=[sys.executable, str(SMALL)])
    assert code == 0, err
    return results(out)[0]


@needs_mpi
@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_workers_give_the_bits_of_one(device: str) -> None:
    expected = alone(device)
    assert np.isfinite(np.concatenate([np.ravel(n) for n in expected["numbers"]])).all()
    for workers in (2, 3, 4, 8) if device == "cpu" else (2, 4):
        code, out, err, _ = run(workers, device, "none", "0", "0")
        assert code == 0, err
        found = results(out)
        assert [result["size"] for result in found] == [workers] * workers
        assert {result["bits"] for result in found} == {expected["bits"]}, workers
        assert all(result["numbers"] == expected["numbers"] for result in found), workers


@needs_mpi
@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_a_shared_optimizer_gives_the_bits_of_a_whole_one(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(device)
    monkeypatch.setenv("SMALL_OPTIONS", '{"shard_optimizer": true}')
    for workers in (2, 4) if device == "cpu" else (2,):
        code, out, err, _ = run(workers, device, "none", "0", "0")
        assert code == 0, err
        assert {result["bits"] for result in results(out)} == {expected["bits"]}, workers


BUCKETS = (0.0, 0.0002, 0.0006)  # MiB: one for all 512 numbers of the gradient, 8, and 3 of which one is smaller


@needs_mpi
@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize(("clip", "shared"), [("1", False), ("1", True), ("0", False), ("0", True)])
def test_buckets_of_any_size_give_the_bits_of_one(device: str, clip: str, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On their way while backward goes on; without clipping a shared optimizer needs the sums of a part alone."""
    monkeypatch.setenv("SMALL_CLIP", clip)
    expected = alone(device)
    sizes = BUCKETS if device == "cpu" and (clip, shared) == ("1", False) else BUCKETS[1:2]
    for workers, size in itertools.product((2, 4) if device == "cpu" else (2,), sizes):
        monkeypatch.setenv("SMALL_OPTIONS", json.dumps({"bucket_mb": size, "shard_optimizer": shared}))
        code, out, err, _ = run(workers, device, "none", "0", "0")
        assert code == 0, err
        assert {result["bits"] for result in results(out)} == {expected["bits"]}, (workers, size)


@needs_mpi
def test_fast_is_near_and_the_same_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone("cpu")
    for options in ({"reduce": "fast"}, {"reduce": "fast", "bucket_mb": 0.0002}):
        monkeypatch.setenv("SMALL_OPTIONS", json.dumps(options))
        code, out, err, _ = run(3, "cpu", "none", "0", "0")
        assert code == 0, err
        found = results(out)
        assert len({result["bits"] for result in found}) == 1
        np.testing.assert_allclose(found[0]["numbers"][0], expected["numbers"][0], rtol=1e-3)


@needs_mpi
def test_more_workers_than_shards_are_refused() -> None:
    code, _, err, _ = run(9, "cpu", "none", "0", "0")
    assert code != 0
    assert "9 workers need at least as many shards, and a batch has 8" in err


@needs_mpi
def test_weights_are_those_of_rank_0() -> None:
    code, out, err, _ = run(2, "cpu", "weights", "1", "0")
    assert code == 0, err
    assert {result["bits"] for result in results(out)} == {alone("cpu")["bits"]}


@pytest.mark.parametrize("bucket", ["25", "0.0002"])
def test_torchrun_gives_the_bits_of_one(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = shutil.which("torchrun")
    if torchrun is None:
        pytest.skip("torchrun is not installed")
    monkeypatch.setenv("SMALL_OPTIONS", f'{{"bucket_mb": {bucket}}}')
    command = [torchrun, "--nproc-per-node", "2", "--master-port", "29713", str(SMALL)]
    code, out, err, _ = run(2, "cpu", "none", "0", "0", command=command)
    assert code == 0, err
    found = results(out)
    assert [result["size"] for result in found] == [2, 2]
    assert {result["bits"] for result in found} == {alone("cpu")["bits"]}


@needs_mpi
def test_a_stop_that_one_worker_is_told_is_agreed_upon() -> None:
    code, out, err, _ = run(3, "cpu", "stop", "2", "7")
    assert code == 0, err
    found = results(out)
    assert len(found) == 3
    assert len({(result["bits"], result["at"]["epoch"], result["at"]["batch"]) for result in found}) == 1


def small(loss: Any, *, distributed: bool, shards: int = 8) -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(x), name="net")
    model.compile(wl.optim.SGD(0.1), loss, device="cpu", seed=1, distributed=distributed, shards=shards)
    return model


def moved(loss: Any, x: np.ndarray, y: np.ndarray, **how: Any) -> np.ndarray:
    """What a step changes."""
    model = small(loss, **how)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    model.train_step(x, y)
    return np.concatenate([(value - before[name]).ravel() for name, value in model.state_dict().items()])


def test_what_shards_mean_for_losses() -> None:
    """A mean over elements has the gradient of the whole batch; one with a normaliser of its own that of its shards, averaged."""
    rng = np.random.default_rng(0)
    x, y = rng.random((10, 3, 8, 8), dtype=np.float32), rng.random((10, 3, 8, 8), dtype=np.float32)
    for loss in ("mse", "l1"):
        np.testing.assert_allclose(moved(loss, x, y, distributed=True), moved(loss, x, y, distributed=False), atol=2e-7)
    for loss in ("rmse", wl.losses.Dice(from_logits=True)):
        whole, sharded = moved(loss, x, y, distributed=False), moved(loss, x, y, distributed=True, shards=2)
        mean = (moved(loss, x[:5], y[:5], distributed=False) + moved(loss, x[5:], y[5:], distributed=False)) / 2
        np.testing.assert_allclose(sharded, mean, atol=2e-7)
        assert abs(sharded - whole).max() > 1e-6


def test_an_average_of_parts_is_refused() -> None:
    x = wl.Input((3, 8, 8), name="image")
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(x), name="net")
    with pytest.raises(wl.ArgumentError, match="ema and shard_optimizer do not go together"):
        model.compile(wl.optim.SGD(0.1, ema=0.9), device="cpu", distributed=wl.distributed.Options(shard_optimizer=True))


def test_labels_that_are_ignored() -> None:
    """A shard without a label adds nothing; its share of the batch is kept."""
    rng = np.random.default_rng(0)
    x, labels = rng.random((4, 3, 8, 8), dtype=np.float32), rng.integers(0, 3, (4, 8, 8))
    labels[2:] = -100
    loss = wl.losses.CrossEntropy(ignore_index=-100)
    sharded = moved(loss, x, labels, distributed=True, shards=2)
    np.testing.assert_allclose(sharded, moved(loss, x[:2], labels[:2], distributed=False) / 2, atol=2e-7)


def test_batch_norm_takes_the_statistics_of_a_shard() -> None:
    def net(**how: Any) -> wl.Model:
        x = wl.Input((3, 8, 8), name="image")
        model = wl.Model(x, wl.layers.BatchNorm2d(name="bn")(x), name="net")
        model.compile(wl.optim.SGD(0.1), device="cpu", **how)
        return model

    images = np.random.default_rng(0).random((8, 3, 8, 8), dtype=np.float32)
    sharded = net(distributed=True, shards=2)
    sharded.train_step(images)
    parts = []
    for half in (images[:4], images[4:]):
        part = net()
        part.train_step(half)
        parts.append(part.state_dict())
    for name in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_allclose(sharded.state_dict()[name], (parts[0][name] + parts[1][name]) / 2, rtol=1e-6)


def test_every_shard_draws_its_own_dropout() -> None:
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.Dropout(0.5, name="drop")(x)
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(h), name="net")
    model.compile(wl.optim.SGD(0.1), device="cpu", seed=1)
    images = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)

    def gradient(shard: int) -> bytes:
        session = model.engine.session
        session.train_step([images], [], update=False, shard=shard)
        flat = np.empty(session.trainable_count, np.float32)
        session.read_flat("gradients", 0, flat)
        return flat.tobytes()

    drawn = [gradient(shard) for shard in range(8)]
    assert len(set(drawn)) == 8
    assert [gradient(shard) for shard in range(8)] == drawn
