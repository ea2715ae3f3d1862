"""What a stranger does wrong at the command line: one sentence on stderr, exit code 2, and no file that was there is lost."""

from __future__ import annotations

import json
import os
import shutil
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
from warploom.ground.atomic import write_atomically
from warploom.runs.run import RunFolder

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--model", "gray_autoencoder", "--set", "size=16", "--set", "width=4", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture
def grey(tmp_path: Path) -> str:
    path = tmp_path / "grey.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (30, 1, 16, 16), dtype=np.uint8))
    return str(path)


@pytest.fixture
def done(grey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of two epochs."""
    out = tmp_path / "done"
    assert main(["train", *SMALL, "--data", grey, "--epochs", "2", "--out", str(out)]) == 0
    capsys.readouterr()
    return out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence."""
    capsys.readouterr()
    assert main(arguments) == 2, arguments
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("warploom: error: ")
    return lines[0]


LARGE = str(1 << 64)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", *SMALL, "--seed", LARGE], "--seed"),
        (["trace", "--seed", LARGE], "--seed"),
        (["make-data", "unet_small", "x", "--seed", LARGE], "--seed"),
        (["memory", "--batch-size", str(1 << 31)], "--batch-size"),
        (["explain", "--batch-size", LARGE], "--batch-size"),
        (["profile", "--batch-size", LARGE], "--batch-size"),
        (["trace", "--samples", LARGE], "--samples"),
        (["train", *SMALL, "--data", ""], "--data is empty"),
        (["train", *SMALL, "--data-dir", ""], "--data-dir is empty"),
        (["train", *SMALL, "--out", ""], "--out is empty"),
        (["train", "--resume", ""], "--resume is empty"),
        (["train", *SMALL, "--data", "~no such user/x"], "no such home folder"),
        (["train", *SMALL, "--data", "y" * 5000], "File name too long"),
        (["make-data", "unet_small", "~no such user/x"], "no such home folder"),
        (["train", "--model", "unet_small", "--set", "size=abc"], "size must be a whole number"),
        (["train", "--model", "unet_small", "--set", "size="], "size must be a whole number"),
        (["train", "--model", "unet_small", "--set", "size=16x16x16"], "(height, width)"),
        (["train", "--model", "unet_small", "--set", "size=true"], "size must be a whole number"),
        (["train", "--model", "unet_small", "--set", "width=3"], "it has size, in_channels, classes"),
        (["train", "--model", "unet_small", "--set", "name=3"], "it has size, in_channels, classes"),
        (["train", "--model", "unet_small", "--set", "classes=1"], "synthetic samples have 6"),
        (["profile", "--batch-size", "1", "--layer", "conv5", "--blocks", "1", "--lines", "0", "--json", "/proc/x"], "/proc/x"),
    ],
)
def test_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    os.chdir(tmp_path)
    assert said in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_data_of_two_sources(grey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["train", *SMALL, "--data", grey, "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")], capsys)
    assert "leave one of them out" in said


