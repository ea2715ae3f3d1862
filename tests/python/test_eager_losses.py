"""The eager losses: against the references of their kernels, against PyTorch where it is installed, and their error sentences."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import shared_ops
import warploom as wl
from warploom.ground import hardware

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed: the float64 references stand in for it")
Array = Any
SHAPE = (3, 5, 14, 13)


def _targets() -> list[Any]:
    found: list[Any] = [("cpu", "cpu")] if any(d["name"] == "cpu" and d["usable"] for d in hardware.devices()) else []
    kinds = {d["name"]: d["versions"] for d in hardware.devices() if d["usable"]}
    found += [("emulated", v) for v in kinds.get("emulated", [])[:2]]
    return [*found, *(pytest.param("cuda:0", v, marks=pytest.mark.gpu) for v in kinds.get("cuda:0", []))]


def close(got: tuple[float, Array], value: float, grad: Array) -> None:
    assert isinstance(got[0], float)
    assert got[1].dtype == np.float32
    assert got[1].shape == np.shape(grad)
    assert not abs(got[0] - value) > 3e-6 * max(abs(value), 1e-3)
    assert not np.abs(got[1] - grad).max() > 5e-6 * np.abs(grad).max()


def reference(folder: str, attributes: dict[str, Any], **inputs: Array) -> tuple[float, Array]:
    wide = {k: v.astype(np.float64) for k, v in inputs.items()}
    out = shared_ops.load(folder).reference(folder, {"weight": 1.0, "samples": 1} | attributes, wide)
    return float(out["loss"][0]), out["grad"].reshape(inputs["prediction"].shape)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def images(rng: np.random.Generator) -> tuple[Array, Array]:
    target = rng.random(SHAPE, dtype=np.float32)
    return np.clip(target + 0.2 * rng.standard_normal(SHAPE, dtype=np.float32), 0.0, 1.0), target


@pytest.mark.parametrize(("device", "version"), _targets())
class TestAgainstReferences:
    def test_pointwise(self, device: str, version: str, rng: np.random.Generator) -> None:
        p, t = images(rng)
        on = {"device": device, "version": version}
        close(wl.ops.l1_loss(p, t, **on), *reference("pointwise_loss", {"kind": "l1"}, prediction=p, target=t))
        logits = 8 * p - 4
        expected = reference("pointwise_loss", {"kind": "bce_with_logits"}, prediction=logits, target=t)
        close(wl.ops.bce_with_logits_loss(logits, t, **on), *expected)
        close(wl.ops.rmse_loss(p, t, eps=0.1, **on), *reference("rmse_loss", {"eps": 0.1}, prediction=p, target=t))
        close(wl.ops.dice_loss(p, t, smooth=1.0, **on), *reference("dice_loss", {"smooth": 1.0}, prediction=p, target=t))

    @pytest.mark.parametrize("shape", [(7, 4), (2, 4, 9), (2, 3, 6, 11)])
    def test_cross_entropy(self, device: str, version: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        logits = 3 * rng.standard_normal(shape, dtype=np.float32)
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        labels.reshape(-1)[2] = 255
        weight = rng.random(shape[1], dtype=np.float32)
        a = {"outer": shape[0], "C": shape[1], "inner": int(np.prod(shape[2:])), "ignore_index": 255}
        expected = reference("cross_entropy_loss", a, prediction=logits, target=labels, class_weight=weight)
        close(
            wl.ops.cross_entropy_loss(logits, labels, weight=weight, ignore_index=255, device=device, version=version), *expected
        )

    @pytest.mark.parametrize("inner", [1, 40])
    @pytest.mark.parametrize("label", [4.0, -1.0, 0.5, 1e20, np.nan])
    def test_a_bad_label_is_not_passed_over(
        self, core: Any, device: str, version: str, inner: int, label: float, rng: np.random.Generator
    ) -> None:
        labels = rng.integers(0, 4, 3 * inner).astype(np.float32)
        labels[-1] = label
        a = {"outer": 3, "C": 4, "inner": inner, "ignore_index": -100, "samples": 3, "weight": 1.0}
        inputs = {"prediction": rng.standard_normal(12 * inner, dtype=np.float32), "target": labels}
        assert np.isnan(core.call(device, version, "cross_entropy_loss", a, inputs, ["loss", "grad"], True)["loss"]).all()

    @pytest.mark.parametrize(("window", "sigma", "span"), [(11, 1.5, 1.0), (4, 0.7, 1.0), (13, 2.0, 255.0)])
    def test_ssim(self, device: str, version: str, window: int, sigma: float, span: float, rng: np.random.Generator) -> None:
        p, t = (np.float32(span) * x for x in images(rng))
        a = dict(zip("NCHW", SHAPE, strict=True)) | {"window": window, "sigma": sigma, "layout": "nchw"}
        expected = reference("ssim_loss", a | {"c1": (0.01 * span) ** 2, "c2": (0.03 * span) ** 2}, prediction=p, target=t)
        got = wl.ops.ssim_loss(p, t, window=window, sigma=sigma, data_range=span, device=device, version=version)
        close(got, *expected)


@pytest.mark.parametrize("function", ["l1_loss", "rmse_loss", "dice_loss", "ssim_loss", "mse_loss"])
def test_the_gradient_is_a_gradient(function: str, rng: np.random.Generator) -> None:
    p, t = images(rng)
    f = getattr(wl.ops, function)
    value, grad = f(p, t)
    step = (1e-2 * rng.standard_normal(SHAPE)).astype(np.float32)
    quotient = (f(p + step, t)[0] - f(p - step, t)[0]) / 2
    assert abs(quotient - float((grad.astype(float) * step).sum())) < 0.02 * abs(quotient) + 2e-6 * abs(value)


def test_equal_images_have_no_loss(rng: np.random.Generator) -> None:
    _, t = images(rng)
    for f in (wl.ops.l1_loss, wl.ops.rmse_loss, wl.ops.ssim_loss):
        value, grad = f(t, t)
        assert value == 0.0
        assert not grad.any()


# ---- PyTorch ----


def by_torch(loss: Any, prediction: Array) -> tuple[float, Array]:
    """(value, gradient) in float64."""
    p = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    value = loss(p)
    value.backward()
    return float(value.detach()), p.grad.numpy()


@needs_torch
def test_losses_are_pytorch_s(rng: np.random.Generator) -> None:
    p, t = images(rng)
    wide = torch.tensor(t, dtype=torch.float64)
    f = torch.nn.functional
    close(wl.ops.l1_loss(p, t), *by_torch(lambda x: f.l1_loss(x, wide), p))
    close(wl.ops.rmse_loss(p, t), *by_torch(lambda x: f.mse_loss(x, wide).sqrt(), p))
    close(wl.ops.bce_with_logits_loss(p, t), *by_torch(lambda x: f.binary_cross_entropy_with_logits(x, wide), p))
    dice = by_torch(lambda x: 1 - (2 * (x * wide).sum() + 1e-6) / (x.sum() + wide.sum() + 1e-6), p)
    close(wl.ops.dice_loss(p, t), *dice)


@needs_torch
@pytest.mark.parametrize("shape", [(9, 6), (2, 6, 7), (2, 3, 8, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_pytorch_s(shape: tuple[int, ...], weighted: bool, rng: np.random.Generator) -> None:
    logits = 4 * rng.standard_normal(shape, dtype=np.float32)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    labels[rng.random(labels.shape) < 0.3] = -100
    labels.reshape(-1)[0] = 0
    weight = rng.random(shape[1], dtype=np.float32) if weighted else None
    wide = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    expected = by_torch(lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels), weight=wide), logits)
    close(wl.ops.cross_entropy_loss(logits, labels, weight=weight), *expected)


def test_cross_entropy_of_ignored_labels_only() -> None:
    value, grad = wl.ops.cross_entropy_loss(np.ones((2, 3), np.float32), np.full(2, -100))
    assert value == 0.0  # such a batch counts for nothing; PyTorch says NaN
    assert not grad.any()


@needs_torch
@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (6, 1.5), (1, 1.5)])
def test_ssim_is_pytorch_s(window: int, sigma: float, rng: np.random.Generator) -> None:
    p, t = images(rng)
    x = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    g = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = torch.outer(g, g) / g.sum() ** 2
    wide = torch.tensor(t, dtype=torch.float64)

    def blur(image: Any) -> Any:
        return torch.nn.functional.conv2d(image.reshape(-1, 1, *image.shape[2:]), kernel[None, None])

    def loss(x: Any) -> Any:
        mp, mt = blur(x), blur(wide)
        covariance, spread = blur(x * wide) - mp * mt, blur(x * x) - mp**2 + blur(wide * wide) - mt**2
        return 1 - ((2 * mp * mt + 1e-4) * (2 * covariance + 9e-4) / ((mp**2 + mt**2 + 1e-4) * (spread + 9e-4))).mean()

    value, grad = by_torch(loss, p)
    got = wl.ops.ssim_loss(p, t, window=window, sigma=sigma)
    assert abs(got[0] - value) < 3e-6 * value
    assert np.abs(got[1] - grad).max() < (5e-6 if window > 1 else 1e-4) * np.abs(grad).max()


# ---- Wrong arguments ----

P = np.zeros((2, 3, 8, 8), np.float32)
LABELS = np.zeros((2, 8, 8), np.int64)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: wl.ops.l1_loss(P, P[:1]), ValueError, "l1_loss: prediction has shape (2, 3, 8, 8), target (1, 3, 8, 8)"),
        (lambda: wl.ops.l1_loss(P.astype(float), P), TypeError, "prediction must be float32, not float64"),
        (lambda: wl.ops.rmse_loss(P[:0], P[:0]), ValueError, "rmse_loss: the arrays are empty"),
        (lambda: wl.ops.rmse_loss(P, P, eps=-1.0), ValueError, "eps must be finite and at least 0"),
        (lambda: wl.ops.dice_loss(P, P, smooth=float("nan")), ValueError, "smooth must be finite"),
        (lambda: wl.ops.bce_with_logits_loss(P, P + 2), ValueError, "between 0 and 1, but lie between 2 and 2"),
        (lambda: wl.ops.bce_with_logits_loss(P, P[:1]), ValueError, "logits have shape"),
        (
            lambda: wl.ops.cross_entropy_loss(P, LABELS + 3),
            ValueError,
            "label 3 at index (0, 0, 0) is no class: the logits have 3",
        ),
        (lambda: wl.ops.cross_entropy_loss(P, LABELS - 1), ValueError, "label -1 at index"),
        (lambda: wl.ops.cross_entropy_loss(P, LABELS.astype(float)), TypeError, "labels must hold whole numbers, not float64"),
        (lambda: wl.ops.cross_entropy_loss(P, LABELS[0]), ValueError, "need (2, 8, 8)"),
        (lambda: wl.ops.cross_entropy_loss(P[0, 0, 0], LABELS[0, 0]), ValueError, "must have shape (N, C, ...)"),
        (lambda: wl.ops.cross_entropy_loss(P, LABELS, weight=np.ones(4, np.float32)), ValueError, "there are 3 classes"),
        (lambda: wl.ops.cross_entropy_loss(P, LABELS, ignore_index=1.5), TypeError, "ignore_index must be a whole number"),  # type: ignore[arg-type]
        (lambda: wl.ops.ssim_loss(P, P), ValueError, "the window 11x11 is larger than the images 8x8; choose a smaller one"),
        (lambda: wl.ops.ssim_loss(P[0], P[0]), ValueError, "must have shape (N, C, H, W)"),
        (lambda: wl.ops.ssim_loss(P, P, window=5, sigma=0.0), ValueError, "sigma must be positive"),
        (lambda: wl.ops.ssim_loss(P, P, window=5, data_range=0.0), ValueError, "data_range must be positive"),
        (lambda: wl.ops.ssim_loss(P, P, window=0), ValueError, "window must be at least 1"),
    ],
)
def test_errors_say_what_is_wrong(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        call()
