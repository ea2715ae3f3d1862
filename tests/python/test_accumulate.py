"""Gradients of several batches for one step: the gradient of a large batch, in the memory of a small one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from safetensors.numpy import load_file
from warploom.cli import main

IMAGES = np.random.default_rng(0).random((44, 3, 8, 8), np.float32)


def made(batch_size: int, accumulate: int = 1, *, norm: bool = False, device: str = "cpu") -> wl.Model:
    x = wl.Input((3, 8, 8))
    h = wl.layers.Conv2d(4, 3, padding=1, name="c1")(x)
    h = wl.layers.BatchNorm2d(name="bn")(h) if norm else h
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(wl.layers.ReLU()(h)), name="accumulating")
    optimizer = wl.optim.SGD(0.1, momentum=0.9, clip_norm=0.5)
    model.compile(optimizer, batch_size=batch_size, seed=1, device=device, accumulate=accumulate)
    return model


def off(a: wl.Model, b: wl.Model) -> float:
    other = b.state_dict()
    return max(float(np.abs(value - other[name]).max()) for name, value in a.state_dict().items())


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("streamed", [False, True])
def test_four_batches_of_four_are_one_of_sixteen(device: str, streamed: bool) -> None:
    """44 samples: two whole steps and a smaller one."""
    small, large, four = made(4, 4, device=device), made(16, device=device), made(4, device=device)
    targets = {"y": IMAGES * 0.5} if streamed else {}
    losses = [m.fit(IMAGES, **targets, epochs=3, verbose=False)["loss"] for m in (small, large, four)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert off(small, large) < 1e-5
    assert off(small, four) > 1e-2, "steps after every batch end elsewhere"
    assert int(small.engine.optimizer_state()["step"][0]) == 9
    assert small.evaluate(IMAGES)["loss"] == pytest.approx(large.evaluate(IMAGES)["loss"], rel=1e-5)


def test_the_memory_is_that_of_a_small_batch() -> None:
    small, large = made(4, 4), made(16)
    assert small.memory()["total"] < 0.6 * large.memory()["total"]


def test_a_single_step_is_divided_too() -> None:
    small, large = made(4, 4), made(16)
    assert small.train_step(IMAGES[:16])["loss"] == pytest.approx(large.train_step(IMAGES[:16])["loss"], rel=1e-5)
    assert off(small, large) < 1e-6


def test_batch_norm_takes_the_statistics_of_each_batch() -> None:
    small, large = made(4, 4, norm=True), made(16, norm=True)
    for model in (small, large):
        model.train_step(IMAGES[:16])
    h = {m: m.state_dict() for m in (small, large)}
    np.testing.assert_allclose(h[small]["bn.running_mean"], h[large]["bn.running_mean"], atol=1e-6)  # a mean of means
    assert np.abs(h[small]["bn.running_var"] - h[large]["bn.running_var"]).max() > 1e-5


def test_a_run_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", "patches", "--limit", "40", "--batch-size", "4", "--accumulate", "4", "--device", "cpu"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["train", *common, "--epochs", "2", "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main(["train", *common, "--epochs", "1", "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "2"]) == 0, capsys.readouterr().err
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (whole, halves))
    assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    assert int(a["optimizer/step"][0]) == 6
    assert main(["train", *common, "--shards", "2", "--out", str(tmp_path / "x")]) == 2
    assert "--accumulate is for one worker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"), [({"accumulate": 0}, "at least 1"), ({"accumulate": 2, "distributed": True}, "not both")]
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    model = made(4)
    with pytest.raises(wl.ArgumentError, match=said):
        model.compile(device="cpu", **options)
