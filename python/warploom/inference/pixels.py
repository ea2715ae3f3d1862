"""Images in arrays as a network takes them: layout, type, channels, size."""

import numpy as np
from numpy.typing import NDArray

from warploom.data import folder
from warploom.data.dataset import check_values
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.layouts import layout_of

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as Pillow's conversion to grey


def layout(images: Array, channels: int, title: str) -> str:
    """As layout_of() names it, also where the images have not the network's channels but are grey, RGB or RGBA."""
    for count in (channels, 3, 1, 4):
        found = layout_of(images.shape, count)
        if found:
            return found
    if images.ndim == 4:
        return "NCHW"
    raise DataError(f"{title} has shape {images.shape}; expected images (N, C, H, W), (N, H, W, C) or (N, H, W), or one of them")


def labels(given: Array, count: int, title: str) -> NDArray[np.int64]:
    """Class numbers, one for each image."""
    flat = np.asarray(given).reshape(-1)
    if flat.dtype.kind not in "iu" or len(flat) != count or (count and flat.min() < 0):
        raise DataError(
            f"{title}: labels are {count} class numbers, integers from 0 on, not {flat.dtype} of shape {np.shape(given)}"
        )
    return flat.astype(np.int64)


def values(image: Array, title: str, number: int) -> Array:
    """uint8, or float32 in [0, 1]; number: the image's, for errors."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind in "fb":
        checked: Array = check_values(image[None].astype(np.float32), title, number)[0]
        return checked
    raise _of_no_pixels(image, title)


def _of_no_pixels(array: Array, title: str) -> DataError:
    return DataError(f"{title} holds {array.dtype}; expected uint8, or floats in [0, 1]: convert it and save it again")


def check(images: Array, layout: str, channels: int, title: str) -> None:
    """DataError where no image of the array can be taken: what is wrong with all of them is said once, before any is read."""
    if images.dtype != np.uint8 and images.dtype.kind not in "fb":
        raise _of_no_pixels(images, title)
    count = images.shape[layout.index("C")] if "C" in layout else 1
    with_channels(np.zeros((count, 1, 1), images.dtype), channels, title)


def with_channels(image: Array, channels: int, title: str) -> Array:
    """[C, H, W] with the channels a network takes: grey becomes RGB, RGB becomes grey, opacity is left out."""
    if image.shape[0] == channels:
        return image
    if image.shape[0] == 4 and channels in (1, 3):
        image = image[:3]
    if image.shape[0] == 1 and channels == 3:
        return np.repeat(image, 3, axis=0)
    if image.shape[0] == 3 and channels == 1:
        grey: Array = np.tensordot(_GREY, image.astype(np.float32), 1)[None]
        return grey if image.dtype != np.uint8 else np.rint(grey).astype(np.uint8)
    if image.shape[0] != channels:
        raise DataError(f"{title} has images with {image.shape[0]} channels, but the network takes {channels}")
    return image


def fitted(image: Array, size: tuple[int, int] | None, stretch: bool) -> Array:
    """[C, H, W] at that (height, width), as data.folder.fitted() makes it."""
    if size is None or image.shape[1:] == size:
        return image
    from PIL import Image

    planes = [np.asarray(folder.fitted(Image.fromarray(np.ascontiguousarray(p)), size, stretch=stretch)) for p in image]
    made: Array = np.stack(planes)
    return made if image.dtype == np.uint8 else np.clip(made, 0.0, 1.0)  # the filter overshoots at edges
