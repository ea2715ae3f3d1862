"""Tiles cut from images at random: what a network that looks at large images in their own size is trained on."""

import io
from pathlib import Path

import numpy as np

from warploom.detect.detector import Say
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.arrays import positive
from warploom.ground.atomic import write_atomically
from warploom.inference.images import Images


def cut_tiles(images: Images, size: int, count: int, *, seed: int = 0, say: Say | None = None) -> Array:
    """[count, C, size, size]: about as many from each image, at random places, in random order.

    Images smaller than a tile give none; DataError where all are."""
    size, count = positive(size, "size"), positive(count, "count")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[:count]
    share = np.diff(np.linspace(0, count, len(chosen) + 1).astype(np.int64))
    tiles: list[Array] = []
    for done, batch in enumerate(images.select(np.sort(chosen)).batches(1), 1):
        image = batch.images[0]
        height, width = image.shape[1:]
        if min(height, width) >= size:
            for _ in range(share[batch.indices[0]]):
                top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
                tiles.append(image[:, top : top + size, left : left + size].copy())
        if say is not None:
            say("tiles", done, len(chosen))
    if not tiles:
        raise DataError(f"{images.title}: every image is smaller than a tile of {size}x{size} pixels; ask for smaller ones")
    made: Array = np.stack([tiles[i] for i in rng.permutation(len(tiles))])
    return made


def write_tiles(path: Path, tiles: Array) -> None:
    buffer = io.BytesIO()
    np.save(buffer, tiles)
    write_atomically(path, buffer.getvalue())
