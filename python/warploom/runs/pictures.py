"""The picture of a run: what the trained model makes of test samples, in a form that fits the kind of data."""

from pathlib import Path
from typing import Any

import numpy as np

from warploom import models
from warploom.data.tasks import TaskData
from warploom.ground.array_types import Array, Floats
from warploom.model import Model
from warploom.runs.plots import plot_reconstructions, plot_rows

_SAMPLES = {"images": 10, "segmentation": 8, "composites": 8, "faces": 6}


def names(model: Model, data: TaskData) -> list[str]:
    """The pictures that belong to a finished run."""
    if data.kind == "images":
        same = model.outputs[0].shape == model.inputs[0].shape
        return ["loss.png", "reconstructions.png"] if same else ["loss.png"]
    return ["loss.png", "predictions.png"]


Rows = list[tuple[str, Array]]


def draw(folder: Path, model: Model, data: TaskData, title: str) -> None:
    """reconstructions.png, or predictions.png where the target is not the input."""
    if data.kind != "images":
        plot_rows(folder / "predictions.png", rows_of(model, data), title)
    elif model.outputs[0].shape == model.inputs[0].shape:
        x = [a[: _SAMPLES[data.kind]] for a in data.test.x]
        plot_reconstructions(folder / "reconstructions.png", np.ascontiguousarray(x[0]), model.predict(x), title)


def rows_of(model: Model, data: TaskData) -> Rows:
    """Of data whose target is not the input: labelled rows of the first test samples, as they are, should be and become."""
    count = min(_SAMPLES[data.kind], len(data.test))
    x, y = [a[:count] for a in data.test.x], [a[:count] for a in data.test.y or []]
    outputs = model.predict(x)
    made = {"segmentation": _segmentation, "composites": _composites, "faces": _faces}[data.kind]
    return made(model, x, y, outputs if isinstance(outputs, list) else [outputs])


def _segmentation(model: Model, x: list[Array], y: list[Array], outputs: list[Floats]) -> Rows:
    classes = outputs[0].shape[1]
    return [
        ("image", (x[0] + 1.0) / 2.0),
        ("label", _coloured(y[0], classes)),
        ("prediction", _coloured(outputs[0].argmax(axis=1), classes)),
    ]


def _coloured(labels: Array, classes: int) -> Array:
    """[N, 3, H, W] uint8: black for class 0, grey for what is ignored, well separated hues for the others."""
    hues = (np.arange(classes) * 0.618034) % 1.0  # the golden ratio spreads any number of them
    ramp = np.clip(np.abs((hues[:, None] * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    palette = np.vstack([255.0 * (0.25 + 0.75 * ramp), [[128.0, 128.0, 128.0]]])
    palette[0] = 0.0
    inside = np.where((labels < 0) | (labels >= classes), classes, labels)
    return np.ascontiguousarray(np.rint(palette[inside]).astype(np.uint8).transpose(0, 3, 1, 2))


def _composites(model: Model, x: list[Array], y: list[Array], outputs: list[Floats]) -> Rows:
    depth, mask = (1.0 / (1.0 + np.exp(-np.clip(o, -60.0, 60.0))) for o in outputs)
    named = [("bg", _spread(x[0])), ("fg_bg", _spread(x[1])), ("depth", y[0]), ("predicted", depth)]
    return [*named, ("mask", y[1]), ("predicted", mask)]


def _spread(images: Array) -> Array:
    """Normalised images on [0, 1], each channel from its lowest to its highest value."""
    low, high = images.min((0, 2, 3), keepdims=True), images.max((0, 2, 3), keepdims=True)
    result: Array = (images - low) / np.maximum(high - low, 1e-6)
    return result


def _faces(model: Model, x: list[Array], y: list[Array], outputs: list[Floats]) -> Rows:
    made: dict[str, Any] = dict(zip(model.output_names, outputs, strict=True))
    swap = models.liae_swap(model)
    swap.run_with(model)
    swapped = swap.predict(x[1], batch_size=model.batch_size)
    face = swapped[0] if isinstance(swapped, list) else swapped
    rows = [("src", x[0]), ("src'", made["src_image"]), ("dst", x[1]), ("dst'", made["dst_image"]), ("swap", face)]
    rgb = [(label, np.ascontiguousarray(images[:, ::-1])) for label, images in rows]
    if "dst_mask" in made:
        rgb.insert(4, ("mask'", made["dst_mask"]))
    return rgb
