"""The commands export and import: files, what they say, and one sentence with exit code 2 for what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main

pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the model of a run in it."""
    folder = tmp_path / "run"
    folder.mkdir()
    wl.models.unet_small(size=16).save(folder / "model.safetensors")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("warploom: error: ")
    return error


def test_a_run_in_every_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert f"written to {run / 'unet_small.onnx'}\n" in said(capsys, "export", run)
    text = said(capsys, "export", run, "--part", "encoder", "--uint8", "nhwc", "--verify")
    assert str(run / "unet_small_encoder.onnx") in text
    assert "latent" in text
    assert "largest difference" in text
    said(capsys, "export", run, "--to", "torch")
    said(capsys, "export", run / "model.safetensors", "--to", "safetensors", "--dtype", "bf16")
    said(capsys, "export", run, "--to", "safetensors", "--part", "encoder", "--dtype", "fp16")
    assert {p.name for p in run.iterdir()} == {
        "model.safetensors", "unet_small.onnx", "unet_small_encoder.onnx", "unet_small_torch.safetensors", "unet_small_torch.py",
        "unet_small-bf16.safetensors", "unet_small_encoder-fp16.safetensors",
    }  # fmt: skip
    assert wl.load(run / "unet_small_encoder-fp16.safetensors").name == "unet_small-encoder"


def test_json(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    arguments = ["export", run, "--part", "decoder", "--skips", "--verify", "--json", "-o", tmp_path / "d.onnx"]
    found = json.loads(said(capsys, *arguments))
    assert found["files"] == [str(tmp_path / "d.onnx")]
    assert list(found["inputs"]) == ["latent", "enc1.relu", "enc2.relu", "enc3.relu"]
    assert found["outputs"] == {"conv": [32, 16, 16]}
    (verified,) = found["verified"]
    assert verified["output"] == "conv"
    assert 0 <= verified["largest_difference"] < 1e-5 * verified["largest_value"]


def test_an_untrained_network_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "cifar10_autoencoder", "-o", str(tmp_path / "a.onnx")]) == 0
    captured = capsys.readouterr()
    assert "its weights are random" in captured.err
    assert captured.out == f"written to {tmp_path / 'a.onnx'}\n"


def test_state_dicts_come_in(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = wl.load(run)
    said(capsys, "export", run, "--to", "torch", "-o", tmp_path / "s.safetensors")
    text = said(capsys, "import", tmp_path / "s.safetensors", "--model", "unet_small", "--set", "size=16")
    assert text == f"written to {tmp_path / 's-warploom.safetensors'}: unet_small, 63,972 parameters\n"
    again = wl.load(tmp_path / "s-warploom.safetensors")
    assert again.config() == model.config()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    said(capsys, "export", run, "-o", tmp_path / "n.onnx")
    found = json.loads(said(capsys, "import", tmp_path / "n.onnx", "--out", tmp_path / "n.safetensors", "--json"))
    assert found == {"file": str(tmp_path / "n.safetensors"), "network": "unet_small", "parameters": 63972}
    assert (tmp_path / "n.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    said(capsys, "import", tmp_path / "s.safetensors", "--model", run, "-o", tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_what_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "model.safetensors"
    for arguments, text in (
        (["--to", "tflite"], "--to tflite: expected one of onnx, torch, safetensors"),
        (["--to", "torch", "--uint8", "nchw"], "--uint8 is for --to onnx, not for torch"),
        (["--to", "safetensors", "--verify"], "--verify is for --to onnx, not for safetensors"),
        (["--dtype", "fp16"], "--dtype is for --to torch and safetensors, not for onnx"),
        (["--to", "safetensors", "--skips"], "--skips is for --to onnx and torch"),
        (["--to", "safetensors", "--part", "decoder"], "a warploom file holds a whole network or an encoder"),
        (["--to", "safetensors", "--dtype", "fp8"], "unknown dtype 'fp8'"),
        (["--part", "decoder"], "besides the latent"),
        (["--part", "half"], "unknown part 'half'"),
        (["--uint8", "chw"], "unknown layout 'chw'"),
        (["--out", tmp_path / "x.tflite"], "does not end in .onnx"),
        (["--to", "safetensors", "--out", file], "is the file that is exported"),
        (["--to", "torch", "--out", f"{run}/../run/model.safetensors"], "is the file that is exported"),
    ):
        before = file.read_bytes()
        for source in (run, file):
            assert text in refused(capsys, "export", source, *arguments)
        assert file.read_bytes() == before
    assert "there is no nothing; expected the folder of a run" in refused(capsys, "export", "nothing")
    assert "there is no " in refused(capsys, "export", tmp_path / "none.safetensors")
    assert "say with --model" in refused(capsys, "import", file)
    assert "does not fit model" in refused(capsys, "import", file, "--model", "cifar10_autoencoder")
    assert "--set is for a model's name" in refused(capsys, "import", file, "--model", run, "--set", "size=16")
    assert "there is no file" in refused(capsys, "import", tmp_path / "nowhere.pt")
    (tmp_path / "x.onnx").touch()
    assert "says itself which network" in refused(capsys, "import", tmp_path / "x.onnx", "--model", run)
    assert [p.name for p in run.iterdir()] == ["model.safetensors"]


def test_without_the_package_onnx(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "needs the package onnx: pip install onnx" in refused(capsys, "export", run)
