"""The variational autoencoder: draws, divergence, gradients against float64 on every version; runs, files, new pictures."""

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
from PIL import Image
from safetensors.numpy import load_file
from warploom import _core
from warploom.cli import main

Array = NDArray[Any]
L = wl.layers
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()]
SEED = 0x0123_4567_89AB
IMAGES = np.random.default_rng(0).random((24, 3, 8, 8), np.float32)


def stream(name: str) -> int:
    """FNV-1a, its halves folded, as the node's number among the draws."""
    value = 1469598103934665603
    for c in name.encode():
        value = ((value ^ c) * 1099511628211) % 2**64
    return (value ^ value >> 32) & 0xFFFFFFFF


def draws(shape: tuple[int, ...], step: int, name: str = "draw") -> Array:
    found: Array = shared_ops.load("gaussian_sample").normal(int(np.prod(shape)), SEED, stream(name), step)
    return found.reshape(shape)


def small(vector: bool, weight: float) -> wl.Model:
    """A 1x1 convolution (or a dense layer) to means and log variances, a draw, and another one back."""
    if vector:
        x = wl.Input((7,), name="x")
        return wl.Model(x, L.Linear(7, name="back")(L.Sampling(weight, name="draw")(L.Linear(10, name="to")(x))), name="v")
    x = wl.Input((3, 4, 5), name="x")
    return wl.Model(x, L.Conv2d(3, 1, name="back")(L.Sampling(weight, name="draw")(L.Conv2d(10, 1, name="to")(x))), name="v")


def expected(state: dict[str, Array], x: Array, e: Array, weight: float) -> tuple[float, float, dict[str, Array]]:
    """Both losses and the gradients, in float64; x: [N, C, P]."""
    to, back = (state[f"{n}.weight"].reshape(state[f"{n}.weight"].shape[:2]).astype(float) for n in ("to", "back"))
    h = np.einsum("oc,ncp->nop", to, x) + state["to.bias"][:, None]
    m, v = h[:, :5], h[:, 5:]
    z = m + np.exp(v / 2) * e
    y = np.einsum("oc,ncp->nop", back, z) + state["back.bias"][:, None]
    n = len(x)
    kl = weight * 0.5 * np.sum(m**2 + np.exp(v) - 1 - v) / n
    dy = 2 * (y - x) / x.size
    dz = np.einsum("oc,nop->ncp", back, dy)
    dm = dz + weight * m / n
    dv = dz * e * np.exp(v / 2) / 2 + weight * (np.exp(v) - 1) / (2 * n)
    dh = np.concatenate([dm, dv], axis=1)
    gradients = {
        "back.weight": np.einsum("nop,ncp->oc", dy, z), "back.bias": dy.sum(axis=(0, 2)),
        "to.weight": np.einsum("nop,ncp->oc", dh, x), "to.bias": dh.sum(axis=(0, 2)),
    }  # fmt: skip
    return float(np.mean((y - x) ** 2)), float(kl), gradients


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize("vector", [False, True], ids=["map", "vector"])
def test_losses_and_gradients_are_float64_s(target: Target, vector: bool) -> None:
    weight = 0.3
    model = small(vector, weight)
    model.compile(wl.optim.SGD(1e-3), "mse", version=target.version, device=target.device, batch_size=4, seed=SEED)
    shape = (4, 7) if vector else (4, 3, 4, 5)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    flat = x.reshape(4, shape[1], -1).astype(float)
    latent = (4, 5, flat.shape[2])
    for step in range(2):
        state = model.state_dict()
        still = expected(state, flat, np.zeros(latent), weight)
        judged = model.evaluate(x)
        assert judged["mse"] == pytest.approx(still[0], rel=1e-5), "without draws the means are decoded"
        assert judged["kl_divergence"] == pytest.approx(still[1], rel=1e-5)
        assert judged["loss"] == pytest.approx(still[0] + still[1], rel=1e-5)
        drawn = expected(state, flat, draws(latent, step), weight)
        assert abs(drawn[0] - still[0]) > 1e-2
        found = model.gradients(x)
        for name, value in drawn[2].items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(found[name].reshape(value.shape), value, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
        losses = model.train_step(x)
        assert losses["loss"] == pytest.approx(drawn[0] + drawn[1], rel=1e-5)
    means = model.gradients(x, training=False)
    for name, value in expected(model.state_dict(), flat, np.zeros(latent), weight)[2].items():
        if name != "to.weight" and name != "to.bias":
            np.testing.assert_allclose(means[name].reshape(value.shape), value, rtol=1e-4, atol=1e-5)


def test_the_draws_are_normal() -> None:
    found = draws((400_000,), 3)
    assert abs(found.mean()) < 0.01
    assert abs(found.var() - 1) < 0.01
    assert abs((found**3).mean()) < 0.03
    assert abs((found**4).mean() - 3) < 0.06
    assert abs(np.mean(found[::2] * found[1::2])) < 0.01, "the two of a pair are independent"
    assert abs(np.mean(np.abs(found) > 1.959964) - 0.05) < 0.002


def test_the_draws_have_the_same_bits_everywhere() -> None:
    """Means 0 and log variances 0: what comes out is what was drawn."""
    attributes = {"N": 3, "C": 50, "inner": 40, "draws": 1, "seed": SEED, "stream": 5}
    given = {"x": np.zeros(2 * 6000, np.float32), "step": np.array([7], np.int32)}
    found = {}
    for target in kernel_targets():
        for layout in ("nchw", "nhwc"):
            y = _core.call(target.device, target.version, "gaussian_sample", attributes | {"layout": layout}, given, ["y"])["y"]
            y = y.reshape(3, 40, 50).transpose(0, 2, 1) if layout == "nhwc" else y
            found[f"{target} {layout}"] = np.ascontiguousarray(y).tobytes()
    assert len(found) >= 4
    assert len(set(found.values())) == 1, found.keys()


def variational(**options: Any) -> wl.Model:
    model = wl.models.autoencoder(size=8, widths=(4, 8), variational=True, **options)
    model.compile(wl.optim.Adam(3e-3), batch_size=8, seed=1, device="cpu")
    return model


@pytest.mark.parametrize("latent", [{}, {"latent_size": 6}, {"latent_channels": 3}])
def test_the_network(latent: dict[str, Any], tmp_path: Path) -> None:
    model = variational(**latent)
    history = model.fit(IMAGES, epochs=8, validation_data=IMAGES, verbose=False)
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert history["val_loss"][-1] == pytest.approx(history["val_mse"][-1] + history["val_kl_divergence"][-1], rel=1e-5)
    np.testing.assert_array_equal(model.predict(IMAGES), model.predict(IMAGES))
    np.testing.assert_allclose(model.decode(model.encode(IMAGES)), model.predict(IMAGES), atol=1e-5)
    model.save(tmp_path / "net.safetensors")
    again = wl.load(tmp_path / "net.safetensors")
    again.compile(wl.optim.Adam(3e-3), batch_size=8, seed=1, device="cpu")
    assert again.evaluate(IMAGES) == model.evaluate(IMAGES), "the divergence is part of the network"
    made = wl.models.sample(model, 5, seed=3)
    assert made.shape == (5, 3, 8, 8)
    np.testing.assert_allclose(wl.models.sample(again, 2, seed=3), made[:2], atol=1e-6)
    assert np.abs(made - wl.models.sample(model, 5, seed=4)).max() > 1e-4
    larger = model.reconstruct(np.random.default_rng(1).random((2, 3, 8, 8), np.float32))
    assert larger.shape == (2, 3, 8, 8)


def test_beta_presses_the_latent_together() -> None:
    weak, strong = variational(latent_size=6, beta=0.01), variational(latent_size=6, beta=100.0)
    for model in (weak, strong):
        model.fit(IMAGES, epochs=20, verbose=False)
    latents = [np.abs(model.encode(IMAGES)).mean() for model in (weak, strong)]
    assert latents[1] < 0.5 * latents[0], latents


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: wl.models.autoencoder(size=8, widths=4, beta=2.0), "add variational=True"),
        (lambda: wl.models.autoencoder(size=8, widths=4, variational=True, beta=-1.0), "beta"),
        (lambda: L.Sampling(name="s")(wl.Input((5, 4, 4))), "an even number of channels"),
        (lambda: wl.losses.KLDivergence(target=0), "compared with nothing"),
        (lambda: wl.losses.KLDivergence(mask="face"), "leave mask out"),
        (lambda: wl.models.sample(wl.models.autoencoder(size=8, widths=4), 2), "no Sampling layer"),
        (lambda: wl.models.sample(variational(), 0), "count must be at least 1"),
    ],
)
def test_what_is_refused(what: Any, said: str) -> None:
    with pytest.raises(wl.Error, match=said):
        what()


