"""Files of a run and of a model that say absurd things: one sentence each, and no more memory or time than a good one."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main
from warploom.ground.atomic import read_tensors, write_tensors
from warploom.optim.schedules import PlateauLR
from warploom.runs.run import RunFolder
from warploom.train.loop import Progress

_DEEP = "[" * 100_000 + "]" * 100_000
_IMAGES = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a schedule that has a memory."""
    place = tmp_path_factory.mktemp("done")
    np.save(place / "x.npy", _IMAGES)
    wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m").save(place / "m.safetensors")
    command = [
        "train",
        "--model",
        str(place / "m.safetensors"),
        "--data",
        str(place / "x.npy"),
        "--device",
        "cpu",
        "--epochs",
        "2",
    ]
    assert main([*command, "--batch-size", "4", "--schedule", "plateau", "--out", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    target = tmp_path / "run"
    target.mkdir()
    for file in done.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["train", "--resume", str(run), "--epochs", "3"])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, error


def refused(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    code, error = resumed(run, capsys)
    assert code == 2, error
    assert error.count("\n") == 1
    assert len(error) < 2000
    return error


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -1}, {"epochs": 2**63}, {"batch_size": 0}, {"batch_size": 2**70}, {"limit": -5}, {"seed": -1}, {"seed": 2**64},
        {"lr": float("nan")}, {"lr": -1.0}, {"lr": "fast"}, {"momentum": 1e308}, {"schedule": "plateau:factor=nan"}, {"model": 7},
        {"arguments": []}, {"data": None}, {"precision": "fp1"}, {"device": "\x1b[31m"}, {"optimizer": "sgdd"},
    ],
    ids=str,
)  # fmt: skip
def test_config(changes: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**text, **changes}))
    code = main(["train", "--resume", str(run), *([] if "epochs" in changes else ["--epochs", "3"])])
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert "\x1b" not in error


