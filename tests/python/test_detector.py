"""Detector: scores by plain formulas, any size, tiles, thresholds, files of every kind of wrong."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from safetensors.numpy import load_file
from warploom.detect import Detector, maps
from warploom.errors import ArgumentError, DataError, StateError
from warploom.ground.atomic import read_tensors, write_tensors
from warploom.layers import Conv2d, Flatten, Latent, Linear, MaxPool2d, ReLU, Reshape, Upsample

ALL = "mse:2+ssim+latent:0.5"


def network(kind: str, channels: int = 1, zero: bool = False) -> wl.Model:
    """ "conv" takes any size, "fixed" 16x16 only; latents [6, 8, 8] and [5]. zero: it gives 0 for everything."""
    x = h = wl.Input((channels, 16, 16), name="x")
    h = MaxPool2d(2)(ReLU()(Conv2d(6, 3, padding=1, name="conv1")(h)))
    if kind == "conv":
        h = Latent()(h)
    else:
        z = Latent()(Linear(5, name="in")(Flatten()(h)))
        h = Reshape((6, 8, 8))(Linear(6 * 64, name="out")(z))
    model = wl.Model(x, Conv2d(channels, 3, padding=1, name="conv2")(Upsample(2)(h)), name=kind)
    model.place(device="cpu")
    if zero:
        model.load_state_dict({k: v * (0.0 if k.startswith("conv2") else 1.0) for k, v in model.state_dict().items()})
    return model


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (1, 16, 16))), dtype=np.uint8)


# Scores
@pytest.mark.parametrize("kind", ["conv", "fixed"])
def test_scores_are_the_formula(kind: str) -> None:
    model, x = network(kind), pictures(12)
    detector = Detector(model, "mse+ssim:3", blur=1.0, pooling="top", share=0.05).fit(x)
    unit, y = x.astype(np.float32) / 255, model.predict(x)
    mse, ssim = maps.squared_error(unit, y), maps.dissimilarity(unit, y, 11, 1.5)
    expected = maps.smooth(mse / mse.mean() + 3 * ssim / ssim.mean(), 1.0)
    np.testing.assert_allclose([p.scale for p in detector.steps.parts], [mse.mean(), ssim.mean()], rtol=1e-5)
    np.testing.assert_allclose(detector.decision_scores_, maps.pooled(expected, "top", 0.05), rtol=1e-4)
    np.testing.assert_array_equal(detector.decision_function(x), detector.decision_scores_)
    for finding, whole in zip(detector.examine(x), expected, strict=True):
        np.testing.assert_allclose(finding.map, whole, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(finding.heat_map, whole / (whole + detector.pixel_threshold_), rtol=1e-4, atol=1e-6)


def test_one_score_keeps_its_units() -> None:
    model, x = network("conv"), pictures(10)
    detector = Detector(model, "mse", blur=0, pooling="mean").fit(x)
    assert detector.steps.parts[0].scale == 1.0
    expected = ((x / 255.0 - model.predict(x)) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(detector.decision_scores_, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["conv", "fixed"])
def test_latent_distances_are_those_of_the_nearest_places(kind: str) -> None:
    model, x, new = network(kind), pictures(6), pictures(3, seed=1)
    detector = Detector(model, "latent", blur=0, pooling="max", neighbours=2).fit(x)

    def vectors(images: np.ndarray) -> np.ndarray:
        z = model.encode(images).astype(np.float64)
        return z.transpose(0, 2, 3, 1).reshape(len(z), -1, 6) if z.ndim == 4 else z[:, None]

    def nearest(queries: np.ndarray, bank: np.ndarray) -> float:
        away = np.sqrt(((queries[:, None] - bank[None]) ** 2).sum(axis=2))
        return float(np.sort(away, axis=1)[:, :2].mean(axis=1).max())

    normal = vectors(x)
    # All 64 places of 6 images fit into the bank; bilinear enlarging keeps the largest value within a little.
    expected = [nearest(q, normal.reshape(-1, normal.shape[2])) for q in vectors(new)]
    found = detector.decision_function(new)
    assert (found <= np.array(expected) * 1.001 + 1e-4).all()
    assert (found >= np.array(expected) * 0.5).all()
    without = [nearest(normal[i], np.delete(normal, i, axis=0).reshape(-1, normal.shape[2])) for i in range(6)]
    assert (detector.decision_scores_ <= np.array(without) * 1.001 + 1e-4).all()
    if kind == "fixed":  # one vector: no enlarging in between
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        np.testing.assert_allclose(detector.decision_scores_, without, rtol=1e-3)
        assert (detector.decision_function(x) < detector.decision_scores_).all()  # itself is among the nearest now


def test_defects_are_found_and_located() -> None:
    """A network that has learnt stripes; a square in them scores above all normal ones, and the map is highest there."""
    rng = np.random.default_rng(0)
    rows = np.arange(16)[:, None] + np.zeros(16)

    def stripes(count: int) -> np.ndarray:
        phases = rng.uniform(0, 6.3, (count, 1, 1))
        return np.float32(0.5 + 0.4 * np.sin(rows * 1.2 + phases) + rng.normal(0, 0.01, (count, 16, 16))).clip(0, 1)[:, None]

    model = network("fixed")
    model.compile(optimizer=wl.optim.Adam(3e-3), device="cpu", batch_size=32, seed=0)
    model.fit(stripes(640), epochs=25, verbose=False)
    normal, bad = stripes(100), stripes(40)
    places = rng.integers(0, 12, (40, 2))
    for image, (top, left) in zip(bad, places, strict=True):
        image[0, top : top + 4, left : left + 4] = rng.random()
    for scores in ("mse", "ssim", ALL):
        detector = Detector(model, scores, contamination=0.05).fit(normal)
        assert detector.labels_.sum() == 5
        truth = np.repeat([0, 1], [100, 40])
        assert wl.detect.auroc(truth, detector.decision_function(np.concatenate([stripes(100), bad]))) > 0.85
        hit = 0
        for finding, (top, left) in zip(detector.examine(bad), places, strict=True):
            row, column = np.unravel_index(finding.map.argmax(), (16, 16))
            hit += top - 1 <= row <= top + 4 and left - 1 <= column <= left + 4
        assert hit >= 20, scores  # by chance 6: a square and a pixel around it are a seventh of the image


# Thresholds
@pytest.mark.parametrize("contamination", [0.0, 0.01, 0.1, 0.5])
def test_the_threshold_is_a_quantile_of_normal_scores(contamination: float) -> None:
    detector = Detector(network("conv"), contamination=contamination).fit(pictures(50))
    scores = detector.decision_scores_.astype(np.float64)
    assert detector.threshold_ == np.quantile(scores, 1 - contamination)
    assert detector.labels_.sum() == (scores > detector.threshold_).sum() <= contamination * 50 + 1
    np.testing.assert_array_equal(detector.predict(pictures(50)), detector.labels_)
    assert "50 normal images" in detector.how


def test_a_mask_is_empty_on_most_normal_images() -> None:
    detector = Detector(network("conv"), contamination=0.1).fit(pictures(50))
    assert sum(finding.mask.any() for finding in detector.examine(pictures(50))) == 5


def test_labels_give_the_threshold_with_the_best_f1() -> None:
    model, normal = network("conv", zero=True), pictures(40) // 4
    bad = pictures(20, seed=1)
    bad[:2] //= 8  # two that cannot be told
    detector = Detector(model).fit(normal, bad)
    truth = np.repeat([0, 1], [40, 20])
    both = np.concatenate([normal, bad])
    scores = detector.decision_function(both)
    best = max(_f1(truth, scores > t) for t in [-1.0, *scores])
    assert _f1(truth, detector.predict(both)) == pytest.approx(best)
    assert "best F1" in detector.how
    assert detector.predict(bad).sum() == 18


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    true = (truth.astype(bool) & called.astype(bool)).sum()
    return float(2 * true / (truth.sum() + called.sum()))


def test_probabilities_agree_with_the_labels() -> None:
    detector = Detector(network("conv"), contamination=0.2).fit(pictures(30))
    new = pictures(30, seed=2)
    proba = detector.predict_proba(new)
    assert proba.shape == (30, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(proba[:, 1] > 0.5, detector.predict(new) == 1)
    scores = detector.score(new)
    np.testing.assert_allclose(proba[:, 1], scores / (scores + detector.threshold_), rtol=1e-6)


# Sizes
SIZES = [(16, 16), (5, 40), (33, 17), (100, 3), (1, 1), (64, 64), (47, 90)]


@pytest.mark.parametrize("kind", ["conv", "fixed"])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_blend_to_what_the_whole_would_be(kind: str, size: tuple[int, int]) -> None:
    """A network that gives 0: the map is the image's square, whatever the tiles."""
    tile = 20 if kind == "conv" else None
    detector = Detector(network(kind, zero=True), own_size=True, tile=tile, blur=0, pooling="max").fit(pictures(3))
    image = pictures(1, 1, *size)
    (finding,) = detector.examine(image)
    np.testing.assert_allclose(finding.map, (image[0, 0] / 255.0) ** 2, rtol=1e-5, atol=1e-7)
    assert finding.score == pytest.approx((image / 255.0).max() ** 2, rel=1e-5)


