"""What a person sees first: help in groups, screens of 80 columns, one sentence for an error, what `train` takes and tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from rich.cells import cell_len
from typer.main import get_command
from warploom.cli import main
from warploom.cli.app import app

GROUPS = {
    "Train": ["train", "models", "make-data"],
    "Explain": ["summary", "plot", "trace", "memory"],
    "Kernels": ["devices", "versions", "explain", "profile", "kernels"],
}
PANELS = {
    "Model": ["--model", "--size", "--set"],
    "Data": ["--data", "--data-dir", "--limit", "--limit-test", "--skip-bad"],
    "Optimisation": ["--epochs", "--batch-size", "--optimizer", "--lr", "--schedule", "--patience", "--seed"],
    "Device": ["--version", "--device", "--precision"],
    "Run": ["--out", "--keep-best", "--resume"],
}


def screen(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    assert main(arguments) == code, capsys.readouterr().err
    return capsys.readouterr().out


def sections(text: str) -> dict[str, list[str]]:
    """The first word of every entry, by panel."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"[╭┌+]─ (\w+)", line):
            found[head[1]] = []
        elif found and (entry := re.match(r"[│|] ([\w-]+)", line)):
            found[next(reversed(found))].append(entry[1])
    return found


@pytest.fixture
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.usefixtures("eighty")
def test_commands_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        capsys.readouterr()
        main(arguments)
        text = capsys.readouterr().out
        found = sections(text)
        for group, commands in GROUPS.items():
            assert [c for c in found[group] if c in commands] == sorted(commands, key=found[group].index)
        assert "Commands" not in found  # what has no group
        assert found["Train"][0] == "train"
        assert "warploom train --limit 2000 --epochs 3" in " ".join(text.split())


@pytest.mark.usefixtures("eighty")
def test_options_of_train_stand_in_panels(capsys: pytest.CaptureFixture[str]) -> None:
    text = screen(["train", "--help"], capsys)
    found = sections(text)
    for panel, options in PANELS.items():
        assert set(options) <= set(found[panel]), panel
    assert found["Options"] == ["--help"]


