"""Arrays as pictures inside the page: data: URIs, heat maps, strips, mosaics, thumbnails in one sheet."""

import base64
import io
import math
import re
from functools import cache

import numpy as np

from warploom.ground import figures
from warploom.ground.array_types import Array, Floats
from warploom.report.markup import Markup, el
from warploom.runs.plots import to_pixels

LARGEST_SIDE = 256  # of a picture in the page; larger ones are made smaller
_SMALL = 64  # up to this side every bit is kept (PNG); larger ones are JPEG
_QUALITY = 88


def uri(pixels: Array, quality: int | None = None) -> str:
    """uint8 [H, W] or [H, W, 3] as a data: URI: PNG, or with quality= JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=quality)
    return f"data:image/{'jpeg' if quality else 'png'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shrunk(pixels: Array) -> Array:
    """No side longer than LARGEST_SIDE."""
    from PIL import Image

    side = max(pixels.shape[:2])
    if side <= LARGEST_SIDE:
        return pixels
    height, width = (max(1, round(n * LARGEST_SIDE / side)) for n in pixels.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BOX))


def img(pixels: Array, alt: str, *, exact: bool = False, class_: str = "") -> Markup:
    """uint8 pixels as an image; small and exact ones keep every bit and are enlarged without smoothing."""
    height, width = pixels.shape[:2]
    exact = exact or max(height, width) <= _SMALL
    source = uri(pixels) if exact else uri(shrunk(pixels), _QUALITY)
    kinds = " ".join(filter(None, ("pixelated" if exact else "", class_)))
    return el("img", src=source, alt=alt, width=width, height=height, class_=kinds or None)


def picture(image: Array, alt: str, class_: str = "") -> Markup:
    """[C, H, W], uint8 or float in [0, 1]."""
    return img(to_pixels(image), alt, class_=class_)


@cache
def _lookup(name: str) -> Array:
    figures.ready()
    import matplotlib

    table: Array = np.rint(matplotlib.colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3] * 255.0).astype(np.uint8)
    return table


def coloured(values: Floats, low: float, high: float, name: str = "magma") -> Array:
    """[H, W] as uint8 [H, W, 3]: low is the first colour of the map, high the last; NaN is grey."""
    span = high - low if high > low else 1.0
    place = np.nan_to_num(np.clip((values - low) / span, 0.0, 1.0), nan=0.0)
    pixels: Array = _lookup(name)[np.rint(place * 255.0).astype(np.uint8)]
    pixels[~np.isfinite(values)] = 128
    return pixels


def scale_bar(low: str, high: str, name: str = "magma") -> Markup:
    """What the colours of coloured() mean."""
    stops = ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in _lookup(name)[np.linspace(0, 255, 9).astype(int)])
    bar = el("i", style=f"background:linear-gradient(90deg,{stops})")
    return el("span", el("span", low), bar, el("span", high), class_="scale")


def floats(images: Array) -> Floats:
    """uint8 by 1/255, anything else as float32."""
    if images.dtype == np.uint8:
        scaled: Floats = images.astype(np.float32) / np.float32(255.0)
        return scaled
    result: Floats = np.asarray(images, np.float32)
    return result


def strip(images: Array, alt: str) -> Markup:
    """[N, C, H, W] side by side as one image, as wide as there is room for."""
    parts = [shrunk(to_pixels(np.nan_to_num(image))) for image in images]
    return mosaic(parts, len(parts), alt)


def mosaic(tiles: list[Array], columns: int, alt: str, *, widest: int | None = None) -> Markup:
    """Pictures of one size, uint8 [H, W, 3] or [H, W], in rows as one image as wide as there is room for.

    Small ones keep every bit, and the ground of the page shows between them; of large ones a JPEG is made. widest: of one, in
    pixels of the screen."""
    times = max(1, 24 // max(tiles[0].shape[:2]))  # so that the space between is narrow
    height, width = (n * times for n in tiles[0].shape[:2])
    exact = max(height, width) <= _SMALL
    gap = max(2, width // 24)
    rows = math.ceil(len(tiles) / columns)
    whole = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4 if exact else 3), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        colours = tile if tile.ndim == 3 else np.repeat(tile[..., None], 3, axis=2)
        whole[top : top + height, left : left + width, :3] = colours.repeat(times, 0).repeat(times, 1)
        whole[top : top + height, left : left + width, 3:] = 255
    return el(
        "img", src=uri(whole, None if exact else _QUALITY), alt=alt, class_=f"wide{' pixelated' * exact}",
        width=whole.shape[1], height=whole.shape[0], style=None if widest is None else f"max-width:{columns * widest}px",
    )  # fmt: skip


def sheet(images: Array, side: int = 32) -> tuple[str, int, int]:
    """[N, C, H, W] as thumbnails on one sheet, row by row: (data: URI, columns, side). Proportions are kept on black."""
    from PIL import Image

    columns = max(1, math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    whole = Image.new("RGB", (columns * side, rows * side))
    for i, image in enumerate(images):
        small = Image.fromarray(np.ascontiguousarray(to_pixels(image))).convert("RGB")
        small.thumbnail((side, side))
        if max(small.size) < side:  # thumbnail() only makes smaller
            factor = side / max(small.size)
            small = small.resize((max(1, round(small.width * factor)), max(1, round(small.height * factor))))
        left, top = (side - small.width) // 2, (side - small.height) // 2
        whole.paste(small, ((i % columns) * side + left, (i // columns) * side + top))
    return uri(np.asarray(whole), 82), columns, side


def vector(svg: str, alt: str) -> Markup:
    """An SVG document as an image: nothing in it can reach the page. It shrinks with the screen, to two thirds of its size."""
    coded = base64.b64encode(svg.encode()).decode()
    found = re.search(r'<svg[^>]*\bwidth="([\d.]+)pt"', svg)
    width = float(found[1]) * 4 / 3 if found else 640.0  # points to pixels
    style = f"min-width:{width * 0.62:.0f}px;max-width:{width:.0f}px"
    return el("img", src=f"data:image/svg+xml;base64,{coded}", alt=alt, class_="drawing", style=style)