@pytest.mark.parametrize("kinds", ["mse", "latent", ALL])
def test_tiles_of_a_convolution_are_near_the_whole(kinds: str) -> None:
    model, x, image = network("conv"), pictures(20, 1, 48, 48), pictures(1, 1, 90, 75, seed=3)
    whole = Detector(model, kinds, own_size=True).fit(x)
    assert whole.steps.tile > 1000
    tiled = Detector(model, kinds, own_size=True, tile=40)
    tiled.fit(x)
    tiled.steps, tiled.bank = wl.detect.Steps.from_dict({**whole.steps.as_dict(), "tile": 40}), whole.bank
    a, b = (next(d.examine(image)).map for d in (whole, tiled))
    assert np.abs(a - b).mean() < 0.02 * a.mean()


@pytest.mark.parametrize("own_size", [False, True])
@pytest.mark.parametrize("kind", ["conv", "fixed"])
@pytest.mark.parametrize("kinds", ["mse", ALL])
def test_maps_have_the_images_size(kind: str, own_size: bool, kinds: str) -> None:
    detector = Detector(network(kind, 3), kinds, own_size=own_size).fit(pictures(5, 3, 16, 16))
    for size in SIZES:
        (finding,) = detector.examine(pictures(1, 3, *size))
        assert finding.map.shape == finding.heat_map.shape == finding.mask.shape == size
        assert (finding.map >= 0).all()
        assert (finding.heat_map < 1).all()


