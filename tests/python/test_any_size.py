"""Images of any size and layout in predict(), encode() and reconstruct(): padded, tiled, one at a time, Pillow's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.anysize.resizing import Sizes
from warploom.anysize.running import bytes_of_a_pixel
from warploom.anysize.tiles import ramp, side, spans, starts
from warploom.layers import (
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GroupNorm,
    Latent,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Upsample,
)

RNG = np.random.default_rng(5)


def small(size: tuple[int, int] = (16, 24), channels: int = 3) -> wl.Model:
    """Two halvings: its steps are 4."""
    x = h = wl.Input((channels, *size), name="image")
    h = MaxPool2d(2)(ReLU()(Conv2d(6, 3, padding=1)(h)))
    h = Latent()(LeakyReLU()(Conv2d(4, 4, stride=2, padding=1)(h)))
    h = ReLU()(ConvTranspose2d(5, 4, stride=2, padding=1)(h))
    model = wl.Model(x, Conv2d(channels, 3, padding=1)(Upsample(2)(h)), name="small")
    model.place("cpu", "cpu", "fp32-exact")
    return model


def dense() -> wl.Model:
    """A vector for a latent: one size only."""
    x = wl.Input((3, 8, 12), name="image")
    h = Latent()(Linear(20)(Flatten()(x)))
    model = wl.Model(x, Reshape((3, 8, 12))(Linear(3 * 8 * 12)(h)), name="dense")
    model.place("cpu", "cpu")
    return model


IMAGES = RNG.random((3, 3, 16, 24), np.float32)

ZOO: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("cifar10_autoencoder", {}, (4, 4)),
    ("gray_autoencoder", {"size": 32, "width": 4}, (16, 16)),
    ("gray_autoencoder", {"size": (32, 48), "width": 4, "skips": True, "residual": True}, (16, 16)),
    ("unet_small", {"size": 16, "classes": 4}, (8, 8)),
    ("unet_large", {"size": 16, "classes": 4}, (8, 8)),
    ("dsresnet", {"size": 32, "width": 2}, (32, 32)),
]


@pytest.mark.parametrize(("name", "arguments", "steps"), ZOO)
@pytest.mark.parametrize("size", [(45, 70), (7, 33), (1, 1)])
def test_networks_of_the_zoo_at_any_size(
    name: str, arguments: dict[str, Any], steps: tuple[int, int], size: tuple[int, int]
) -> None:
    model = wl.models.get(name, **arguments)
    model.place("cpu", "cpu")
    assert Sizes(model).steps == steps
    x = [RNG.random((2, t.shape[0], *size), np.float32) for t in model.inputs]
    outputs = model.predict(x if len(x) > 1 else x[0])
    for output, tensor in zip(outputs if isinstance(outputs, list) else [outputs], model.outputs, strict=True):
        assert output.shape == (2, tensor.shape[0], *size)
        assert np.isfinite(output).all()
    if name.endswith("autoencoder"):
        np.testing.assert_array_equal(model.reconstruct(x[0]), outputs)


def test_padding_is_mirrored_and_cropped() -> None:
    model, image = small(), RNG.random((1, 3, 21, 30), np.float32)
    by_hand = np.pad(image, ((0, 0), (0, 0), (0, 3), (0, 2)), mode="reflect")
    whole = model.resized(24, 32).predict(by_hand)
    np.testing.assert_array_equal(model.predict(image), whole[:, :, :21, :30])
    np.testing.assert_array_equal(model.encode(image), model.resized(24, 32).encode(by_hand))
    assert model.encode(image).shape == (1, 4, 6, 8)


@pytest.mark.parametrize("size", [(200, 60), (61, 203), (150, 151)])
def test_tiles_are_the_whole(size: tuple[int, int]) -> None:
    """However an image is cut, its pixels come out as they do from one pass, to the last bits of the sums."""
    model, image = small(), RNG.random((2, 3, *size), np.float32)
    whole = model.predict(image)
    sizes = Sizes(model)
    assert sizes.reach is not None
    budget = int(bytes_of_a_pixel(model, model.engine) * (4 * max(sizes.reach)) ** 2)
    calls: list[tuple[int, ...]] = []
    original = wl.Model._run

    def counted(self: wl.Model, inputs: Any, *more: Any) -> Any:
        calls.append(inputs[0].shape)
        return original(self, inputs, *more)

    wl.Model._run = counted  # type: ignore[method-assign]
    try:
        tiled = model.reconstruct(image, memory=budget)
    finally:
        wl.Model._run = original  # type: ignore[method-assign]
    assert len(calls) > 2
    assert len(set(calls)) == 1
    assert max(calls[0][2:]) < max(size)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)


def test_the_reach_is_enough_and_needed() -> None:
    """A pixel far away changes nothing, one just inside does."""
    model = small((96, 96))
    sizes = Sizes(model)
    assert sizes.reach is not None
    image = np.full((1, 3, 96, 96), 0.5, np.float32)
    before = model.predict(image)
    image[:, :, 48, 48] = 9.0
    changed = np.argwhere(np.abs(model.predict(image) - before).max((0, 1)) > 0)
    assert np.abs(changed - 48).max() <= min(sizes.reach)
    assert min(sizes.reach) < 40


def test_what_sees_everything_is_not_tiled() -> None:
    x = wl.Input((3, 16, 16))
    model = wl.Model(x, GroupNorm(1)(Conv2d(3, 3, padding=1)(x)))
    model.place("cpu", "cpu")
    assert Sizes(model).reach is None
    image = RNG.random((1, 3, 90, 40), np.float32)
    np.testing.assert_array_equal(model.predict(image, memory=1), model.predict(image))


def test_a_network_of_a_fixed_size() -> None:
    model = dense()
    sizes = Sizes(model)
    assert sizes.steps is None
    with pytest.raises(wl.ArgumentError, match=r"model 'dense' takes images of 8x12 only, not 20x30: .*Linear"):
        model.predict(RNG.random((1, 3, 20, 30), np.float32))
    with pytest.raises(wl.ArgumentError, match="takes images of 8x12 only"):
        model.encode(RNG.random((1, 3, 20, 30), np.float32))
    for size in ((20, 30), (8, 40), (5, 7), (1, 90)):
        image = RNG.random((2, 3, *size), np.float32)
        assert model.reconstruct(image).shape == image.shape


def test_windows_of_a_fixed_network_are_blended() -> None:
    """A network that gives its input back gives back images of any size, and shows no seam."""
    square = wl.Input((1, 4, 4))
    same = wl.Model(square, Reshape((1, 4, 4))(Linear(16)(Flatten()(square))), name="same")
    names = same.state_dict()
    eye, zero = np.eye(16, dtype=np.float32), np.zeros(16, np.float32)
    same.load_state_dict({n: eye if n.endswith("weight") else zero for n in names})
    for size in ((4, 4), (9, 23), (3, 5)):
        image = RNG.random((1, 1, *size), np.float32)
        np.testing.assert_allclose(same.reconstruct(image), image, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "tile", "halo"), [(10, 16, 4), (16, 16, 4), (100, 16, 4), (64, 20, 8), (33, 32, 8), (40, 17, 8)]
)
def test_spans_cover_once_and_keep_their_distance(length: int, tile: int, halo: int) -> None:
    found = spans(length, tile, halo)
    kept = [i for s in found for i in range(s.kept.start, s.kept.stop)]
    assert kept == list(range(length))
    for s in found:
        assert s.read.stop - s.read.start == min(tile, length)
        assert s.read.start == 0 or s.kept.start - s.read.start >= halo
        assert s.read.stop == length or s.read.stop - s.kept.stop >= halo


def test_windows_cover_everything() -> None:
    for length, tile in ((4, 4), (5, 4), (23, 4), (100, 32), (3, 4)):
        found = starts(length, tile)
        assert found[0] == 0
        assert found[-1] == max(0, length - tile)
        assert all(b - a <= tile - tile // 4 for a, b in itertools.pairwise(found))
    assert ramp(8, 8).min() > 0
    assert side(10_000, 8, 4) == 96
    assert side(10, 8, 24) == 96


LAYOUTS = {
    "NHWC": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)),
    "CHW": lambda x: x[0],
    "HWC": lambda x: np.ascontiguousarray(x[0].transpose(1, 2, 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(16, 24), (13, 30)])
def test_outputs_have_the_layout_of_the_input(layout: str, size: tuple[int, int]) -> None:
    model, x = small(), RNG.random((2, 3, *size), np.float32)
    given = LAYOUTS[layout](x)
    wanted = LAYOUTS[layout](model.predict(x[: 1 if layout[0] != "N" else 2]))
    for call in (model.predict, model.reconstruct):
        made = call(given)
        assert made.shape == given.shape
        np.testing.assert_allclose(made, wanted, atol=1e-6)
    latent = model.encode(x[: 1 if layout[0] != "N" else 2])
    np.testing.assert_allclose(model.encode(given), latent if layout[0] == "N" else latent[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 16, 24), (16, 24), (1, 16, 24), (2, 1, 16, 24), (16, 24, 1)])
def test_grey_images(shape: tuple[int, ...]) -> None:
    model, x = small(channels=1), RNG.random(shape, np.float32)
    assert model.predict(x).shape == shape
    assert model.reconstruct(x).shape == shape
    assert model.encode(x).shape[-3:] == (4, 4, 6)
    assert model.encode(x).ndim == (4 if len(shape) == 4 or shape[0] == 2 else 3)


def test_images_of_pillow() -> None:
    model = small()
    pixels = RNG.integers(0, 256, (19, 27, 3), dtype=np.uint8)
    wanted = model.predict(pixels)
    assert wanted.shape == (19, 27, 3)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(model.predict(image), wanted)
    np.testing.assert_array_equal(model.predict(image.convert("RGBA")), wanted)
    grey = model.predict(image.convert("L"))
    np.testing.assert_array_equal(grey, model.predict(np.asarray(image.convert("L").convert("RGB"))))
    deep = Image.fromarray(np.arange(16 * 24, dtype=np.uint16).reshape(16, 24) * 170)
    one = small(channels=1)
    assert one.predict(deep).shape == (16, 24)
    np.testing.assert_array_equal(one.predict(deep), one.predict(np.rint(np.asarray(deep) / 257).astype(np.uint8)))
    with pytest.raises(wl.ArgumentError, match="x is an image of Pillow with 32 bits a pixel, mode F"):
        one.predict(Image.new("F", (24, 16)))


def test_lists_of_images_of_several_sizes() -> None:
    model = small()
    pictures = [Image.fromarray(RNG.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in ((16, 24), (9, 40), (16, 24))]
    made = model.reconstruct(pictures)
    assert [m.shape for m in made] == [(16, 24, 3), (9, 40, 3), (16, 24, 3)]
    for image, output in zip(pictures, made, strict=True):
        np.testing.assert_array_equal(model.reconstruct(image), output)
    assert [z.shape for z in model.encode(pictures)] == [(4, 4, 6), (4, 3, 10), (4, 4, 6)]
    np.testing.assert_array_equal(model.predict(list(IMAGES))[1], model.predict(IMAGES[1]))
    np.testing.assert_array_equal(model.predict([IMAGES]), model.predict(IMAGES))
    np.testing.assert_array_equal(model.predict({"image": IMAGES}), model.predict(IMAGES))
    with pytest.raises(wl.ArgumentError, match=r"x\[1\] has shape \(5, 5\); expected an image with 3 channel"):
        model.predict([IMAGES[0], np.zeros((5, 5), np.float32)])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.bool_, np.uint8])
def test_types_are_converted_at_any_size(dtype: Any) -> None:
    model = small()
    some = RNG.random((2, 3, 10, 11))
    given = some > 0.5 if dtype is np.bool_ else (some * (255 if dtype is np.uint8 else 1)).astype(dtype)
    floats = given.astype(np.float32) / (255 if dtype is np.uint8 else 1)
    np.testing.assert_allclose(model.predict(given), model.predict(floats), atol=1e-6)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (IMAGES[:, :2], "the network takes 3 channels|takes \\(N, 3, 16, 24\\)"),
        ((IMAGES * 255).astype(np.int64), r"convert it with x\.astype\(numpy\.uint8\)"),
        (np.where(IMAGES > 0.99, np.nan, IMAGES), "x holds NaN at index"),
        (IMAGES[:0], "x is empty"),
        (np.zeros((0, 3, 9, 9), np.float32), "x is empty"),
        (IMAGES[0, 0], "has shape"),
        ("photo.jpg", "str: load the images first"),
    ],
)
def test_what_cannot_be_taken_is_said(value: Any, said: str) -> None:
    for call in (small().predict, small().encode, small().reconstruct):
        with pytest.raises(wl.ArgumentError, match=said) as caught:
            call(value)
        assert "\n" not in str(caught.value)


def test_reconstruct_wants_a_reconstruction() -> None:
    with pytest.raises(wl.ArgumentError, match=r"does not reconstruct its input: \[\(3, 16, 16\)\] becomes \[\(4, 16, 16\)\]"):
        wl.models.unet_small(size=16, classes=4).reconstruct(IMAGES)


def test_training_is_seen_at_other_sizes() -> None:
    model, other = small(), RNG.random((2, 3, 20, 20), np.float32)
    model.compile("sgd", device="cpu")
    before = model.predict(other)
    model.fit(IMAGES, epochs=1, verbose=False)
    assert not np.array_equal(model.predict(other), before)
    fresh = wl.Model.from_config(model.config())
    fresh.load_state_dict(model.state_dict())
    np.testing.assert_allclose(fresh.predict(other), model.predict(other), atol=1e-6)


def test_decode_is_the_other_half() -> None:
    model = small()
    z = model.encode(IMAGES)
    outputs = model.predict(IMAGES)
    for given in (z, z.reshape(3, -1)):
        np.testing.assert_array_equal(model.decode(given), outputs)
    for given in (z[0], z[0].ravel()):
        np.testing.assert_array_equal(model.decode(given), outputs[0])
    assert model.decoder is model.decoder
    vectors = dense()
    np.testing.assert_allclose(
        vectors.decode(vectors.encode(IMAGES[:, :, :8, :12])), vectors.predict(IMAGES[:, :, :8, :12]), atol=1e-6
    )
    with pytest.raises(wl.ArgumentError, match=r"z has shape \(3, 2, 4, 6\), but .* takes \(N, 4, 4, 6\)"):
        model.decode(z[:, :2])
    with pytest.raises(wl.GraphError, match="'unet_small' has no decoder by itself: the outputs depend on the input 'image'"):
        wl.models.unet_small(size=16).decode(z)
    model.compile("sgd", device="cpu")
    model.fit(IMAGES, epochs=1, verbose=False)
    np.testing.assert_array_equal(model.decode(model.encode(IMAGES)), model.predict(IMAGES))
