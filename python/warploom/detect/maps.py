"""Where an image differs from what is normal: maps [N, H, W] of numbers from 0 on, and the one number of each map.

Every function has a formula that an ONNX graph can hold; docs/detect.md names the operators.
"""

import math

import numpy as np

from warploom.ground.array_types import Array, Floats

POOLINGS = ("top", "max", "mean")
_C1, _C2 = 0.01**2, 0.03**2  # of SSIM, for pixels in [0, 1]


def squared_error(images: Floats, outputs: Floats) -> Floats:
    """Mean over the channels of the squared difference: [N, C, H, W] twice to [N, H, W]."""
    difference = images - outputs
    result: Floats = np.mean(difference * difference, axis=1, dtype=np.float32)
    return result


def dissimilarity(images: Floats, outputs: Floats, window: int, sigma: float) -> Floats:
    """(1 - SSIM) / 2, mean over the channels, at every pixel: the border is mirrored, so that the map has the image's size.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004."""
    taps = gaussian(window // 2, sigma)

    def mean(values: Floats) -> Floats:
        return filtered(values, taps)

    mx, my = mean(images), mean(outputs)
    xx = mean(images * images) - mx * mx
    yy = mean(outputs * outputs) - my * my
    xy = mean(images * outputs) - mx * my
    c1, c2 = np.float32(_C1), np.float32(_C2)
    similarity = (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (xx + yy + c2))
    result: Floats = np.maximum((np.float32(1) - np.mean(similarity, axis=1, dtype=np.float32)) / np.float32(2), np.float32(0))
    return result


def gaussian(radius: int, sigma: float) -> Floats:
    """[2 radius + 1] weights whose sum is 1."""
    places = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def smooth(maps: Floats, sigma: float) -> Floats:
    """The maps under a Gaussian of that deviation in pixels, cut off at three of them; 0: as they are."""
    return filtered(maps, gaussian(math.ceil(3 * sigma), sigma)) if sigma > 0 else maps


def filtered(values: Floats, taps: Floats) -> Floats:
    """Both last axes under symmetric taps; the border is mirrored. Where an axis is shorter, fewer of the taps are used."""
    for axis in (-2, -1):
        size = values.shape[axis]
        radius = min(len(taps) // 2, size - 1)
        if not radius:
            continue
        middle = len(taps) // 2
        own = taps[middle : middle + radius + 1].astype(np.float64)
        own = (own / (own[0] + 2 * own[1:].sum())).astype(np.float32)
        width = [(0, 0)] * values.ndim
        width[axis] = (radius, radius)
        wide = np.moveaxis(np.pad(values, width, mode="reflect"), axis, -1)
        made = wide[..., radius : radius + size] * own[0]
        for i in range(1, radius + 1):
            made += own[i] * (wide[..., radius - i : radius - i + size] + wide[..., radius + i : radius + i + size])
        values = np.moveaxis(made, -1, axis)
    return np.ascontiguousarray(values)


def enlarged(maps: Floats, size: tuple[int, int], step: tuple[float, float] | None = None) -> Floats:
    """[N, h, w] to [N, height, width], bilinear between the middles of pixels, the border's values beyond them.

    step: pixels of the result for one of the map; None: as many as bring the whole map to the size."""
    for axis, wanted in zip((1, 2), size, strict=True):
        have = maps.shape[axis]
        scale = wanted / have if step is None else step[axis - 1]
        if have == wanted and scale == 1:
            continue
        places = np.clip((np.arange(wanted) + 0.5) / scale - 0.5, 0, have - 1)
        low = np.floor(places).astype(np.int64)
        share = (places - low).astype(np.float32)
        share = share[:, None] if axis == 1 else share
        first, second = maps.take(low, axis), maps.take(np.minimum(low + 1, have - 1), axis)
        maps = first + share * (second - first)
    return maps


def pooled(maps: Floats, pooling: str, share: float) -> Floats:
    """[N]: the largest value of each map, the mean of all, or the mean of the largest `share` of them (at least one)."""
    flat = maps.reshape(len(maps), -1)
    if pooling == "max":
        result: Floats = flat.max(axis=1)
        return result
    if pooling == "top":
        count = max(1, int(share * flat.shape[1]))
        flat = -np.partition(-flat, count - 1, axis=1)[:, :count]
    return np.asarray(flat.mean(axis=1, dtype=np.float64), np.float32)


def unit(images: Array) -> Floats:
    """Pixels as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else np.asarray(images, np.float32)