def test_a_large_image_stays_within_memory() -> None:
    detector = Detector(network("conv"), "mse+ssim", own_size=True, memory=8 << 20).fit(pictures(4, 1, 32, 32))
    assert 16 <= detector.steps.tile < 400
    image = pictures(1, 1, 1500, 2000)
    tracemalloc.start()
    try:
        (finding,) = detector.examine(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert finding.map.shape == (1500, 2000)
    assert peak < 8 << 20 | 24 * 1500 * 2000  # docs/detect.md: the tiles', and 24 bytes a pixel


def test_a_folder_of_mixed_sizes_and_modes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i, (mode, size) in enumerate(
        [("L", (40, 30)), ("RGB", (20, 50)), ("RGBA", (33, 33)), ("I;16", (25, 41)), ("P", (16, 16))]
    ):
        pixels = rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8)
        made = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
        made.save(tmp_path / f"{i}.png")
    for channels in (1, 3):
        for own_size in (False, True):
            detector = Detector(network("conv", channels), own_size=own_size).fit(tmp_path)
            found = list(detector.examine(tmp_path))
            assert [f.map.shape for f in found] == [(30, 40), (50, 20), (33, 33), (41, 25), (16, 16)]
            assert [f.name for f in found] == [f"{i}.png" for i in range(5)]


def test_shrinking_is_said() -> None:
    assert not Detector(network("conv")).fit(pictures(3)).notes
    (note,) = Detector(network("conv")).fit(pictures(3, 1, 64, 80)).notes
    assert "80x64" in note
    assert "--own-size" in note


