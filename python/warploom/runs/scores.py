"""The metrics of a run: what each kind of data is judged by, computed after every epoch on test samples.

images         PSNR (dB), SSIM, MAE of the reconstruction
segmentation   pixel accuracy, mean IoU
composites     MAE of the depth, IoU of the mask
faces          PSNR of both people inside the face, IoU of the masks

They are computed on as many of the first test samples as hold about a million pixels (1,024 of 32x32, 16 of 256x256); where the
mean squared error is a loss of the run, the PSNR is the whole test set's.
"""

from collections.abc import Callable

import numpy as np

from warploom import metrics
from warploom.callbacks import Callback, Logs
from warploom.data.tasks import TaskData
from warploom.ground.array_types import Array, Floats
from warploom.model import Model

_PIXELS = 1 << 20


def _images(x: list[Array], y: list[Array], outputs: list[Floats], model: Model) -> dict[str, float]:
    if outputs[0].shape != x[0].shape:
        return {}
    judges: dict[str, Callable[[Array, Array], float]] = {"psnr": metrics.psnr, "ssim_index": metrics.ssim, "mae": metrics.mae}
    return {name: judge(x[0], outputs[0]) for name, judge in judges.items()}


def _segmentation(x: list[Array], y: list[Array], outputs: list[Floats], model: Model) -> dict[str, float]:
    counts = metrics.confusion(y[0], outputs[0].argmax(axis=1), outputs[0].shape[1])
    return {"pixel_accuracy": metrics.accuracy_of(counts), "mean_iou": metrics.iou_of(counts)}


def _iou(expected: Array, found: Array) -> float:
    both, either = (expected & found).sum(), (expected | found).sum()
    return float(both / either) if either else 1.0


def _composites(x: list[Array], y: list[Array], outputs: list[Floats], model: Model) -> dict[str, float]:
    depth = 1.0 / (1.0 + np.exp(-np.clip(outputs[0], -60.0, 60.0)))
    return {"depth_mae": metrics.mae(y[0], depth), "mask_iou": _iou(metrics.unit(y[1]) >= 0.5, outputs[1] >= 0)}


def _faces(x: list[Array], y: list[Array], outputs: list[Floats], model: Model) -> dict[str, float]:
    made, wanted = dict(zip(model.output_names, outputs, strict=True)), dict(zip(model.target_names, y, strict=True))
    errors = weights = 0.0
    masks = []
    for person in ("src", "dst"):
        weight = metrics.unit(wanted[f"{person}_weight"])
        squares = (weight * (made[f"{person}_image"] - metrics.unit(wanted[f"{person}_image"]))) ** 2
        errors += float(squares.sum(dtype=np.float64))
        weights += float(made[f"{person}_image"].shape[1] * (weight**2).sum(dtype=np.float64))
        if f"{person}_mask" in made:
            masks.append(_iou(metrics.unit(wanted[f"{person}_mask"]) >= 0.5, made[f"{person}_mask"] >= 0.5))
    values = {"psnr": metrics.decibels(errors / max(weights, 1e-9))}
    return {**values, "mask_iou": float(np.mean(masks))} if masks else values


Judge = Callable[[list[Array], list[Array], list[Floats], Model], dict[str, float]]
_JUDGES: dict[str, Judge] = {"images": _images, "segmentation": _segmentation, "composites": _composites, "faces": _faces}


def judge(model: Model, data: TaskData) -> dict[str, float]:
    """The metrics of the model on test samples."""
    height, width = model.inputs[0].shape[1:]
    count = min(len(data.test), max(1, _PIXELS // (height * width)))
    x = [a[:count] for a in data.test.x]
    y = [a[:count] for a in data.test.y or []]
    outputs = model.predict(x)
    return _JUDGES[data.kind](x, y, outputs if isinstance(outputs, list) else [outputs], model)


class Scores(Callback):
    """Adds the metrics to what fit() tells of an epoch, as val_psnr and so on."""

    def __init__(self, judged: Model, data: TaskData) -> None:
        self.judged, self.data = judged, data

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        values = judge(self.judged, self.data)
        weight = [loss.weight for loss in self.judged.losses or [] if loss.kind == "mse"]
        key = "val_loss" if self.judged.engine.loss_labels == ["mse"] else "val_mse"
        if "psnr" in values and self.data.kind == "images" and key in logs and len(weight) == 1 and weight[0] > 0:
            values["psnr"] = metrics.decibels(logs[key] / weight[0])
        logs.update({f"val_{name}": value for name, value in values.items()})
