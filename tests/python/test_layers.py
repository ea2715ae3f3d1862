"""Building networks: shapes, names, sharing, receptive fields, and the sentences for what cannot be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.inspection.receptive import ReceptiveFields
from warploom.inspection.summary import Summary
from warploom.layers import Conv2d, Identity, Latent, LeakyReLU, MaxPool2d, ReLU, Sigmoid, Upsample


def test_shapes_and_inferred_channels() -> None:
    x = wl.Input((3, 32, 30), name="image")
    conv = Conv2d(8, (3, 5), stride=(2, 1), padding=(1, 0, 2, 2))
    h = conv(x)
    assert h.shape == (8, 16, 30)
    assert conv.parameters["weight"].spec.shape == (8, 3, 3, 5)
    assert MaxPool2d(3, 2)(h).shape == (8, 7, 14)
    assert Upsample((2, 3), "bilinear")(h).shape == (8, 32, 90)
    for layer in (ReLU(), LeakyReLU(0.2), Sigmoid(), Identity(), Latent()):
        assert layer(h).shape == h.shape
    assert Conv2d(6, 1, groups=2, bias=False)(h).shape == (6, 16, 30)


def test_automatic_names_count_within_a_model() -> None:
    def build() -> wl.Model:
        x = wl.Input((3, 8, 8))
        h = LeakyReLU()(Conv2d(4, 3, padding=1)(x))
        h = Conv2d(4, 3, padding=1, name="middle")(h)
        return wl.Model(x, Conv2d(3, 3, padding=1)(h))

    for model in (build(), build()):
        assert [layer.name for layer in model.layers] == ["conv2d_1", "leaky_relu_1", "middle", "conv2d_2"]
        assert model.inputs[0].name == "input"
    assert list(build().state_dict()) == [f"{n}.{s}" for n in ("conv2d_1", "middle", "conv2d_2") for s in ("weight", "bias")]


def test_a_shared_layer_has_one_set_of_parameters() -> None:
    x = wl.Input((4, 8, 8))
    conv = Conv2d(4, 3, padding=1, name="twice")
    model = wl.Model(x, conv(ReLU()(conv(x))))
    assert model.count_parameters() == 4 * 4 * 9 + 4
    rows = Summary(model).rows
    assert [(r.name, r.shared) for r in rows] == [("twice", False), ("relu_1", False), ("twice@2", True)]
    with pytest.raises(wl.ArgumentError, match=r"'twice' is shared, but its calls need different parameters"):
        conv(wl.Input((3, 8, 8)))


def test_a_model_called_on_tensors_shares_its_layers() -> None:
    x = wl.Input((3, 8, 8))
    inner = wl.Model(x, ReLU()(Conv2d(3, 3, padding=1, name="c")(x)), name="inner")
    z = wl.Input((3, 8, 8))
    outer = wl.Model(z, inner(inner(z)), name="outer")
    assert list(outer.state_dict()) == ["c.weight", "c.bias"]
    images = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(outer.predict(images), inner.predict(inner.predict(images)))


def test_receptive_fields_of_the_specification() -> None:
    """MODELS.md: 3 4 8 10 18 18 22 22 22-26, measured."""
    summary = Summary(wl.models.cifar10_autoencoder())
    fields = {r.name: r.receptive_field for r in summary.rows}
    expected = {"conv1": (3, 3), "pool1": (4, 4), "conv2": (8, 8), "pool2": (10, 10), "conv3": (18, 18), "up1": (18, 18)}
    expected |= {"conv4": (22, 22), "up2": (22, 22), "conv5": (22, 26)}
    assert {name: fields[name] for name in expected} == expected
    assert {r.name: r.stride for r in summary.rows}["pool2"] == "4"
    assert {r.name: r.stride for r in summary.rows}["conv5"] == "1"


@pytest.mark.parametrize("seed", range(4))
def test_receptive_fields_against_measurement(seed: int) -> None:
    """Ones for weights: the inputs that reach one output are those where its gradient is not zero."""
    rng = np.random.default_rng(seed)
    x = h = wl.Input((1, 40, 40), name="x")
    for _ in range(3):
        kind = rng.integers(4)
        if kind == 0:
            h = MaxPool2d(2)(h)
        elif kind == 1:
            h = Upsample(2, str(rng.choice(["nearest", "bilinear"])))(h)
        else:
            h = Conv2d(1, int(rng.integers(1, 5)), stride=int(rng.integers(1, 3)), padding=1, bias=False, init="ones")(h)
    model = wl.Model(x, h)
    description = model._lowered.graph.describe()
    fields, output = ReceptiveFields(description), description["outputs"][0]
    first = h.shape[1] // 2
    counts = _reach(model, range(first, first + fields.period(output, 0)))
    assert (min(counts), max(counts)) == fields.of(output)


def _reach(model: wl.Model, rows: range) -> list[int]:
    """For values in the middle of those output rows: how many rows of the input they depend on."""
    base = np.zeros((41, 1, 40, 40), np.float32)
    for i in range(40):  # raising a whole row to one changes the output if the output sees it: all weights are positive
        base[i + 1, 0, i] = 1.0
    outputs: Any = model.predict(base)
    column = outputs.shape[3] // 2
    return [int((outputs[1:, 0, row, column] != outputs[0, 0, row, column]).sum()) for row in rows]


def test_summary_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # room for every digit
    model = wl.models.cifar10_autoencoder()
    summary = model.summary()
    text = capsys.readouterr().out
    for part in ("751,875", "conv5", "22-26", "75,497,472", "128 x 8 x 8", "2.67 times larger"):
        assert part in text
    assert text == str(summary)
    assert summary.total_parameters == sum(r.parameters for r in summary.rows) == 751_875
    assert summary.as_dict()["layers"][0]["name"] == "conv1"


def test_graphs_that_cannot_be_built() -> None:
    x, other = wl.Input((3, 8, 8), name="x"), wl.Input((3, 8, 8), name="other")
    y = ReLU()(x)
    with pytest.raises(wl.GraphError, match="depend on the input 'x', which is not among"):
        wl.Model(other, y)
    with pytest.raises(wl.GraphError, match="the input 'other' leads to none of the outputs"):
        wl.Model([x, other], y)
    with pytest.raises(wl.GraphError, match="two layers are named 'a'"):
        wl.Model(x, ReLU(name="a")(Sigmoid(name="a")(x)))
    with pytest.raises(wl.GraphError, match="'big'"):
        Conv2d(4, 9, name="big")(x)
    with pytest.raises(wl.GraphError, match="pool"):
        MaxPool2d(9, name="pool")(x)
    with pytest.raises(wl.GraphError, match="2 Latent layers"):
        wl.Model(x, Latent()(ReLU()(Latent()(x))))
    with pytest.raises(wl.GraphError, match="has no latent"):
        _ = wl.Model(x, y).encoder


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: Conv2d(0, 3), ValueError, "out_channels must be at least 1"),
        (lambda: Conv2d(4, 3.5), TypeError, "kernel_size must be a whole number"),
        (lambda: Conv2d(4, (3, 3, 3)), ValueError, "kernel_size must be a number or a pair"),
        (lambda: Conv2d(4, 3, padding=-1), ValueError, "padding must be at least 0"),
        (lambda: Conv2d(4, 3, init="magic"), ValueError, "unknown init 'magic'"),
        (lambda: Conv2d(4, 3, groups=3)(wl.Input((4, 8, 8))), ValueError, "groups=3 must divide"),
        (lambda: Upsample(2, "cubic"), ValueError, "unknown mode 'cubic'"),
        (lambda: LeakyReLU(-1.0), ValueError, "negative_slope must be finite and at least 0"),
        (lambda: ReLU(name="a b"), ValueError, "layer name 'a b' is not usable"),
        (lambda: ReLU()(np.zeros((1, 3, 8, 8), np.float32)), TypeError, "not arrays"),
        (lambda: ReLU()("x"), TypeError, "takes tensors"),
        (lambda: ReLU()(), ValueError, "without an input"),
        (lambda: wl.Input((3, 0, 8)), ValueError, "must be at least 1"),
        (lambda: wl.Input(3), ValueError, "must be a tuple"),
        (lambda: wl.Input(()), ValueError, "needs a shape"),
        (lambda: wl.models.get("vgg"), ValueError, "unknown model 'vgg'"),
        (lambda: wl.optim.SGD(lr=-1), ValueError, "lr must be finite and at least 0"),
        (lambda: wl.optim.SGD(nesterov=True), ValueError, "nesterov needs a momentum"),
    ],
)
def test_wrong_arguments(make: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, (5, 2)])
def test_same_padding_is_pytorchs(kernel: Any) -> None:
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(1).random((2, 3, 9, 8), np.float32)
    model = wl.Sequential([wl.Input((3, 9, 8)), wl.layers.Conv2d(4, kernel, padding="same", name="a")])
    assert model.outputs[0].shape == (4, 9, 8)
    ours = model.state_dict()
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(images), torch.from_numpy(ours["a.weight"]), torch.from_numpy(ours["a.bias"]), padding="same"
    )
    np.testing.assert_allclose(model.predict(images), theirs.numpy(), atol=1e-5)
    assert wl.Model.from_config(model.config()).outputs[0].shape == (4, 9, 8)


def test_same_padding_keeps_the_size_at_stride_1_only() -> None:
    with pytest.raises(wl.ArgumentError, match='padding="same" keeps the size'):
        wl.layers.Conv2d(4, 3, stride=2, padding="same")
    with pytest.raises(wl.ArgumentError, match="'valid'"):
        wl.layers.Conv2d(4, 3, padding="valid")  # type: ignore[arg-type]


def test_layers_in_a_row(tmp_path: Path) -> None:
    def block(x: wl.Tensor) -> wl.Tensor:
        return wl.layers.ReLU()(wl.layers.Conv2d(4, 3, padding="same")(x))

    x = wl.Input((3, 8, 8))
    model = wl.Sequential([x, block, wl.layers.Latent(), wl.layers.Conv2d(3, 3, padding=1)], name="row")
    assert model.name == "row"
    assert [type(layer).__name__ for layer in model.layers] == ["Conv2d", "ReLU", "Latent", "Conv2d"]
    model.save(tmp_path / "row.safetensors")
    images = np.random.default_rng(2).random((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(wl.load(tmp_path / "row.safetensors").predict(images), model.predict(images))
    for wrong, said in [
        ([], "begins with an Input, not with nothing"),
        ([wl.layers.ReLU()], "begins with an Input, not with ReLU"),
        ([x], "no layer"),
        ([x, 5], "number 1 of Sequential is no layer: int"),
        ([x, x], "number 1 of Sequential is no layer: Tensor"),
        ([x, lambda h: 5], "number 1 of Sequential is no layer: function"),
        ([x, wl.layers.ReLU], r"number 1 of Sequential is the class ReLU: write ReLU\(\)"),
        (5, "not int"),
    ]:
        with pytest.raises((wl.ArgumentError, wl.DTypeError), match=said):
            wl.Sequential(wrong)  # type: ignore[arg-type]
