"""What every export is tried with: each layer in its variants, and each network of the zoo with every argument.

A layer or a network that is new here has no case, and the tests say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import warploom as wl
from numpy.typing import NDArray
from warploom import models

Array = NDArray[Any]
L = wl.layers


def _around(layer: wl.layers.Layer, shape: tuple[int, ...] = (6, 8, 10)) -> wl.Model:
    """The layer alone, its input read by nothing else."""
    x = wl.Input(shape, name="x")
    return wl.Model(x, layer(x), name="alone")


def _merged(layer: wl.layers.Layer, count: int, last: int = 6) -> wl.Model:
    inputs = [wl.Input((6 if i + 1 < count else last, 4, 5), name=f"x{i}") for i in range(count)]
    return wl.Model(inputs, layer(inputs), name="merged")


def _shared() -> wl.Model:
    """One convolution called twice, on what it made itself."""
    conv, x = L.Conv2d(3, 3, padding=1, name="conv"), wl.Input((3, 6, 6), name="x")
    return wl.Model(x, conv(L.ReLU(name="act")(conv(x))), name="shared")


def _awkward_names() -> wl.Model:
    """Names that are no identifiers of Python, words of Python and PyTorch, a layer named as an input and one as a parameter."""
    x = wl.Input((4, 6, 6), name="forward")
    h = L.Conv2d(4, 1, name="train")(x)
    for name in (
        "my-conv",
        "class",
        "type.half",
        "h",
        "forward",
        "train.weight",
        "\u00e4.\ufb01",
        "self",
        "weight",
        "enc.stride",
    ):
        h = L.Conv2d(4, 1, name=name)(h)
    h = L.Conv2d(4, 1, name="enc")(h)
    return wl.Model(x, L.Tanh(name="F")(L.Identity(name="nn")(h)), name="import")


def _several_outputs() -> wl.Model:
    """Outputs that others read, that are names of each other, and one that is an input's."""
    x = wl.Input((3, 4, 4), name="x")
    a = L.Conv2d(2, 1, name="a")(x)
    b = L.Identity(name="b")(a)
    return wl.Model(x, [b, a, L.ReLU(name="c")(b), L.Identity(name="same")(x)], name="several")


LAYERS: dict[str, list[Callable[[], wl.Model]]] = {
    "Add": [lambda: _merged(L.Add(), 2), lambda: _merged(L.Add(), 5)],
    "AvgPool2d": [lambda: _around(L.AvgPool2d(2)), lambda: _around(L.AvgPool2d((3, 2), (2, 3)))],
    "BatchNorm2d": [lambda: _around(L.BatchNorm2d()), lambda: _around(L.BatchNorm2d(1e-2, 0.3), (5,))],
    "Concat": [lambda: _merged(L.Concat(), 2), lambda: _merged(L.Concat(), 19), lambda: _merged(L.Concat(), 3, 1)],
    "Conv2d": [
        lambda: _around(L.Conv2d(5, 3)),
        lambda: _around(L.Conv2d(4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False)),
        lambda: _around(L.Conv2d(4, 3, padding=(2, 1, 0, 3))),
        _shared,
        _awkward_names,
        _several_outputs,
    ],
    "ConvTranspose2d": [
        lambda: _around(L.ConvTranspose2d(5, 3)),
        lambda: _around(L.ConvTranspose2d(4, (3, 4), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2)),
        lambda: _around(L.ConvTranspose2d(4, 4, stride=2, padding=1, bias=False)),
    ],
    "DepthToSpace": [
        lambda: _around(L.DepthToSpace(2, "dcr"), (12, 3, 4)),
        lambda: _around(L.DepthToSpace(2, "crd"), (12, 3, 4)),
        lambda: _around(L.DepthToSpace(3), (18, 2, 2)),
    ],
    "Dropout": [lambda: _around(L.Dropout(0.4))],
    "Dropout2d": [lambda: _around(L.Dropout2d(0.4))],
    "ELU": [lambda: _around(L.ELU()), lambda: _around(L.ELU(0.3))],
    "ExpKernel": [lambda: _around(L.ExpKernel()), lambda: _around(L.ExpKernel(1.3))],
    "Flatten": [lambda: _around(L.Flatten()), lambda: _around(L.Flatten(), (7,))],
    "GELU": [lambda: _around(L.GELU()), lambda: _around(L.GELU("tanh"))],
    "GroupNorm": [
        lambda: _around(L.GroupNorm(3)),
        lambda: _around(L.GroupNorm(6, eps=1e-2)),
        lambda: _around(L.GroupNorm(2, affine=False)),
        lambda: _around(L.GroupNorm(2), (8,)),
    ],
    "Identity": [lambda: _around(L.Identity(name="same"))],
    "InverseSqrt": [lambda: _around(L.InverseSqrt(1e-2)), lambda: _around(L.InverseSqrt())],
    "Latent": [lambda: _around(L.Latent(name="code"))],
    "LayerNorm": [*(lambda s=s, a=a: _around(L.LayerNorm(1e-2, affine=a), s) for s in ((6, 4, 5), (9,)) for a in (True, False))],
    "LeakyReLU": [lambda: _around(L.LeakyReLU()), lambda: _around(L.LeakyReLU(1.5))],
    "Linear": [lambda: _around(L.Linear(5), (7,)), lambda: _around(L.Linear(3, bias=False), (7,))],
    "MaxPool2d": [lambda: _around(L.MaxPool2d(2)), lambda: _around(L.MaxPool2d((2, 3), 1)), lambda: _around(L.MaxPool2d(3))],
    "Multiply": [lambda: _merged(L.Multiply(), 2), lambda: _merged(L.Multiply(), 2, 1)],
    "RMSNorm": [lambda: _around(L.RMSNorm()), lambda: _around(L.RMSNorm(0.1)), lambda: _around(L.RMSNorm(), (11,))],
    "ReLU": [lambda: _around(L.ReLU())],
    "Reshape": [
        lambda: _around(L.Reshape((4, -1, 10))),
        lambda: _around(L.Reshape((2, 6)), (12,)),
        lambda: _around(L.Reshape((480,))),
        lambda: _around(L.Reshape((1, 480, 1, 1))),
    ],
    "Sampling": [lambda: _around(L.Sampling()), lambda: _around(L.Sampling(0.5), (8,))],
    "SiLU": [lambda: _around(L.SiLU())],
    "SignedSqrt": [lambda: _around(L.SignedSqrt())],
    "Sigmoid": [lambda: _around(L.Sigmoid())],
    "Tanh": [lambda: _around(L.Tanh())],
    "Upsample": [
        *(lambda s=s, m=m: _around(L.Upsample(s, m), (2, 5, 3)) for s in (2, 3, (1, 4), 41) for m in ("nearest", "bilinear")),
        lambda: _around(L.Upsample((5, 1), "bilinear"), (1, 1, 7)),
    ],
    "WinnerTakeAll": [lambda: _around(L.WinnerTakeAll(0.4)), lambda: _around(L.WinnerTakeAll(), (7,))],
}  # fmt: skip

