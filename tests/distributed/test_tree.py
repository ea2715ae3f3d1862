"""The tree of additions: its shape depends on the shards alone, and every worker's part fits into it."""

from __future__ import annotations

import numpy as np
import pytest
from warploom.distributed import tree

LEAVES = [1, 2, 3, 5, 7, 8, 12, 16]


def add(to: np.ndarray, more: np.ndarray) -> None:
    to += more


def by_hand(values: list[np.ndarray]) -> np.ndarray:
    if len(values) == 1:
        return values[0].copy()
    half = 1 << ((len(values) - 1).bit_length() - 1)
    return by_hand(values[:half]) + by_hand(values[half:])


@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8])
def test_any_number_of_workers_gives_the_bits_of_one(leaves: int, workers: int) -> None:
    values = [np.random.default_rng(k).standard_normal(257).astype(np.float32) * 10.0**k for k in range(leaves)]
    parts: dict[tree.Node, np.ndarray] = {}
    for rank in range(workers):
        held = tree.held(leaves, rank, workers)
        own = tree.Sum(lambda: np.empty(257, np.float32), add)
        for _ in range(2):  # its arrays are used again
            own.begin(leaves)
            for k in held:
                own.add(k, lambda leaf, k=k: np.copyto(leaf, values[k]))  # type: ignore[misc]
        assert [node for node, _ in own.nodes] == tree.largest(leaves, held)
        parts.update({node: array.copy() for node, array in own.nodes})
    assert np.array_equal(tree.total(leaves, parts, add), by_hand(values))


def test_the_order_matters_to_these_numbers() -> None:
    """Else the test above could not fail."""
    values = [np.random.default_rng(k).standard_normal(257).astype(np.float32) * 10.0**k for k in range(8)]
    assert not np.array_equal(by_hand(values), sum(values[1:], values[0].copy()))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 64, 100])
def test_shards_cover_a_batch_once(count: int) -> None:
    cut = tree.cut(count, 8)
    assert len(cut) == min(count, 8)
    assert [sample for begin, end in cut for sample in range(begin, end)] == list(range(count))
    for workers in (1, 2, 3, 8):
        assert [k for rank in range(workers) for k in tree.held(len(cut), rank, workers)] == list(range(len(cut)))
