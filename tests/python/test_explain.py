"""What explains a network: summary, trace, gradient flow, bypass and pictures, on small networks whose answers are known."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom import models
from warploom.cli import main
from warploom.inspection import graph_layout
from warploom.inspection.summary import Summary
from warploom.layers import Add, BatchNorm2d, Concat, Conv2d, Flatten, Latent, Linear, MaxPool2d, Multiply, ReLU, Upsample

IMAGES = np.random.default_rng(0).random((6, 3, 16, 16), np.float32)


def skipping() -> wl.Model:
    """y = up(latent) + skip * image, all convolutions 1x1: what each way brings is known."""
    x = wl.Input((3, 16, 16), name="image")
    low = Latent(name="latent")(Conv2d(3, 1, bias=False, name="down")(MaxPool2d(2, name="pool")(x)))
    skip = Conv2d(3, 1, bias=False, name="skip")(x)
    return wl.Model(x, Add(name="sum")([Upsample(2, name="up")(low), skip]), name="skipping")


def weights(down: float, skip: float) -> dict[str, Any]:
    eye = np.eye(3, dtype=np.float32)[:, :, None, None]
    return {"down.weight": down * eye, "skip.weight": skip * eye}


def test_summary_of_formulas_activations_and_frozen_layers(capsys: pytest.CaptureFixture[str]) -> None:
    model = models.unet_small(size=16)
    model.layer("enc1.conv").trainable = False
    summary = model.summary(formulas=True)
    text = capsys.readouterr().out
    for part in ("4·3·3·3 + 4 = 112", "64·32·3·3 + 32 = 18,464", "(63,860 trained, 112 frozen)", "Conv2d (frozen)"):
        assert part in text
    row = next(row for row in summary.rows if row.name == "enc1.bn")
    assert (row.formula, row.parameters, row.activation_bytes) == ("4 + 4", 8, 4 * 4 * 16 * 16)
    assert summary.frozen_parameters == 112
    latent = next(row for row in summary.rows if row.latent)
    assert summary.latent_ratio == 3 * 256 / math.prod(latent.output_shape)
    assert json.loads(json.dumps(summary.as_dict()))["total_parameters"] == 63_972


def test_receptive_fields_behind_what_sees_everything() -> None:
    x = wl.Input((3, 8, 8))
    h = Linear(5)(Flatten()(Conv2d(2, 3, stride=2)(x)))
    rows = Summary(wl.Model(x, h)).rows
    assert [(row.receptive_field, row.stride) for row in rows] == [((3, 3), "2"), (None, ""), (None, "")]


def test_trace() -> None:
    model = skipping()
    model.load_state_dict(weights(2.0, -1.0))
    rows = {row.name: row for row in model.trace(IMAGES).rows}
    np.testing.assert_allclose(
        [rows["skip"].minimum, rows["skip"].maximum, rows["skip"].mean, rows["skip"].std],
        [-IMAGES.max(), -IMAGES.min(), -IMAGES.mean(), IMAGES.std()],
        rtol=1e-5,
    )
    assert rows["image"].shape == (3, 16, 16)
    pooled = IMAGES.reshape(6, 3, 8, 2, 8, 2).max((3, 5))
    assert rows["down"].mean == pytest.approx(2 * pooled.mean(), rel=1e-5)
    model.load_state_dict(weights(0.0, 1.0))
    assert {row.name: row.zeros for row in model.trace(IMAGES).rows}["up"] == 1.0
    assert "skipping: values over 6 samples" in str(model.trace(IMAGES))
    few = model.trace((IMAGES * 255).astype(np.uint8))
    assert few.rows[0].maximum <= 1.0


def test_gradient_flow() -> None:
    x = wl.Input((3, 16, 16))
    first = Conv2d(4, 3, padding=1, name="first")
    h = BatchNorm2d(name="bn")(first(x))
    y = Conv2d(3, 3, padding=1, name="last")(ReLU()(Conv2d(4, 1, name="middle")(h)))
    model = wl.Model(x, y)
    model.compile(wl.optim.SGD(lr=0.0), version="cpu", device="cpu", batch_size=6)
    flow = {row.name: row for row in model.gradient_flow(IMAGES).rows}
    assert "bn.running_mean" not in flow
    gradients = model.gradients(IMAGES)
    assert flow["last.weight"].norm == pytest.approx(np.linalg.norm(gradients["last.weight"]), rel=1e-5)
    assert flow["last.weight"].flag == flow["first.weight"].flag == ""
    state = model.state_dict()
    state["middle.bias"][:] = -1e4  # no ReLU lets anything through
    model.load_state_dict(state)
    flow = {row.name: row for row in model.gradient_flow(IMAGES).rows}
    assert flow["first.weight"].flag == flow["middle.weight"].flag == "none"
    assert flow["last.bias"].flag == ""
    first.trainable = False
    model.compile(wl.optim.SGD(lr=0.0), version="cpu", device="cpu", batch_size=6)
    flow = {row.name: row for row in model.gradient_flow(IMAGES).rows}
    assert flow["first.weight"].flag == "frozen"
    tiny = state | {"middle.bias": np.zeros(4, np.float32), "last.weight": np.full((3, 4, 3, 3), 1e-20, np.float32)}
    model.load_state_dict(tiny)
    report = model.gradient_flow(IMAGES)
    assert {row.flag for row in report.rows if row.name.startswith("middle")} == {"vanishing"}
    assert report.problems


def test_bypass_finds_what_comes_through_the_skips() -> None:
    model = skipping()
    for down, skip, through_skip in ((0.0, 1.0, True), (1.0, 0.0, False)):
        model.load_state_dict(weights(down, skip))
        rows = {row.name: row for row in model.bypass(IMAGES).rows}
        assert set(rows) == {"nothing", "skip -> sum", "bottleneck"}
        changed, kept = ("skip -> sum", "bottleneck") if through_skip else ("bottleneck", "skip -> sum")
        assert rows[kept].psnr == rows["nothing"].psnr
        assert rows[changed].change < -2
    model.load_state_dict(weights(0.5, 0.5))
    exact = model.bypass(IMAGES)
    pooled = IMAGES.reshape(6, 3, 8, 2, 8, 2).max((3, 5)).repeat(2, 2).repeat(2, 3)
    cut = np.mean((0.5 * pooled - IMAGES) ** 2)
    assert exact.rows[1].psnr == pytest.approx(-10 * math.log10(cut), rel=1e-4)
    assert "the bottleneck alone (all skips cut)" in str(exact)


def test_bypass_of_every_kind_of_merge() -> None:
    x = wl.Input((3, 16, 16), name="image")
    early = ReLU(name="early")(Conv2d(4, 3, padding=1, name="a")(x))
    inner = Add(name="inner")([early, Conv2d(4, 1, name="b")(early)])  # before the latent: no skip
    up = Upsample(2, name="up")(Latent()(MaxPool2d(2)(inner)))
    gate = Conv2d(1, 1, name="gate")(x)
    h = Multiply(name="gated")([Concat(name="cat")([up, early]), gate])
    model = wl.Model(x, Conv2d(3, 1, name="out")(h))
    names = [row.name for row in model.bypass(IMAGES).rows]
    assert names == ["nothing", "early -> cat", "gate -> gated", "all skips", "bottleneck"]
    before = model.state_dict()
    rows = model.bypass(IMAGES, IMAGES[::-1].copy()).rows
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
    assert rows[3].psnr == rows[4].psnr or all(math.isfinite(row.psnr) for row in rows)
    plain = wl.models.cifar10_autoencoder()
    assert "no skips" in str(plain.bypass(np.zeros((1, 3, 32, 32), np.float32)))
    with pytest.raises(wl.GraphError, match="has no latent"):
        wl.Model(x, ReLU()(x)).bypass(IMAGES)


@pytest.mark.parametrize("name", models.NAMES)
def test_pictures(name: str, tmp_path: Path) -> None:
    model = models.get(name)
    model.plot(tmp_path / "net.png")
    with Image.open(tmp_path / "net.png") as picture:
        assert min(picture.size) > 200, "even a row of few boxes is large enough to read"
        assert np.asarray(picture.convert("L")).std() > 10
    model.plot(tmp_path / "net.svg")
    assert ElementTree.parse(tmp_path / "net.svg").getroot().tag.endswith("svg")
    boxes = graph_layout.gathered(model)
    graph_layout.place(boxes)
    assert 6 <= len(boxes) <= 60
    for i, box in enumerate(boxes):
        assert all(s < i and boxes[s].column < box.column for s in box.sources)
        for other in boxes[:i]:
            apart = abs(box.x - other.x) > (box.width + other.width) / 2 or abs(box.y - other.y) > (box.height + other.height) / 2
            assert apart, (box.name, other.name)


def test_picture_of_a_unet_is_a_u() -> None:
    boxes = graph_layout.gathered(models.unet_small())
    graph_layout.place(boxes)
    at = {box.name: box for box in boxes}
    down, up = ("enc1", "enc2", "enc3", "bneck"), ("bneck", "dec3", "dec2", "dec1")
    assert [at[n].x for n in (*down, *up[1:])] == sorted(at[n].x for n in (*down, *up[1:]))
    assert [at[n].y for n in down] == sorted((at[n].y for n in down), reverse=True)
    assert [at[n].y for n in up] == sorted(at[n].y for n in up)
    assert at["enc2"].y == at["dec2"].y


def test_other_file_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(wl.ArgumentError, match=r"draws \.svg and \.png files"):
        skipping().plot(tmp_path / "net.jpg")


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "unet_small", "--formulas"]) == 0
    assert "64·32·3·3 + 32" in capsys.readouterr().out
    assert main(["trace", "cifar10_autoencoder", "--samples", "1", "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["values"]) == 15
    assert main(["plot", "unet_small", str(tmp_path / "u.svg")]) == 0
    assert (tmp_path / "u.svg").exists()
    assert main(["plot", "unet_small", str(tmp_path / "u.gif")]) == 2
