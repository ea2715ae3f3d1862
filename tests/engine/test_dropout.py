"""Dropout: what falls out is a matter of seed, layer, step and place alone, on every device and after a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_ops
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target
from numpy.typing import NDArray
from warploom.runs.run import RunFolder

Array = NDArray[Any]
L = wl.layers
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()]
SEED = 0x0123_4567_89AB


def stream(name: str) -> int:
    """FNV-1a, its halves folded, as the node's number among the draws."""
    value = 1469598103934665603
    for c in name.encode():
        value = ((value ^ c) * 1099511628211) % 2**64
    return (value ^ value >> 32) & 0xFFFFFFFF


def expected_mask(shape: tuple[int, ...], p: float, name: str, step: int, whole: int = 0, seed: int = SEED) -> Array:
    n, rest = shape[0], shape[1:]
    flat = (n, rest[0], rest[1] * rest[2]) if len(rest) == 3 else (n, 1, int(np.prod(rest)))
    reference = shared_ops.load("dropout")
    mask: Array = reference.mask(flat, 1.0 - p, whole, seed, stream(name), step)
    return mask.reshape(shape) / (1.0 - p)


def linear_after(drop: L.Layer, shape: tuple[int, ...]) -> wl.Model:
    x = wl.Input(shape, name="x")
    h = drop(x)
    return wl.Model(x, L.Linear(2, name="out")(L.Flatten()(h) if len(shape) == 3 else h), name="dropped")


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize(
    ("drop", "shape"),
    [
        (L.Dropout(0.4, name="drop"), (3, 5, 7)),
        (L.Dropout2d(0.5, name="drop2d"), (6, 4, 3)),
        (L.Dropout(0.25, name="flat"), (37,)),
    ],
)
def test_the_mask_is_the_reference_s_at_every_step(target: Target, drop: L.Dropout, shape: tuple[int, ...]) -> None:
    model = linear_after(drop, shape)
    model.compile(wl.optim.SGD(0.05), "mse", version=target.version, device=target.device, batch_size=4, seed=SEED)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, *shape)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)
    for step in range(3):
        mask = expected_mask(x.shape, drop.p, str(drop.name), step, int(isinstance(drop, L.Dropout2d)))
        assert 0.2 < (mask == 0).mean() < 0.8 or shape[0] == 37
        h, state = (x * mask).reshape(4, -1), model.state_dict()
        gradient = 2 / 8 * (h @ state["out.weight"].T + state["out.bias"] - y)
        found = model.gradients(x, y)
        np.testing.assert_allclose(found["out.weight"], gradient.T @ h, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(model.gradients(x, y)["out.weight"], found["out.weight"])  # nothing has been updated
        model.train_step(x, y)


def test_the_gradient_passes_where_the_value_did() -> None:
    x = wl.Input((3, 6, 6), name="x")
    h = L.Conv2d(4, 1, name="first")(x)
    model = wl.Model(x, L.Dropout(0.5, name="drop")(h), name="m")
    model.compile(wl.optim.SGD(0.1), "mse", device="cpu", batch_size=2, seed=SEED)
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((2, 3, 6, 6)).astype(np.float32), rng.standard_normal((2, 4, 6, 6)).astype(np.float32)
    state, mask = model.state_dict(), expected_mask((2, 4, 6, 6), 0.5, "drop", 0)
    out = np.einsum("oc,nchw->nohw", state["first.weight"][:, :, 0, 0], a) + state["first.bias"][:, None, None]
    dy = 2 / y.size * (out * mask - y) * mask
    found = model.gradients(a, y)
    np.testing.assert_allclose(found["first.bias"], dy.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["first.weight"][:, :, 0, 0], np.einsum("nohw,nchw->oc", dy, a), rtol=1e-4, atol=1e-6)


def test_nothing_is_dropped_but_in_training() -> None:
    plain, dropping = network(0.0), network(0.5)
    for model in (plain, dropping):
        model.compile(wl.optim.SGD(0.1), "mse", device="cpu", batch_size=4, seed=3)
    x = np.random.default_rng(1).random((4, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(plain.predict(x), dropping.predict(x))
    assert plain.evaluate(x) == dropping.evaluate(x)
    for training, expected in ((False, 0), (True, 4)):
        entries = [s["entry"] for s in dropping.engine.session.explain(4, training)]
        assert entries.count("dropout") == expected, "two layers, forward and back"
        assert "dropout" not in [s["entry"] for s in plain.engine.session.explain(4, training)]
    still = dropping.gradients(x, training=False)
    for name, value in plain.gradients(x, training=False).items():
        np.testing.assert_array_equal(still[name], value)
    assert any((dropping.gradients(x)[name] != value).any() for name, value in still.items())


def network(p: float) -> wl.Model:
    x = wl.Input((3, 8, 8), name="x")
    h = L.Dropout2d(p, name="a")(L.ReLU()(L.Conv2d(8, 3, padding=1, name="conv1")(x)))
    return wl.Model(x, L.Conv2d(3, 3, padding=1, name="conv2")(L.Dropout(p, name="b")(h)), name="dropout_net")


def compiled(optimizer: wl.optim.Optimizer, seed: int = 3) -> wl.Model:
    model = network(0.3)
    model.compile(optimizer, "mse", device="cpu", batch_size=4, seed=seed)
    return model


@pytest.mark.parametrize("optimizer", [wl.optim.SGD(0.1, 0.9), wl.optim.Lion(1e-3, weight_decay=0.1)], ids=["sgd", "lion"])
def test_a_checkpoint_goes_on_with_the_same_draws(optimizer: wl.optim.Optimizer, tmp_path: Path) -> None:
    x = np.random.default_rng(2).random((4, 3, 8, 8), np.float32)
    whole, first, second, other = (compiled(optimizer, seed) for seed in (3, 3, 3, 4))
    for _ in range(6):
        whole.train_step(x)
    for _ in range(3):
        first.train_step(x)
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(first)
    for model in (second, other):
        folder.restore(model)
        for _ in range(3):
            model.train_step(x)
    assert all((whole.state_dict()[name] == value).all() for name, value in second.state_dict().items())
    assert any((whole.state_dict()[name] != value).any() for name, value in other.state_dict().items()), (
        "another seed draws others"
    )


def test_layers_draw_apart() -> None:
    """Two layers, two steps and two samples are dropped differently; about p of all falls out."""
    masks = [expected_mask((2, 4, 16, 16), 0.3, name, step) for name in ("a", "b") for step in (0, 1)]
    masks += [masks[0][::-1]]
    for i, first in enumerate(masks):
        assert abs((first == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / first.size)
        for second in masks[:i]:
            assert abs(((first == 0) == (second == 0)).mean() - (0.3**2 + 0.7**2)) < 5 * np.sqrt(0.25 / first.size)
