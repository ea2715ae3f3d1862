"""Losses: each returns (value, gradient by the prediction). mse_loss stands in pointwise.py."""

import math
from typing import Any

import numpy as np

from warploom.errors import DTypeError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import as_array, float32, number, positive, require
from warploom.interop import Array as DeviceArray
from warploom.ops._kernels import Kernels
from warploom.ops._placed import placed


def _pair_of(name: str, prediction: Array, target: Array) -> tuple[Floats, Floats]:
    prediction, target = float32(prediction, "prediction"), float32(target, "target")
    require(prediction.shape == target.shape, f"{name}: prediction has shape {prediction.shape}, target {target.shape}")
    require(prediction.size > 0, f"{name}: the arrays are empty")
    return prediction, target


def _run(
    entry: str, attributes: dict[str, Any], prediction: Floats, others: dict[str, Array], version: str, device: str
) -> tuple[float, Floats]:
    a = attributes | {"samples": prediction.shape[0] if prediction.ndim else 1, "weight": 1.0}
    inputs = {"prediction": prediction.reshape(-1)} | {name: x.reshape(-1) for name, x in others.items()}
    loss, grad = Kernels(version, device).call(entry, a, inputs, {"loss": (1,), "grad": (prediction.size,)})
    return float(loss[0]), grad.reshape(prediction.shape)


@placed
def l1_loss(prediction: Array, target: Array, *, version: str = "auto", device: str = "auto") -> tuple[float, Floats]:
    """(mean of |prediction - target| over all elements, its gradient; 0 where they are equal)."""
    prediction, target = _pair_of("l1_loss", prediction, target)
    return _run("pointwise_loss", {"count": prediction.size, "kind": "l1"}, prediction, {"target": target}, version, device)


@placed
def rmse_loss(
    prediction: Array, target: Array, *, eps: float = 0.0, version: str = "auto", device: str = "auto"
) -> tuple[float, Floats]:
    """(root of the mean of (prediction - target)² plus eps, its gradient; 0 where the value is 0)."""
    prediction, target = _pair_of("rmse_loss", prediction, target)
    a = {"count": prediction.size, "eps": number(eps, "eps", low=0.0)}
    return _run("rmse_loss", a, prediction, {"target": target}, version, device)


@placed
def bce_with_logits_loss(logits: Array, target: Array, *, version: str = "auto", device: str = "auto") -> tuple[float, Floats]:
    """(mean binary cross-entropy of sigmoid(logits) and targets between 0 and 1, its gradient by the logits)."""
    logits, target = float32(logits, "logits"), float32(target, "target")
    require(logits.shape == target.shape, f"bce_with_logits_loss: logits have shape {logits.shape}, target {target.shape}")
    require(logits.size > 0, "bce_with_logits_loss: the arrays are empty")
    if isinstance(target, np.ndarray):  # what lies on a device is not looked at
        low, high = float(target.min()), float(target.max())
        require(
            not (low < 0.0 or high > 1.0),
            f"bce_with_logits_loss: targets must lie between 0 and 1, but lie between {low:g} and {high:g}",
        )
    a = {"count": logits.size, "kind": "bce_with_logits"}
    return _run("pointwise_loss", a, logits, {"target": target}, version, device)


@placed
def dice_loss(
    prediction: Array, target: Array, *, smooth: float = 1e-6, version: str = "auto", device: str = "auto"
) -> tuple[float, Floats]:
    """(1 - (2 I + smooth) / (P + T + smooth), its gradient), both arrays probabilities.

    I, P and T are the sums of prediction * target, of the prediction and of the target over the whole batch."""
    prediction, target = _pair_of("dice_loss", prediction, target)
    a = {"count": prediction.size, "smooth": number(smooth, "smooth", low=0.0)}
    return _run("dice_loss", a, prediction, {"target": target}, version, device)


@placed
def cross_entropy_loss(
    logits: Array, labels: Array, *, weight: Array | None = None, ignore_index: int = -100,
    version: str = "auto", device: str = "auto",
) -> tuple[float, Floats]:  # fmt: skip
    """(softmax cross-entropy of logits (N, C, ...) and whole-number labels (N, ...), its gradient by the logits).

    The mean over the pixels is weighted by `weight[label]`, one number per class; pixels labelled ignore_index do not count.
    As in PyTorch, the value is NaN where nothing counts. Labels on a device are float32 class numbers, not looked at:
    one that is no class makes the value NaN."""
    logits = float32(logits, "logits")
    on_device = isinstance(labels, DeviceArray)
    labels = float32(labels, "labels") if on_device else as_array(labels, "labels")
    require(logits.ndim >= 2, f"cross_entropy_loss: logits must have shape (N, C, ...), not {logits.shape}")
    if not on_device and labels.dtype.kind not in "iu":
        raise DTypeError(f"labels must hold whole numbers, not {labels.dtype}; convert them with labels.astype(numpy.int64)")
    n, c = logits.shape[:2]
    expected = (n, *logits.shape[2:])
    require(
        labels.shape == expected,
        f"cross_entropy_loss: labels have shape {labels.shape}, but logits {logits.shape} need {expected}",
    )
    require(logits.size > 0, "cross_entropy_loss: the arrays are empty")
    ignored = positive(ignore_index, "ignore_index", minimum=-(2**31))
    require(-(2**24) <= ignored <= 2**24, f"ignore_index must lie between -16777216 and 16777216, not {ignored}")
    wrong = np.zeros(0, bool) if on_device else ((labels < 0) | (labels >= c)) & (labels != ignored)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        require(
            False,
            f"cross_entropy_loss: label {labels[at]} at index {at} is no class: the logits have {c} (0 to {c - 1}), "
            f"and ignore_index is {ignored}",
        )
    others: dict[str, Array] = {"target": labels if on_device else labels.astype(np.float32)}
    if weight is not None:
        others["class_weight"] = float32(weight, "weight")
        require(
            others["class_weight"].shape == (c,),
            f"cross_entropy_loss: weight has shape {others['class_weight'].shape}, but there are {c} classes",
        )
    a = {"outer": n, "C": c, "inner": math.prod(logits.shape[2:]), "ignore_index": ignored}
    return _run("cross_entropy_loss", a, logits, others, version, device)


@placed
def ssim_loss(
    prediction: Array, target: Array, *, window: int = 11, sigma: float = 1.5, data_range: float = 1.0,
    version: str = "auto", device: str = "auto",
) -> tuple[float, Floats]:  # fmt: skip
    """(1 - mean structural similarity of images (N, C, H, W), its gradient by the prediction).

    The window is a Gaussian of window x window pixels with standard deviation sigma, applied to each channel where it fits whole;
    data_range is the span of the pixels' values. DSSIM is half of the value."""
    prediction, target = _pair_of("ssim_loss", prediction, target)
    require(prediction.ndim == 4, f"ssim_loss: the images must have shape (N, C, H, W), not {prediction.shape}")
    n, c, h, w = prediction.shape
    size, span = positive(window, "window"), number(data_range, "data_range", low=0.0)
    require(
        size <= h and size <= w, f"ssim_loss: the window {size}x{size} is larger than the images {h}x{w}; choose a smaller one"
    )
    require(span > 0.0, "ssim_loss: data_range must be positive")
    spread = number(sigma, "sigma", low=0.0)
    require(spread > 0.0, "ssim_loss: sigma must be positive")
    a = {"N": n, "C": c, "H": h, "W": w, "window": size, "sigma": spread, "layout": "nchw"}
    a |= {"c1": (0.01 * span) ** 2, "c2": (0.03 * span) ** 2}
    return _run("ssim_loss", a, prediction, {"target": target}, version, device)
