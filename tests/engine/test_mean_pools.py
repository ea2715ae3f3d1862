"""An average pool folded into the 1x1 convolution before it: the same numbers as without, and no map between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl

L = wl.layers
SHAPES = [  # C_in, C_out, (H, W), window, stride
    (1, 1, (1, 1), 1, 1),
    (3, 5, (4, 6), 2, 2),
    (109, 300, (27, 27), 14, 13),  # windows that share a row; more channels than a task takes
    (7, 17, (9, 5), 3, 1),
    (16, 33, (11, 13), (2, 3), (4, 5)),  # pixels that no window holds
    (5, 270, (3, 130), (3, 64), (1, 66)),  # one row is more than a task takes at once
]
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "none": (None, lambda x: x),
    "relu": (L.ReLU, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda: L.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "sigmoid": (L.Sigmoid, lambda x: 1 / (1 + np.exp(-x))),
}


def network(shape: Any, window: Any, stride: Any, channels: int, activation: Any, kernel: int = 1, bias: bool = True) -> wl.Model:
    x = wl.Input(shape)
    h = L.Conv2d(channels, kernel, bias=bias, bias_init="uniform_fan_in", name="conv")(x)
    h = activation()(h) if activation else h
    model = wl.Model(x, L.AvgPool2d(window, stride, name="pool")(h))
    model.compile(device="cpu", batch_size=2, seed=3)
    return model


def steps(model: wl.Model, training: bool = False) -> list[str]:
    return [s["entry"] for s in model.engine.session.explain(2, training)]


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize(("c_in", "c_out", "size", "window", "stride"), SHAPES)
def test_against_float64(c_in: int, c_out: int, size: tuple[int, int], window: Any, stride: Any, kind: str) -> None:
    layer, function = ACTIVATIONS[kind]
    model = network((c_in, *size), window, stride, c_out, layer, bias=kind != "none")
    assert "conv2d_mean_forward" in steps(model)
    assert "avg_pool2d_forward" not in steps(model)
    x = np.random.default_rng(1).standard_normal((5, c_in, *size)).astype(np.float32)
    state = model.state_dict()
    w = state["conv.weight"][:, :, 0, 0].astype(float)
    maps = function(np.einsum("oc,nchw->nohw", w, x) + state.get("conv.bias", np.zeros(c_out))[:, None, None])
    (kh, kw), (sh, sw) = ((v, v) if isinstance(v, int) else v for v in (window, stride))
    right = np.stack(
        [
            np.stack([maps[:, :, i : i + kh, j : j + kw].mean((2, 3)) for j in range(0, size[1] - kw + 1, sw)], -1)
            for i in range(0, size[0] - kh + 1, sh)
        ],
        -2,
    )
    np.testing.assert_allclose(model.predict(x), right, rtol=0, atol=3e-6 * np.abs(maps).max() * max(1, c_in**0.5))


def test_training_and_other_convolutions_keep_the_map() -> None:
    model = network((4, 8, 8), 4, 4, 6, L.ReLU)
    assert "conv2d_mean_forward" not in steps(model, training=True)
    wide = network((4, 8, 8), 2, 2, 6, L.ReLU, kernel=3)
    assert "conv2d_mean_forward" not in steps(wide)
    assert any("1x1 convolutions" in why for why in wide.engine.session.refusals(2, False))
    smooth = network((4, 8, 8), 2, 2, 6, L.GELU)
    assert "conv2d_mean_forward" not in steps(smooth)


def test_the_map_stays_where_it_is_read() -> None:
    x = wl.Input((4, 8, 8))
    h = L.ReLU()(L.Conv2d(6, 1, name="conv")(x))
    model = wl.Model(x, [L.AvgPool2d(4)(h), h])
    model.compile(device="cpu", batch_size=2)
    assert "conv2d_mean_forward" not in steps(model)
    pooled, maps = model.predict(np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32))
    np.testing.assert_allclose(pooled, maps.reshape(2, 6, 2, 4, 2, 4).mean((3, 5)), atol=1e-5)


def test_the_same_bits_for_any_number_of_images() -> None:
    model = network((30, 12, 12), 6, 6, 40, L.ReLU)
    x = np.random.default_rng(2).standard_normal((6, 30, 12, 12)).astype(np.float32)
    assert np.array_equal(model.predict(x, batch_size=1), model.predict(x, batch_size=6))