@pytest.mark.parametrize(
    "text", [_DEEP, "null", "[]", "3", '{"epochs": ' + "9" * 10_000 + "}", "", "\x00", '{"model": {}}'], ids=len
)
def test_config_that_is_none(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.json").write_text(text)
    assert "config.json is damaged" in refused(run, capsys)


@pytest.mark.parametrize(
    "row",
    [
        _DEEP, "{}", "[]", '{"epoch": true}', '{"epoch": "2"}', '{"epoch": 2, "train_loss": []}',
        '{"epoch": 2, "train_loss": 1.0, "test_loss": "low", "version": "cpu", "device": "cpu"}',
        '{"epoch": 2, "train_loss": 1.0, "test_loss": {}, "version": "cpu", "device": "cpu"}',
        '{"epoch": 2, "train_loss": 1.0, "test_losses": 3, "version": "cpu", "device": "cpu"}',
        '{"epoch": 2, "train_loss": 1.0, "test_losses": {"a": "b"}, "version": "cpu", "device": "cpu"}',
        '{"epoch": 2, "train_loss": 1.0, "version": 7, "device": null}',
    ],
    ids=lambda row: row[:60],
)  # fmt: skip
def test_metrics(row: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is no row ends what is read of the file, as one that was cut off does."""
    first = (run / "metrics.jsonl").read_text().splitlines()[0]
    (run / "metrics.jsonl").write_text(f"{first}\n{row}\n")
    assert [r["epoch"] for r in RunFolder(run).read_metrics()] == [1]
    code, error = resumed(run, capsys)
    assert code == 0, error


@pytest.mark.parametrize(
    "progress",
    [
        {"epoch": 2**63}, {"epoch": -1}, {"batch": -1}, {"batch": 2**40}, {"batch": 3, "samples": 0}, {"batch": 1, "samples": 3},
        {"samples": -4}, {"loss_sum": "x"}, {"epoch": 1.5}, {"epoch": True}, {"epoch": None}, {"other": 1},
    ],
    ids=str,
)  # fmt: skip
def test_progress(progress: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoint.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "progress": {**metadata["progress"], **progress}})
    code = main(["train", "--resume", str(run), "--epochs", "3"])
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "state",
    [
        {"cuts": 2**63}, {"cuts": -1}, {"cuts": 1.5}, {"cuts": True}, {"bad": "x"}, {"best": "low"}, {"best": []},
        {"base": float("nan")}, {"base": "x"}, {"last": -1.0}, {"cooling": None},
    ],
    ids=str,
)  # fmt: skip
def test_schedule_state(state: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoint.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "schedule": {**metadata["schedule"], **state}})
    assert "does not fit this run" in refused(run, capsys)


def test_many_cuts_take_no_time() -> None:
    schedule = PlateauLR()
    schedule.load_state({"base": 0.1, "last": 0.1, "best": None, "bad": 0, "cooling": 0, "cuts": 1_000_000})
    assert schedule.lr(0.1, 5, 5) == 0.0


@pytest.mark.parametrize(
    "graph", [json.loads("[" * 900 + "]" * 900), None, 3, "x", {}, {"inputs": []}, {"name": 1, "inputs": [{}]}], ids=type
)
def test_graphs(graph: Any, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {}, {"format": "warploom-model-2", "graph": graph})
    with pytest.raises(wl.DataError):
        wl.load(tmp_path / "x.safetensors")


def test_arguments_as_deep_as_json_allows(tmp_path: Path) -> None:
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    graph = model.config()
    graph["layers"][0]["config"]["padding"] = json.loads("[" * 600 + "]" * 600)
    write_tensors(tmp_path / "x.safetensors", model.state_dict(), {"format": "warploom-model-2", "graph": graph})
    with pytest.raises(wl.DataError):
        wl.load(tmp_path / "x.safetensors")


def test_newer_formats_are_named(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {}, {"format": "warploom-model-99", "graph": {}})
    with pytest.raises(wl.DataError, match="has the format warploom-model-99, written by another version"):
        wl.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("state", [{1: 2}, {None: np.zeros(3)}, [("c.weight", 1)], None, 3], ids=str)
def test_state_dicts_that_are_none(state: Any) -> None:
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    with pytest.raises(wl.ArgumentError):
        model.load_state_dict(state)


def test_values_that_float32_cannot_hold() -> None:
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    state = model.state_dict()
    for value in (1e300, -1e39, 3.5e38):
        with pytest.raises(wl.DataError, match=r"c\.bias holds .* which float32 cannot hold"):
            model.load_state_dict({**state, "c.bias": np.array([0.0, value, 1.0])})
    model.load_state_dict({**state, "c.bias": np.full(3, 3.4e38)})
    assert np.isfinite(model.state_dict()["c.bias"]).all()


def test_tensors_of_half_the_size(tmp_path: Path) -> None:
    """bfloat16 and float16 files that other programs have made of ours are read; types that are not numbers here are named."""
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    model.save(tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    values = model.state_dict()

    def write(kind: str, convert: Any, size: int) -> Path:
        header: dict[str, Any] = {"__metadata__": metadata}
        body = b""
        for name, value in values.items():
            data = convert(value)
            assert len(data) == size * value.size
            header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        text = json.dumps(header).encode()
        path = tmp_path / f"{kind}.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        return path

    upper = {k: (v.view(np.uint32) >> 16 << 16).view(np.float32) for k, v in values.items()}
    loaded = wl.load(write("BF16", lambda v: (v.view(np.uint32) >> 16).astype("<u2").tobytes(), 2)).state_dict()
    assert all(np.array_equal(loaded[k], upper[k]) for k in values)
    loaded = wl.load(write("F16", lambda v: v.astype("<f2").tobytes(), 2)).state_dict()
    assert all(np.array_equal(loaded[k], v.astype(np.float16).astype(np.float32)) for k, v in values.items())
    with pytest.raises(wl.DataError, match="has the type F8_E4M3, which is not supported"):
        wl.load(write("F8_E4M3", lambda v: bytes(v.size), 1))


@pytest.mark.parametrize(("batch", "samples"), [(3, 0), (1, 7), (3, 1)])
def test_progress_that_cannot_be(batch: int, samples: int) -> None:
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    model.compile(batch_size=4, device="cpu")
    with pytest.raises(wl.ArgumentError, match="cannot go on after"):
        model.fit(_IMAGES, epochs=2, start=Progress(0, batch, 0.5, samples), verbose=False)


def test_names_with_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = tmp_path / "a\x1b[31m\x07\u202eb.npy"
    assert main(["train", "--data", str(evil)]) == 2
    error = capsys.readouterr().err
    assert not set(error) & set("\x1b\x07\u202e")
    assert r"\x1b[31m\x07\u202eb.npy" in error
    np.save(evil, _IMAGES)
    wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m").save(tmp_path / "m.safetensors")
    command = ["train", "--model", str(tmp_path / "m.safetensors"), "--device", "cpu", "--epochs", "1", "--batch-size", "4"]
    assert main([*command, "--data", str(evil), "--out", str(tmp_path / "run\x1b[2J")]) == 0
    said = capsys.readouterr()
    assert not set(said.out + said.err) & set("\x1b\x07\u202e")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_terminals_that_lack_letters(encoding: str) -> None:
    environment = dict(os.environ, PYTHONIOENCODING=encoding, LC_ALL="C")
    for command in (
        ["train", "--help"],
        ["summary", "cifar10_autoencoder", "--formulas"],
        ["train", "--data", "\u4e2d\u00e9.npy"],
    ):
        done = subprocess.run([sys.executable, "-m", "warploom", *command], env=environment, capture_output=True)
        assert done.returncode == (2 if "--data" in command else 0), done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr


def test_an_interrupt_while_a_feed_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between making a thread and starting it is what is raised, not what the unstarted thread then says."""
    model = wl.Model(t := wl.Input((3, 8, 8), name="x"), wl.layers.Conv2d(3, 1, name="c")(t), name="m")
    model.compile(batch_size=4, device="cpu")

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(_IMAGES, _IMAGES.copy(), epochs=1, verbose=False)
    model.fit(_IMAGES, _IMAGES.copy(), epochs=1, verbose=False)


def test_a_notebook_that_is_not_here(run: Path, tmp_path: Path) -> None:
    """MPLBACKEND of the notebook that started the command: pictures are drawn all the same."""
    for name in ("loss.png", "reconstructions.png"):
        (run / name).unlink()
    environment = dict(os.environ, MPLBACKEND="module://no_such_module.backend_inline")
    done = subprocess.run(
        [sys.executable, "-m", "warploom", "train", "--resume", str(run)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (run / "loss.png").exists()
    assert (run / "reconstructions.png").exists()
    assert "had been killed before its last files were written" in " ".join(done.stdout.split())


def test_a_finished_run_ends_a_loop(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    assert main(["train", "--resume", str(run)]) == 0
    assert "has finished its 2 epochs" in " ".join(capsys.readouterr().out.split())
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    (run / "model.safetensors").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert {p.name for p in run.iterdir()} == set(before)
    assert (run / "model.safetensors").read_bytes() == before["model.safetensors"]
    os.utime(run / "loss.png", ns=(0, 0))  # older than the checkpoint: drawn for fewer epochs
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "loss.png").stat().st_mtime_ns > 0


def test_the_instruction_set_is_recorded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["instructions"] in ("baseline", "avx2", "avx512", "neon")
    (run / "config.json").write_text(json.dumps({**config, "instructions": "another"}))
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    said = capsys.readouterr().err
    assert f"trained with the instruction set another and goes on with {config['instructions']}" in said
    assert json.loads((run / "config.json").read_text())["instructions"] == config["instructions"]
    assert dataclasses.asdict(RunFolder(run).read_config())["instructions"] == config["instructions"]


def test_interrupts_while_the_command_loads() -> None:
    """SIGINT at moments of the first second: no traceback, whatever had been imported."""
    for i in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "warploom", "versions"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.wait(0.25 + 0.15 * i)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        error = process.stderr.read().decode()
        process.wait(60)
        process.stderr.close()
        assert "warploom" not in error or "Traceback" not in error, error


@pytest.mark.parametrize("raised_by", ["what it imports", "a compiled module", "a name of a class"])
def test_an_interrupt_that_another_error_hides(raised_by: str, tmp_path: Path) -> None:
    """Modules and, before Python 3.12, class bodies raise their own error from Ctrl-C's: it is an interrupt all the same."""
    module = {"what it imports": "report.evidence", "a compiled module": "_core", "a name of a class": ""}[raised_by]
    command = tmp_path / "warploom"  # by its name the command
    command.write_text(
        f"""
import dataclasses, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "warploom.{module}":
            raise ImportError("initialization failed") from KeyboardInterrupt()

def set_name(self, owner, name):
    if owner.__module__ == "warploom.report.evidence":
        raise KeyboardInterrupt

if {not module}:
    dataclasses.Field.__set_name__ = set_name
sys.meta_path.insert(0, Interrupts())
from warploom.cli import run
run()
"""
    )
    done = subprocess.run([sys.executable, str(command), "versions"], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr == "warploom: interrupted\n"


def test_an_interrupt_that_another_error_hides_in_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: Any) -> None:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    monkeypatch.setattr("warploom.cli.app.app", interrupted)
    assert main(["versions"]) == 130
    assert "interrupted" in capsys.readouterr().err