_LIAE: dict[str, Any] = {"size": 32, "ae_dims": 6, "e_dims": 3, "d_dims": 2, "d_mask_dims": 2}
_GRAY: dict[str, Any] = {"size": 32, "width": 4}
NETWORKS: dict[str, list[dict[str, Any]]] = {
    "autoencoder": [
        {"size": (8, 12), "widths": (4, 6)},
        {"size": 8, "widths": 5, "down": "stride", "up": "transposed", "norm": "batch", "output": "sigmoid"},
        {"size": 16, "widths": [4, 8], "convs": 2, "norm": "group", "activation": "gelu", "latent_channels": 3, "up": "bilinear"},
        {"size": 8, "in_channels": 1, "widths": (4, 6), "latent_size": 7, "dropout": 0.2, "activation": "tanh", "output": "tanh"},
        {"size": 8, "widths": (4, 6), "latent_size": 7, "variational": True},
        {"size": 8, "widths": 4, "variational": True, "beta": 4.0},
    ],
    "cifar10_autoencoder": [{"size": (8, 12)}, {"size": 16, "init": "balanced"}, {"preset": "sharp", "size": 8}],
    "dsresnet": [{"size": 32, "width": 2}, {"preset": "quick", "size": (64, 32), "width": 3}],
    "gray_autoencoder": [
        _GRAY,
        {**_GRAY, "skips": True},
        {**_GRAY, "residual": True, "in_channels": 3},
        {**_GRAY, "groups": 2, "size": (32, 48)},
        {**_GRAY, "skips": True, "residual": True, "preset": "quick"},
    ],
    "liae_ud": [
        _LIAE,
        {**_LIAE, "mask": False},
        {**_LIAE, "inters": 1},
        {**_LIAE, "warp": False},
        {**_LIAE, "size": 64, "preset": "quick"},
    ],
    "unet_large": [{"size": 16, "classes": 7}, {"size": (8, 16), "in_channels": 48, "classes": 3, "preset": "quick"}],
    "unet_small": [{"size": (16, 24), "in_channels": 2, "classes": 5}, {"preset": "quick", "size": 16}],
}


def network(name: str, arguments: dict[str, Any]) -> wl.Model:
    return models.get(name, **arguments)


def randomised(model: wl.Model, seed: int = 3) -> wl.Model:
    """Weights as they start, everything else random: zero biases and unit variances would hide what cancels."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            state[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            state[name] = rng.normal(0, 0.3, value.shape).astype(np.float32)
    model.load_state_dict(state)
    return model


def given(model: wl.Model, samples: int = 3, seed: int = 0) -> list[Array]:
    """Inputs on both sides of 0."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((samples, *t.shape)).astype(np.float32) for t in model.inputs]


def results(model: wl.Model, x: list[Array]) -> list[Array]:
    found = model.predict(x)
    return list(found) if isinstance(found, list) else [found]


def far(got: Array, right: Array) -> float:
    """The largest difference, relative to the largest value."""
    assert got.shape == right.shape, (got.shape, right.shape)
    assert np.isfinite(got).all()
    return float(np.abs(got - right).max() / max(np.abs(right).max(), 1e-6))
