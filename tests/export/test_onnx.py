"""ONNX files: every layer and every network of the zoo in ONNX Runtime, with the network's own numbers, names and shapes."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import export_cases as cases
import numpy as np
import pytest
import warploom as wl
from activations import ACTIVATIONS
from warploom import models
from warploom.data import tasks
from warploom.data.scaling import Scaling
from warploom.data.tasks import intake
from warploom.export import onnx_ops, torch_ops
from warploom.export.onnx_file import message
from warploom.export.part import part_of
from warploom.ground.lazy import Normalized

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
ROOT = Path(__file__).resolve().parents[2]
FLOAT32 = 1e-5  # relative to the largest value
LAYER_CASES = [pytest.param(make, id=f"{name}-{i}") for name, made in cases.LAYERS.items() for i, make in enumerate(made)]
NETWORK_CASES = [pytest.param(name, a, id=f"{name}-{i}") for name, made in cases.NETWORKS.items() for i, a in enumerate(made)]


def run(path: Path, feed: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def check(model: wl.Model, path: Path) -> Any:
    """Exports, lets ONNX check types and shapes, and compares the outputs for several batch sizes."""
    cases.randomised(model)
    assert wl.export.onnx(model, path) == path
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    onnx.shape_inference.infer_shapes(file, check_type=True, strict_mode=True, data_prop=True)
    for samples in (1, 4):
        x = cases.given(model, samples)
        names = [value.name for value in file.graph.input]
        found = run(path, dict(zip(names, x, strict=True)))
        for name, got, right in zip(model.output_names, found.values(), cases.results(model, x), strict=True):
            assert cases.far(got, right) < FLOAT32, name
    return file


# Nothing is left out


def test_every_layer_has_a_case() -> None:
    own = {name for name, kind in wl.layers.Layer.registry.items() if kind.__module__.startswith("warploom.layers")}
    assert own >= set(wl.layers.__all__) - {"Layer"}
    public = {name for name in own if not name.startswith("_")}
    assert public == cases.LAYERS.keys(), "tests/support/export_cases.py has cases for each layer"


def test_every_network_has_a_case_for_each_of_its_arguments_and_presets() -> None:
    assert models.BY_NAME.keys() == cases.NETWORKS.keys()
    for name, build in models.BY_NAME.items():
        for parameter in inspect.signature(build).parameters.values():
            tried = [a[parameter.name] for a in cases.NETWORKS[name] if parameter.name in a]
            assert any(value != parameter.default for value in tried), f"{name}: no case with another {parameter.name}"
        assert {a.get("preset") for a in cases.NETWORKS[name]} >= set(models.presets(name)), name


def test_every_operation_and_activation_of_the_core_is_translated() -> None:
    """Read from the sources: an operation that is new there has no translation here."""
    sources = [p.read_text() for p in sorted((ROOT / "kernels/ops").glob("*/graph.cpp"))]
    ops = {name for text in sources for name in re.findall(r'name\(\) const override \{ return "(\w+)"; \}', text)}
    inside = {"upsample_conv2d", "conv2d_mean"}  # made by the planner, of a convolution and what stands beside it
    assert len(ops) > 15
    for table in (onnx_ops.OPS, torch_ops.OPS):
        assert ops - inside == table.keys()
    for kinds in (onnx_ops.KINDS, torch_ops.KINDS):
        assert kinds.keys() == ACTIVATIONS.keys()


# The numbers


@pytest.mark.parametrize("make", LAYER_CASES)
def test_every_layer(make: Any, tmp_path: Path) -> None:
    check(make(), tmp_path / "layer.onnx")


@pytest.mark.parametrize(("name", "arguments"), NETWORK_CASES)
def test_every_network(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = cases.network(name, arguments)
    file = check(model, tmp_path / "net.onnx")
    assert {i.name for i in file.graph.initializer} >= set(model.state_dict())
    assert {node.name for node in file.graph.node} >= set(model.node_names)
    assert [value.name for value in file.graph.input] == [t.name for t in model.inputs]
    assert [value.name for value in file.graph.output] == model.output_names
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in file.graph.value_info}
    for call, node in zip(model.calls, model.node_names, strict=True):
        if node not in model.output_names:
            assert shapes[node] == ["batch", *call.outputs[0].shape], node


def test_the_swapped_faces(tmp_path: Path) -> None:
    check(models.liae_swap(cases.network("liae_ud", cases.NETWORKS["liae_ud"][0])), tmp_path / "swap.onnx")


@pytest.mark.parametrize("fault", ["padding", "nearest", "slope", "eps", "order"])
def test_a_wrong_translation_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_node = onnx.helper.make_node

    def wrong(op: str, *given: Any, **attributes: Any) -> Any:
        if (op, fault) == ("Conv", "padding"):
            attributes["pads"] = attributes["pads"][::-1]
        if (op, fault) == ("Resize", "nearest"):
            attributes["nearest_mode"] = "ceil"
        if (op, fault) == ("LeakyRelu", "slope"):
            attributes["alpha"] = 0.011
        if (op, fault) == ("BatchNormalization", "eps"):
            attributes["epsilon"] = 1e-3
        if (op, fault) == ("DepthToSpace", "order"):
            attributes["mode"] = "CRD"
        return make_node(op, *given, **attributes)

    monkeypatch.setattr(onnx.helper, "make_node", wrong)
    made = {"padding": ("Conv2d", 2), "nearest": ("Upsample", 2), "slope": ("LeakyReLU", 0), "eps": ("BatchNorm2d", 0)}
    layer, number = made.get(fault, ("DepthToSpace", 0))
    with pytest.raises(AssertionError):
        check(cases.LAYERS[layer][number](), tmp_path / "wrong.onnx")


# Encoder and decoder


@pytest.mark.parametrize("name", ["cifar10_autoencoder", "gray_autoencoder", "unet_small", "unet_large", "dsresnet"])
@pytest.mark.parametrize("uint8", [None, "nhwc"])
def test_encoder_and_decoder_make_the_whole(name: str, uint8: str | None, tmp_path: Path) -> None:
    model = cases.randomised(cases.network(name, cases.NETWORKS[name][1]))
    wl.export.onnx(model, tmp_path / "e.onnx", part="encoder", skips=True, uint8=uint8)
    wl.export.onnx(model, tmp_path / "d.onnx", part="decoder", skips=True, uint8=uint8)
    pixels = [np.random.default_rng(i).integers(0, 256, (2, *t.shape), np.uint8) for i, t in enumerate(model.inputs)]
    kind = models.objective(name).data
    x = [intake(kind, i).forward(p) for i, p in enumerate(pixels)] if uint8 else cases.given(model, 2)
    fed = [p.transpose(0, 2, 3, 1) for p in pixels] if uint8 else x
    names = [str(t.name) for t in model.inputs]
    between = run(tmp_path / "e.onnx", dict(zip(names, fed, strict=True)))
    assert next(iter(between)) == "latent"
    assert cases.far(between["latent"], model.encode(x)) < FLOAT32
    wanted = [v.name for v in onnx.load(tmp_path / "d.onnx").graph.input]
    assert list(between) == wanted
    found = run(tmp_path / "d.onnx", between)
    for got, right in zip(found.values(), cases.results(model, x), strict=True):
        assert cases.far(got, right) < FLOAT32
    assert list(found) == model.output_names
    for part in ("encoder", "decoder"):
        for d in wl.export.compare(model, tmp_path / f"{part[0]}.onnx", part=part, skips=True, uint8=uint8):
            assert d.largest_difference < FLOAT32 * d.largest_value


def test_an_encoder_alone_gives_the_latent_alone(tmp_path: Path) -> None:
    model = cases.network("unet_small", {"size": 16})
    wl.export.onnx(model, tmp_path / "e.onnx", part="encoder")
    file = onnx.load(tmp_path / "e.onnx")
    assert [v.name for v in file.graph.output] == ["latent"]
    assert {i.name for i in file.graph.initializer} == set(model.encoder.state_dict())
    with pytest.raises(wl.GraphError, match=r"reads enc1.relu, enc2.relu, enc3.relu besides the latent: .*--skips"):
        wl.export.onnx(model, tmp_path / "d.onnx", part="decoder")
    assert not (tmp_path / "d.onnx").exists()


def test_a_second_input_of_the_decoder_is_no_skip(tmp_path: Path) -> None:
    image, other = wl.Input((2, 4, 4), name="image"), wl.Input((3, 4, 4), name="condition")
    code = wl.layers.Latent(name="code")(wl.layers.Conv2d(3, 1, name="enc")(image))
    model = wl.Model([image, other], [wl.layers.Conv2d(2, 1, name="dec")(code + other), code], name="conditional")
    wl.export.onnx(model, tmp_path / "d.onnx", part="decoder")
    file = onnx.load(tmp_path / "d.onnx")
    assert [v.name for v in file.graph.input] == ["code", "condition"]
    assert [v.name for v in file.graph.output] == ["dec"]
    assert max(d.largest_difference for d in wl.export.compare(model, tmp_path / "d.onnx", part="decoder")) < 1e-6


# Images


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_uint8_images_are_scaled_in_the_graph(layout: str, tmp_path: Path) -> None:
    model = cases.randomised(cases.network("cifar10_autoencoder", {"size": (8, 12)}))
    path = wl.export.onnx(model, tmp_path / "u.onnx", uint8=layout)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 12), np.uint8)
    fed = pixels if layout == "nchw" else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    assert (value.name, value.type) == ("image", "tensor(uint8)")
    assert value.shape == (["batch", 3, 8, 12] if layout == "nchw" else ["batch", 8, 12, 3])
    assert cases.far(session.run(None, {"image": fed})[0], model.predict(pixels)) < FLOAT32
    (compared,) = wl.export.compare(model, path, uint8=layout)
    assert compared.largest_difference < FLOAT32 * compared.largest_value


@pytest.mark.parametrize("kind", ["images", "segmentation", "composites", "faces", "own"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_images_are_scaled_as_in_training(kind: str, layout: str, tmp_path: Path) -> None:
    """The bits that the data of a training have: mean and deviation of every input, channels in its order."""
    inputs = [wl.Input((3, 5, 4), name=name) for name in "ab"]
    model = wl.Model(inputs, [wl.layers.Identity(name=f"same_{t.name}")(t) for t in inputs], name="same")
    own = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    scaling = own if kind == "own" else kind
    path = wl.export.onnx(model, tmp_path / "s.onnx", uint8=layout, scaling=scaling)
    pixels = [np.random.default_rng(i).integers(0, 256, (2, 3, 5, 4), np.uint8) for i in (0, 1)]
    fed = pixels if layout == "nchw" else [p.transpose(0, 2, 3, 1) for p in pixels]
    found = run(path, dict(zip("ab", fed, strict=True)))
    statistics = list(tasks._STATISTICS.values())
    for number, (got, p) in enumerate(zip(found.values(), pixels, strict=True)):
        if kind in ("images", "faces"):
            right = (p[:, ::-1] if kind == "faces" else p) * np.float32(1 / 255)
        else:
            half = ((128 / 255,), (128 / 255,))
            numbers = {"segmentation": half, "own": (own.mean, own.deviation)}.get(kind, statistics[number])
            right = Normalized(p, *numbers).rows(np.arange(2))
        np.testing.assert_array_equal(got, right)
    assert {d.largest_difference for d in wl.export.compare(model, path, uint8=layout, scaling=scaling)} == {0.0}


def test_scalings_that_are_refused(tmp_path: Path) -> None:
    model = cases.network("gray_autoencoder", cases.NETWORKS["gray_autoencoder"][0])
    with pytest.raises(wl.ArgumentError, match="unknown scaling 'picture'; expected one of images, segmentation"):
        wl.export.onnx(model, tmp_path / "x.onnx", scaling="picture")
    with pytest.raises(wl.ArgumentError, match="3 means do not fit the input 'image' of 1 channels"):
        wl.export.onnx(model, tmp_path / "x.onnx", scaling=Scaling((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)))


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    model = cases.network("unet_small", {"size": 16, "in_channels": 2})
    file = onnx.load(wl.export.onnx(model, tmp_path / "a.onnx", uint8="nhwc"))
    assert (file.producer_name, file.producer_version) == ("warploom", wl.__version__)
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 18)]
    said = {entry.key: entry.value for entry in file.metadata_props}
    said.pop("warploom.graph")
    assert said == {
        "warploom.name": "unet_small", "warploom.part": "whole", "warploom.layout": "nhwc", "warploom.scaled": "inside",
        "warploom.scaling": json.dumps({"image": {"mean": [128 / 255], "deviation": [128 / 255], "channels": "RGB"}}),
    }  # fmt: skip
    count = sum(value.size for value in model.state_dict().values())
    assert file.doc_string == f"unet_small: image 2x16x16 -> conv 32x16x16; {count:,} numbers in parameters. Takes uint8 NHWC."
    file = onnx.load(wl.export.onnx(model, tmp_path / "b.onnx"))
    assert file.doc_string.endswith("image is (pixels / 255 - 0.501961) / 0.501961.")
    assert file.graph.input[0].doc_string == "float32: (pixels / 255 - 0.501961) / 0.501961"
    assert file.graph.doc_string == file.doc_string
    assert file.graph.name == "unet_small"


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    model = cases.network("gray_autoencoder", cases.NETWORKS["gray_autoencoder"][4])
    a, b = (wl.export.onnx(model, tmp_path / f"{name}.onnx").read_bytes() for name in "ab")
    assert a == b


# What a user adds, and what is refused


def test_a_layer_of_ones_own_made_of_known_operations(tmp_path: Path) -> None:
    """Two nodes in lower(); a subclass that computes something else than its base."""

    class HardShift(wl.layers.Layer):
        def lower(self, graph: Any, name: str, inputs: list[int], parameters: list[int]) -> list[int]:
            bent = graph.node("activation", f"{name}/bent", inputs, [], {"kind": "tanh"})
            return graph.node("add", name, [*bent, *inputs], [], {})  # type: ignore[no-any-return]

    class MeanInstead(wl.layers.MaxPool2d):
        op = "avg_pool2d"

    try:
        x = wl.Input((3, 4, 4), name="x")
        check(wl.Model(x, MeanInstead(2)(HardShift(name="shift")(x)), name="own"), tmp_path / "own.onnx")
    finally:
        for name in ("HardShift", "MeanInstead"):
            del wl.layers.Layer.registry[name]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cases.network("liae_ud", cases.NETWORKS["liae_ud"][0])
    for text, kind, arguments in (
        ("unknown part 'half' of a network; expected one of whole, encoder, decoder", wl.ArgumentError, {"part": "half"}),
        ("unknown layout 'chw' of uint8 images; expected one of nchw, nhwc", wl.ArgumentError, {"uint8": "chw"}),
        ("has no latent: mark it with", wl.GraphError, {"part": "encoder"}),
    ):
        with pytest.raises(kind, match=text):
            wl.export.onnx(model, tmp_path / "x.onnx", **arguments)
    with pytest.raises(wl.ArgumentError, match=r"x\.pb does not end in \.onnx: name it x\.onnx"):
        wl.export.onnx(model, tmp_path / "x.pb")
    (tmp_path / "file").write_text("")
    with pytest.raises(wl.DataError, match="cannot write"):
        wl.export.onnx(model, tmp_path / "file" / "x.onnx")
    ended = wl.Model(x := wl.Input((3, 4, 4), name="x"), wl.layers.Latent(name="code")(x), name="ended")
    with pytest.raises(wl.GraphError, match="nothing follows its latent"):
        wl.export.onnx(ended, tmp_path / "x.onnx", part="decoder")
    monkeypatch.delitem(onnx_ops.OPS, "rms_norm")
    with pytest.raises(wl.UnsupportedError, match=r"layer 'inter_ab\.fc1\.norm' cannot be exported to ONNX"):
        wl.export.onnx(model, tmp_path / "x.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_more_than_a_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warploom.export.onnx_file._LARGEST", 1000)
    with pytest.raises(wl.DataError, match="have 7,208 bytes; a file of ONNX holds at most 1,000"):
        message(part_of(wl.Model(x := wl.Input((3, 4, 4)), wl.layers.Conv2d(2, 1)(wl.layers.Conv2d(60, 3)(x)), name="m")))


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_what_is_missing_is_said(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cases.network("cifar10_autoencoder", {"size": 8})
    path = wl.export.onnx(model, tmp_path / "a.onnx")
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    call = wl.export.onnx if missing == "onnx" else wl.export.compare
    with pytest.raises(wl.StateError, match=f"needs the package {missing}: pip install {missing}"):
        call(model, path)


@pytest.mark.parametrize("name", wl.recipes.BY_NAME)
def test_every_recipe(name: str, tmp_path: Path) -> None:
    """Networks whose filters are learnt, not trained: fewer samples, filters and steps than they are for."""
    autoencoder = {"filters": 8, "epochs": 1}
    few: dict[str, dict[str, Any]] = {
        "whitened_dictionary": {"centres": 8, "iterations": 2},
        "kernel_network": {"filters": (4, 6), "pools": (2, 3), "iterations": 2},
        "joined": {"filters": (4, 6), "wide": (2, 8), "pools": (2, 3), "centres": 8, "iterations": 2},
        "winner_take_all": autoencoder,
        "denoising": autoencoder,
        "wide_filters": {"filters": 6, "patch": 9, "iterations": 2},
    }
    patches: dict[str, Any] = {"patches": 500} if name in few else {"epochs": 1}
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    model = wl.recipes.learn(name, images, **patches, **few.get(name, {}))
    path = wl.export.onnx(model, tmp_path / "r.onnx", uint8="nhwc")
    for d in wl.export.compare(model, path, uint8="nhwc"):
        assert d.largest_difference < 10 * FLOAT32 * d.largest_value  # roots of small numbers
