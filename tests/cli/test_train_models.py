"""`warploom train --model NAME` of every model, small: the loss falls, files, pictures; a resumed run has the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from safetensors.numpy import load_file
from warploom import optim
from warploom.cli import main
from warploom.runs.recipe import RunConfig

SMALL: dict[str, list[str]] = {
    "unet_small": ["--set", "size=32", "--set", "classes=6", "--batch-size", "4", "--lr", "0.01"],
    "unet_large": ["--set", "size=32", "--set", "classes=6", "--batch-size", "4", "--lr", "0.01"],
    "gray_autoencoder": ["--set", "size=32", "--set", "skips=true", "--batch-size", "4", "--lr", "0.002"],
    "dsresnet": ["--set", "size=32", "--batch-size", "8", "--lr", "0.02"],
    "liae_ud": [
        *("--set", "size=32", "--set", "ae_dims=16", "--set", "e_dims=8", "--set", "d_dims=8", "--set", "d_mask_dims=4"),
        *("--lr", "0.001", "--clip-norm", "1"),
    ],
}
LOSSES = {
    "unet_small": [],
    "unet_large": [],
    "gray_autoencoder": ["mse", "ssim"],
    "dsresnet": ["depth/rmse", "mask/bce_with_logits", "mask/dice"],
    "liae_ud": ["src_image/dssim2", "src_image/mse", "src_mask/mse", "dst_image/dssim2", "dst_image/mse", "dst_mask/mse"],
}


def train(name: str, out: Path, *more: str) -> int:
    common = ["--model", name, *SMALL[name], "--limit", "8", "--device", "cpu", "--out", str(out)]
    return main(["train", *common, *more])


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in found]


@pytest.mark.parametrize("name", SMALL)
def test_a_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(name, out, "--epochs", "3" if name == "dsresnet" else "6") == 0, capsys.readouterr().err
    assert "no --data given" in capsys.readouterr().err, "synthetic data are never taken silently"
    picture = "reconstructions.png" if name == "gray_autoencoder" else "predictions.png"
    files = {"config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "loss.png", picture}
    assert {p.name for p in out.iterdir()} == files
    found = rows(out)
    assert found[-1]["train_loss"] < 0.9 * found[0]["train_loss"]
    assert list(found[-1].get("test_losses", {})) == LOSSES[name]
    if LOSSES[name]:
        assert sum(found[-1]["test_losses"].values()) == pytest.approx(found[-1]["test_loss"], rel=1e-5)
    with Image.open(out / picture) as image:
        assert np.asarray(image.convert("L")).std() > 10
    config = json.loads((out / "config.json").read_text())
    assert config["optimizer"] == RunConfig(model=name).make_optimizer().kind
    assert wl.load(out / "model.safetensors").count_parameters() > 1000


@pytest.mark.parametrize("name", ["unet_small", "liae_ud"])
def test_resume_gives_the_same_bits(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warps, batch statistics, optimizer state and the schedule's memory all go on where they were."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    schedule = ["--schedule", "warmup:length=3+plateau:patience=0,factor=0.5,threshold=0.5"]
    assert train(name, whole, "--epochs", "3", *schedule) == 0
    assert train(name, halves, "--epochs", "1", *schedule) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "3"]) == 0, capsys.readouterr().err
    for file in ("model.safetensors", "checkpoint.safetensors"):
        a, b = load_file(whole / file), load_file(halves / file)
        assert sorted(a) == sorted(b)
        assert all(a[k].tobytes() == b[k].tobytes() for k in a), file
    assert rows(whole) == rows(halves)
    assert len({row["lr"] for row in rows(whole)}) > 1, "the schedule did something"


def test_defaults_are_the_documents() -> None:
    for name, expected in {
        "cifar10_autoencoder": (20, 64, 1e-3, "sgd", "none"),
        "unet_small": (100, 32, 1e-3, "adam", "multistep:milestones=20/80,gamma=0.5"),
        "gray_autoencoder": (100, 16, 1e-4, "adam", "plateau:factor=0.5,patience=10"),
        "dsresnet": (10, 16, 0.1, "sgd", "multistep:milestones=3,gamma=0.1"),
        "liae_ud": (100, 4, 5e-5, "adabelief", "none"),
    }.items():
        config = RunConfig(model=name).resolve()
        assert (config.epochs, config.batch_size, config.lr, config.optimizer, config.schedule) == expected
        assert config.resolve() == config
        config.make_schedule()
    assert repr(RunConfig(model="liae_ud", clip_norm=1.0).make_optimizer()) == repr(
        optim.AdaBelief(5e-5, (0.9, 0.999), 1e-6, bias_correction=False, clip_norm=1.0)
    )
    assert RunConfig(optimizer="adamw", weight_decay=0.1).resolve().lr == 1e-3


def test_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (["--model", "unet_small", "--set", "size"], "--set 'size' is no KEY=VALUE"),
        (
            ["--model", "unet_small", "--set", "skips=true"],
            "model unet_small has no argument 'skips'; it has size, in_channels, classes",
        ),
        (["--model", "unet_small", "--set", "size=30"], "multiple"),
        (["--model", "unet_small", "--data", str(tmp_path / "no")], "there is no folder"),
        (["--model", "unet_small", "--data", str(tmp_path)], "has no sub-folder images"),
        (["--model", "unet_small", "--data-dir", "x"], "--data-dir is where CIFAR-10 is"),
        (["--schedule", "fast"], "unknown schedule 'fast'"),
        (["--optimizer", "adam", "--momentum", "0.9"], "optimizer adam has no momentum"),
        (["--weight-decay", "-1"], "weight_decay must be finite and at least 0"),
        (["--clip-norm", "nan"], "clip_norm must be finite"),
    ]
    for arguments, text in cases:
        assert main(["train", "--limit", "4", "--device", "cpu", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert text in err, (arguments, err)
        assert err.startswith("warploom: error: ")
        assert err.count("\n") == 1, err
