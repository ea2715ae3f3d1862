"""A drawn set to try a detector on: pieces of cloth of mixed sizes, without and with defects, in the folders of MVTec AD.

train/good, test/good, test/scratch, test/spot, test/thread, and ground_truth/<defect>/<name>_mask.png: white where the defect is.
The folders are those of Bergmann et al., "MVTec AD", 2019.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from warploom.errors import DataError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import positive
from warploom.ground.atomic import write_atomically

DEFECTS = ("scratch", "spot", "thread")
_SIDES = (144, 280)  # of the images, both sides drawn
_PERIOD = 8.0  # pixels from thread to thread


def make_textures(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Writes `count` good images for training, a fifth as many for testing, and as many of each defect. Returns the folders."""
    from PIL import Image

    positive(count, "count")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: name another folder")
    tested = max(1, count // 5)
    parts = [("train/good", "", count), ("test/good", "", tested), *((f"test/{d}", d, tested) for d in DEFECTS)]
    for number, (name, defect, images) in enumerate(parts):
        for i in range(images):
            pixels, mask = cloth(np.random.default_rng([seed, number, i]), defect)
            for part, array, ending in ((name, pixels, ""), (f"ground_truth/{defect}", mask, "_mask")):
                if part == f"ground_truth/{defect}" and not defect:
                    continue
                buffer = io.BytesIO()
                Image.fromarray(array).save(buffer, format="png")
                write_atomically(folder / part / f"{i:03}{ending}.png", buffer.getvalue())
    return [name for name, _, _ in parts]


def cloth(rng: np.random.Generator, defect: str = "") -> tuple[Array, Array]:
    """(grey pixels [H, W] uint8, mask [H, W] uint8: 255 where the defect is)."""
    height, width = rng.integers(*_SIDES, size=2)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    wave = _waves(rng, rows, columns)
    across, down = (np.sin(2 * np.pi * (axis + 1.5 * wave) / _PERIOD + rng.uniform(0, 6)) for axis in (columns, rows))
    mask = np.zeros((height, width))
    if defect == "thread":  # one that is missing: along one axis the pattern is flat
        mask = _line(rng, rows, columns, straight=True)
        down = down * (1 - mask)
    value = 0.5 + 0.13 * across * down + 0.1 * np.maximum(across, down) + 0.06 * _waves(rng, rows, columns)
    if defect == "scratch":
        mask = _line(rng, rows, columns)
        value = value + mask * rng.choice([-1, 1]) * rng.uniform(0.12, 0.35)
    if defect == "spot":
        middle = rng.uniform(0.15, 0.85, 2) * (height, width)
        away = np.hypot(rows - middle[0], (columns - middle[1]) * rng.uniform(0.7, 1.4))
        mask = np.clip(rng.uniform(5, 11) - away, 0, 1)
        value = value + mask * rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)
    value = value + rng.normal(0, 0.02, value.shape)
    pixels: Array = np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
    return pixels, np.where(mask > 0.5, 255, 0).astype(np.uint8)


def _waves(rng: np.random.Generator, rows: Floats, columns: Floats) -> NDArray[np.float64]:
    """Slow waves around 0, about 1 high."""
    total = np.zeros(rows.shape)
    for _ in range(4):
        a, b = rng.normal(0, 2 * np.pi / 150, 2)
        total += np.sin(a * rows + b * columns + rng.uniform(0, 6)) / 2
    return total


def _line(rng: np.random.Generator, rows: Floats, columns: Floats, straight: bool = False) -> NDArray[np.float64]:
    """1 along a piece of a line, 0 elsewhere."""
    height, width = rows.shape
    angle = 0.0 if straight else rng.uniform(0, np.pi)
    middle = rng.uniform(0.25, 0.75, 2) * (height, width)
    along = (columns - middle[1]) * np.cos(angle) + (rows - middle[0]) * np.sin(angle)
    aside = (rows - middle[0]) * np.cos(angle) - (columns - middle[1]) * np.sin(angle)
    half, thick = rng.uniform(20, 60), _PERIOD / 2 if straight else rng.uniform(1.2, 2.2)
    return np.asarray(np.clip(thick - np.abs(aside) + 0.5, 0, 1) * np.clip(half - np.abs(along), 0, 1))
