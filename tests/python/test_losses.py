"""What compile(loss=...) takes, and the targets that losses ask for: names, labels, masks, and clear refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom import losses
from warploom.train.targets import Target

RNG = np.random.default_rng(0)


def two_headed(size: int = 8, classes: int = 3) -> wl.Model:
    """An image -> class logits `classes`, and an image `picture`."""
    x = wl.Input((3, size, size), name="image")
    h = wl.layers.ReLU()(wl.layers.Conv2d(4, 3, padding=1, name="conv")(x))
    return wl.Model(x, [wl.layers.Conv2d(classes, 1, name="classes")(h), wl.layers.Conv2d(3, 1, name="picture")(h)], name="heads")


def test_names_objects_lists_and_dictionaries() -> None:
    names = ["a", "b"]

    def places(loss: Any) -> list[tuple[str, Any, Any, float]]:
        return [(x.kind, x.output, x.target, x.weight) for x in losses.get(loss, names)]

    assert places("mse") == [("mse", 0, 0, 1.0), ("mse", 1, 1, 1.0)]
    assert places(["l1", "dice"]) == [("l1", 0, 0, 1.0), ("dice", 1, 1, 1.0)]
    assert places([(0.5, "l1"), ("rmse", 2)]) == [("l1", 0, 0, 0.5), ("rmse", 1, 1, 2.0)]
    assert places((0.5, "l1")) == [("l1", 0, 0, 0.5)]
    assert places(losses.MSE(3.0, output=1)) == [("mse", 1, 0, 3.0)]
    assert places({"b": "mse", "a": [(2, losses.SSIM(0.25)), "l1"]}) == [
        ("mse", 1, 1, 1.0),
        ("ssim", 0, 0, 0.5),
        ("l1", 0, 0, 1.0),
    ]
    face = losses.MSE(output="b", mask="weight")
    assert places([face, losses.L1(target="other")]) == [("mse", 1, 0, 1.0), ("l1", 0, 2, 1.0)]
    assert face.output == "b", "the user's object stays as it is"
    made, targets = losses.resolve([face, losses.L1(target="other")], names)
    assert targets == ["b", "weight", "other"], "what no loss reads is no target"
    assert made[0].config() == {"kind": "mse", "output": 1, "target": 0, "weight": 1.0, "mask": 1}
    several = losses.get([losses.DSSIM(5, window=22), losses.DSSIM(5), "mse", losses.L1(), losses.L1()], [*names, "c"])
    assert losses.labels(several, [*names, "c"]) == ["a/dssim22", "a/dssim", "c/mse", "a/l1", "a/l1#2"]
    assert several[0].config()["weight"] == 2.5, "DSSIM is half of 1 - SSIM"


@pytest.mark.parametrize(
    ("loss", "kind", "text"),
    [
        ("mae", ValueError, f"unknown loss 'mae'; expected one of {', '.join(losses.BY_NAME)}$"),
        ([], ValueError, "must not be empty"),
        ({"c": "mse"}, ValueError, "the key 'c', but the model's outputs are a, b"),
        ([3], TypeError, "must be a name"),
        (losses.MSE(output=2), ValueError, "output=2, but the model has 2 output"),
        (losses.MSE(output="c"), ValueError, "output='c', but the model's outputs are a, b"),
    ],
)
def test_losses_that_are_refused(loss: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        losses.get(loss, ["a", "b"])


def test_arguments_that_are_refused() -> None:
    for make, text in (
        (lambda: losses.MSE(-1.0), "weight must be finite and at least 0"),
        (lambda: losses.SSIM(window=0), "window must be at least 1"),
        (lambda: losses.CrossEntropy(class_weight=[0.0, 0.0]), "at least one number greater than 0"),
        (lambda: losses.CrossEntropy(mask=1), "leave mask out"),
        (lambda: losses.BCEWithLogits(from_logits=True), "always taken as logits"),
        (lambda: losses.Dice(output=-1), "output must be at least 0"),
    ):
        with pytest.raises(ValueError, match=text):
            make()


@pytest.mark.parametrize("name", losses.BY_NAME)
def test_every_loss_by_its_name(name: str) -> None:
    """The core takes its options, and its gradient is the slope of its value."""
    x = wl.Input((3, 16, 16), name="image")
    model = wl.Model(x, wl.layers.Sigmoid()(wl.layers.Conv2d(4, 3, padding=1, init="uniform_fan_in", name="conv")(x)), name="one")
    model.compile("sgd", name, device="cpu", batch_size=2, seed=1)
    given, kind = RNG.random((2, 3, 16, 16), np.float32), losses.get(name, 1)[0]
    shape = (2, *kind.target_shape((4, 16, 16)))
    y: Any = RNG.integers(0, 4, shape) if kind.labels((4, 16, 16))[0] else RNG.random(shape, np.float32)
    targets = y if kind.takes_target else []
    state, slope = model.state_dict(), model.gradients(given, targets)
    size = np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in slope.values()))
    assert size > 1e-4
    values = []
    for step in (0.02, -0.02):
        model.load_state_dict({key: value + step / size * slope[key] for key, value in state.items()})
        values.append(model.evaluate(given, targets)["loss"])
    assert (values[0] - values[1]) / 0.04 == pytest.approx(size, rel=0.01)


def test_what_targets_must_look_like() -> None:
    model = two_headed()
    model.compile(loss={"classes": losses.CrossEntropy(ignore_index=9), "picture": [losses.MSE(mask="weight"), "l1"]})
    assert model.output_names == ["classes", "picture"]
    assert model.target_names == ["classes", "picture", "weight"]
    assert model.targets == [
        Target("classes", (8, 8), "the loss CrossEntropy", 3, (9,)),
        Target("picture", (3, 8, 8), "the loss L1"),
        Target("weight", (1, 8, 8), "the mask of the loss MSE"),
    ]
    with pytest.raises(ValueError, match="target 'classes' is read by the loss CrossEntropy as labels of shape"):
        model.compile(loss={"classes": ["cross_entropy", "mse"]})


def test_targets_that_are_refused() -> None:
    model = two_headed()
    model.compile(loss={"classes": losses.CrossEntropy(ignore_index=9), "picture": losses.MSE()}, device="cpu")
    x = RNG.random((4, 3, 8, 8), np.float32)
    labels = RNG.integers(0, 3, (4, 8, 8))
    wrong = labels.copy()
    wrong[2, 1, 0] = 3
    cases: list[tuple[Any, type[Exception], str]] = [
        (None, ValueError, "y=None reconstructs x"),
        ([labels], ValueError, r"compare with 2 target array\(s\) \(classes, picture\), not 1"),
        ({"classes": labels}, ValueError, "it lacks picture"),
        ({"classes": labels, "picture": x, "mask": x}, ValueError, "it has unknown mask"),
        ([labels.astype(np.float32), x], TypeError, r"takes class numbers: convert it with y\['classes'\].astype"),
        ([labels[:, None], x], ValueError, r"drop the axis of size 1 with y\['classes'\]\[:, 0\]"),
        ([wrong, x], wl.DataError, r"the label 3 at index \(2, 1, 0\); expected 0 to 2 or 9, which is ignored"),
        ([labels[:3], x], ValueError, "different numbers of samples"),
        ([labels, x[:, :1]], ValueError, r"takes \(N, 3, 8, 8\)"),
    ]
    for y, kind, text in cases:
        with pytest.raises(kind, match=text):
            model.fit(x, y)
    with pytest.raises(ValueError, match="it lacks image; it has unknown picture"):
        model.predict({"picture": x})
