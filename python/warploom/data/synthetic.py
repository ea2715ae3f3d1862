"""Synthetic samples of every kind of data, most made from photographs: to try a model at once, before there are real data.

images         a crop
segmentation   a crop with pasted shapes, and a map of class numbers: 0 is what is behind, 1 to 5 are SHAPES
composites     a background, the same with an object pasted on it, the depth of that (near is bright), and the object's mask
faces          portraits of two people, drawn by the program, and the masks of their faces
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from warploom.data.photos import TEST, TRAIN, Photographs, generator
from warploom.data.portraits import PEOPLE, Look, portrait
from warploom.errors import ArgumentError
from warploom.ground.array_types import Array
from warploom.ground.atomic import write_atomically

SHAPES = ("disc", "square", "triangle", "star", "ring")
_TINTS = np.array([(220, 60, 50), (60, 190, 70), (70, 90, 230), (230, 200, 50), (200, 70, 210)])  # of the shapes, roughly
Sample = dict[str, Array]  # uint8, by name of the folder: [H, W] or [H, W, 3]


def _polar(rng: np.random.Generator, height: int, width: int, radius: float) -> tuple[Array, Array, int]:
    """Distance (in radii) and angle of every pixel from a random centre; the row where the shape ends below."""
    cy, cx = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    y, x = np.mgrid[0:height, 0:width]
    angle = np.arctan2(y - cy, x - cx) + rng.uniform(0, 2 * np.pi)
    return np.hypot(y - cy, x - cx) / radius, angle, min(height - 1, int(cy + radius))


def _polygon(angle: Array, sides: int) -> Array:
    """The outline of a regular polygon whose corners have the distance 1."""
    half = np.pi / sides
    outline: Array = np.cos(half) / np.cos(angle % (2 * half) - half)
    return outline


def shape_mask(name: str, distance: Array, angle: Array) -> Array:
    """Which pixels a shape covers."""
    covered: Array
    if name in ("disc", "ring"):
        covered = (distance <= 1.0) & ((distance >= 0.55) | (name == "disc"))
    elif name == "star":
        covered = distance <= 0.45 + 0.55 * np.abs(2 * ((angle * 5 / (2 * np.pi)) % 1) - 1)
    else:
        covered = distance <= _polygon(angle, {"square": 4, "triangle": 3}[name])
    return covered


def _blob(rng: np.random.Generator, angle: Array) -> Array:
    """A smooth random outline."""
    outline = np.full_like(angle, 0.8)
    for k in range(2, 6):
        outline += rng.uniform(-0.25, 0.25) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return outline


def _tinted(pixels: Array, tint: Array, amount: float) -> Array:
    mixed: Array = np.rint(pixels * (1 - amount) + tint * amount).astype(np.uint8)
    return mixed


def images(photos: Photographs, rng: np.random.Generator, part: int, height: int, width: int) -> Sample:
    return {"images": photos.crop(rng, part, height, width)}


def segmentation(photos: Photographs, rng: np.random.Generator, part: int, height: int, width: int) -> Sample:
    image, labels = photos.crop(rng, part, height, width).copy(), np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        number = int(rng.integers(1, len(SHAPES) + 1))
        distance, angle, _ = _polar(rng, height, width, rng.uniform(0.12, 0.28) * min(height, width))
        covered = shape_mask(SHAPES[number - 1], distance, angle)
        texture = _tinted(photos.crop(rng, part, height, width), _TINTS[number - 1] + rng.integers(-25, 26, 3), 0.6)
        image[covered], labels[covered] = texture[covered], number
    return {"images": image, "labels": labels}


def composites(photos: Photographs, rng: np.random.Generator, part: int, height: int, width: int) -> Sample:
    """The ground comes nearer from the horizon down; the object stands on it, and is as near as its lowest point."""
    bg = photos.crop(rng, part, height, width)
    horizon = int(rng.uniform(0.15, 0.45) * height)
    rows = np.clip((np.arange(height) - horizon) / (height - horizon), 0.0, 1.0)
    bright = bg.mean(axis=2) / 255.0
    depth = np.clip(0.1 + 0.7 * rows[:, None] + 0.1 * (bright - bright.mean()), 0.0, 1.0)
    radius = rng.uniform(0.15, 0.32) * min(height, width)
    distance, angle, foot = _polar(rng, height, width, radius)
    alpha = np.clip((_blob(rng, angle) - distance) * radius + 0.5, 0.0, 1.0)  # one pixel of soft edge
    fg = _tinted(photos.crop(rng, part, height, width), rng.integers(0, 256, 3), 0.35)
    near = min(1.0, 0.2 + 0.7 * float(rows[foot])) + 0.08 * (1 - np.clip(distance, 0, 1))  # rounder towards the viewer
    depth = depth * (1 - alpha) + np.clip(near, 0.0, 1.0) * alpha
    fg_bg = np.rint(bg * (1 - alpha[..., None]) + fg * alpha[..., None])
    pixels = [np.rint(255 * v).astype(np.uint8) for v in (depth, alpha >= 0.5)]
    return {"bg": bg, "fg_bg": fg_bg.astype(np.uint8), "depth": pixels[0], "mask": pixels[1]}


def faces(photos: Photographs, rng: np.random.Generator, part: int, height: int, width: int) -> Sample:
    """A picture of each of the two people, who have nothing to do with each other, and where their faces are."""
    sample: Sample = {}
    for name, person in PEOPLE.items():
        sample[name], sample[f"{name}_mask"] = portrait(person, Look.drawn(rng), height, width)
    return sample


Maker = Callable[[Photographs, np.random.Generator, int, int, int], Sample]
DRAWN = ("faces",)  # kinds that need no photographs
MAKERS: dict[str, Maker] = {"images": images, "segmentation": segmentation, "composites": composites, "faces": faces}


def source(kind: str, folder: str | Path | None = None) -> Photographs:
    """The photographs that samples of that kind are cut from: of a folder, else of installed packages; none for what is drawn."""
    if kind not in DRAWN:
        return Photographs.load(folder)
    if folder is not None:
        raise ArgumentError(f"synthetic {kind} are drawn by the program: leave --photos out")
    return Photographs([], ([], []))


def origin(kind: str, photos: Photographs) -> str:
    """Where the samples come from, in words."""
    if kind in DRAWN:
        return "drawn by the program"
    return f"made from {len(photos.names)} photograph{'s' if len(photos.names) != 1 else ''}"


def make(kind: str, photos: Photographs, count: int, height: int, width: int, seed: int, part: int) -> dict[str, list[Array]]:
    """`count` samples, the same for the same photographs and numbers."""
    samples = [MAKERS[kind](photos, generator(seed, part, i), part, height, width) for i in range(count)]
    return {name: [s[name] for s in samples] for name in samples[0]}


def testing_count(count: int) -> int:
    """Test samples that go with so many for training."""
    return max(1, count // 5)


def write(kind: str, photos: Photographs, folder: Path, count: int, height: int, width: int, seed: int) -> int:
    """Writes train/ and test/ as the loader of that kind reads them; the number of files."""
    import io

    from PIL import Image

    files = 0
    for part, name, wanted in ((TRAIN, "train", count), (TEST, "test", testing_count(count))):
        for i in range(wanted):
            for key, pixels in MAKERS[kind](photos, generator(seed, part, i), part, height, width).items():
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, format="png")
                place = folder / name if kind == "images" else folder / name / key
                write_atomically(place / f"{i:05}.png", buffer.getvalue())
                files += 1
    return files
