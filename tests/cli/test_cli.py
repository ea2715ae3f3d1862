"""The command line: run folders, resuming, Ctrl-C, and one sentence with exit code 2 for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from safetensors.numpy import load_file
from warploom.cli import main
from warploom.runs.run import RunFolder

ROOT = Path(__file__).resolve().parents[2]
FILES = {"config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "loss.png", "reconstructions.png"}


@pytest.fixture
def images(tmp_path: Path) -> str:
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8))
    return str(path)


def train(images: str, out: Path, *more: str) -> int:
    common = ["--data", images, "--batch-size", "4", "--limit", "10", "--device", "cpu", "--momentum", "0.5"]
    return main(["train", *common, "--out", str(out), *more])


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(images, out, "--epochs", "2") == 0
    assert {p.name for p in out.iterdir()} == FILES
    text = capsys.readouterr().out
    for part in ("751,875 parameters", "epoch 1/2", "images/s", "test loss", str(out)):
        assert part in text
    keys = {"epoch", "train_loss", "test_loss", "seconds", "images_per_second", "version", "device"}
    assert [set(row) for row in rows(out)] == [keys | {"test_psnr", "test_ssim_index", "test_mae"}] * 2
    assert [row["epoch"] for row in rows(out)] == [1, 2]
    config = json.loads((out / "config.json").read_text())
    assert (config["batch_size"], config["epochs"], config["momentum"]) == (4, 2, 0.5)
    model = wl.load(out / "model.safetensors")
    model.compile(version="cpu", device="cpu", batch_size=3)
    data = np.load(images)[27:]  # the last tenth is for testing
    assert model.evaluate(data)["loss"] == pytest.approx(rows(out)[-1]["test_loss"], rel=1e-6)
    for name in ("loss.png", "reconstructions.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
            assert np.asarray(picture.convert("L")).std() > 10


def same_files(a: Path, b: Path) -> bool:
    for name in ("model.safetensors", "checkpoint.safetensors"):
        x, y = load_file(a / name), load_file(b / name)
        if sorted(x) != sorted(y) or not all(np.array_equal(x[k], y[k]) for k in x):
            return False
    timing = ("seconds", "images_per_second")
    return [{k: v for k, v in r.items() if k not in timing} for r in rows(a)] == [
        {k: v for k, v in r.items() if k not in timing} for r in rows(b)
    ]


def test_resume_gives_the_same_bits(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train(images, whole, "--epochs", "3") == 0
    assert train(images, halves, "--epochs", "1") == 0
    assert main(["train", "--resume", str(halves), "--epochs", "3"]) == 0
    assert same_files(whole, halves)
    # A crash after the metrics of epoch 3 were written, but before its checkpoint: the epoch is done again.
    again = tmp_path / "again"
    assert train(images, again, "--epochs", "2") == 0
    with (again / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(rows(whole)[2]) + '\n{"epoch": 4, "tra')
    assert main(["train", "--resume", str(again), "--epochs", "3"]) == 0
    assert same_files(whole, again)
    capsys.readouterr()
    assert main(["train", "--resume", str(again)]) == 0
    assert "has finished its 3 epochs; pass --epochs" in capsys.readouterr().out


def test_ctrl_c_and_resume(tmp_path: Path) -> None:
    """Stopped inside an epoch by a signal: exit code 130, a usable model, and the rest gives the bits of an unbroken run."""
    data = tmp_path / "many.npy"
    np.save(data, np.random.default_rng(0).integers(0, 256, (160, 3, 32, 32), dtype=np.uint8))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    common = ["--data", str(data), "--batch-size", "4", "--device", "cpu", "--momentum", "0.5", "--epochs", "1"]
    assert main(["train", *common, "--out", str(whole)]) == 0
    command = [sys.executable, "-m", "warploom", "train", *common, "--out", str(broken)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while not (broken / "config.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)  # config.json is written just before the first step
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal arrived")
    assert process.returncode == 130, err
    assert "--resume" in err
    assert wl.load(broken / "model.safetensors").count_parameters() == 751_875
    assert (broken / "reconstructions.png").exists()
    assert main(["train", "--resume", str(broken)]) == 0
    assert same_files(whole, broken)


def test_train_py_is_warploom_train(images: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, str(ROOT / "train.py"), "--data", images, "--limit", "4", "--batch-size", "4", "--epochs", "1"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--out", str(out)], capture_output=True, text=True, env=dict(os.environ), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in out.iterdir()} == FILES


def test_missing_gpu_is_said_loudly(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if any(d["usable"] for d in wl.devices() if d["kind"] == "cuda"):
        pytest.skip("there is a GPU")
    out = tmp_path / "run"
    arguments = ["--data", images, "--limit", "4", "--batch-size", "4", "--epochs", "1", "--out", str(out)]
    assert main(["train", *arguments, "--version", "v1"]) == 0
    err = capsys.readouterr().err
    assert "WARNING: version v1 needs a CUDA device" in err
    assert rows(out)[0]["device"] == "cpu"
    assert main(["train", *arguments[:-1], str(tmp_path / "b"), "--device", "cuda"]) == 2
    assert not (tmp_path / "b").exists()


def test_errors_are_one_sentence(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = np.zeros((8, 3, 32, 32), np.float32)
    broken[5] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    (tmp_path / "file").write_text("x")
    short = tmp_path / "cifar"
    short.mkdir()
    (short / "data_batch_1.bin").write_bytes(bytes(5000))
    cases = [
        (["--version", "v99"], "unknown version 'v99'; expected one of auto, cpu, v1"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--version", "v1", "--device", "cpu"], "version v1 does not run on device cpu"),
        (["--model", "resnet"], "unknown model 'resnet'"),
        (["--optimizer", "sgdd"], "unknown optimizer 'sgdd'"),
        (["--lr", "nan"], "lr must be finite"),
        (["--lr", "fast"], "'--lr'"),
        (["--epochs", "0"], "'--epochs'"),
        (["--batch-size", "0"], "'--batch-size'"),
        (["--bogus"], "--bogus"),
        (["--data", str(tmp_path / "nothing.npy")], "there is no file"),
        (["--data", "cifar11"], "there is no data"),
        (["--data", str(tmp_path / "nan.npy")], "NaN in image 5"),
        (["--data-dir", str(tmp_path / "nowhere")], "no CIFAR-10 in"),
        (["--data-dir", str(short)], "5,000 bytes; expected 30,730,000"),
        (["--data", images, "--out", str(tmp_path / "file")], "is a file; --out expects a folder"),
        (["--resume", str(tmp_path / "nowhere")], "holds no run to resume"),
        (["--resume", "a", "--out", "b"], "exclude each other"),
    ]
    for arguments, text in cases:
        assert main(["train", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert text in err, (arguments, err)
        assert err.startswith("warploom: error: ")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_runs_are_not_overwritten_or_mixed(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(images, out, "--epochs", "1") == 0
    capsys.readouterr()
    assert train(images, out) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["train", "--resume", str(out), "--lr", "0.5", "--epochs", "2"]) == 2
    assert "--lr cannot change when a run goes on (it has 0.001)" in capsys.readouterr().err
    data = np.load(images)
    data[0, 0, 0, 0] ^= 1
    np.save(images, data)
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 2
    assert "the data differ" in capsys.readouterr().err
    data[0, 0, 0, 0] ^= 1
    np.save(images, data)
    checkpoint = (out / "checkpoint.safetensors").read_bytes()
    (out / "checkpoint.safetensors").write_bytes(checkpoint[:1000])
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 2
    assert "damaged" in capsys.readouterr().err
    (out / "config.json").write_text("{")
    assert main(["train", "--resume", str(out)]) == 2
    assert "config.json is damaged" in capsys.readouterr().err


def test_divergence_keeps_the_last_good_model(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(images, out, "--epochs", "1") == 0
    good = (out / "model.safetensors").read_bytes()
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "lr": 1e30}))
    assert main(["train", "--resume", str(out), "--epochs", "3"]) == 2
    assert "the loss became" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == good


def test_default_folders_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = RunFolder.fresh(None, "net")
    first.path.mkdir(parents=True)
    second = RunFolder.fresh(None, "net")
    with second.held():
        assert second.path != first.path


def test_nodes_of_a_recorded_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--nodes", "--precision", "bf16", "--batch-size", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["versions"]) >= {"v5", "v6", "v7"}  # a new version may be with either
    assert set(told["refused"]) >= {"v1", "v2", "v3", "v4"}
    v7 = told["versions"]["v7"]
    assert v7["operations"]["conv2.conv2d_forward"] == 1  # its weights are prepared with those of others
    assert v7["operations"]["conv2.run_errands"] == 1  # forward and backward
    assert "conv4.run_errands" not in v7["operations"]
    assert v7["operations"]["conv2.conv2d_backward_weight"] == 1  # its runs are summed with those of others
    assert v7["operations"]["gather_images"] == 1  # the batch, which is its own target
    assert v7["operations"]["sgd_update"] == 1  # with all sums over runs, the loss and the counters
    assert len(v7["operations"]) == v7["nodes"] == sum(v7["operations"].values()) == 18
    assert told["versions"]["v5"]["operations"]["conv4.conv2d_forward"] == 2  # sums its taps itself: two launches
    assert main(["explain", "--nodes", "--version", "v7", "--precision", "bf16", "--batch-size", "2"]) == 0
    assert f"all {v7['nodes']}" in " ".join(capsys.readouterr().out.split())
    assert main(["explain", "--nodes", "--version", "cpu"]) == 2
    assert "counts those of v1" in capsys.readouterr().err


def test_reports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command, text in (
        (["devices"], "emulated"),
        (["versions"], "naive: one thread"),
        (["summary"], "751,875"),
        (["summary", "cifar10_autoencoder"], "22-26"),
        (["memory", "cifar10_autoencoder", "--batch-size", "8"], "weight gradients"),
        (["explain", "--batch-size", "8"], "conv2d_forward"),
        (["explain", "--version", "v1", "--batch-size", "8"], "version v1 on"),
    ):
        assert main(command) == 0, capsys.readouterr().err
        assert text in capsys.readouterr().out
    for command in (
        ["devices", "--json"],
        ["versions", "--json"],
        ["summary", "--json"],
        ["memory", "--json"],
        ["explain", "--json"],
    ):
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)
    wl.models.cifar10_autoencoder().save(tmp_path / "m.safetensors")
    assert main(["summary", str(tmp_path / "m.safetensors")]) == 0
    assert "751,875" in capsys.readouterr().out
    assert main(["summary", "vgg"]) == 2
    assert main(["--help"]) == 0
    assert main(["train", "--help"]) == 0
    assert "--data-dir" in capsys.readouterr().out
