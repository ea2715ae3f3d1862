"""Recipes: their networks against the definitions in float64, and what they are for: classes without labels in the learning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from warploom import features as F
from warploom.classify.squared_hinge import fit_linear
from warploom.inference.features import side_by_side
from warploom.recipes import kernel_network, parts, patch_autoencoder, whitened_dictionary

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from features import randomised

SMALL: dict[str, dict[str, Any]] = {
    "whitened_dictionary": {"centres": 16, "patches": 2000, "iterations": 3},
    "winner_take_all": {"filters": 16, "patches": 2000, "epochs": 2},
    "denoising": {"filters": 16, "patches": 2000, "epochs": 2},
    "kernel_network": {"filters": (8, 12), "pools": (2, 3), "patches": 2000, "iterations": 3, "whitening": 5},
    "joined": {"filters": (8, 12), "wide": (6, 16), "pools": (2, 3), "centres": 16, "patches": 4000, "iterations": 3},
    "wide_filters": {"filters": 12, "patch": 9, "patches": 2000, "iterations": 3, "regions": 2},
    "plain": {"epochs": 1, "preset": "sharp"},
}
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()]


def pictures(count: int = 40, size: int = 16, seed: int = 0) -> Any:
    """Smooth noise of three colours, uint8."""
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal((count, 3, size // 4, size // 4)).repeat(4, 2).repeat(4, 3) + 0.5 * rng.standard_normal(
        (count, 3, size, size)
    )
    return np.clip(128 + 50 * rough, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("threshold", "windows"), [(0.0, ((0, 6), (5, 11))), (0.2, ((0, 5), (3, 8), (6, 11))), (0.1, ((0, 11),))]
)
def test_dictionary_by_its_definition(threshold: float, windows: tuple[tuple[int, int], ...]) -> None:
    """windows: of 11 places in height and width, whose means are the features; neighbours share what is no multiple."""
    images = pictures()
    rows = F.contrast_normalised(F.sample_patches(images, 6, 2000, 1))
    whitening = F.fit_whitening(rows, 0.1, mirror=(3, 6, 6))
    centres = F.kmeans(whitening(rows), 16, iterations=3, seed=1, mirror=(3, 6, 6))
    regions = len(windows)
    model = whitened_dictionary.network((3, 16, 16), whitening, centres, 6, threshold, regions, True)
    model.compile(device="cpu", batch_size=3)
    got = model.predict(images[:3])
    seen = np.lib.stride_tricks.sliding_window_view(images[:3] / 255.0, (6, 6), axis=(2, 3))
    patches = seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 108)
    p = patches - patches.mean(1, keepdims=True)
    p /= np.sqrt((p**2).mean(1, keepdims=True) + 10 / 255**2)
    u = (p - whitening.mean) @ whitening.matrix.astype(float)
    z2 = ((u[:, None] - centres) ** 2).sum(2)
    mean = z2.mean(1, keepdims=True)
    code = np.maximum((mean - z2) / (2 * np.sqrt(mean)) - threshold, 0).reshape(3, 11, 11, 8, 2)
    both = of_pairs(code, windows)
    np.testing.assert_allclose(got[..., 0].reshape(3, 8, regions, regions), both.transpose(2, 3, 1, 0), rtol=2e-3, atol=2e-3)


def of_pairs(code: Any, windows: tuple[tuple[int, int], ...]) -> Any:
    """[regions, regions, N, pairs]: roots of the means over windows of codes [N, H, W, pairs, 2], of a pair the mean of the first
    and of the second with left and right exchanged."""
    each = [slice(*window) for window in windows]
    means = np.sqrt([[code[:, a, b].mean((1, 2)) for b in each] for a in each])
    return (means[..., 0] + means[:, ::-1, ..., 1]) / 2


@pytest.mark.parametrize("name", ["winner_take_all", "denoising"])
def test_filters_of_an_autoencoder_by_their_definition(name: str) -> None:
    """A filter of length 1 and its mirror image, silent on nine tenths of the patches that it was learnt from."""
    images = pictures()
    model = wl.recipes.learn(name, images, seed=1, regions=1, **SMALL[name])
    weights = model.state_dict()
    filters, bias = weights["filters.weight"][:, :, 0, 0].astype(float), weights["filters.bias"].astype(float)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1.0, rtol=1e-5)
    turned = filters[0::2].reshape(-1, 3, 6, 6)[..., ::-1].reshape(-1, 108)
    np.testing.assert_array_equal(filters[1::2], turned)
    np.testing.assert_array_equal(bias[1::2], bias[0::2])
    rows = F.contrast_normalised(F.sample_patches(images, 6, 2000, 1))
    whitening = F.fit_whitening(rows, 0.1, mirror=(3, 6, 6))
    rows = whitening(rows).astype(float)
    level = (rows**2).sum(1).mean()
    lengths = np.sqrt((rows**2).sum(1, keepdims=True) + level)
    np.testing.assert_allclose(((rows / lengths) @ filters[0::2].T > -bias[0::2]).mean(0), 0.1, atol=0.01)
    seen = np.lib.stride_tricks.sliding_window_view(images[:3] / 255.0, (6, 6), axis=(2, 3))
    p = seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 108)
    p = p - p.mean(1, keepdims=True)
    u = (p / np.sqrt((p**2).mean(1, keepdims=True) + 10 / 255**2) - whitening.mean) @ whitening.matrix.astype(float)
    u /= np.sqrt((u**2).sum(1, keepdims=True) + level)
    code = np.maximum(u @ filters.T + bias, 0).reshape(3, 11, 11, 8, 2)
    got = model.predict(images[:3])[..., 0].reshape(3, 8, 1, 1)
    np.testing.assert_allclose(got, of_pairs(code, ((0, 11),)).transpose(2, 3, 1, 0), rtol=2e-3, atol=2e-3)


def test_the_autoencoder_finds_what_patches_are_made_of() -> None:
    """Patches of a few directions each, out of twelve and their mirror images: a filter for each of them is learnt."""
    rng = np.random.default_rng(0)
    made_of = np.linalg.qr(rng.standard_normal((48, 12)))[0].T.astype(np.float32)
    amounts = rng.exponential(1.0, (20_000, 12)) * (rng.random((20_000, 12)) < 0.1)
    rows = (amounts @ made_of).astype(np.float32)
    learnt = patch_autoencoder.directions(
        rows, (3, 4, 4), 48, share=0.05, noise=0.0, epochs=8, learning_rate=1e-2, seed=0, progress=lambda what, share: None
    )
    drawn = rng.standard_normal(learnt.shape)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    for truth in (made_of, F.mirrored(made_of, (3, 4, 4))):
        assert (truth @ learnt.T).max(1).min() > 0.7
        assert (truth @ drawn.T).max(1).max() < 0.6


def test_the_triangle_is_nearly_that_of_distances() -> None:
    """What the network computes in place of max(0, mean z - z): the same codes but for a few per cent."""
    rows = F.contrast_normalised(F.sample_patches(pictures(), 6, 3000, 1))
    whitening = F.fit_whitening(rows, 0.1)
    u = whitening(rows)
    centres = F.kmeans(u, 32, iterations=5, seed=1)
    z = np.linalg.norm(u[:500, None] - centres, axis=2)
    true = np.maximum(z.mean(1, keepdims=True) - z, 0)
    mean = (z**2).mean(1, keepdims=True)
    ours = np.maximum((mean - z**2) / (2 * np.sqrt(mean)), 0)
    assert np.corrcoef(true.ravel(), ours.ravel())[0, 1] > 0.98


def test_kernel_network_by_its_definition() -> None:
    images = pictures(30, 12)
    x = wl.Input((3, 12, 12))
    weights: parts.Weights = {}
    rng = np.random.default_rng(0)
    z = rng.standard_normal((8, 27)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    model = parts.filled(wl.Model(x, kernel_network._layer(x, z, 3, 0.6, 2, "layer1", weights)), weights)
    model.compile(device="cpu", batch_size=4)
    pixels = images[:4] / 255.0
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27)
    length = np.linalg.norm(patches, axis=1, keepdims=True)
    kernel = np.exp((patches @ z.T / length - 1) / 0.36)
    values, vectors = np.linalg.eigh(np.exp((z.astype(float) @ z.T - 1) / 0.36) + 1e-3 * np.eye(8))
    maps = (length * (kernel @ (vectors / np.sqrt(values)) @ vectors.T)).reshape(4, 12, 12, 8)
    bell = np.exp(-((np.arange(4) - 1.5) ** 2) / 4.0)
    bell /= bell.sum()
    maps = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    right = np.stack(
        [
            np.stack([np.einsum("nhwc,h,w->nc", maps[:, i : i + 4, j : j + 4], bell, bell) for j in range(0, 12, 2)], -1)
            for i in range(0, 12, 2)
        ],
        -2,
    )
    np.testing.assert_allclose(model.predict(images[:4]), right, rtol=2e-3, atol=2e-3)


def test_wide_filters_by_their_definition() -> None:
    """Whitened images, matched with unit filters, over lengths; maxima over quarters, less a threshold; both of a pair."""
    images = pictures()
    model = wl.recipes.learn("wide_filters", images, seed=1, **SMALL["wide_filters"])
    weights = model.state_dict()
    filters = weights["filters.weight"].astype(float).reshape(12, -1)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(weights["filters.weight"][1::2], weights["filters.weight"][0::2, ..., ::-1])

    def windows(maps: Any, side: int) -> Any:
        padded = np.pad(maps, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
        return seen.transpose(0, 2, 3, 1, 4, 5).reshape(*maps.shape[:1], 16, 16, -1)

    whitened = windows(images / 255.0, 7) @ weights["whitening.weight"].astype(float).reshape(3, -1).T
    whitened = whitened.transpose(0, 3, 1, 2)
    inside = np.lib.stride_tricks.sliding_window_view(whitened, (9, 9), axis=(2, 3))
    level = (inside**2).sum((1, 4, 5)).mean()
    rows = windows(whitened, 9)
    matches = rows @ filters.T / np.sqrt((rows**2).sum(3, keepdims=True) + level)
    most = np.stack([matches[:, a : a + 8, b : b + 8].max((1, 2)) for a in (0, 8) for b in (0, 8)], 1).reshape(40, 2, 2, 12)
    code = np.sqrt(np.maximum(most + weights["threshold.bias"], 0)).reshape(40, 2, 2, 6, 2)
    right = (code[..., 0] + code[:, :, ::-1, :, 1]) / 2
    got = model.predict(images).reshape(40, 6, 2, 2)
    np.testing.assert_allclose(got, right.transpose(0, 3, 2, 1), atol=2e-2)  # the level is of patches drawn
    middle = np.sort(matches[:, 4:12, 4:12].ravel())  # of windows that lie inside the image
    assert -weights["threshold.bias"][0] == pytest.approx(middle[int(0.9 * len(middle))], abs=0.02)


@pytest.mark.parametrize(("height", "width", "places"), [(32, 32, (3, 3)), (24, 40, (2, 3)), (64, 48, (3, 3)), (5, 5, (3, 3))])
def test_the_features_of_larger_images_are_no_more(height: int, width: int, places: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 3, height, width), dtype=np.uint8)
    few = {"filters": (4, 6), "patches": 200, "iterations": 1}
    features = wl.recipes.learn("kernel_network", images, pools=2, **few).encode(images[:2])
    assert features.shape == (2, 3 * places[1], places[0], 1)
    if height == width == 32:
        assert np.array_equal(features, wl.recipes.learn("kernel_network", images, pools=(2, 6), **few).encode(images[:2]))


@pytest.mark.parametrize(("height", "width", "factor"), [(12, 12, 2), (13, 12, 2), (16, 15, 6), (12, 17, 5), (3, 4, 6)])
def test_gaussian_pooling_and_mirroring_may_be_exchanged(height: int, width: int, factor: int) -> None:
    weights: parts.Weights = {}
    x = wl.Input((3, height, width))
    model = parts.filled(wl.Model(x, parts.gaussian_pool(x, factor, "pool", weights)), weights)
    maps = np.random.default_rng(0).random((2, 3, height, width), np.float32)
    pooled = model.predict(maps)
    assert pooled.shape == (2, 3, -(-height // factor), -(-width // factor))
    for axis in (2, 3):
        np.testing.assert_allclose(model.predict(np.flip(maps, axis)), np.flip(pooled, axis), rtol=1e-5)


@pytest.mark.parametrize("name", ["kernel_network", "whitened_dictionary", "joined", "wide_filters"])
def test_an_image_and_its_mirror_image_have_the_same_features(name: str) -> None:
    images = pictures()
    model = wl.recipes.learn(name, images, seed=1, **SMALL[name])
    features, turned = model.encode(images), model.encode(images[..., ::-1])
    assert features.std() > 1e-3
    np.testing.assert_allclose(turned, features, rtol=1e-3, atol=1e-4)


def glyphs(count: int, seed: int) -> tuple[Any, Any]:
    """Noise with marks of one of four kinds, turned any way, light or dark: no pixel and no colour tells the kind."""
    rng = np.random.default_rng(seed)
    kinds = np.zeros((4, 5, 5))
    kinds[0, 2, :] = kinds[0, :, 2] = kinds[1][np.eye(5) > 0] = kinds[1][np.eye(5)[::-1] > 0] = 1  # plus, cross
    kinds[2, 0, :] = kinds[2, :, 0] = kinds[3, 0, :] = kinds[3, :, 2] = 1  # corner, T
    labels = rng.integers(0, 4, count)
    images = 0.5 + 0.1 * rng.standard_normal((count, 3, 16, 16))
    for image, label in zip(images, labels, strict=True):
        for _ in range(6):
            top, left = rng.integers(0, 12, 2)
            mark = np.rot90(kinds[label], rng.integers(4)) * rng.choice([-0.25, 0.25])
            image[:, top : top + 5, left : left + 5] += mark * rng.uniform(0.5, 1, (3, 1, 1))
    return np.clip(255 * images, 0, 255).astype(np.uint8), labels


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kernel_network", {"filters": (16, 64), "patches": 10000, "iterations": 8}),
        ("whitened_dictionary", {"centres": 32, "patches": 10000, "iterations": 8}),
        ("winner_take_all", {"filters": 32, "patches": 40000, "share": 0.1, "learning_rate": 1e-2, "epochs": 16}),
    ],
)
def test_learnt_filters_tell_classes_that_random_ones_and_pixels_do_not(name: str, arguments: dict[str, Any]) -> None:
    """From images to test accuracy: the filters, the features, and a classifier that chooses its own penalty."""
    images, labels = glyphs(1100, 0)
    train, test = slice(0, 500), slice(500, 1100)

    def accuracy(features: Any) -> float:
        rows = features.reshape(len(features), -1).astype(np.float32)
        return fit_linear(rows[train], labels[train]).classifier.accuracy(rows[test], labels[test])

    model = wl.recipes.learn(name, images[train], **arguments)
    learnt, random = accuracy(model.encode(images)), list[float]()
    for seed in range(5):  # one draw may be lucky
        randomised(model, seed, 0.6)
        random.append(accuracy(model.encode(images)))
    pixels = accuracy(images / 255.0)
    print(f"{name}: learnt {learnt:.3f}, random {np.mean(random):.3f}, pixels {pixels:.3f}")
    assert learnt > 0.55
    assert max(float(np.mean(random)), pixels) < learnt - 0.07


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_is_repeatable_saved_and_asks_for_no_labels(name: str, tmp_path: Any) -> None:
    images = pictures()
    said: list[tuple[str, float]] = []
    model = wl.recipes.learn(name, images, seed=3, progress=lambda what, share: said.append((what, share)), **SMALL[name])
    features = model.encode(images[:9])
    assert np.isfinite(features).all()
    if name != "plain":  # whose ReLUs may be silent
        assert features.reshape(9, -1).std(0).min() > 0, "every feature says something"
    again = wl.recipes.learn(name, images, seed=3, **SMALL[name])
    assert np.array_equal(again.encode(images[:9]), features)
    other = wl.recipes.learn(name, images, seed=4, **SMALL[name])
    assert not np.array_equal(other.encode(images[:9]), features)
    model.save(tmp_path / "model.safetensors")
    loaded = wl.load(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.encode(images[:9], batch_size=16), features)
    assert any(what in ("k-means", "filters", "filters of layer 2", "autoencoder") and share == 1.0 for what, share in said)


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize("name", SMALL)
def test_every_version_computes_them(target: Any, name: str) -> None:
    images = pictures()
    model = wl.recipes.learn(name, images, seed=3, **SMALL[name])
    right = model.encode(images[:2])
    model.compile(version=target.version, device=target.device, batch_size=2)
    np.testing.assert_allclose(model.encode(images[:2]), right, rtol=5e-3, atol=5e-3 * np.abs(right).max())


def test_mirror_images_have_the_same_features() -> None:
    images = pictures()
    model = wl.recipes.learn("whitened_dictionary", images, **SMALL["whitened_dictionary"])
    as_they_are, mirrored = model.encode(images[:6]), model.encode(np.ascontiguousarray(images[:6, :, :, ::-1]))
    np.testing.assert_allclose(mirrored, as_they_are, atol=1e-3 * as_they_are.max())
    upside_down = model.encode(np.ascontiguousarray(images[:6, :, ::-1]))
    assert np.abs(upside_down - as_they_are).max() > 0.05 * as_they_are.max()


def test_joined_features_are_those_of_its_members() -> None:
    images, small = pictures(), SMALL["joined"]
    model = wl.recipes.learn("joined", images, seed=2, **small)
    network = {"pools": (2, 3), "iterations": 3, "root": True, "patches": small["patches"] // 2}
    members: list[tuple[str, dict[str, Any]]] = [
        ("kernel_network", {"filters": (8, 12), **network}),
        ("kernel_network", {"filters": (6, 16), **network}),
        ("whitened_dictionary", {"centres": 16, "iterations": 3, "patches": small["patches"]}),
    ]
    each = [wl.recipes.learn(name, images, seed=2, **more).encode(images[:5]) for name, more in members]
    right = np.concatenate([features.reshape(5, -1) for features in each], axis=1)
    np.testing.assert_allclose(model.encode(images[:5]), right, rtol=1e-3, atol=1e-4)
    assert side_by_side(model) == [features[0].size for features in each]
    assert side_by_side(wl.recipes.learn("kernel_network", images, **SMALL["kernel_network"])) == []
    plain = wl.recipes.learn("kernel_network", images, seed=2, **(members[0][1] | {"root": False}))
    signed = plain.encode(images[:5])
    np.testing.assert_allclose(np.sign(signed) * np.abs(signed) ** 0.5, each[0], rtol=1e-3, atol=1e-4)


def test_other_sizes_and_channels() -> None:
    grey = pictures(30, 20)[:, :1, :, :16]
    for name, arguments in SMALL.items():
        images = pictures(30, 20)[..., :16] if name == "plain" else grey  # whose network has three channels
        model = wl.recipes.learn(name, images, **arguments)
        assert model.inputs[0].shape == images.shape[1:]
        assert np.isfinite(model.encode(images[:2])).all()
    with pytest.raises(wl.ArgumentError, match="recipe plain expects images of 3 channels, not 1"):
        wl.recipes.learn("plain", grey)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("whitened", {}, "unknown recipe 'whitened'; expected one of"),
        ("whitened_dictionary", {"centers": 10}, "has no argument 'centers'; it has centres"),
        ("whitened_dictionary", {"centres": 15}, "must be even, not 15"),
        ("whitened_dictionary", {"patch": 16}, "too small for patches of 16x16"),
        ("plain", {"epochs": -1}, "epochs must be"),
        ("kernel_network", {"filters": "many"}, "filters must be whole numbers above 0, such as 64x1024, not 'many'"),
        ("kernel_network", {"pools": (2, 0)}, "pools must be whole numbers above 0"),
        ("kernel_network", {"filters": ()}, "filters must be whole numbers above 0"),
        ("kernel_network", {"root": 3}, "root must be true or false, not 3"),
        ("kernel_network", {"sigma": "wide"}, "sigma must be a number, such as 0.6"),
        ("whitened_dictionary", {"centres": 16.5}, "centres must be a whole number, such as 1600, not 16.5"),
        ("wide_filters", {"filters": 9}, "filters must be even, not 9"),
        ("wide_filters", {"patch": 6}, "patch must be odd"),
        ("wide_filters", {"patch": 17}, "do not fit into images of 16x16"),
        ("joined", {"wide": (8, 4, 2)}, "lists of equal length"),
        ("kernel_network", {"filters": (8,), "pools": (2, 2)}, "lists of equal length"),
        ("kernel_network", {"window": 4}, "window must be odd"),
        ("joined", {"filters": (8, 7)}, "each number of filters must be even"),
        ("joined", {"centres": 15}, "must be even, not 15"),
        ("kernel_network", {"filters": (8, 7)}, "each number of filters must be even"),
    ],
)
def test_what_is_refused(name: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(wl.ArgumentError, match=text):
        wl.recipes.learn(name, pictures(), **arguments)
