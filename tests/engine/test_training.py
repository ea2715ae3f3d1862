"""Training as a whole: 20 steps of a small autoencoder whose losses agree between every version, every device and NumPy."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import conv, precise
from conftest import _core as core
from conftest import device_mark, kernel_targets
from harness import Target
from networks import NumpyAutoencoder, as_floats, small_autoencoder, smooth_images
from numpy.typing import NDArray

Array = NDArray[Any]
TARGETS: list[Target] = kernel_targets()
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS]
HYPER = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}


@pytest.fixture(scope="module")
def wl() -> Any:
    import warploom

    return warploom


def compiled(
    wl: Any, target: Target, model: Any = None, *, batch_size: int = 8, seed: int = 3, precision: str = "fp32", **hyper: Any
) -> Any:
    model = model or small_autoencoder(wl)
    where = {"version": target.version, "device": target.device, "precision": precision}
    model.compile(optimizer=wl.optim.SGD(**(hyper or HYPER)), loss="mse", batch_size=batch_size, seed=seed, **where)
    return model


def relative(got: Array, expected: Array) -> float:
    """Largest error relative to the tensor's largest value; NaN if there is one."""
    return float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))


@pytest.mark.parametrize("target", EACH)
def test_losses_agree_with_numpy(wl: Any, target: Target) -> None:
    losses_agree(wl, target)


# The cost rule gives maps this small to no scheme; forced, each takes what it can of the network's layers.
SCHEMES = [pytest.param(t, s, id=f"{t}-{s}") for t in TARGETS if t.falls_to for s in ("winograd4", "winograd2", "upsample25")]


@pytest.mark.parametrize(
    ("target", "scheme"), [pytest.param(*p.values, id=p.id, marks=device_mark(p.values[0].device)) for p in SCHEMES]
)
def test_losses_by_schemes_agree_with_numpy(wl: Any, monkeypatch: pytest.MonkeyPatch, target: Target, scheme: str) -> None:
    monkeypatch.setenv("WARPLOOM_BILINEAR", scheme)
    algorithms = losses_agree(wl, target)
    assert sum(a == scheme for a in algorithms) >= 2, algorithms


def losses_agree(wl: Any, target: Target) -> list[str]:
    """Trains beside NumPy; the algorithms of the step."""
    steps = 4 if target.device == "emulated:checked" else 20
    model = compiled(wl, target)
    reference = NumpyAutoencoder(model.state_dict(), **HYPER)
    images = as_floats(smooth_images(8 * 5))
    losses, expected = [], []
    for step in range(steps):
        batch = images[8 * (step % 5) : 8 * (step % 5 + 1)]
        losses.append(model.train_step(batch)["loss"])
        expected.append(reference.train_step(batch))
    assert relative(np.array(losses), np.array(expected)) <= 5e-6, f"losses {losses}\nexpected {expected}"
    if steps == 20:
        assert expected[-1] < 0.5 * expected[0], "the steps must do something, or agreement means nothing"
    for name, value in model.state_dict().items():
        assert relative(value, reference.w[name]) <= 2e-5, name
    return [str(step["algorithm"]) for step in model.engine.explain(8)]


# Rounding a convolution's operands changes a loss by about the type's precision (2^-9, 2^-12), and the steps carry it on.
LOWER_PRECISIONS = {"bf16": 1e-2, "fp16": 2e-3, "tf32": 2e-3}


def _with_tensor_cores() -> Iterator[Any]:
    """Every precision a target's version brings; on the checked emulator, which has seen them all in test_ops.py, one of them."""
    for target in TARGETS:
        if target.falls_to:
            continue  # these are the other version's
        for precision, tolerance in LOWER_PRECISIONS.items():
            case = precise(conv((8, 32, 8, 8), 64, 3, pad=1), precision)
            if core.why_not(target.device, target.version, "conv2d_forward", case.attributes):
                continue
            if target.device != "emulated:checked" or precision == "bf16":
                yield pytest.param(target, precision, tolerance, id=f"{target}-{precision}", marks=device_mark(target.device))


@pytest.mark.parametrize(("target", "precision", "tolerance"), list(_with_tensor_cores()))
def test_losses_in_lower_precision(wl: Any, target: Target, precision: str, tolerance: float) -> None:
    steps, size = 2 if target.device == "emulated:checked" else 20, 4
    hyper = HYPER | {"lr": 2e-3}  # more channels take shorter steps: where losses jump about, any difference grows
    model = compiled(wl, target, small_autoencoder(wl, channels=(32, 64)), batch_size=size, precision=precision, **hyper)
    reference = NumpyAutoencoder(model.state_dict(), **hyper)
    images = as_floats(smooth_images(size * 5))
    losses, expected = [], []
    for step in range(steps):
        batch = images[size * (step % 5) : size * (step % 5 + 1)]
        losses.append(model.train_step(batch)["loss"])
        expected.append(reference.train_step(batch))
    off = relative(np.array(losses), np.array(expected))
    assert 1e-7 < off <= tolerance, f"{off}: losses {losses}\nexpected {expected}"
    if steps == 20:
        assert expected[-1] < 0.5 * expected[0], "the steps must do something, or agreement means nothing"


@pytest.mark.parametrize("target", EACH)
def test_gradients_agree_with_numpy(wl: Any, target: Target) -> None:
    model = compiled(wl, target)
    before = model.state_dict()
    images, other = as_floats(smooth_images(5)), as_floats(smooth_images(5, seed=1))
    gradients = model.gradients(images, other)
    _, expected = NumpyAutoencoder(before, 0.0).gradients(images, other)
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        assert gradients[name].shape == value.shape
        assert relative(gradients[name], value) <= 5e-6, name
    for name, value in model.state_dict().items():
        assert value.tobytes() == before[name].tobytes(), "gradients() must not update anything"


