"""Legends of pictures stand where they are told to: matplotlib's own search is slow with many values, and then warns the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.legend import Legend
from warploom.detect.pictures import draw_scores
from warploom.runs.lr_finder import LRFinder
from warploom.runs.plots import plot_loss


def test_no_legend_searches_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Legend, "_find_best_position", lambda *_, **__: pytest.fail("searched"))
    scores = np.random.default_rng(0).random(50)
    draw_scores(tmp_path / "scores.png", scores, scores > 0.5, 0.4, "scores")
    plot_loss(tmp_path / "loss.png", [{"epoch": i, "train_loss": 1.0 / i, "test_loss": 2.0 / i} for i in (1, 2, 3)], "loss")
    rates = np.geomspace(1e-5, 1.0, 40).tolist()
    LRFinder(rates, np.linspace(2.0, 1.0, 40).tolist(), 1e-2).plot(tmp_path / "lr.png")
    assert len(list(tmp_path.glob("*.png"))) == 3
