"""Crops of photographs, of any size: what synthetic data are made of where a user has no images yet.

The photographs are those that installed packages ship, or a folder's. Training and test crops come from disjoint regions: the
left three fifths of every photograph and the right two fifths.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warploom.data.bombs import opened_image
from warploom.data.folder import images_in, upright
from warploom.data.patches import photographs
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.arrays import seed as check_seed
from warploom.ground.atomic import expanded

TRAIN, TEST = 0, 1
_TRIES = 2  # crops drawn for each that is kept: the one with more contrast, since much of a photograph is sky


def generator(seed: int, part: int, index: int) -> np.random.Generator:
    """Random numbers for one sample: they depend on nothing but these three."""
    check_seed(seed)
    return np.random.Generator(np.random.Philox(key=np.array([seed, part << 40 | index], dtype=np.uint64)))


@dataclass
class Photographs:
    """Regions of photographs, [H, W, 3] uint8, to cut from."""

    names: list[str]
    regions: tuple[list[Array], list[Array]]  # for training, for testing

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "Photographs":
        paths = photographs() if folder is None else images_in(expanded(folder), "no photographs")
        if not paths:
            raise DataError("no photograph of an installed package was found; give a folder of photographs")
        training, testing = [], []
        for path in paths:
            try:
                with opened_image(path) as image:
                    pixels = np.asarray(upright(image).convert("RGB"))
            except Exception as error:  # Pillow's decoders raise many kinds
                raise DataError(f"{path} cannot be read as an image ({error}); remove or replace it") from error
            if min(pixels.shape[:2]) < 64:
                raise DataError(f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels; a photograph needs at least 64x64")
            cut = pixels.shape[1] * 3 // 5
            training.append(pixels[:, :cut])
            testing.append(pixels[:, cut:])
        return cls([p.name for p in paths], (training, testing))

    def crop(self, rng: np.random.Generator, part: int, height: int, width: int) -> Array:
        """[height, width, 3] uint8: a random part of a photograph, at a random scale, perhaps mirrored."""
        found = [self._crop(rng, self.regions[part], height, width) for _ in range(_TRIES)]
        return max(found, key=lambda a: float(a.std()))

    @staticmethod
    def _crop(rng: np.random.Generator, regions: list[Array], height: int, width: int) -> Array:
        from PIL import Image

        areas = np.array([r.shape[0] * r.shape[1] for r in regions], dtype=np.float64)
        region = regions[int(rng.choice(len(regions), p=areas / areas.sum()))]
        largest = min(region.shape[0] / height, region.shape[1] / width)  # photograph pixels per pixel of the crop
        scale = largest * rng.uniform(min(1.0, max(0.4, 0.5 / largest)), 1.0)
        h, w = max(1, int(height * scale)), max(1, int(width * scale))
        y, x = int(rng.integers(region.shape[0] - h + 1)), int(rng.integers(region.shape[1] - w + 1))
        piece = Image.fromarray(region[y : y + h, x : x + w]).resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.asarray(piece)
        return np.ascontiguousarray(pixels[:, ::-1]) if rng.random() < 0.5 else pixels
