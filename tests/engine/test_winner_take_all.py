"""Winner-take-all layers: who stays in a batch, and that its gradient alone comes back; against NumPy on every device."""

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

Array = NDArray[Any]
L = wl.layers
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()]


def left(x: Array, keep: int) -> Array:
    """1 where an element of [N, C, ...] stays."""
    maps = x.reshape(*x.shape[:2], -1)
    stays = np.arange(maps.shape[2]) == shared_ops.load("winner_take_all").winners(maps.astype(float), keep)[:, :, None]
    return stays.reshape(x.shape).astype(float)


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize(
    ("shape", "share", "keep"), [((5, 4, 3), 0.05, 1), ((5, 4, 3), 0.4, 3), ((11,), 0.5, 3), ((2, 3, 3), 1.0, 6)]
)
def test_the_largest_of_the_batch_stay(target: Target, shape: tuple[int, ...], share: float, keep: int) -> None:
    """Six samples through a layer without weights and a linear one: its gradient is that of what stays."""
    x = wl.Input(shape, name="x")
    h = L.WinnerTakeAll(share, name="winners")(x)
    model = wl.Model(x, L.Linear(2, name="out")(L.Flatten()(h) if len(shape) == 3 else h), name="sparse")
    model.compile(wl.optim.SGD(0.05), "mse", version=target.version, device=target.device, batch_size=6, seed=1)
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((6, *shape)).astype(np.float32), rng.standard_normal((6, 2)).astype(np.float32)
    stays = left(a, keep)
    assert (stays.reshape(6, shape[0], -1).sum(axis=(0, 2)) == keep).all()
    h = (a * stays).reshape(6, -1)
    state = model.state_dict()
    slope = 2 / 12 * (h @ state["out.weight"].T + state["out.bias"] - y)
    np.testing.assert_allclose(model.gradients(a, y)["out.weight"], slope.T @ h, rtol=1e-4, atol=1e-5)
    whole = a.reshape(6, -1) @ state["out.weight"].T + state["out.bias"]
    np.testing.assert_allclose(model.predict(a), whole, rtol=1e-4, atol=1e-5, err_msg="nothing is left out but in training")
    slope = 2 / 12 * (whole - y)
    found = model.gradients(a, y, training=False)["out.weight"]
    np.testing.assert_allclose(found, slope.T @ a.reshape(6, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", EACH)
def test_gradients_come_back_through_the_winners_alone(target: Target) -> None:
    x = wl.Input((3, 6, 5), name="x")
    h = L.WinnerTakeAll(0.5, name="winners")(L.ReLU()(L.Conv2d(4, 1, name="first")(x)))
    model = wl.Model(x, L.Conv2d(2, 1, name="last")(h), name="m")
    model.compile(wl.optim.SGD(0.1), "mse", version=target.version, device=target.device, batch_size=4, seed=2)
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((4, 3, 6, 5)).astype(np.float32), rng.standard_normal((4, 2, 6, 5)).astype(np.float32)
    state = model.state_dict()
    w, v = state["first.weight"][:, :, 0, 0].astype(float), state["last.weight"][:, :, 0, 0].astype(float)
    code = np.maximum(np.einsum("oc,nchw->nohw", w, a) + state["first.bias"][:, None, None], 0)
    sparse = code * left(code, 2)
    out = np.einsum("oc,nchw->nohw", v, sparse) + state["last.bias"][:, None, None]
    dy = 2 / y.size * (out - y)
    back = np.einsum("oc,nohw->nchw", v, dy) * (sparse > 0)
    found = model.gradients(a, y)
    np.testing.assert_allclose(found["last.weight"][:, :, 0, 0], np.einsum("nohw,nchw->oc", dy, sparse), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["first.weight"][:, :, 0, 0], np.einsum("nohw,nchw->oc", back, a), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["first.bias"], back.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_a_branch_that_needs_the_values_keeps_them() -> None:
    """The layer works in place only where nobody else reads what it is given."""
    x = wl.Input((3, 4, 4), name="x")
    h = L.Conv2d(5, 1, name="first")(x)
    model = wl.Model(x, L.Conv2d(2, 1, name="last")(L.Add()(L.WinnerTakeAll(0.3, name="winners")(h), h)), name="m")
    model.compile(wl.optim.SGD(0.1), "mse", device="cpu", batch_size=5, seed=2)
    rng = np.random.default_rng(1)
    a, y = rng.standard_normal((5, 3, 4, 4)).astype(np.float32), rng.standard_normal((5, 2, 4, 4)).astype(np.float32)
    state = model.state_dict()
    code = np.einsum("oc,nchw->nohw", state["first.weight"][:, :, 0, 0].astype(float), a) + state["first.bias"][:, None, None]
    both = code * (1 + left(code, 2))
    dy = 2 / y.size * (np.einsum("oc,nchw->nohw", state["last.weight"][:, :, 0, 0], both) + state["last.bias"][:, None, None] - y)
    found = model.gradients(a, y)["last.weight"][:, :, 0, 0]
    np.testing.assert_allclose(found, np.einsum("nohw,nchw->oc", dy, both), rtol=1e-4, atol=1e-6)


def test_saved_and_refused(tmp_path: Path) -> None:
    x = wl.Input((3, 4, 4), name="x")
    model = wl.Model(x, L.WinnerTakeAll(0.2, name="winners")(x), name="m")
    model.save(tmp_path / "m.safetensors")
    [again] = [layer for layer in wl.load(tmp_path / "m.safetensors").layers if isinstance(layer, L.WinnerTakeAll)]
    assert again.share == 0.2
    with pytest.raises(wl.GraphError, match="needs a vector or a map C x H x W"):
        L.WinnerTakeAll()(wl.Input((3, 4)))
