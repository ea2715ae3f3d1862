"""Image files as people have them: 16 bits, palettes, transparency, CMYK. Nothing may be cut off silently."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.data import paired
from warploom.data.folder import read_image

RAMP = np.tile(np.arange(64, dtype=np.uint16) * 1040, (64, 1))  # 0 to 65,520
BYTES = np.rint(RAMP / 257.0).astype(np.uint8)


def saved(pixels: Any, path: Path, **options: Any) -> Path:
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_with_16_bits(ending: str, channels: int, tmp_path: Path) -> None:
    read = read_image(saved(RAMP, tmp_path / f"a.{ending}"), channels, (64, 64))[0]
    assert np.array_equal(read, np.stack([BYTES] * channels))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused(kind: Any, tmp_path: Path) -> None:
    path = saved(RAMP.astype(kind), tmp_path / "a.tif")
    with pytest.raises(wl.DataError, match=r"a.tif .* no known range: save it with 8 or 16"):
        read_image(path, 1, (64, 64))[0]


def test_palettes_transparency_and_cmyk(tmp_path: Path) -> None:
    color = np.stack([BYTES, 255 - BYTES, np.full_like(BYTES, 40)], axis=2)
    flat = Image.fromarray(color).quantize(64)
    wanted = np.asarray(flat.convert("RGB")).transpose(2, 0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(saved(flat, tmp_path / "p.png"), 3, (64, 64))[0], wanted)
        clear = saved(flat, tmp_path / "t.png", transparency=bytes([0] * 10 + [255] * 54))
        assert np.array_equal(read_image(clear, 3, (64, 64))[0], wanted)  # what is transparent keeps its color
        alpha = np.dstack([color, np.full_like(BYTES, 7)])
        assert np.array_equal(read_image(saved(alpha, tmp_path / "a.png"), 3, (64, 64))[0], color.transpose(2, 0, 1))
        cmyk = read_image(saved(Image.fromarray(color).convert("CMYK"), tmp_path / "c.tif"), 3, (64, 64))[0]
        assert np.array_equal(cmyk, color.transpose(2, 0, 1))


def test_depth_maps_with_16_bits(tmp_path: Path) -> None:
    for i in range(2):
        for name, pixels in (("bg", BYTES), ("fg_bg", BYTES), ("depth", RAMP), ("mask", BYTES)):
            (tmp_path / name).mkdir(exist_ok=True)
            saved(pixels, tmp_path / name / f"{i}.png")
    training, testing = paired.load("composites", tmp_path, 64, 64)
    assert np.array_equal(training["depth"][0, 0], BYTES)
    assert np.array_equal(testing["depth"][0, 0], BYTES)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "holds NaN in image 3"), (np.inf, "infinity in image 3"), (-np.inf, "infinity in image 3")]
)
def test_numbers_that_are_none(value: float, said: str, tmp_path: Path) -> None:
    images = np.zeros((5, 3, 32, 32), np.float32)
    images[3, 1, 2, 3] = value
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(wl.DataError, match=said):
        wl.data.load(str(tmp_path / "x.npy"))


def test_pickles_are_not_recommended(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("hello world")
    with pytest.raises(wl.DataError) as caught:
        wl.data.load(str(tmp_path / "x.npy"))
    assert "allow_pickle" not in str(caught.value)
