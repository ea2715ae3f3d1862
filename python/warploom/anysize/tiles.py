"""Where the tiles of a large image lie: equal windows, of each of which the middle is kept, or that are blended."""

from dataclasses import dataclass

import numpy as np

from warploom.ground.array_types import Array, Floats


@dataclass(frozen=True)
class Span:
    """Along one axis: what a tile reads, and what of it counts."""

    read: slice
    kept: slice  # of the whole image


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Windows of `tile` over `length`, whose results count where they are at least `halo` from a window's inner border."""
    if length <= tile:
        return [Span(slice(0, length), slice(0, length))]
    found, begin, done = [], 0, 0
    while done < length:
        begin = min(begin, length - tile)
        end = length if begin + tile == length else begin + tile - halo
        found.append(Span(slice(begin, begin + tile), slice(done, end)))
        begin, done = end - halo, end
    return found


def side(pixels: float, step: int, halo: int) -> int:
    """The side of a square tile of about so many pixels: a multiple of the step, large against its halo."""
    return max(int(pixels**0.5) // step * step, 4 * halo, step)


def starts(length: int, tile: int) -> list[int]:
    """Where windows of a fixed size begin that overlap by a quarter or more and cover all of `length`."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // max(1, tile - tile // 4)) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def ramp(height: int, width: int) -> Floats:
    """[height, width]: the weight of each pixel of a window where windows are blended: 1 inside, falling towards the border."""

    def along(size: int) -> Array:
        edge = np.minimum(np.arange(size) + 1, size - np.arange(size))
        return np.minimum(edge, max(1, size // 4)) / max(1, size // 4)

    weights: Floats = np.outer(along(height), along(width)).astype(np.float32)
    return weights