def every_command(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words that lead to a command and to all below it."""
    below = getattr(command, "commands", {})
    return [path, *(found for name in below for found in every_command(below[name], (*path, name)))]


@pytest.mark.usefixtures("eighty")
@pytest.mark.parametrize("command", every_command(get_command(app)), ids=" ".join)
def test_help_fits_and_has_no_raw_types(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = screen([*command, "--help"], capsys)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "\x1b" not in text
    raw = r"<=|>=|2147483647|\bx[<>]|<(bool|int|str|float|path|list|file|choice)|\b(INTEGER|TEXT|FLOAT|BOOLEAN|PATH|CHOICE)\b|…"
    assert not (found := re.search(raw, text)), text[found.start() - 80 : found.end() + 80]
    assert not re.search(r"{[a-z]", text)  # an argument that only its Python name tells
    assert screen([*command, "-h"], capsys) == text


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(["--version"], capsys) == f"warploom {wl.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_completed(shell: str) -> None:
    words = "warploom train --model dsr"
    environment = {
        **os.environ, "_WARPLOOM_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "3",
        "_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    command = [sys.executable, "-c", "import sys; from warploom.cli import main; sys.exit(main([]))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "dsresnet" in done.stdout, done.stderr
    assert "unet_small" not in done.stdout


@pytest.mark.usefixtures("eighty")
@pytest.mark.parametrize(
    "arguments",
    [
        ["devices"], ["versions"], ["models"], ["summary"], ["summary", "dsresnet", "--formulas"], ["trace"],
        ["memory", "liae_ud"], ["explain"], ["explain", "--version", "v3"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_screens_fit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(arguments, capsys).splitlines()
    assert len(lines) > 4
    assert max(map(cell_len, lines)) <= 80, max(lines, key=cell_len)
    assert not any("…" in line for line in lines)


def test_memory_has_the_models_own_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert "liae_ud, batch 4," in screen(["memory", "liae_ud"], capsys)
    assert "batch 16," in screen(["memory", "gray_autoencoder"], capsys)
    assert "batch 9," in screen(["memory", "gray_autoencoder", "--batch-size", "9"], capsys)


def test_every_model_lists_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in json.loads(screen(["models", "--json"], capsys))}
    assert rows.keys() == wl.models.BY_NAME.keys()
    assert rows["unet_small"]["arguments"] == {"size": 128, "in_channels": 3, "classes": 32}
    text = screen(["models"], capsys)
    for name, row in rows.items():
        assert name in text
        assert "size" in row["arguments"]  # one word for one thing


# `train`


def tiny(out: Path, *more: str) -> list[str]:
    return ["train", "--device", "cpu", "--batch-size", "8", "--epochs", "1", "--out", str(out), *more]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty photographs of 48x40."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{i:02}.png")
    return tmp_path / "photos"


def config(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "config.json").read_text()))


def test_a_folder_of_ones_own_at_its_own_size(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = screen(tiny(tmp_path / "a", "--data", str(folder)), capsys)
    assert "shrunk to 32x32 pixels; --size trains at another size" in " ".join(text.split())
    text = screen(tiny(tmp_path / "b", "--data", str(folder), "--size", "40x48"), capsys)
    assert "shrunk" not in text
    assert wl.load(tmp_path / "b").inputs[0].shape == (3, 40, 48)
    assert main(tiny(tmp_path / "c", "--data", str(folder), "--size", "30")) == 2
    assert "multiples of 4" in capsys.readouterr().err
    for wrong in ("0", "x", "3x4x5", "-8"):
        assert main(tiny(tmp_path / "c", "--data", str(folder), "--size", wrong)) == 2
        assert "--size" in capsys.readouterr().err


def test_bad_files_are_named_together_or_left_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in (3, 7):
        (folder / f"{i:02}.png").write_bytes(b"x")
    (folder / "a.heic").write_bytes(b"x")
    assert main(tiny(tmp_path / "a", "--data", str(folder))) == 2
    err = capsys.readouterr().err
    assert "03.png" in err
    assert "07.png" in err
    assert "--skip-bad" in err
    text = screen(tiny(tmp_path / "a", "--data", str(folder), "--skip-bad"), capsys)
    assert "2 files that cannot be read left out: 03.png, 07.png" in text
    assert "1 other file left out: 1 .heic" in text
    assert main(["train", "--resume", str(tmp_path / "a"), "--epochs", "2"]) == 0


def test_a_saved_model_is_trained_further(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = wl.models.cifar10_autoencoder()
    own = wl.Model(model.inputs[0], model.outputs[0], name="my-net")
    own.save(tmp_path / "my-net.safetensors")
    first = ["--data", str(folder), "--lr", "1e-12", "--optimizer", "sgd"]
    screen(tiny(tmp_path / "a", *first, "--model", str(tmp_path / "my-net.safetensors")), capsys)
    kept, trained = own.state_dict(), wl.load(tmp_path / "a").state_dict()
    assert all(np.allclose(kept[k], trained[k], atol=1e-6) for k in kept)  # it began with those weights
    assert config(tmp_path / "a")["lr"] == 1e-12
    (tmp_path / "my-net.safetensors").unlink()  # the run does not need it any more
    assert main(["train", "--resume", str(tmp_path / "a"), "--epochs", "2"]) == 0
    screen(tiny(tmp_path / "b", "--data", str(folder), "--model", str(tmp_path / "a")), capsys)  # a run's folder
    assert config(tmp_path / "b")["optimizer"] == "adam"  # a network that nothing is known about
    assert main(tiny(tmp_path / "c", "--data", str(folder), "--model", str(tmp_path / "a"), "--size", "64")) == 2
    assert "leave out --size and --set" in capsys.readouterr().err


def test_the_folder_of_a_run_is_a_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen(tiny(tmp_path / "run", "--data", str(folder)), capsys)
    assert "751,875" in screen(["summary", str(tmp_path / "run")], capsys)
    assert wl.load(tmp_path / "run").count_parameters() == 751_875
    (tmp_path / "empty").mkdir()
    with pytest.raises(wl.DataError, match=r"holds no model.safetensors"):
        wl.load(tmp_path / "empty")
    for command in ("summary", "trace", "memory"):
        assert main([command, str(tmp_path / "empty")]) == 2
        assert "empty holds no model.safetensors" in capsys.readouterr().err


def test_limits_of_both_parts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "patches", "--limit", "16"]
    assert "16 training and 16 test samples" in screen(tiny(tmp_path / "a", *arguments), capsys)
    text = screen(tiny(tmp_path / "b", *arguments, "--limit-test", "24"), capsys)
    assert "16 training and 24 test samples" in text
    assert "cpu kernels" in " ".join(text.split())
    assert "cpu on cpu" not in text


def test_few_samples_need_no_smaller_batch(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = screen(["train", "--device", "cpu", "--epochs", "1", "--out", str(tmp_path / "a"), "--data", str(folder)], capsys)
    assert "note: batch size 64 is more than the 18 samples" in text


def test_patience_and_the_best_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Test losses 5 3 4 1 2 2 2 …: patience 2 ends it after the sixth epoch, also where the run was cut in between."""
    losses = [5.0, 3.0, 4.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    seen = iter(losses)
    monkeypatch.setattr("warploom.train.loop._mean_losses", lambda *_: {"loss": next(seen)})
    data = ["--data", "patches", "--limit", "8", "--patience", "2", "--keep-best"]
    text = screen([*tiny(tmp_path / "whole", *data), "--epochs", "8"], capsys)
    assert "the best epoch was 4 (test loss 1.000000)" in text
    assert "stopped early: the test loss was lowest after epoch 4" in text
    best = wl.load(tmp_path / "whole" / "best.safetensors").state_dict()
    assert not all(np.array_equal(best[k], v) for k, v in wl.load(tmp_path / "whole").state_dict().items())

    def epochs(run: Path) -> list[int]:
        return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]

    assert epochs(tmp_path / "whole") == [1, 2, 3, 4, 5, 6]
    seen = iter(losses)
    screen([*tiny(tmp_path / "cut", *data), "--epochs", "5"], capsys)
    screen(["train", "--resume", str(tmp_path / "cut"), "--epochs", "8"], capsys)
    assert epochs(tmp_path / "cut") == [1, 2, 3, 4, 5, 6]
    same = wl.load(tmp_path / "cut" / "best.safetensors").state_dict()
    assert all(np.array_equal(best[k], same[k]) for k in best)


def test_a_gpu_that_is_missing_is_shouted_about_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if any(d["usable"] for d in wl.devices() if d["kind"] == "cuda"):
        pytest.skip("there is a GPU")
    arguments = ["train", "--version", "v1", "--data", "patches", "--limit", "8", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert err.count("WARNING") == 1
    assert "note: this ran with cpu kernels" in err


def test_long_errors_break_between_words() -> None:
    pty = pytest.importorskip("pty")
    code = "import sys; from warploom.cli import main; sys.exit(main(['train', '--device', 'quantum-computer']))"
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "40"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=child, stdout=subprocess.DEVNULL, env=environment)
    assert process.wait(120) == 2
    os.close(child)
    text = os.read(parent, 10_000).decode()
    lines = text.replace("\r", "").strip().split("\n")
    assert len(lines) > 2
    assert all(len(line) <= 40 for line in lines)
    assert "unknown device 'quantum-computer'" in " ".join(lines)


def test_nothing_is_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["nonsense"], ["train", "--lr"], ["train", "--epochs", "1.5"], ["train", "--limit", "0"], ["plot"],
        ["plot", "x", "y.jpg"], ["summary", str(tmp_path)], ["train", "--model", str(tmp_path)], ["models", "extra"],
        ["--frobnicate"],
        ["memory", "--batch-size", "0"], ["profile", "--version", "v1,v99"], ["profile", "--lines", "-1"],
        ["kernels", "--arch", "x"], ["check", "x.cu", "--timeout", "nan"], ["report", "x", "--port", "0"],
    ):  # fmt: skip
        assert main(arguments) == 2, arguments
        err = capfd.readouterr().err
        assert err.startswith("warploom: error: "), err
        assert "Traceback" not in err
        assert "2147483647" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["profile", "--version", "v1,v99"], ["profile", "--version", "v1", "--precision", "fp99"],
        ["profile", "--layer", "conv9"], ["profile", "--direction", "sideways"],
        ["profile", "--kernel", "("], ["explain", "--nodes", "--version", "v99"],
        ["explain", "--nodes", "--version", "cpu"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_mistakes_are_said_before_a_device_is_compiled(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def minutes(device: str) -> None:
        pytest.fail(f"{device} would be compiled first")

    monkeypatch.setattr("warploom.ground.hardware.prepare", minutes)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("warploom: error: ")


@pytest.mark.parametrize("arguments", [["summary"], ["detect", "sample", "x"]], ids=" ".join)
def test_an_interruption_is_said(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("warploom.cli.networks.load_network", interrupted)
    monkeypatch.setattr("warploom.cli.detect.expanded", interrupted)
    assert main(arguments) == 130
    assert capsys.readouterr().err == "warploom: interrupted\n"


def test_a_defect_is_a_sentence_and_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("warploom.cli.networks.load_network", lambda name: 1 / 0)
    monkeypatch.delenv("WARPLOOM_TRACEBACK", raising=False)
    assert main(["summary"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    path = Path(re.search(r"report it with (\S+\.txt)", err)[1])  # type: ignore[index]
    assert "ZeroDivisionError" in path.read_text()
    assert "Traceback" in path.read_text()
    path.unlink()
    monkeypatch.setenv("WARPLOOM_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["summary"])
