"""Images as people pass them to a network: Pillow images, single arrays in any layout, lists of images of several sizes."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom.errors import ArgumentError
from warploom.ground.array_types import Array
from warploom.ground.arrays import as_array
from warploom.ground.layouts import from_nchw, layout_of, to_nchw


def is_pillow(value: object) -> bool:
    """Whether it is an image of Pillow, which is not imported for that."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def eight_bits(image: Any) -> Any:
    """A Pillow image in a mode of 8 bits a channel. Pillow's own conversion of grey with 16 bits cuts off what is above 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        from PIL import Image

        return Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"32 bits a pixel, mode {image.mode}, have no known range: save it with 8 or 16")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image


@dataclass
class Given:
    """What was passed, as arrays [N, C, H, W]: one, or one for every image of a list."""

    arrays: list[Array]
    layouts: list[str]
    listed: bool

    def back(self, results: list[Any]) -> Any:
        """Results [N, C, H, W], one for each array, in the layouts of what was passed."""
        maps = [isinstance(r, np.ndarray) and r.ndim == 4 for r in results]
        made = [
            from_nchw(r, layout) if is_map else r if layout.startswith("N") else r[0]
            for r, layout, is_map in zip(results, self.layouts, maps, strict=True)
        ]
        return made if self.listed else made[0]

    def unbatched(self, results: list[Any]) -> Any:
        """Results [N, ...] in their own layout, without the first axis where one image was passed."""
        made = [r if layout.startswith("N") else r[0] for r, layout in zip(results, self.layouts, strict=True)]
        return made if self.listed else made[0]


def is_list_of_images(value: object) -> bool:
    """A list of Pillow images or of single images, and not of a network's several inputs."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(is_pillow(item) or (isinstance(item, np.ndarray) and item.ndim in (2, 3)) for item in value)


def given_images(value: Any, channels: int, what: str) -> Given | None:
    """Images for a network with so many channels; None where it is no image or batch of images in a layout known here."""
    if is_list_of_images(value):
        made = [_one(item, channels, f"{what}[{i}]") for i, item in enumerate(value)]
        wrong = next((i for i, m in enumerate(made) if m is None), None)
        if wrong is not None:
            shape = np.shape(value[wrong])
            raise ArgumentError(f"{what}[{wrong}] has shape {shape}; expected an image with {channels} channel(s)")
        found = [m for m in made if m is not None]
        return Given([m[0] for m in found], [m[1] for m in found], True)
    single = _one(value, channels, what)
    return None if single is None else Given([single[0]], [single[1]], False)


def _one(value: Any, channels: int, what: str) -> tuple[Array, str] | None:
    if is_pillow(value):
        if channels not in (1, 3):
            raise ArgumentError(f"{what} is an image of Pillow, which gives 1 or 3 channels; the network takes {channels}")
        try:
            plain = eight_bits(value)
        except ValueError as error:
            raise ArgumentError(f"{what} is an image of Pillow with {error}") from None
        value = np.asarray(plain.convert("RGB" if channels == 3 else "L"))
    array = as_array(value, what)
    layout = layout_of(array.shape, channels)
    return (to_nchw(array, layout), layout) if layout else None
