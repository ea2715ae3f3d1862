"""ONNX files read back: the same network; other files are refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_cases as cases
import numpy as np
import pytest
import warploom as wl

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
NETWORK_CASES = [pytest.param(name, a, id=f"{name}-{i}") for name, made in cases.NETWORKS.items() for i, a in enumerate(made)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = cases.randomised(cases.network("cifar10_autoencoder", {"size": 8}))
    return wl.export.onnx(model, tmp_path_factory.mktemp("good") / "good.onnx")


@pytest.mark.parametrize(("name", "arguments"), NETWORK_CASES)
def test_there_and_back(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = cases.randomised(cases.network(name, arguments))
    again = wl.export.read_onnx(wl.export.onnx(model, tmp_path / "a.onnx"))
    assert again.config() == json.loads(json.dumps(model.config())) or again.config() == model.config()
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], value)
    wl.export.onnx(again, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_encoder_comes_back_as_one(tmp_path: Path) -> None:
    model = cases.randomised(cases.network("unet_small", {"size": 16}))
    again = wl.export.read_onnx(wl.export.onnx(model, tmp_path / "e.onnx", part="encoder", uint8="nhwc"))
    (x,) = cases.given(model)
    np.testing.assert_allclose(again.predict(x), model.encode(x), rtol=1e-5, atol=1e-6)
    wl.export.onnx(model, tmp_path / "s.onnx", part="encoder", skips=True)
    with pytest.raises(wl.DataError, match=r"s\.onnx: it holds no network of warploom"):
        wl.export.read_onnx(tmp_path / "s.onnx")


def _changed(change: Callable[[Any], None]) -> Callable[[Any], bytes]:
    def made(message: Any) -> bytes:
        change(message)
        content: bytes = message.SerializeToString()
        return content

    return made


def _said(message: Any, text: str) -> None:
    next(e for e in message.metadata_props if e.key == "warploom.graph").value = text


def _outside(message: Any) -> None:
    tensor = message.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _huge(message: Any) -> None:
    tensor = message.graph.initializer[0]
    tensor.dims[:] = [1 << 40, 1 << 22]


def _nan(message: Any) -> None:
    tensor = message.graph.initializer[0]
    tensor.raw_data = b"\xff" * len(tensor.raw_data)


BAD: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "no network in it": (_changed(lambda m: m.ClearField("metadata_props")), "holds no network of warploom"),
    "deep": (_changed(lambda m: _said(m, "[" * 100_000)), "is damaged or no ONNX file"),
    "null": (_changed(lambda m: _said(m, "null")), "is damaged or no ONNX file"),
    "an unknown layer": (_changed(lambda m: _said(m, '{"inputs": [], "layers": [{"class": "x"}]}')), "layer class 'x'"),
    "a tensor in another file": (_changed(_outside), "lies in another file, which is not read"),
    "a huge tensor": (_changed(_huge), "is damaged or no ONNX file"),
    "not a number": (_changed(_nan), "conv1.weight holds NaN"),
    "a tensor less": (_changed(lambda m: m.graph.initializer.pop(0)), "it lacks conv1"),
    "cut short": (lambda m: m.SerializeToString()[:-1000], "is damaged or no ONNX file"),
    "noise": (lambda m: b"\xff" * 1000, "is damaged or no ONNX file"),
    "empty": (lambda m: b"", "holds no network"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_refused(name: str, good: Path, tmp_path: Path) -> None:
    make, text = BAD[name]
    (tmp_path / "bad.onnx").write_bytes(make(onnx.load(good)))
    with pytest.raises(wl.DataError, match=text) as caught:
        wl.export.read_onnx(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(wl.DataError, match="there is no file"):
        wl.export.read_onnx(tmp_path / "none.onnx")
