"""`--preset`: another recipe for the same network, overridden by what is given beside it, kept in the run's folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from safetensors.numpy import load_file
from warploom.cli import main
from warploom.optim.schedules import CosineLR
from warploom.runs.recipe import RunConfig

ROOT = Path(__file__).resolve().parents[2]
COMMON = ["--data", "patches", "--device", "cpu", "--limit", "32"]
PRESETS = [(name, preset) for name in wl.models.NAMES for preset in wl.models.presets(name)]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_resolves(name: str, preset: str) -> None:
    """Its parts name classes and arguments that are there, and it changes something."""
    config = RunConfig(model=name, preset=preset).resolve()
    own = RunConfig(model=name).resolve()
    config.make_schedule()
    config.make_losses()
    assert config.resolve() == config
    changed = {k for k in vars(config) if getattr(config, k) != getattr(own, k)}
    assert changed - {"preset"}
    objective = wl.models.objective(name, preset=preset)
    assert objective.data == wl.models.objective(name).data
    assert repr(objective.make_optimizer()) == repr(config.make_optimizer())
    assert (objective.make_schedule() is None) == (config.schedule == "none")


def test_sharp_is_the_same_network() -> None:
    document, sharp = wl.models.get("cifar10_autoencoder"), wl.models.get("cifar10_autoencoder", preset="sharp")
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (document, sharp)]
    assert shapes[0] == shapes[1]
    assert sharp.count_parameters() == 751_875
    x = np.random.default_rng(0).random((4, 3, 32, 32)).astype(np.float32)
    a, b = (m.predict(x).std() for m in (document, sharp))
    assert a > 0.3 > 0.15 > b, "outputs start near zero"
    weights = [v.std() for k, v in sharp.state_dict().items() if k.endswith("weight")]
    assert max(weights) / min(weights) < 2.5, "weights of all layers are about equally large"
    with pytest.raises(wl.ArgumentError, match="unknown init 'warm'; expected one of he, balanced"):
        wl.models.cifar10_autoencoder(init="warm")


def test_sharp_learns_from_the_first_steps() -> None:
    """32 steps leave less than half of what the mean grey leaves; He's initialisation begins with several times the loss."""
    images = wl.data.load("patches").train[:128]
    objective = wl.models.objective("cifar10_autoencoder", preset="sharp")
    first = {}
    for init, epochs in (("balanced", 4), ("he", 1)):
        model = wl.models.get("cifar10_autoencoder", preset="sharp", init=init)
        model.compile(**objective.compile_arguments(), device="cpu")
        history = model.fit(images, epochs=epochs, callbacks=[objective.make_schedule()], verbose=False)
        first[init] = history["loss"][0]
        if init == "balanced":
            assert model.evaluate(images)["loss"] < 0.45 * float((images / 255.0).var())
    assert first["balanced"] < 0.5 * first["he"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", *COMMON, "--preset", "sharp", "--epochs", "2", "--out", str(out)]) == 0, capsys.readouterr().err
    assert "--preset" not in capsys.readouterr().out, "no hint where it is used"
    config = json.loads((out / "config.json").read_text())
    sharp = wl.models.objective("cifar10_autoencoder", preset="sharp")
    assert (config["preset"], config["optimizer"], config["batch_size"]) == ("sharp", "adam", sharp.batch_size)
    assert config["lr"] == sharp.optimizer[1]["lr"]
    assert config["arguments"] == {"init": "balanced"}
    assert config["epochs"] == 2
    # stopped after one of two epochs and resumed: the same bits
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    schedule = ["--schedule", "cosine:per=step,warmup=0.05,t_max=4"]
    assert main(["train", *COMMON, "--preset", "sharp", "--epochs", "2", *schedule, "--out", str(whole)]) == 0
    assert main(["train", *COMMON, "--preset", "sharp", "--epochs", "1", *schedule, "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--epochs", "2"]) == 0, capsys.readouterr().err
    a, b = load_file(whole / "checkpoint.safetensors"), load_file(halves / "checkpoint.safetensors")
    assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    assert main(["train", "--resume", str(halves), "--epochs", "3", "--preset", "none"]) == 2
    assert "--preset cannot change when a run goes on" in capsys.readouterr().err


def test_given_options_go_before_the_preset() -> None:
    config = RunConfig(preset="sharp", lr=0.5, batch_size=3, epochs=7, schedule="none", arguments={"init": "he"}).resolve()
    assert (config.lr, config.batch_size, config.epochs, config.schedule) == (0.5, 3, 7, "none")
    assert config.arguments == {"init": "he"}
    assert config.optimizer == "adam"
    assert RunConfig(preset="sharp", optimizer="sgd").resolve().optimizer == "sgd"


def test_hint_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *COMMON, "--epochs", "1", "--out", str(tmp_path / "slow")]) == 0
    hint = next(line for line in capsys.readouterr().out.splitlines() if "--preset" in line)
    assert hint.startswith("training by the specification (sgd 0.001, 1 epoch); --preset sharp: ")
    assert RunConfig(optimizer="adam").hint() == "", "whoever chooses an optimizer needs no hint"
    assert main(["train", *COMMON, "--preset", "blunt"]) == 2
    assert "model cifar10_autoencoder has no preset 'blunt'; expected one of sharp" in capsys.readouterr().err
    with pytest.raises(wl.ArgumentError, match="expected one of"):
        wl.models.get("cifar10_autoencoder", preset="blunt")


def test_warmup_as_a_share() -> None:
    share, steps = CosineLR(warmup=0.1, per="step"), CosineLR(warmup=20, per="step")
    for schedule in (share, steps):
        schedule.total(10, 20)
    rates = [[s.lr(1.0, 0, step) for step in range(201)] for s in (share, steps)]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0][20] == 1.0
    assert max(rates[0]) == 1.0
    for wrong in (1.5, -0.1):
        with pytest.raises((wl.ArgumentError, wl.DTypeError), match="CosineLR: warmup"):
            CosineLR(warmup=wrong)


def pictures() -> Any:
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs/make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_pictures_of_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/make_pictures.py draws from finished runs, and says what stands in their files."""
    made = pictures()
    run = tmp_path / "run"
    assert main(["train", *COMMON, "--preset", "sharp", "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    assert made.main(["--sharp", str(run), "--out", str(tmp_path / "images")]) == 0
    out = capsys.readouterr().out
    row = json.loads((run / "metrics.jsonl").read_text())
    assert "--preset sharp (Adam at 0.002, batches of 16, 1 epoch)" in out
    assert f"PSNR {row['test_psnr']:.2f} dB" in out
    assert {p.name for p in (tmp_path / "images").iterdir()} == {"sharp.png"}
    with Image.open(tmp_path / "images/sharp.png") as image:
        assert image.width > 800
    with pytest.raises(SystemExit, match="recipe sharp, not of specification"):
        made.main(["--specification", str(run), "--out", str(tmp_path)])
    rows = {**row, "epoch": 0}
    (run / "metrics.jsonl").write_text(json.dumps(rows) + "\n")
    with pytest.raises(SystemExit, match="has not finished its 1 epochs"):
        made.main(["--sharp", str(run), "--out", str(tmp_path)])
