"""Patches: 32x32 crops of the photographs that installed packages ship; real images where there is no network.

Training and test crops come from disjoint regions: the middle fifth of every photograph is for testing. A crop is 32, 64 or 96
pixels wide and averaged down to 32 in integers, perhaps mirrored. Of two such crops the one with more contrast is taken, since
much of a photograph is sky. Everything is drawn from a counter-based generator and computed in integers.
"""

import importlib.util
from pathlib import Path

import numpy as np

from warploom.data.dataset import Dataset
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.arrays import seed as check_seed

_PHOTOGRAPHS = (  # package and file inside it; scikit-learn ships two, matplotlib (always installed) one, scikit-image more
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
)
_SIDE = 32
_ZOOMS = (1, 2, 3)
_CHUNK = 512  # crops made in one go


def photographs() -> list[Path]:
    """The photographs that are installed here."""
    found = []
    for package, file in _PHOTOGRAPHS:
        spec = importlib.util.find_spec(package)  # finds the folder without importing the package
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            if (Path(folder) / file).is_file():
                found.append(Path(folder) / file)
    return found


def load(seed: int = 0, train: int = 50_000, test: int = 10_000) -> Dataset:
    """Crops, the same for the same seed, counts and photographs."""
    from PIL import Image

    check_seed(seed)
    paths = photographs()
    if not paths:
        raise DataError("no photograph of an installed package was found; reinstall matplotlib, which ships one")
    training: list[Array] = []
    testing: list[Array] = []
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        left, right = pixels.shape[1] * 2 // 5, pixels.shape[1] * 3 // 5
        training += [pixels[:, :left], pixels[:, right:]]
        testing.append(pixels[:, left:right])
    names = ", ".join(path.name for path in paths)
    notes = [
        f"patches: 32x32 crops of photographs that installed packages ship ({names}); the middle fifths are for testing",
        f"with so few photographs ({len(paths)}) the test loss stays well above the training loss: test crops show other parts",
    ]
    return Dataset("patches", _crops(training, train, seed, 0), _crops(testing, test, seed, 1), notes=notes)


def _crops(regions: list[Array], count: int, seed: int, part: int) -> Array:
    draws = np.random.Philox(key=np.array([seed, part], dtype=np.uint64)).random_raw(10 * count).reshape(2, count, 5)
    means = [{zoom: _box_means(r, zoom) for zoom in _ZOOMS if _SIDE * zoom <= min(r.shape[:2])} for r in regions]
    areas = np.cumsum([r.shape[0] * r.shape[1] if m else 0 for r, m in zip(regions, means, strict=True)]).astype(np.uint64)
    out = np.empty((count, 3, _SIDE, _SIDE), np.uint8)
    for start in range(0, count, _CHUNK):
        first, second = (_cut(means, areas, d[start : start + _CHUNK]) for d in draws)
        better = (_contrast(first) >= _contrast(second))[:, None, None, None]
        out[start : start + _CHUNK] = np.where(better, first, second)
    return out


def _cut(means: list[dict[int, Array]], areas: Array, draws: Array) -> Array:
    """One crop for each row of draws: region, zoom, y, x, mirrored."""
    chosen = np.searchsorted(areas, draws[:, 0] % areas[-1], side="right")  # larger regions more often
    out = np.empty((len(draws), 3, _SIDE, _SIDE), np.uint8)
    for i, (region, (_, zoom_bits, y_bits, x_bits, mirror)) in enumerate(zip(chosen.tolist(), draws.tolist(), strict=True)):
        by_zoom = means[region]
        zoom = min(_ZOOMS[zoom_bits % len(_ZOOMS)], max(by_zoom))
        boxes, side = by_zoom[zoom], zoom * _SIDE
        y, x = y_bits % (boxes.shape[1] - side + zoom), x_bits % (boxes.shape[2] - side + zoom)
        crop = boxes[:, y : y + side : zoom, x : x + side : zoom]
        out[i] = crop[:, :, ::-1] if mirror & 1 else crop
    return out


def _contrast(crops: Array) -> Array:
    """The variance of each crop, times a constant."""
    values = crops.reshape(len(crops), -1).astype(np.uint32)
    squares, sums = np.einsum("ij,ij->i", values, values).astype(np.int64), values.sum(axis=1, dtype=np.int64)
    result: Array = values.shape[1] * squares - sums * sums
    return result


def _box_means(region: Array, zoom: int) -> Array:
    """The rounded mean of the zoom x zoom box that starts at each pixel, as [3, height, width]."""
    height, width = region.shape[0] - zoom + 1, region.shape[1] - zoom + 1
    total = np.zeros((height, width, 3), np.uint32)
    for dy in range(zoom):
        for dx in range(zoom):
            total += region[dy : dy + height, dx : dx + width]
    means: Array = ((total + zoom * zoom // 2) // (zoom * zoom)).astype(np.uint8)
    return np.ascontiguousarray(means.transpose(2, 0, 1))
