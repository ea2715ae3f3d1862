"""Patches: 32x32 crops of the photographs that installed packages ship; real images where there is no network.

Training and test crops come from disjoint regions: the right fifth of every photograph is for testing. A crop is 32, 64 or 96
pixels wide and averaged down to 32 in integers, perhaps mirrored; everything is drawn from a counter-based generator.
"""

import importlib.util
from pathlib import Path

import numpy as np

from warploom._typing import Array
from warploom.data.dataset import Dataset
from warploom.errors import DataError

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
_TEST_SHARE = 5


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

    paths = photographs()
    if not paths:
        raise DataError("no photograph of an installed package was found; reinstall matplotlib, which ships one")
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    borders = [picture.shape[1] - picture.shape[1] // _TEST_SHARE for picture in pictures]
    training = [picture[:, :x] for picture, x in zip(pictures, borders, strict=True)]
    testing = [picture[:, x:] for picture, x in zip(pictures, borders, strict=True)]
    names = ", ".join(path.name for path in paths)
    note = f"patches: 32x32 crops of photographs that installed packages ship ({names}); right fifths are for testing"
    return Dataset("patches", _crops(training, train, seed, 0), _crops(testing, test, seed, 1), notes=[note])


def _crops(regions: list[Array], count: int, seed: int, part: int) -> Array:
    draws = np.random.Philox(key=np.array([seed, part], dtype=np.uint64)).random_raw(5 * count).reshape(count, 5)
    areas = np.cumsum([r.shape[0] * r.shape[1] for r in regions]).astype(np.uint64)
    chosen = np.searchsorted(areas, draws[:, 0] % areas[-1], side="right")  # larger photographs more often
    zooms = np.array(_ZOOMS)[(draws[:, 1] % np.uint64(len(_ZOOMS))).astype(int)]
    out = np.empty((count, 3, _SIDE, _SIDE), np.uint8)
    steps = np.arange(_SIDE)
    for index, region in enumerate(regions):
        fitting = [z for z in _ZOOMS if _SIDE * z <= min(region.shape[:2])]
        if not fitting:
            raise DataError(f"a photograph of {region.shape[1]}x{region.shape[0]} pixels is too small for crops of {_SIDE}")
        for zoom in fitting:
            rows = np.flatnonzero((chosen == index) & (np.minimum(zooms, fitting[-1]) == zoom))
            boxes = _box_means(region, zoom)  # [H - zoom + 1, W - zoom + 1, 3]
            last = [np.uint64(size - zoom * _SIDE + 1) for size in region.shape[:2]]
            y, x = ((draws[rows, 2 + axis] % last[axis]).astype(int)[:, None] + zoom * steps for axis in (0, 1))
            mirrored = (draws[rows, 4] & np.uint64(1)).astype(bool)
            x[mirrored] = x[mirrored, ::-1]
            out[rows] = boxes[y[:, :, None], x[:, None, :]].transpose(0, 3, 1, 2)
    return out


def _box_means(region: Array, zoom: int) -> Array:
    """The rounded mean of the zoom x zoom box that starts at each pixel."""
    height, width = region.shape[0] - zoom + 1, region.shape[1] - zoom + 1
    total = np.zeros((height, width, 3), np.uint32)
    for dy in range(zoom):
        for dx in range(zoom):
            total += region[dy : dy + height, dx : dx + width]
    return ((total + zoom * zoom // 2) // (zoom * zoom)).astype(np.uint8)