def test_a_rate_that_grows_beyond_all_numbers(grey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grows = ["--schedule", "exponential:gamma=1e300", "--epochs", "4", "--lr", "0"]
    assert "grows beyond" in refused(["train", *SMALL, "--data", grey, *grows, "--out", str(tmp_path / "run")], capsys)


@pytest.mark.parametrize("value", ["abc", " 2 x", "1.5", "100000", "0"])
def test_a_malformed_number_of_threads_is_named(value: str) -> None:
    """Not what another of the cpu kernel sets lacks."""
    code = "import numpy as np, warploom as wl; wl.ops.relu(np.ones((2, 2), np.float32), device='cpu')"
    environment = dict(os.environ, WARPLOOM_THREADS=value)
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode != 0
    assert "WARPLOOM_THREADS" in ran.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_that_the_last_update_ruins(
    optimizer: str, grey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No training loss sees them: the one step of the one epoch comes after its loss."""
    out = tmp_path / "run"
    one = ["--limit", "4", "--epochs", "1", "--lr", "1e38", "--clip-norm", "0", "--optimizer", optimizer]
    said = refused(["train", *SMALL, "--data", grey, *one, "--out", str(out)], capsys)
    assert "became" in said
    assert "try a smaller learning rate" in said
    assert {p.name for p in out.iterdir()} == {"config.json"}


def test_ignored_labels_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch in which every label is ignored counts for nothing: no loss, no gradient, nothing in the mean."""
    model = wl.models.unet_small(size=8, classes=3)
    model.compile(loss="cross_entropy", device="cpu", batch_size=2)
    x = np.zeros((4, 3, 8, 8), np.float32)
    labels = np.zeros((4, 8, 8), np.int64)
    labels[2:] = -100
    mean = model.evaluate(x, labels)["loss"]
    assert mean == model.evaluate(x[:2], labels[:2])["loss"]  # of the labelled batch alone
    assert mean > 0.5
    before = model.state_dict()
    assert model.train_step(x[2:], labels[2:])["loss"] == 0.0
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items() if "running" not in name)
    assert np.isclose(model.fit(x, labels, epochs=1, shuffle=False, verbose=False).history["loss"][0], mean, rtol=0.2)
    labels[:] = -100
    assert model.fit(x, labels, epochs=1, shuffle=False, verbose=False).history["loss"] == [0.0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{}", "model is missing"),
        ("config.json", {"batch_size": "x"}, "batch_size is 'x'"),
        ("config.json", {"arguments": 5}, "arguments is 5"),
        ("config.json", {"optimizer": []}, "optimizer is []"),
        ("config.json", {"limit": "x"}, "limit is 'x'"),
        ("config.json", {"arguments": {"size": "abc"}}, "size must be a whole number"),
        ("checkpoint.safetensors", None, "checkpoint.safetensors is missing"),
    ],
)
def test_damaged_run_folders(
    name: str, content: bytes | dict[str, Any] | None, said: str, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = done / name
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content}).encode()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    before = {p.name: p.read_bytes() for p in done.iterdir()}
    assert said in refused(["train", "--resume", str(done), "--epochs", "3"], capsys)
    assert {p.name: p.read_bytes() for p in done.iterdir()} == before


@pytest.mark.parametrize("metrics", [b"\xff\xfe\x00", b"5\n[]\n", b'{"a":1}\n', b'{"epoch":"x"}\n'])
def test_damaged_metrics_do_not_stop_a_run(metrics: bytes, done: Path) -> None:
    (done / "metrics.jsonl").write_bytes(metrics)
    assert main(["train", "--resume", str(done), "--epochs", "3"]) == 0
    assert [row["epoch"] for row in RunFolder(done).read_metrics()] == [3]


def test_the_checkpoint_of_another_optimizer(grey: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    plain = ["--optimizer", "sgd", "--epochs", "1"]
    assert main(["train", *SMALL, "--data", grey, *plain, "--out", str(other)]) == 0
    shutil.copy(other / "checkpoint.safetensors", done)
    assert "another optimizer wrote it" in refused(["train", "--resume", str(done), "--epochs", "3"], capsys)


@pytest.mark.parametrize("progress", [{"epoch": "x"}, {"epoch": -1}, {"epoch": 1.5}, {"epoch": 1, "batch": "x"}])
def test_a_checkpoint_that_stands_nowhere(progress: dict[str, Any], done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = done / "checkpoint.safetensors"
    from warploom.ground.atomic import read_tensors, write_tensors

    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "progress": progress})
    refused(["train", "--resume", str(done), "--epochs", "3"], capsys)


def test_one_process_a_folder(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p.name: p.read_bytes() for p in done.iterdir()}
    with RunFolder(done).held():
        assert "another process is training" in refused(["train", "--resume", str(done), "--epochs", "3"], capsys)
    assert {p.name: p.read_bytes() for p in done.iterdir()} == before
    assert main(["train", "--resume", str(done), "--epochs", "3"]) == 0


