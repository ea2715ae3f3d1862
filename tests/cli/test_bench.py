"""`warploom bench`: what is timed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import warploom as wl
from warploom.cli import main
from warploom.runs import timing

QUICK = ["--seconds", "0.01", "--batch-size", "2"]


def test_the_three_kinds_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "size=16", "--set", "widths=4,8"]
    assert main(["bench", "autoencoder", *QUICK, *small, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["batch_size"], list(found["versions"]), found["refused"]) == (2, ["auto"], {})
    rows = found["versions"]["auto"]
    assert [row["work"] for row in rows] == ["training step", "forward", "encode"]
    for row in rows:
        assert row["where"] == "cpu kernels"
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["images_per_second"] == pytest.approx(2000 / row["median_ms"], rel=0.02)
        assert row["runs"] >= 5
    assert main(["bench", "autoencoder", *QUICK, *small, "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "autoencoder, batch 2, fp32" in text
    assert "training step" in text


def test_a_saved_network_and_one_for_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wl.models.autoencoder(size=16, widths=(4, 8)).save(tmp_path / "net.safetensors")
    assert main(["bench", str(tmp_path / "net.safetensors"), *QUICK, "--device", "cpu"]) == 0
    assert "net.safetensors, batch 2" in capsys.readouterr().out
    assert main(["bench", "unet_small", "--set", "size=16", *QUICK, "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["versions"]["auto"]) == 3


def test_times_that_would_mislead_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(timing, "timed", lambda *_: pytest.fail("timed"))
    small = ["bench", "autoencoder", "--set", "size=16", "--set", "widths=4,8", *QUICK]
    assert main([*small, "--device", "emulated"]) == 2
    assert "times on emulated say nothing of a GPU" in capsys.readouterr().err
    if any(row["kind"] == "cuda" and row["usable"] for row in wl.devices()):
        return
    assert main([*small, "--version", "v1"]) == 2  # elsewhere the cpu kernels take its place
    assert "version v1 runs on no device here" in capsys.readouterr().err
    assert main([*small, "--version", "v1,v2", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["refused"]) == ["v1", "v2"]
    for seconds in ("0", "-1", "nan", "1e9"):
        assert main(["bench", "--seconds", seconds]) == 2
        assert "is out of range: expected more than 0" in capsys.readouterr().err
