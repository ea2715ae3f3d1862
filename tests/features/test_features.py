"""What learns filters: patches, whitening, k-means, silhouettes; each against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom import features as F

SHAPE = (3, 4, 4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_patches_are_pieces_of_the_images(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, 3, 9, 7), dtype=np.uint8)
    patches = F.sample_patches(images, 4, 300, seed=1)
    assert patches.shape == (300, 48)
    assert patches.dtype == np.float32
    windows = np.lib.stride_tricks.sliding_window_view(images, (4, 4), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(-1, 48)
    known = {row.tobytes() for row in windows}
    assert all(row.tobytes() in known for row in np.rint(patches * 255).astype(np.uint8))
    assert len({row.tobytes() for row in patches}) > 80, "they come from all over"
    assert np.array_equal(patches, F.sample_patches(images, 4, 300, seed=1))
    assert not np.array_equal(patches, F.sample_patches(images, 4, 300, seed=2))
    assert np.array_equal(patches, F.sample_patches(images.astype(np.float32) / 255, 4, 300, seed=1))


def test_contrast_normalisation() -> None:
    flat, steep = np.full((1, 12), 0.3, np.float32), np.linspace(0, 1, 12, dtype=np.float32)[None]
    assert np.abs(F.contrast_normalised(flat)).max() < 1e-4
    got = F.contrast_normalised(steep, eps=1e-9)
    assert got.mean() == pytest.approx(0, abs=1e-6)
    assert got.std() == pytest.approx(1, rel=1e-4)


def test_mirroring_twice_is_nothing(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((6, 48)).astype(np.float32)
    assert np.array_equal(F.mirrored(F.mirrored(rows, SHAPE), SHAPE), rows)
    assert np.array_equal(F.mirrored(rows, SHAPE).reshape(6, *SHAPE), rows.reshape(6, *SHAPE)[..., ::-1])
    pairs = (2, 2, SHAPE[1], 48 // (4 * SHAPE[1]))
    assert np.array_equal(F.mirrored(rows, pairs).reshape(6, *pairs), rows.reshape(6, *pairs)[:, :, ::-1, :, ::-1])


def test_whitened_rows_vary_alike(rng: np.random.Generator) -> None:
    rows = (rng.standard_normal((20000, 48)) @ rng.standard_normal((48, 48)) + 3).astype(np.float32)
    white = F.fit_whitening(rows, 1e-6)(rows)
    np.testing.assert_allclose(np.cov(white.T), np.eye(48), atol=0.01)
    np.testing.assert_allclose(white.mean(0), 0, atol=0.01)
    shrunk = F.fit_whitening(rows, 1e6)
    assert np.abs(shrunk.matrix - np.eye(48) * 1e-3).max() < 1e-4, "a large eps leaves nothing but a scale"


def test_whitening_and_mirroring_may_be_exchanged(rng: np.random.Generator) -> None:
    rows = (rng.standard_normal((500, 48)) @ rng.standard_normal((48, 48))).astype(np.float32)
    white = F.fit_whitening(rows, 0.1, mirror=SHAPE)
    np.testing.assert_allclose(white(F.mirrored(rows, SHAPE)), F.mirrored(white(rows), SHAPE), atol=2e-4)
    plain = F.fit_whitening(rows, 0.1)
    assert np.abs(plain(F.mirrored(rows, SHAPE)) - F.mirrored(plain(rows), SHAPE)).max() > 0.1


def groups(rng: np.random.Generator, centres: Any, each: int = 200) -> Any:
    rows = np.concatenate([c + 0.05 * rng.standard_normal((each, len(c))) for c in centres]).astype(np.float32)
    return rows[rng.permutation(len(rows))]


@pytest.mark.parametrize("method", [F.kmeans, F.spherical_kmeans])
def test_centres_are_found(rng: np.random.Generator, method: Any) -> None:
    centres = np.eye(8, dtype=np.float32)[:4]
    found = method(groups(rng, centres), 4, iterations=20, seed=5)
    # Each centre has one found beside it, unless two share a group and the rest another: seed 5 is not such a start.
    distances = np.linalg.norm(centres[:, None] - found, axis=2)
    assert sorted(distances.argmin(1)) == [0, 1, 2, 3]
    assert distances.min(1).max() < 0.05
    assert np.array_equal(found, method(groups(np.random.default_rng(7), centres), 4, iterations=20, seed=5))


def test_a_step_of_kmeans_is_lloyds(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20000, 6)).astype(np.float32)  # more than a block
    before, after = (F.kmeans(rows, 5, iterations=n, seed=2).astype(float) for n in (3, 4))
    nearest = ((rows[:, None].astype(float) - before) ** 2).sum(2).argmin(1)
    np.testing.assert_allclose(after, [rows[nearest == k].mean(0) for k in range(5)], atol=1e-5)


def test_mirrored_pairs(rng: np.random.Generator) -> None:
    one = rng.standard_normal((2, 48)).astype(np.float32)
    rows = groups(rng, np.concatenate([one, F.mirrored(one, SHAPE)]))
    found = F.kmeans(rows, 4, iterations=15, seed=3, mirror=SHAPE)
    assert np.array_equal(found[1::2], F.mirrored(found[::2], SHAPE))
    for centre in one:
        assert np.linalg.norm(found - centre, axis=1).min() < 0.1


def test_silhouette_by_its_definition(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((40, 3)).astype(np.float32)
    labels = np.array([0] * 15 + [1] * 24 + [2])
    values = []
    for i in range(40):
        distance = np.linalg.norm(rows - rows[i], axis=1)
        own = labels == labels[i]
        own[i] = False
        if not own.any():
            values.append(0.0)
            continue
        a, b = distance[own].mean(), min(distance[labels == k].mean() for k in set(labels) - {labels[i]})
        values.append((b - a) / max(a, b))
    assert F.silhouette(rows, labels) == pytest.approx(np.mean(values), rel=1e-5)
    assert F.silhouette(groups(rng, np.eye(3)), np.zeros(600, int) + (np.arange(600) % 2)) < 0.1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: F.sample_patches(np.zeros((2, 3, 4)), 2, 5), "images of shape"),
        (lambda: F.sample_patches(np.zeros((2, 3, 4, 4)), 5, 5), "do not fit into images of 4x4"),
        (lambda: F.fit_whitening(np.zeros((1, 4), np.float32)), "at least two rows"),
        (lambda: F.fit_whitening(np.zeros((9, 4), np.float32), 0.0), "eps must be positive"),
        (lambda: F.kmeans(np.zeros((3, 4), np.float32), 5), "at least as many rows"),
        (lambda: F.kmeans(np.zeros((9, 4), np.float32), 5, mirror=(1, 2, 2)), "must be even"),
        (lambda: F.silhouette(np.zeros((3, 4), np.float32), np.zeros(3)), "at least two clusters"),
    ],
)
def test_what_is_refused(call: Any, text: str) -> None:
    with pytest.raises(wl.ArgumentError, match=text):
        call()
