"""Images changed at random: by seed, epoch and sample alone, whatever the batch, and the same in a training that goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl

IMAGES = np.random.default_rng(0).random((30, 3, 8, 10), np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (30, 3, 8, 10), np.uint8)
ALL: dict[str, Any] = {"flip": True, "shift": 2, "noise": 0.1, "cutout": 3}


@pytest.mark.parametrize("images", [IMAGES, BYTES], ids=["float32", "uint8"])
def test_a_sample_depends_on_its_number_and_the_epoch_alone(images: np.ndarray) -> None:
    for part in (0, 1):
        whole = wl.data.augmented(images, **ALL)[part]
        assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
        whole.epoch = 3
        order = np.random.default_rng(2).permutation(30)
        all_at_once = whole[order]
        single = np.concatenate([whole[i : i + 1] for i in order])
        assert all_at_once.tobytes() == single.tobytes()
        whole.epoch = 4
        assert (whole[order] != all_at_once).any(axis=(1, 2, 3)).mean() > 0.8, "another epoch changes others"
        other = wl.data.augmented(images, **ALL, seed=1)[part]
        other.epoch = 3
        assert (other[order] != all_at_once).any(axis=(1, 2, 3)).mean() > 0.8


def test_flips_and_shifts_are_those_of_a_mirrored_image() -> None:
    x, y = wl.data.augmented(IMAGES, flip=True, shift=2)
    np.testing.assert_array_equal(x[:], y[:])
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    found = set()
    for image, made in zip(padded, x[:], strict=True):
        places = [
            (flip, dy, dx)
            for flip in (False, True)
            for dy in range(5)
            for dx in range(5)
            if ((image[:, :, ::-1] if flip else image)[:, dy : dy + 8, dx : dx + 10] == made).all()
        ]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 15
    assert 0.1 < np.mean([flip for flip, *_ in found]) < 0.9


def test_noise_and_holes_are_in_the_input_only() -> None:
    x, y = wl.data.augmented(IMAGES, noise=0.1)
    np.testing.assert_array_equal(y[:], IMAGES)
    noise = x[:] - IMAGES
    assert abs(noise.std() - 0.1) < 0.005
    assert abs(noise.mean()) < 0.005
    assert np.abs(np.corrcoef(noise.reshape(30, -1)) - np.eye(30)).max() < 0.3, "each sample has noise of its own"
    bytes_noise = wl.data.augmented(BYTES // 2 + 64, noise=0.05)[0][:].astype(float) - (BYTES // 2 + 64)
    assert abs(bytes_noise.std() - 0.05 * 255) < 0.7
    x, y = wl.data.augmented(IMAGES + 1, cutout=3)
    np.testing.assert_array_equal(y[:], IMAGES + 1)
    holes = (x[:] == 0).all(axis=1)
    assert ((x[:] == IMAGES + 1) | holes[:, None]).all()
    assert set(holes.sum(axis=(1, 2))) <= {4, 6, 9}
    assert len({tuple(np.argwhere(h)[0]) for h in holes}) > 10


def made() -> wl.Model:
    x = wl.Input((3, 8, 10))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c")(x), name="seeing")
    model.compile(wl.optim.Adam(1e-2), batch_size=7, seed=1, device="cpu")
    return model


def test_a_training_that_goes_on_sees_the_same() -> None:
    whole, halves = made(), made()
    losses = whole.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, verbose=False)["loss"]
    halves.fit(*wl.data.augmented(IMAGES, **ALL), epochs=2, verbose=False)
    rest = halves.fit(*wl.data.augmented(IMAGES, **ALL), epochs=4, start=halves.progress, verbose=False)["loss"]
    assert rest == losses[2:]
    assert whole.state_dict()["c.weight"].tobytes() == halves.state_dict()["c.weight"].tobytes()
    assert whole.state_dict()["c.weight"].tobytes() != made().state_dict()["c.weight"].tobytes()


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (IMAGES[0], {}, "as an array"),
        (IMAGES.astype(float), {}, "uint8 or float32"),
        (IMAGES, {"shift": 8}, "8 pixels on their short side"),
        (IMAGES, {"cutout": 9}, "8 pixels on their short side"),
        (IMAGES, {"noise": -1.0}, "noise"),
        (IMAGES, {"shift": -1}, "shift must be at least 0"),
    ],
)
def test_what_is_refused(images: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(wl.Error, match=said):
        wl.data.augmented(images, **options)
