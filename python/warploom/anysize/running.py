"""Runs a network on images of any one size: whole where memory allows it, else in tiles; networks of a fixed size in blended
windows."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from warploom.anysize.resizing import Size, Sizes
from warploom.anysize.tiles import ramp, side, spans, starts
from warploom.engine import Engine
from warploom.ground.array_types import Array, Floats
from warploom.ground.hardware import Choice
from warploom.network.network import Network

MEMORY = 1 << 30  # bytes of activations, where nothing else is asked for
_PROBE = 1 << 18  # pixels of the batch whose plan tells the bytes of a pixel

_N = TypeVar("_N", bound=Network)
Run = Callable[[_N, list[Array], int], list[Floats]]  # the network, its inputs, the batch size: its outputs


def bytes_of_a_pixel(network: Network, engine: Engine) -> float:
    """Of activations and workspace at inference; from two plans, so that what does not grow with the images is left out."""
    height, width = network.inputs[0].shape[1:]
    planned = Engine(
        network.lowered(), Choice(engine.device, [engine.version], ""), precision=engine.precision, plan_only=True
    )  # fmt: skip
    more = 1 + max(1, _PROBE // (height * width))
    grown = planned.memory(more)["total"] - planned.memory(1)["total"]
    return max(1.0, grown / ((more - 1) * height * width))


def padded(images: Array, size: Size) -> Array:
    """[N, C, H, W] mirrored at its lower and right border up to that size."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    return np.pad(images, ((0, 0), (0, 0), (0, size[0] - height), (0, size[1] - width)), mode="reflect")


def run_at_any_size(sizes: Sizes[_N], run: Run[_N], engine: Engine, inputs: list[Array], batch: int, memory: int) -> list[Floats]:
    """The outputs for inputs of one size (height, width): padded inside to what fits, and cropped to the input's size, or in
    proportion where an output has another one."""
    height, width = inputs[0].shape[2:]
    size = sizes.fitting(height, width)
    limit = memory / bytes_of_a_pixel(sizes.network, engine)
    same = all(t.shape[1:] == sizes.own for t in sizes.network.outputs)
    if size[0] * size[1] > limit and same and sizes.reach is not None:
        return _in_tiles(sizes, run, inputs, size, limit, sizes.reach)
    network = sizes.at(size)
    batch = max(1, min(batch, int(limit // (size[0] * size[1]))))
    crops = [(-(-height * t.shape[1] // size[0]), -(-width * t.shape[2] // size[1])) for t in network.outputs]
    rows = len(inputs[0])
    results = [np.empty((rows, t.shape[0], *crop), np.float32) for t, crop in zip(network.outputs, crops, strict=True)]
    for start in range(0, rows, batch):
        part = [padded(a[start : start + batch], size) for a in inputs]
        for whole, made, (h, w) in zip(results, run(network, part, batch), crops, strict=True):
            whole[start : start + batch] = made[:, :, :h, :w]
    return results


def _in_tiles(
    sizes: Sizes[_N], run: Run[_N], inputs: list[Array], size: Size, limit: float, reach: Size
) -> list[Floats]:  # fmt: skip
    """One image after the other in equal tiles; what is near a tile's inner border is not kept, so that no border shows."""
    assert sizes.steps is not None
    rows, (height, width) = len(inputs[0]), inputs[0].shape[2:]
    tile = tuple(min(side(limit, step, far), whole) for step, far, whole in zip(sizes.steps, reach, size, strict=True))
    network = sizes.at((tile[0], tile[1]))
    results = [np.empty((rows, t.shape[0], height, width), np.float32) for t in network.outputs]
    for row in range(rows):
        images = [padded(a[row : row + 1], size) for a in inputs]
        for down in spans(size[0], tile[0], reach[0]):
            for across in spans(size[1], tile[1], reach[1]):
                made = run(network, [np.ascontiguousarray(a[:, :, down.read, across.read]) for a in images], 1)
                top, left = down.kept.start - down.read.start, across.kept.start - across.read.start
                bottom, right = min(down.kept.stop, height), min(across.kept.stop, width)
                for whole, part in zip(results, made, strict=True):
                    kept = part[0, :, top : top + bottom - down.kept.start, left : left + right - across.kept.start]
                    whole[row, :, down.kept.start : bottom, across.kept.start : right] = kept
    return results


def run_in_windows(sizes: Sizes[_N], run: Run[_N], inputs: Array, batch: int) -> Floats:
    """A reconstruction by a network of a fixed size: overlapping windows, blended. Smaller images are mirrored up to it."""
    rows, channels, height, width = inputs.shape
    tall, wide = sizes.own
    size = max(height, tall), max(width, wide)
    places = [(top, left) for top in starts(size[0], tall) for left in starts(size[1], wide)]
    weights = ramp(tall, wide)
    results = np.empty((rows, channels, height, width), np.float32)
    for row in range(rows):
        image = padded(inputs[row : row + 1], size)[0]
        total, shares = np.zeros((channels, *size), np.float32), np.zeros(size, np.float32)
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            stacked = np.stack([image[:, top : top + tall, left : left + wide] for top, left in some])
            for (top, left), made in zip(some, run(sizes.network, [stacked], batch)[0], strict=True):
                total[:, top : top + tall, left : left + wide] += weights * made
                shares[top : top + tall, left : left + wide] += weights
        results[row] = (total / shares)[:, :height, :width]
    return results
