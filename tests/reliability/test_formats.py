"""Files of every released format load for ever, and a format does not change without a new number (tests/data/formats)."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.detect import saving as detectors
from warploom.network.config import FORMAT, FORMATS
from warploom.runs import run as runs
from warploom.runs.run import RunFolder

FILES = Path(__file__).resolve().parents[1] / "data" / "formats"
sys.path.insert(0, str(FILES))
import make_files  # noqa: E402

NUMBERS = [name.rpartition("-")[2] for name in FORMATS]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_model_of_every_format_loads(number: str) -> None:
    model = wl.load(FILES / f"model-{number}.safetensors")
    assert model.config() == make_files.network().config()
    model.compile(device="cpu", version="cpu", batch_size=4)
    expected = np.load(FILES / f"expected-{number}.npz")["prediction"]
    assert np.allclose(model.predict(np.load(FILES / "images.npy")), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_run_of_every_format_goes_on(number: str, tmp_path: Path) -> None:
    shutil.copytree(FILES / f"run-{number}", tmp_path / "run")
    model = make_files.network()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "epochs": 3}))
    make_files.train(tmp_path / "run", 3, model, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[2]["train_loss"] < rows[0]["train_loss"]


@pytest.mark.parametrize("number", [name.rpartition("-")[2] for name in detectors.FORMATS])
def test_a_detector_of_every_format_loads(number: str) -> None:
    detector = wl.detect.load(FILES / f"detector-{number}.safetensors", device="cpu")
    expected = np.load(FILES / f"expected-detector-{number}.npz")["scores"]
    assert np.allclose(detector.decision_function(np.load(FILES / "images.npy")), expected, rtol=1e-3, atol=1e-3)


def test_a_detector_is_written_in_the_form_of_its_number(tmp_path: Path) -> None:
    make_files.detector().save(tmp_path / "d.safetensors")
    number = detectors.FORMAT.rpartition("-")[2]
    assert form(tmp_path / "d.safetensors") == form(FILES / f"detector-{number}.safetensors")


def test_formats_know_their_numbers() -> None:
    assert FORMATS[0] == FORMAT
    assert len(runs._CHECKPOINT_FORMATS) == len({*runs._CHECKPOINT_FORMATS})
    assert [name.rpartition("-")[2] for name in runs._CHECKPOINT_FORMATS] == NUMBERS, (
        "one number for both: add a file of the other"
    )
    for name in NUMBERS:
        assert (FILES / f"model-{name}.safetensors").exists(), "run tests/data/formats/make_files.py"


def skeleton(value: Any) -> Any:
    """Keys and types, without the values; lists by what their elements look like."""
    if isinstance(value, dict):
        return {key: skeleton(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [skeleton(inner) for inner in value]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def form(path: Path) -> Any:
    """What a file looks like: tensors with types and shapes, and the skeleton of what is written beside them."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    said = json.loads(header.pop("__metadata__")["warploom"])
    tensors = {name: (about["dtype"], about["shape"]) for name, about in header.items()}
    return tensors, said["format"], skeleton(said)


def test_what_is_written_has_the_form_of_its_number(tmp_path: Path) -> None:
    """Fails where a format changes without a new number: give it one, and run tests/data/formats/make_files.py."""
    model = make_files.network()
    make_files.train(tmp_path / "run", 2, model, resume=False)
    number = NUMBERS[0]
    assert form(tmp_path / "run" / "model.safetensors") == form(FILES / f"model-{number}.safetensors")
    assert form(tmp_path / "run" / "checkpoint.safetensors") == form(FILES / f"run-{number}" / "checkpoint.safetensors")


@pytest.mark.parametrize("number", NUMBERS)
def test_config_keeps_every_key(number: str) -> None:
    """config.json may gain keys, which have a default; none may go or change its meaning."""
    kept = json.loads((FILES / f"run-{number}" / "config.json").read_text())
    read = vars(RunFolder(FILES / f"run-{number}").read_config())
    assert {key: read.get(key) for key in kept} == kept