def test_bad_files_are_all_named_or_left_out(tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(pictures(1)[0, 0]).save(tmp_path / f"good{i}.png")
    for name in ("broken.png", "empty.jpg"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n" if name == "broken.png" else b"")
    detector = Detector(network("conv"))
    with pytest.raises(DataError, match=r"2 files cannot be used.*broken\.png.*empty\.jpg.*--skip-bad"):
        detector.fit(tmp_path)
    detector.fit(tmp_path, skip_bad=True)
    assert len(detector.decision_scores_) == 4
    skipped: list[str] = []
    found = list(detector.examine(tmp_path, skip_bad=True, skipped=skipped))
    assert ([f.name for f in found], skipped) == ([f"good{i}.png" for i in range(4)], ["broken.png", "empty.jpg"])
    with pytest.raises(DataError, match="2 files cannot be used"):
        detector.predict(tmp_path)


# Files
@pytest.mark.parametrize("kind", ["conv", "fixed"])
@pytest.mark.parametrize("scores", ["mse", "ssim", "latent", ALL])
@pytest.mark.parametrize("own_size", [False, True])
def test_a_saved_detector_gives_the_same_bits(kind: str, scores: str, own_size: bool, tmp_path: Path) -> None:
    detector = Detector(network(kind), scores, own_size=own_size, contamination=0.07).fit(pictures(20))
    detector.normal_classes = ["good"]
    detector.save(tmp_path / "d.safetensors")
    again = wl.detect.load(tmp_path / "d.safetensors", device="cpu")
    new = pictures(5, 1, 30, 21, seed=9)
    np.testing.assert_array_equal(again.decision_function(new), detector.decision_function(new))
    for a, b in zip(again.examine(new), detector.examine(new), strict=True):
        np.testing.assert_array_equal(a.heat_map, b.heat_map)
        assert (a.score, a.normalized, a.abnormal) == (b.score, b.normalized, b.abnormal)
    for name in ("threshold_", "pixel_threshold_", "steps", "how", "normal_classes", "contamination", "bank_size", "seed"):
        assert getattr(again, name) == getattr(detector, name), name
    np.testing.assert_array_equal(again.labels_, detector.labels_)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "d.safetensors").read_bytes()
    again.fit(pictures(20))  # as with PyOD, a loaded one can be fitted anew
    np.testing.assert_array_equal(again.decision_scores_, detector.decision_scores_)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Detector(network("conv"), ALL).fit(pictures(8)).save(tmp_path / "d.safetensors")
    return tmp_path / "d.safetensors"


def test_other_programs_read_the_tensors(saved: Path) -> None:
    names = load_file(saved).keys()
    assert {"network/conv1.weight", "bank/vectors", "bank/middle", "decision_scores"} <= names


def test_flipped_bits_are_refused(saved: Path) -> None:
    content, rng = saved.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(content) * 8, 150).tolist():
        broken = bytearray(content)
        broken[place // 8] ^= 1 << place % 8
        saved.write_bytes(broken)
        with pytest.raises(DataError) as error:
            wl.detect.load(saved, device="cpu")
        assert "\n" not in str(error.value)


def test_other_files_are_refused(saved: Path, tmp_path: Path) -> None:
    network("conv").save(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="a network and no detector: `warploom detect fit`"):
        wl.detect.load(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "x.safetensors", {"a": np.zeros(3, np.float32)}, {"format": "warploom-detector-99"})
    with pytest.raises(DataError, match="written by another version"):
        wl.detect.load(tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="there is no file"):
        wl.detect.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ArgumentError, match=r"a \.safetensors file, not \.pkl"):
        Detector(network("conv")).fit(pictures(3)).save(tmp_path / "d.pkl")


WRONG: list[Any] = [None, -1, 1e400, float("nan"), "", "x", [], {}, [[[]]], 1 << 70, True, {"a": 1}]


