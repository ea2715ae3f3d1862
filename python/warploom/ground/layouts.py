"""Which axis of an array of images is which, from its shape and the channels that a network takes; and back."""

from warploom.ground.array_types import Array, Shape

_COLOURS = (3, 4)  # a last axis so long is channels, not columns


def layout_of(shape: Shape, channels: int) -> str:
    """ "NCHW", "NHWC" or "NHW" of several images, "CHW", "HWC" or "HW" of one; "" where the shape is none of them."""
    if len(shape) == 4:
        return "NCHW" if shape[1] == channels else "NHWC" if shape[3] == channels else ""
    if len(shape) == 3:
        if shape[0] == channels or shape[2] == channels:
            return "CHW" if shape[0] == channels else "HWC"
        return "NHW" if channels == 1 and shape[2] not in _COLOURS else ""
    return "HW" if len(shape) == 2 and channels == 1 else ""


def to_nchw(array: Array, layout: str) -> Array:
    """A view [N, C, H, W]."""
    if layout[0] != "N":
        array, layout = array[None], f"N{layout}"
    if layout == "NHW":
        return array[:, None]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def from_nchw(array: Array, layout: str) -> Array:
    """[N, C, H, W] in that layout again, C-contiguous. Several channels in a layout that has none come last."""
    one, inner = layout[0] != "N", layout.removeprefix("N")
    if inner == "HW" and array.shape[1] == 1:
        array = array[:, 0]
    elif inner != "CHW":
        array = array.transpose(0, 2, 3, 1)
    result: Array = array[0] if one else array
    return result if result.flags.c_contiguous else result.copy()
