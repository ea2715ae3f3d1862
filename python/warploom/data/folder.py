"""A folder of images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from warploom.data.dataset import Dataset
from warploom.errors import DataError
from warploom.ground.array_types import Array, Shape

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_TEST_EVERY = 10


def load(folder: Path, shape: Shape) -> Dataset:
    """Every image below the folder, in the order of their paths.

    Each is turned upright, made RGB (or grey for a model with one channel), cut to the middle part that has the model's
    proportions and resized to the model's size. Sub-folders train and test are what they say; without them every tenth
    image is for testing.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = images_in(folder / "train"), images_in(folder / "test")
        notes = [f"{folder}: {len(train):,} images in train, {len(test):,} in test"]
    else:
        paths = images_in(folder)
        if len(paths) < 2:
            raise DataError(f"{folder} holds {len(paths)} image; expected at least 2, one of them for testing")
        test = paths[_TEST_EVERY - 1 :: _TEST_EVERY] or paths[-1:]
        chosen = set(test)
        train = [p for p in paths if p not in chosen]
        notes = [f"{folder}: {len(train):,} images, and every tenth ({len(test):,}) for testing"]
    return Dataset(folder.resolve().name, _read_all(train, shape), _read_all(test, shape), notes=notes)


def images_in(folder: Path, lacking: str = "neither CIFAR-10 nor images") -> list[Path]:
    """The image files below a folder, sorted; hidden ones left out. lacking: what an error says is not there."""
    try:
        paths = sorted(
            p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not paths:
        raise DataError(f"{folder} holds {lacking} ({', '.join(s[1:] for s in SUFFIXES)})")
    return paths


def _read_all(paths: list[Path], shape: Shape) -> Array:
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        return np.stack(list(pool.map(lambda path: read_image(path, shape), paths)))


def upright(opened: Any) -> Any:
    """An image that Pillow has opened, turned by its EXIF tag, in a mode of 8 bits a channel.

    Pillow's own conversion of grey images with 16 bits cuts off what is above 255."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16") or (image.mode == "I" and opened.format == "PNG"):
        return Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"32 bits a pixel, mode {image.mode}, have no known range: save it with 8 or 16")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image


def read_image(path: Path, shape: Shape) -> Array:
    """One image as uint8 [C, H, W]."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"a folder of images gives 1 or 3 channels, but the model takes {channels}; use a .npy file")
    try:
        with Image.open(path) as image:
            plain = upright(image).convert("RGB" if channels == 3 else "L")
            fitted = ImageOps.fit(plain, (width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(fitted, dtype=np.uint8)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as an image ({error}); remove or replace it"
        ) from error
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