def test_hostile_metadata_are_one_sentence(saved: Path) -> None:
    """Every field of the metadata replaced by what does not belong there, under a right checksum."""
    tensors, said = read_tensors(saved)
    tried = 0

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(p for key, v in inner for p in places(v, (*path, key)))]

    for place in places({k: v for k, v in said.items() if k not in ("graph", "format")})[1:]:
        for wrong in [*WRONG, "missing"]:
            changed = json.loads(json.dumps(said))
            owner = changed
            for key in place[:-1]:
                owner = owner[key]
            if wrong == "missing":
                del owner[place[-1]]
            else:
                owner[place[-1]] = wrong
            write_tensors(saved, tensors, changed)
            tried += 1
            refusal = _refusal_of(saved)
            assert "\n" not in refusal
            assert len(refusal) < 600
    assert tried > 300


def _refusal_of(path: Path) -> str:
    """ "" where the file can be used."""
    try:
        wl.detect.load(path, device="cpu").decision_function(pictures(1))
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("bank/vectors", np.zeros((4, 7), np.float32), "bank has the shape"),
        ("bank/vectors", np.zeros((0, 6), np.float32), "bank has the shape"),
        ("bank/vectors", np.full((4, 6), np.nan, np.float32), "finite float32 of rank 2"),
        ("bank/middle", np.zeros((6, 1), np.float32), "finite float32 of rank 1"),
        ("bank/middle", None, "bank/middle is missing"),
        ("decision_scores", np.zeros(3, np.int32), "finite float32 of rank 1"),
        ("network/conv1.weight", np.zeros((6, 1, 5, 5), np.float32), "conv1.weight"),
        ("network/conv1.weight", None, "conv1.weight"),
    ],
)
def test_hostile_tensors_are_one_sentence(saved: Path, name: str, value: Any, words: str) -> None:
    tensors, said = read_tensors(saved)
    tensors.pop(name)
    write_tensors(saved, tensors if value is None else {**tensors, name: value}, said)
    with pytest.raises(DataError, match=words):
        wl.detect.load(saved, device="cpu")


# Misuse
def test_misuse_is_one_sentence(tmp_path: Path) -> None:
    detector = Detector(network("conv"))
    for call in (detector.predict, detector.decision_function, lambda x: list(detector.examine(x))):
        with pytest.raises(StateError, match=r"call fit\(\) with normal images first"):
            call(pictures(1))
    with pytest.raises(StateError, match=r"save\(\) needs a fitted detector"):
        detector.save(tmp_path / "d.safetensors")
    with pytest.raises(ArgumentError, match="does not reconstruct images"):
        Detector(wl.models.get("unet_small"))
    with pytest.raises(ArgumentError, match="contamination must be"):
        Detector(network("conv"), contamination=0.7)
    with pytest.raises(ArgumentError, match="tile is for own_size=True"):
        Detector(network("conv"), tile=32)
    with pytest.raises(ArgumentError, match="leave tile out"):
        Detector(network("fixed"), own_size=True, tile=32)
    with pytest.raises(DataError, match="at least two are needed"):
        Detector(network("conv"), "latent").fit(pictures(1))
    with pytest.raises(ArgumentError, match="network must be a Model"):
        Detector(7)  # type: ignore[arg-type]
    x = wl.Input((1, 8, 8))
    without = wl.Model(x, Conv2d(1, 3, padding=1)(x))
    with pytest.raises(wl.GraphError, match="latent"):
        Detector(without, "latent")
    with pytest.raises(DataError, match="there is no"):
        detector.fit(tmp_path / "nowhere")


def test_a_network_that_has_failed_is_said() -> None:
    model = network("conv")
    model.load_state_dict({k: np.full_like(v, 3e38) for k, v in model.state_dict().items()})
    with pytest.raises(DataError, match="gives NaN or infinity"):
        Detector(model).fit(pictures(3))


def test_perfect_reconstructions_are_no_division_by_zero() -> None:
    detector = Detector(network("conv", zero=True)).fit(np.zeros((4, 1, 16, 16), np.uint8))
    assert detector.threshold_ == 0.0
    black, grey = detector.examine(np.stack([np.zeros((1, 16, 16), np.uint8), np.full((1, 16, 16), 99, np.uint8)]))
    assert (black.abnormal, black.normalized, grey.abnormal) == (False, 0.0, True)
    assert grey.normalized == pytest.approx(1.0)
    assert np.isfinite(black.heat_map).all()
