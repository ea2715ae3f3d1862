"""docs/export.md does what it says: its commands and its Python run, and its table has every network."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs/export.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    (tmp_path / "runs/my-run").mkdir(parents=True)
    wl.models.cifar10_autoencoder().save("runs/my-run/model.safetensors")
    names: dict[str, Any] = {}
    ran = 0
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            ran += 1
        for line in text.splitlines() if language == "sh" else []:
            words = shlex.split(line, comments=True)
            if words and words[0] == "warploom":
                assert main(words[1:]) == 0, capsys.readouterr().err
                ran += 1
            else:
                assert not words or words[:2] == ["pip", "install"], line
    assert ran >= 15
    model, images = names["model"], names["images"]
    for found in (names["reconstruction"], names["again"].predict(images)):
        np.testing.assert_allclose(found, model.predict(images), atol=1e-5)
    expected = list(wl.detect.load("detector.safetensors").examine(names["pixels"].transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(names["found"]["score"], [f.score for f in expected], rtol=1e-5)
    assert names["features"].shape == (5, 128, 8, 8)
    assert names["logits"].shape == (1, 32, 64, 64)
    for name in ("net-warploom.safetensors", "again.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "runs/my-run/model.safetensors").read_bytes()


def test_the_table_has_every_network_and_small_differences() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| `\w+`.*e-\d", line)]
    found = {re.match(r"`(\w+)`", row[0])[1] for row in rows}  # type: ignore[index]
    assert found == set(wl.models.NAMES), "python docs/make_export_table.py measures what the table lacks"
    for _, count, largest, *differences in rows:
        assert int(count.replace(",", "")) > 1000
        assert len(differences) == 2
        for difference in differences:
            assert 0 < float(difference) < 1e-5 * float(largest)
