"""The scaling table of docs/distributed.md is what the model says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from warploom.distributed.options import BUCKET_MB

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import scaling_model as scaling  # noqa: E402


def test_the_table_is_up_to_date() -> None:
    assert scaling.table(scaling.networks({})) in scaling.PAGE.read_text(), "run benchmarks/scaling_model.py --write"


def test_the_model_by_hand() -> None:
    """1 GB over a link that reaches 0.8 GB/s and has no latency: two workers exchange half of it twice, in 1.25 s."""
    link = scaling.Link(1e9, 0.0, "made up")
    assert scaling.exchange_s(10**9, link, 2) == pytest.approx(1.25)
    assert scaling.exchange_s(10**9, link, 1) == 0.0
    network = scaling.Network("x", 256, 1250.0, 10**9, "made up")
    assert scaling.efficiency(network, link, 2, strong=False, bucket_mb=0) == pytest.approx(0.5)
    assert scaling.efficiency(network, link, 4, strong=True, bucket_mb=0) == pytest.approx(1.25 / (1.25 + 1.875))


def test_overlap_by_hand() -> None:
    """Two buckets of 0.625 s each: the first is final after 5/6 s and done at 1.458 s, the second waits for it until then."""
    network, link = scaling.Network("x", 256, 1250.0, 10**9, "made up"), scaling.Link(1e9, 0.0, "made up")
    half = 10**9 / 2 / 2**20
    assert scaling.efficiency(network, link, 2, strong=False, bucket_mb=half) == pytest.approx(1.25 / (5 / 6 + 2 * 0.625))
    hidden = scaling.Network("x", 256, 12500.0, 10**9, "made up")  # of a long step all but the last bucket is hidden
    assert scaling.efficiency(hidden, link, 2, strong=False, bucket_mb=half) == pytest.approx(12.5 / (12.5 + 0.625))


def test_the_default_is_warplooms() -> None:
    assert scaling.BUCKET_MB == BUCKET_MB


def test_more_workers_are_never_more_efficient() -> None:
    for network in scaling.networks({"cifar10_autoencoder": 1.0}):
        for link in scaling.LINKS.values():
            for strong in (False, True):
                values = [scaling.efficiency(network, link, w, strong) for w in scaling.WORKERS]
                assert values == sorted(values, reverse=True)
                assert 0 < values[-1] < values[0] < 1