@pytest.mark.parametrize("target", EACH)
def test_predict_and_evaluate_agree_with_numpy(wl: Any, target: Target) -> None:
    model = compiled(wl, target)
    images = as_floats(smooth_images(11))  # a whole batch of 8 and a part
    expected, _ = NumpyAutoencoder(model.state_dict(), 0.0).forward(images)
    assert relative(model.predict(images), expected) <= 5e-6
    assert abs(model.evaluate(images)["loss"] / np.mean((expected - images) ** 2) - 1) <= 5e-6


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_last_partial_batch_counts_once(wl: Any, target: Target, kind: str) -> None:
    """21 images in batches of 8: with lr = 0 the epoch's loss is the mean over the images, in whatever order they came."""
    images = smooth_images(21)
    model = compiled(wl, target, lr=0.0)
    expected, _ = NumpyAutoencoder(model.state_dict(), 0.0).forward(as_floats(images))
    history = model.fit(images if kind == "uint8" else as_floats(images), epochs=1)
    assert abs(_losses(history)[0] / np.mean((expected - as_floats(images)) ** 2) - 1) <= 5e-6


def _losses(history: Any) -> list[float]:
    return [float(v) for v in history["loss"]]


def _trained(wl: Any, target: Target, seed: int, images: Array) -> tuple[dict[str, bytes], list[float]]:
    model = compiled(wl, target, seed=seed)
    history = model.fit(images, epochs=2)
    return {k: v.tobytes() for k, v in model.state_dict().items()}, _losses(history)


@pytest.mark.parametrize("target", EACH)
def test_same_seed_same_bits(wl: Any, target: Target) -> None:
    images = smooth_images(13)
    first, again, other = (_trained(wl, target, seed, images) for seed in (5, 5, 6))
    assert first == again
    assert first[0] != other[0]


def test_every_device_starts_from_the_same_bits(wl: Any) -> None:
    starts = [{k: v.tobytes() for k, v in compiled(wl, target).state_dict().items()} for target in TARGETS]
    assert all(start == starts[0] for start in starts)


def test_initial_weights_are_he_normal(wl: Any) -> None:
    model = compiled(wl, TARGETS[0], small_autoencoder(wl, channels=(64, 48)))
    for name, value in model.state_dict().items():
        if name.endswith("bias"):
            assert not value.any(), f"{name} must start as zeros"
            continue
        deviation = np.sqrt(2 / np.prod(value.shape[1:]))
        assert abs(value.mean()) <= 5 * deviation / np.sqrt(value.size), name
        assert abs(value.std() / deviation - 1) <= 5 / np.sqrt(2 * value.size), name
        assert np.abs(value).max() > 2.5 * deviation, f"{name}: a normal distribution has tails"


# ---- Real images ----


def real_images(count: int) -> Array:
    """CIFAR-10 test images, from $WARPLOOM_CIFAR10 (a folder with cifar-10-batches-bin, or the lossless archive) or ../shared."""
    tried = [Path(os.environ["WARPLOOM_CIFAR10"])] if "WARPLOOM_CIFAR10" in os.environ else []
    tried.append(Path(__file__).resolve().parents[3] / "shared" / "cifar10")
    for folder in tried:
        for file in (
            folder / "lossless_train.bin.xz",
            folder / "cifar-10-batches-bin/data_batch_1.bin",
            folder / "data_batch_1.bin",
        ):
            if file.exists():
                raw = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
                records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
                return records[:count, 1:].reshape(-1, 3, 32, 32)
    pytest.skip(f"no CIFAR-10 images in {' or '.join(map(str, tried))}; set WARPLOOM_CIFAR10 to a folder that has them")


def fast_targets() -> list[Any]:
    """One target a device: the newest version there; the checked emulator is left to the small networks."""
    newest = {t.device: t for t in TARGETS if t.device != "emulated:checked"}
    return [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in newest.values()]


@pytest.mark.parametrize("target", fast_targets())
def test_loss_falls_on_real_images(wl: Any, target: Target) -> None:
    small = target.device.startswith("emulated")
    images = real_images(64 if small else 256)
    model = small_autoencoder(wl, (16, 8), (3, 32, 32)) if small else wl.models.cifar10_autoencoder()
    compiled(wl, target, model, batch_size=8 if small else 32, seed=0, lr=0.02 if small else 0.003, momentum=0.9)
    before = model.evaluate(images)["loss"]
    history = model.fit(images, epochs=3)
    after = model.evaluate(images)["loss"]
    assert np.isfinite(_losses(history)).all()
    assert after < 0.25 * before, f"loss {before:.4f} before, {_losses(history)} while training, {after:.4f} after"
    assert after < 0.8 * np.mean((as_floats(images) - as_floats(images).mean((0, 2, 3), keepdims=True)) ** 2), (
        "after training the network must beat a constant picture"
    )


def test_versions_agree_on_real_images(wl: Any) -> None:
    """A step of the specification's network itself, and the loss after it, on cpu and the emulated versions."""
    images = as_floats(real_images(2))
    results = {}
    for target in TARGETS:
        if target.device == "emulated:checked" or target.device.startswith("cuda"):
            continue
        model = compiled(wl, target, wl.models.cifar10_autoencoder(), lr=0.01)
        results[str(target)] = [model.train_step(images[:1])["loss"], model.evaluate(images[1:2])["loss"]]
    expected = np.median(list(results.values()), axis=0)
    for name, losses in results.items():
        assert relative(np.array(losses), expected) <= 5e-6, f"{name}: {losses}, the others {expected.tolist()}"
