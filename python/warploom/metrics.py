"""How good outputs are, in the field's own numbers, beside the loss.

    wl.metrics.psnr(images, outputs)            # dB, from the mean squared error of all of them
    wl.metrics.ssim(images, outputs)            # 1: alike
    wl.metrics.mae(images, outputs)
    wl.metrics.pixel_accuracy(labels, classes)  # class numbers
    wl.metrics.mean_iou(labels, classes)

Arrays are NCHW, uint8 (then scaled by 1/255) or float in [0, 1]; maps of class numbers are integers (N, H, W).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from warploom.errors import ArgumentError, DTypeError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import number, numbers, positive

IGNORED = -100  # PyTorch's label that counts for nothing


def unit(array: Array) -> Floats:
    """uint8 pixels scaled to [0, 1]; float32."""
    values: Floats = array.astype(np.float32)
    return values / np.float32(255) if array.dtype == np.uint8 else values


def _pair(expected: Array, given: Array, name: str) -> tuple[Floats, Floats]:
    found: list[Floats] = []
    for array, what in ((expected, "expected"), (given, "given")):
        values = numbers(array, what)
        if values.dtype.kind not in "fu" or (values.dtype.kind == "u" and values.dtype != np.uint8):
            raise DTypeError(f"{name} takes uint8 or float arrays, not {values.dtype}")
        found.append(unit(values))
    if found[0].shape != found[1].shape or found[0].size == 0:
        raise ArgumentError(f"{name} compares arrays of one shape, not {found[0].shape} with {found[1].shape}")
    return found[0], found[1]


def mse(expected: Array, given: Array) -> float:
    """Mean squared error over all elements."""
    return _mse(expected, given, "mse")


def _mse(expected: Array, given: Array, name: str) -> float:
    a, b = _pair(expected, given, name)
    return float(np.mean((a - b) ** 2, dtype=np.float64))


def mae(expected: Array, given: Array) -> float:
    """Mean absolute error over all elements."""
    a, b = _pair(expected, given, "mae")
    return float(np.mean(np.abs(a - b), dtype=np.float64))


def decibels(error: float, data_range: float = 1.0) -> float:
    """The peak signal-to-noise ratio that a mean squared error is; infinite for 0."""
    return float("inf") if error <= 0 else float(10.0 * np.log10(data_range**2 / error))


def psnr(expected: Array, given: Array, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, of the mean squared error of the whole array (not the mean of the images' ratios)."""
    return decibels(_mse(expected, given, "psnr"), number(data_range, "psnr: data_range", 1e-6))


def ssim(expected: Array, given: Array, *, window: int = 11, sigma: float = 1.5, data_range: float = 1.0) -> float:
    """Structural similarity as the loss of that name: a Gaussian window without padding, per channel, mean over all positions.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004. The window is cut to the image.
    """
    a, b = _pair(expected, given, "ssim")
    if a.ndim != 4:
        raise ArgumentError(f"ssim takes images (N, C, H, W), not an array of shape {a.shape}")
    positive(window, "ssim: window")
    height, width = a.shape[2:]
    down, across = _window(min(window, height), sigma, height), _window(min(window, width), sigma, width)

    def mean(values: Floats) -> Floats:
        return np.asarray(down @ values @ across.T, np.float32)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    total = 0.0
    for x, y in zip(a, b, strict=True):  # one image at a time stays in the cache
        mx, my = mean(x), mean(y)
        xx, yy, xy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        values = (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (xx + yy + c2))
        total += float(np.mean(values, dtype=np.float64))
    return total / len(a)


def _window(taps: int, sigma: float, size: int) -> Floats:
    """[size - taps + 1, size]: every place of the Gaussian along a side."""
    weights = np.exp(-0.5 * ((np.arange(taps) - (taps - 1) / 2) / number(sigma, "ssim: sigma", 1e-3)) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size - taps + 1, size), np.float32)
    for row in range(len(matrix)):
        matrix[row, row : row + taps] = weights
    return matrix


def confusion(labels: Array, given: Array, classes: int, ignore_index: int = IGNORED) -> Array:
    """[classes, classes]: how many pixels of each class (rows) were taken for which (columns)."""
    expected, found = numbers(labels, "labels"), numbers(given, "classes")
    for array in (expected, found):
        if array.dtype.kind not in "iub":
            raise DTypeError(f"class numbers are integers, not {array.dtype}; of logits take .argmax(axis=1)")
    if expected.shape != found.shape or expected.size == 0:
        raise ArgumentError(f"labels and classes have one shape, not {expected.shape} and {found.shape}")
    counted = expected != ignore_index
    a, b = expected[counted].astype(np.int64), found[counted].astype(np.int64)
    for name, values in (("labels", a), ("classes", b)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ArgumentError(f"{name} hold {values.min()} to {values.max()}; expected 0 to {classes - 1}")
    counts: Array = np.bincount(a * classes + b, minlength=classes * classes).reshape(classes, classes)
    return counts


def _classes(labels: Array, given: Array, classes: int | None) -> int:
    found = [np.max(numbers(a, what), initial=0) for a, what in ((labels, "labels"), (given, "classes"))]
    return classes if classes is not None else 1 + int(max(found))


def pixel_accuracy(labels: Array, given: Array, *, classes: int | None = None, ignore_index: int = IGNORED) -> float:
    """The share of pixels with the right class; those with the label `ignore_index` do not count."""
    return accuracy_of(confusion(labels, given, _classes(labels, given, classes), ignore_index))


def mean_iou(labels: Array, given: Array, *, classes: int | None = None, ignore_index: int = IGNORED) -> float:
    """Intersection over union, over all samples, mean of the classes that are in the labels or were found."""
    return iou_of(confusion(labels, given, _classes(labels, given, classes), ignore_index))


def accuracy_of(counts: Array) -> float:
    total = int(counts.sum())
    return float(np.trace(counts)) / total if total else float("nan")


def iou_of(counts: Array) -> float:
    both = np.diag(counts)
    either = counts.sum(0) + counts.sum(1) - both
    there = either > 0
    return float(np.mean(both[there] / either[there])) if there.any() else float("nan")


# name in logs and files: (in words, format)
SHOWN: dict[str, tuple[str, str]] = {
    "psnr": ("PSNR", "{:.2f} dB"),
    "ssim_index": ("SSIM", "{:.4f}"),  # beside a loss called ssim, which is 1 minus it
    "mae": ("MAE", "{:.4f}"),
    "pixel_accuracy": ("pixel accuracy", "{:.1%}"),
    "mean_iou": ("mIoU", "{:.3f}"),
    "depth_mae": ("depth MAE", "{:.4f}"),
    "mask_iou": ("mask IoU", "{:.3f}"),
}


def text(values: Mapping[str, Any], prefix: str = "") -> str:
    """The metrics among `values`, whose names begin with `prefix`, for people: "PSNR 25.61 dB  SSIM 0.9012"."""
    found = ((words, form, values.get(f"{prefix}{name}")) for name, (words, form) in SHOWN.items())
    return "  ".join(f"{words} {form.format(value)}" for words, form, value in found if isinstance(value, float))
