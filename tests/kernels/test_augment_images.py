"""augment_images beside its cases in reference.py: the same bits on every device and for every way of batching, and whether the
draws have the distributions that they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import device_mark, kernel_targets
from harness import Target

TARGETS: list[Target] = kernel_targets()


def augment(core: Any, target: Target, images: np.ndarray, numbers: np.ndarray, epoch: int = 0, **changes: Any) -> Any:
    """(x, y) [N, C, H, W] of images[0 .. N - 1] as samples of those numbers."""
    shape = images.shape
    attributes = {
        **dict(zip("NCHW", shape, strict=True)), "images_count": len(images), "rows": len(images), "to": "nchw",
        "dtype": "u8" if images.dtype == np.uint8 else "f32", "seed": 5, **changes,
    }  # fmt: skip
    given = {
        "images": images, "order": np.arange(len(images), dtype=np.int32), "numbers": numbers.astype(np.int32),
        "cursor": np.zeros(1, np.int32), "epoch": np.array([epoch], np.int32),
    }  # fmt: skip
    made = core.call(target.device, target.version, "augment_images", attributes, given, ["x", "y"])
    return made["x"].reshape(shape), made["y"].reshape(shape)


CPU = Target("cpu", "cpu")
NUMBERS = np.array([0, 1, 7, 2**31 - 1, 12, 13])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize(
    "target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS if t.device != "cpu"]
)
def test_the_same_bits_as_on_the_host(core: Any, target: Target, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 9, 14)).astype(dtype)
    changes = {"flip": 1, "shift": 8, "noise": 40.0, "cutout": 4, "scale": 1 / 255}
    for epoch in (0, 3):
        here, there = (augment(core, t, images, NUMBERS, epoch, **changes) for t in (CPU, target))
        assert here[0].tobytes() == there[0].tobytes()
        assert here[1].tobytes() == there[1].tobytes()


def test_a_sample_is_the_same_in_every_batch(core: Any) -> None:
    images = np.random.default_rng(0).random((6, 2, 9, 14), np.float32)
    changes = {"flip": 1, "shift": 3, "noise": 0.5, "cutout": 4}
    x, y = augment(core, CPU, images, NUMBERS, **changes)
    for i in range(6):
        one = augment(core, CPU, images[i : i + 1], NUMBERS[i : i + 1], **changes)
        assert (one[0] == x[i]).all() & (one[1] == y[i]).all()


COUNT = 4000


def chi_square(values: np.ndarray, classes: int) -> float:
    """Over its own deviation, which is sqrt(2 (classes - 1)): about 0 where all classes are as frequent, large where not."""
    seen = np.bincount(values.astype(int), minlength=classes)
    assert len(seen) == classes
    expected = len(values) / classes
    return float((((seen - expected) ** 2 / expected).sum() - (classes - 1)) / np.sqrt(2 * (classes - 1)))


@pytest.mark.parametrize("epoch", [0, 1])
def test_flips_and_shifts_are_even(core: Any, epoch: int) -> None:
    """Images whose pixels say where they stand: row in one channel, column in the other."""
    height, width, shift = 11, 13, 4
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij")).astype(np.float32)
    images = np.broadcast_to(places, (COUNT, 2, height, width)).copy()
    x, y = augment(core, CPU, images, np.arange(COUNT), epoch, flip=1, shift=shift)
    np.testing.assert_array_equal(x, y)
    row, column = x[:, 0, 5, 6], x[:, 1, 5, 6]
    flipped = x[:, 1, 5, 7] < column
    down, right = row - 5 + shift, column - 6 + shift
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(COUNT)
    assert chi_square(down, 2 * shift + 1) < 4
    assert chi_square(right, 2 * shift + 1) < 4
    assert chi_square((2 * shift + 1) * down + right, (2 * shift + 1) ** 2) < 4, "they depend on each other"
    assert chi_square((2 * shift + 1) * flipped + right, 2 * (2 * shift + 1)) < 4
    follows = np.corrcoef([down[1:], down[:-1]])[0, 1]
    assert abs(follows) < 4 / np.sqrt(COUNT), "neighbours depend on each other"


def test_holes_are_anywhere(core: Any) -> None:
    height, width, side = 9, 12, 4
    x, y = augment(core, CPU, np.ones((COUNT, 1, height, width), np.float32), np.arange(COUNT), cutout=side)
    assert (y == 1).all()
    hole = x[:, 0] == 0
    rows, columns = hole.any(axis=2), hole.any(axis=1)
    assert (hole == rows[:, :, None] & columns[:, None, :]).all(), "a rectangle"
    middle = [np.where(e.argmax(1) > 0, e.argmax(1) + side // 2, e.sum(1) - side // 2) for e in (rows, columns)]
    assert chi_square(middle[0], height) < 4
    assert chi_square(middle[1], width) < 4
    assert chi_square(width * middle[0] + middle[1], height * width) < 4


def test_noise_is_normal_and_every_pixel_has_its_own(core: Any) -> None:
    count, deviation = 500, 0.25
    shape = (count, 3, 8, 8)
    x, y = augment(core, CPU, np.full(shape, 0.5, np.float32), np.arange(count), noise=deviation)
    assert (y == 0.5).all()
    noise = ((x - 0.5) / deviation).reshape(count, -1).astype(float)
    many = noise.size
    for power, moment, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):  # of the normal distribution
        assert abs((noise**power).mean() - moment) < 4 * np.sqrt(spread / many), f"moment {power}"
    for each in (noise, noise.T):  # any two pixels, any two samples
        together = each.T @ each / len(each)
        assert np.abs(together - np.diag(np.diag(together))).max() < 6 / np.sqrt(len(each)), "draws depend on each other"
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 4 / np.sqrt(many)
    again, _ = augment(core, CPU, np.full(shape, 0.5, np.float32), np.arange(count), 1, noise=deviation)
    assert abs((noise * ((again - 0.5) / deviation).reshape(count, -1)).mean()) < 4 / np.sqrt(many), "epochs depend on each other"


def test_noisy_bytes_are_bytes(core: Any) -> None:
    grey = np.full((40, 1, 16, 16), 100, np.uint8)
    x, y = augment(core, CPU, grey, np.arange(40), noise=20.0)
    assert (y == 100).all()
    assert (x == np.rint(x)).all()
    assert abs(x.std() - np.sqrt(20.0**2 + 1 / 12)) < 4 * 20 / np.sqrt(2 * x.size)
    for end in (0, 255):
        x, _ = augment(core, CPU, np.full_like(grey, end), np.arange(40), noise=20.0)
        assert 0 <= x.min() <= x.max() <= 255
        assert 0.4 < (x == end).mean() < 0.6, "half of the noise points beyond the end"