def test_the_divergence_as_a_loss_of_one_s_own() -> None:
    """A second output that no target is compared with."""
    x = wl.Input((3, 8, 8), name="x")
    h = L.Conv2d(4, 1, name="stats")(x)
    model = wl.Model(x, [L.Conv2d(3, 1, name="y")(L.Sampling(0.0, name="draw")(h)), h], name="own")
    model.compile("sgd", ["mse", wl.losses.KLDivergence(0.1, output="stats")], device="cpu", batch_size=8, seed=1)
    assert model.target_names == ["y"]
    judged = model.evaluate(IMAGES)
    m, v = np.split(model.predict(IMAGES)[1].astype(float), 2, axis=1)
    assert judged["stats/kl_divergence"] == pytest.approx(0.1 * 0.5 * (m**2 + np.exp(v) - 1 - v).sum() / 24, rel=1e-5)
    with pytest.raises(wl.GraphError, match="as many logarithms of variances"):
        model.compile("sgd", wl.losses.KLDivergence(output="y"), device="cpu")


def test_a_run_and_new_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["train", "--model", "autoencoder", "--data", "patches", "--limit", "24", "--batch-size", "8", "--device", "cpu"]
    common += ["--schedule", "none", "--set", "widths=4,8", "--set", "latent_size=5", "--set", "variational=true", "--size", "16"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main([*common, "--epochs", "2", "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main([*common, "--epochs", "1", "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "2"]) == 0, capsys.readouterr().err
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (whole, halves))
    assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    assert main(["reconstruct", str(whole), "--sample", "7", "--out", str(tmp_path / "new.png")]) == 0, capsys.readouterr().err
    with Image.open(tmp_path / "new.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert main(["reconstruct", str(whole), "--sample", "3", "--out", str(tmp_path / "each")]) == 0
    assert sorted(p.name for p in (tmp_path / "each").iterdir()) == ["sample-1.png", "sample-2.png", "sample-3.png"]
    assert main(["reconstruct", "cifar10_autoencoder", "--sample", "3"]) == 2
    assert capsys.readouterr().err
