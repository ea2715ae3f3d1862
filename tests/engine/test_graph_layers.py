"""Layers of general graphs: shapes, parameters, merging, freezing, buffers, and the way to a file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    DepthToSpace,
    Flatten,
    Layer,
    Linear,
    Multiply,
    Reshape,
    RMSNorm,
)

X = wl.Input((4, 8, 6), name="x")
IMAGES = np.random.default_rng(0).random((5, 4, 8, 6), np.float32)
SINGLE: list[tuple[Layer, tuple[int, ...], dict[str, tuple[int, ...]]]] = [
    (ConvTranspose2d(6, 3, 2, 1, 1), (6, 16, 12), {"weight": (4, 6, 3, 3), "bias": (6,)}),
    (ConvTranspose2d(6, (4, 3), (2, 1), groups=2, bias=False), (6, 18, 8), {"weight": (4, 3, 4, 3)}),
    (BatchNorm2d(1e-3, 0.2), (4, 8, 6), {k: (4,) for k in ("weight", "bias", "running_mean", "running_var")}),
    (RMSNorm(1e-5), (4, 8, 6), {}),
    (AvgPool2d(3, 2), (4, 3, 2), {}),
    (DepthToSpace(2, "crd"), (1, 16, 12), {}),
    (Reshape((2, -1)), (2, 96), {}),
    (Flatten(), (192,), {}),
]


def named(layer: Layer, name: str = "layer") -> Layer:
    return type(layer)(**layer.config(), name=name)


@pytest.mark.parametrize(("layer", "shape", "parameters"), SINGLE, ids=[repr(s[0]) for s in SINGLE])
def test_a_layer_and_its_file(layer: Layer, shape: Any, parameters: Any, tmp_path: Path) -> None:
    layer = named(layer)
    assert layer(X).shape == shape
    assert {k: p.spec.shape for k, p in layer.parameters.items()} == parameters
    model = wl.Model(X, layer(X))
    state = model.state_dict()
    rng = np.random.default_rng(1)
    model.load_state_dict({k: rng.uniform(0.5, 1.5, v.shape).astype(np.float32) for k, v in state.items()})
    model.save(tmp_path / "m.safetensors")
    again = wl.load(tmp_path / "m.safetensors")
    assert again.layers[0].config() == layer.config()
    np.testing.assert_array_equal(again.predict(IMAGES), model.predict(IMAGES))


def test_merging() -> None:
    other = Conv2d(4, 1, name="other")(X)
    mask = Conv2d(1, 1, name="mask")(X)
    assert Concat()([X, other, mask]).shape == (9, 8, 6)
    assert (X + other).shape == (X * mask).shape == X.shape
    values = wl.Model(X, [X + other, X * other, X * mask, Concat()([other, X]), other, mask])
    summed, product, masked, joined, o, m = values.predict(IMAGES)
    np.testing.assert_allclose(summed, IMAGES + o, rtol=1e-6)
    np.testing.assert_allclose(product, IMAGES * o, rtol=1e-6)
    np.testing.assert_allclose(masked, IMAGES * m, rtol=1e-6)
    np.testing.assert_array_equal(joined, np.concatenate([o, IMAGES], 1))
    many = [Conv2d(1, 1, name=f"c{i}")(X) for i in range(19)]
    model = wl.Model(X, [Concat(name="all")(many), *many])
    whole, *parts = model.predict(IMAGES)
    np.testing.assert_array_equal(whole, np.concatenate(parts, 1))


def test_linear_and_its_shared_use() -> None:
    layer = Linear(7, name="fc")
    y = layer(Flatten()(X))
    model = wl.Model(X, y + layer(Flatten()(Conv2d(4, 1, name="c")(X))))
    assert model.count_parameters() == 7 * 192 + 7 + 20
    assert model.predict(IMAGES).shape == (5, 7)
    state = model.state_dict()
    single = wl.Model(X, y)
    right = IMAGES.reshape(5, -1).astype(np.float64) @ state["fc.weight"].T.astype(np.float64) + state["fc.bias"]
    np.testing.assert_allclose(single.predict(IMAGES), right, rtol=1e-4, atol=1e-5)


def test_batch_norm_trains_predicts_and_freezes() -> None:
    for frozen in (False, True):
        norm = BatchNorm2d(name="bn")
        model = wl.Model(X, Conv2d(4, 1, name="out")(norm(X)))
        norm.trainable = not frozen
        assert model.count_parameters() == 8 + 20
        assert model.count_parameters(trainable_only=True) == (20 if frozen else 28)
        model.compile(wl.optim.SGD(lr=0.1), version="cpu", device="cpu", batch_size=5)
        before = model.state_dict()
        gradients = model.gradients(IMAGES)
        assert set(gradients) == {"out.weight", "out.bias"} | (set() if frozen else {"bn.weight", "bn.bias"})
        model.train_step(IMAGES)
        after = model.state_dict()
        moved = {k for k in before if not np.array_equal(before[k], after[k])}
        assert moved == set(gradients) | {"bn.running_mean", "bn.running_var"}
        np.testing.assert_allclose(after["bn.running_mean"], 0.1 * IMAGES.mean((0, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(after["bn.running_var"], 0.9 + 0.1 * IMAGES.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_frozen_layers_stay_frozen_in_a_file(tmp_path: Path) -> None:
    layer = Conv2d(4, 1, name="c")
    model = wl.Model(X, layer(X))
    layer.trainable = False
    model.save(tmp_path / "m.safetensors")
    assert wl.load(tmp_path / "m.safetensors").count_parameters(trainable_only=True) == 0


@pytest.mark.parametrize("init", ["he_normal_fan_out", "uniform_fan_in"])
def test_initialisation(init: str) -> None:
    x = wl.Input((16, 4, 4))
    layer = Conv2d(64, 3, init=init, gain=0.5, bias_init="uniform_fan_in", name="c")
    state = wl.Model(x, layer(x)).state_dict()
    expected = 0.5 * np.sqrt(2 / (64 * 9)) if init == "he_normal_fan_out" else 0.5 / np.sqrt(3 * 16 * 9)
    assert state["c.weight"].std() == pytest.approx(expected, rel=0.05)
    assert 0 < np.abs(state["c.bias"]).max() <= 1 / np.sqrt(16 * 9)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: ConvTranspose2d(4, 3, 2, output_padding=2), ValueError, "must be smaller than the stride"),
        (lambda: ConvTranspose2d(4, 3, groups=3)(X), ValueError, "groups=3 must divide"),
        (lambda: Linear(3, name="fc")(X), ValueError, "'fc' takes values of one axis, not .*put a Flatten layer before it"),
        (lambda: BatchNorm2d(momentum=2.0), ValueError, "momentum must be finite and between 0 and 1"),
        (lambda: DepthToSpace(2, "abc"), ValueError, "unknown order 'abc'"),
        (lambda: DepthToSpace(3, name="d")(X), ValueError, "'d'"),
        (lambda: Reshape((5, -1), name="r")(X), ValueError, "'r': .* holds 192 elements and cannot become"),
        (lambda: Reshape((-1, -1)), ValueError, "only one size"),
        (lambda: Reshape(7), TypeError, "must be a tuple of sizes"),  # type: ignore[arg-type]
        (lambda: Concat()([X]), ValueError, "takes 2 or more tensors, not 1"),
        (lambda: Multiply()([X, X, X]), ValueError, "takes 2 tensors, not 3"),
        (lambda: Add(name="s")([X, AvgPool2d(2)(X)]), ValueError, "'s'"),
        (lambda: Concat(name="k")([X, AvgPool2d(2)(X)]), ValueError, "'k'"),
        (lambda: X + 1, TypeError, "takes tensors"),
    ],
)
def test_wrong_use(make: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()
