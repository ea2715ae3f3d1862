"""Several inputs, outputs and targets: lists and dictionaries give the same bits; each loss is reported; masks count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target
from numpy.typing import NDArray
from warploom import losses

Array = NDArray[Any]
RNG = np.random.default_rng(5)
LEFT, RIGHT = (RNG.random((11, 2, 8, 8), np.float32) for _ in range(2))
PICTURE, WEIGHT = RNG.random((11, 3, 8, 8), np.float32), RNG.integers(0, 256, (11, 1, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(0, 3, (11, 8, 8), dtype=np.uint8)
LABELS[:, 0] = 200
X = {"left": LEFT, "right": RIGHT}
Y = {"picture": PICTURE, "classes": LABELS, "weight": WEIGHT}


def network() -> wl.Model:
    left, right = wl.Input((2, 8, 8), name="left"), wl.Input((2, 8, 8), name="right")
    shared = wl.layers.Conv2d(4, 3, padding=1, name="shared")
    h = wl.layers.Concat(name="both")([wl.layers.ReLU()(shared(left)), wl.layers.ReLU()(shared(right))])
    return wl.Model(
        [left, right], [wl.layers.Conv2d(3, 1, name="picture")(h), wl.layers.Conv2d(3, 1, name="classes")(h)], name="several"
    )


def compiled(batch_size: int = 4, device: str = "cpu", version: str = "auto") -> wl.Model:
    model = network()
    loss = {
        "picture": [losses.MSE(2.0, mask="weight"), losses.SSIM(0.5, window=5)],
        "classes": losses.CrossEntropy(ignore_index=200, class_weight=[1.0, 2.0, 0.5]),
    }
    optimizer = wl.optim.AdaBelief(0.01, eps=1e-4, clip_norm=1.0)
    model.compile(optimizer, loss, version, device, batch_size, seed=1)
    return model


def bits(model: wl.Model) -> dict[str, bytes]:
    return {k: v.tobytes() for k, v in model.state_dict().items()}


def test_lists_dictionaries_and_orders_agree() -> None:
    results = []
    turned = ({k: X[k] for k in reversed(X)}, {k: Y[k] for k in reversed(Y)})
    for x, y in ((X, Y), turned, (list(X.values()), list(Y.values())), (tuple(X.values()), tuple(Y.values()))):
        model = compiled()
        assert model.target_names == list(Y)
        history = model.fit(x, y, epochs=2, validation_data=(x, y))
        results.append((bits(model), history["loss"], history["val_loss"], [p.tobytes() for p in model.predict(x)]))
    assert all(r == results[0] for r in results)
    assert results[0][1][1] < results[0][1][0]


def test_each_loss_is_what_numpy_says() -> None:
    model = compiled()
    picture, classes = (p.astype(np.float64) for p in model.predict(X))
    found = model.evaluate(X, Y, batch_size=11)
    assert list(found) == ["loss", "picture/mse", "picture/ssim5", "classes/cross_entropy"]
    mask = WEIGHT / 255.0
    assert found["picture/mse"] == pytest.approx(2 * np.mean((picture * mask - PICTURE * mask) ** 2), rel=1e-5)
    logs = classes - np.log(np.exp(classes).sum(1, keepdims=True))
    counted = LABELS != 200
    weights = np.array([1.0, 2.0, 0.5])[np.where(counted, LABELS, 0)] * counted
    picked = np.take_along_axis(logs, np.where(counted, LABELS, 0)[:, None].astype(int), 1)[:, 0]
    assert found["classes/cross_entropy"] == pytest.approx(-(weights * picked).sum() / weights.sum(), rel=1e-5)
    assert found["loss"] == pytest.approx(sum(v for k, v in found.items() if k != "loss"), rel=1e-6)
    step = model.train_step(X, Y)
    assert step == pytest.approx(found, rel=1e-6), "a step reports the losses before it"


def test_gradients_are_those_of_the_losses() -> None:
    """Along the gradient the loss changes by its squared length."""
    model = compiled(11)
    gradients, state = model.gradients(X, Y), model.state_dict()
    values, h = [], 1e-3
    for sign in (1, -1):
        model.load_state_dict({k: v + np.float32(sign * h) * gradients[k] for k, v in state.items()})
        values.append(model.evaluate(X, Y, batch_size=11)["loss"])
    squared = sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values())
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(squared, rel=5e-3)


def test_an_output_without_a_loss() -> None:
    model = network()
    model.compile("sgd", {"classes": losses.CrossEntropy(ignore_index=200)}, device="cpu", batch_size=4)
    assert model.target_names == ["classes"]
    found = model.fit(X, LABELS, epochs=2)["loss"]
    assert found[1] < found[0]
    assert not np.any(model.gradients(X, LABELS)["picture.weight"])


def test_fit_goes_on_inside_an_epoch_with_the_same_bits() -> None:
    class Stop(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            self.model.stop_training = batch == 1

    whole, broken = compiled(), compiled()
    schedule, again = wl.optim.schedules.CosineLR(9, per="step"), wl.optim.schedules.CosineLR(9, per="step")
    whole.fit(X, Y, epochs=3, callbacks=[schedule])
    broken.fit(X, Y, epochs=3, callbacks=[again, Stop()])
    assert (broken.progress.epoch, broken.progress.batch) == (0, 2)
    weights, state = broken.state_dict(), broken.engine.session.optimizer_state()
    fresh, third = compiled(), wl.optim.schedules.CosineLR(9, per="step")
    fresh.load_state_dict(weights)
    fresh.engine.session.set_optimizer_state(state)
    third.load_state(again.state())
    fresh.fit(X, Y, epochs=3, callbacks=[third], start=broken.progress)
    assert bits(fresh) == bits(whole)
    assert "lr" in whole.fit(X, Y, epochs=1, callbacks=[schedule]).history


@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()])
def test_versions_agree(target: Target) -> None:
    """Three steps, then the losses: the same on every version and device."""
    x, y = ({k: v[:3] for k, v in arrays.items()} for arrays in (X, Y))
    results = []
    for device, version in (("cpu", "cpu"), (target.device, target.version)):
        model = compiled(3, device, version)
        values = [model.train_step(x, y) for _ in range(3)]
        results.append([*values, model.evaluate(x, y)])
    for got, expected in zip(results[1], results[0], strict=True):
        assert got == pytest.approx(expected, rel=2e-4)