def test_runs_begun_in_one_second_have_their_own_folders(grey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder.fresh(None, "m"), RunFolder.fresh(None, "m")  # neither has made its folder yet
    with first.held(), second.held():
        assert first.path != second.path
        assert first.path.is_dir()
        assert second.path.is_dir()


def test_killed_at_any_moment_and_resumed(grey: str, tmp_path: Path) -> None:
    """Whatever ends a run, and whenever: the files are whole, and --resume ends with the bits of a run that nothing ended."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--data", grey, "--epochs", "150", "--schedule", "warmup:length=300+cosine"]
    assert main(["train", *SMALL, *more, "--out", str(whole)]) == 0
    begin = [*SMALL, *more, "--out", str(broken)]
    environment = {**os.environ, "PYTHONPATH": str(Path(wl.__file__).parent.parent)}
    for number, moment in ((signal.SIGKILL, 3), (signal.SIGTERM, 40), (signal.SIGKILL, 80), (signal.SIGINT, 81)):
        chosen = ["--resume", str(broken)] if (broken / "config.json").exists() else begin
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *chosen],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        limit = time.monotonic() + 60
        while process.poll() is None and len(RunFolder(broken).read_metrics()) < moment and time.monotonic() < limit:
            time.sleep(0.002)
        process.send_signal(number)
        error = process.communicate()[1]
        assert "Traceback" not in error
    if len(RunFolder(broken).read_metrics()) < 150:
        assert main(["train", "--resume", str(broken)]) == 0
    for name in ("model.safetensors", "checkpoint.safetensors"):
        a, b = load_file(whole / name), load_file(broken / name)
        assert sorted(a) == sorted(b)
        assert all(np.array_equal(a[key], b[key]) for key in a)
    keys = ("epoch", "train_loss", "test_loss", "test_losses", "lr")
    a_rows, b_rows = ([{k: row[k] for k in keys} for row in RunFolder(p).read_metrics()] for p in (whole, broken))
    assert a_rows == b_rows


def test_what_is_written_to(tmp_path: Path) -> None:
    """Through a link to its target; into a device or a pipe, which must still be one afterwards."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to("real/x.txt")
    write_atomically(link, b"here")
    assert link.is_symlink()
    assert (tmp_path / "real" / "x.txt").read_bytes() == b"here"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_full_disk(done: Path) -> None:
    """Files may not grow beyond 20 KiB: the run says which one did, and those of the last epoch stay."""
    before = {p.name: p.read_bytes() for p in done.iterdir()}
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20480, 20480)); from warploom.cli import main; "
    code += f"sys.exit(main(['train', '--resume', {str(done)!r}, '--epochs', '3']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(wl.__file__).parent.parent)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("warploom: error: cannot write")
    assert len(ended.stderr.strip().splitlines()) == 1
    after = {p.name: p.read_bytes() for p in done.iterdir()}
    assert after["checkpoint.safetensors"] == before["checkpoint.safetensors"]
    assert sorted(after) == sorted(before)


@pytest.mark.parametrize("stream", [">&-", "> /dev/full", "2>&-"])
def test_streams_that_take_nothing(stream: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(wl.__file__).parent.parent)}
    command = f"exec {sys.executable} -m warploom devices --json {stream}"
    ended = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if "full" in stream else 0)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_names_in_any_script(grey: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = tmp_path / "图 ü $x^$ a b"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((20, 20), 60 * i, np.uint8)).save(folder / f"ä {i}.png")
    small = [*SMALL[:-4], "--batch-size", "1", "--device", "cpu", "--epochs", "1"]
    assert main(["train", *small, "--data", str(folder), "--out", str(folder / "run é")]) == 0
    assert (folder / "run é" / "loss.png").is_file()
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
