"""Batch norms over the whole batch (PyTorch's SyncBatchNorm), with the same bits for any number of workers.

At every batch norm all shards of a batch meet: forward with their means and squares, backward with the two sums that the gradient
needs. A worker's shards are under way side by side, each with activations of its own. What they bring is merged in double, in the
order of the tree, and every worker merges what it holds before it tells the others.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.distributed import tree
from warploom.distributed.groups import Group
from warploom.errors import UnsupportedError

Numbers = NDArray[np.float64]


def merge(to: Numbers, more: Numbers) -> None:
    """(mean [C], sum of squares around it [C], count) of two sets as those of both, in `to`.

    Nothing cancels where the mean is large: Chan, Golub and LeVeque 1982, https://doi.org/10.1007/978-3-642-51461-6_3
    """
    channels = to.size // 2
    with np.errstate(all="ignore"):  # what is not finite is told by the loss
        count = to[-1] + more[-1]
        apart = more[:channels] - to[:channels]
        to[:channels] += apart * (more[-1] / count)
        to[channels:-1] += more[channels:-1] + apart * apart * (to[-1] * more[-1] / count)
        to[-1] = count


def _add(to: Numbers, more: Numbers) -> None:
    with np.errstate(all="ignore"):
        to += more


def _sum_of(count: int, backward: bool) -> tree.Sum[Numbers]:
    return tree.Sum(lambda: np.empty(count), _add if backward else merge)


class Meetings:
    """Of a session's training step; false where it has none."""

    def __init__(self, session: Any, group: Group) -> None:
        self._session, self._group = session, group
        self._sizes: list[tuple[int, bool]] = session.meetings()
        self._sums = {size: _sum_of(*size) for size in self._sizes}

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def hold(self, cut: list[tree.Node], computed: Callable[[int], None]) -> None:
        """All meetings of a step, whose shards (samples from, to) stand at the first one, by places from 0; then they are at the
        end. computed(shard): its losses are what the session computed last."""
        held = tree.held(len(cut), self._group.rank, self._group.size)
        last_forward = sum(not backward for _, backward in self._sizes) - 1
        for number, size in enumerate(self._sizes):
            numbers = self.merged(size, cut, held)
            for place, shard in enumerate(held):
                self._session.write_meeting(place, numbers)
                self._session.go_on(place)
                if number == last_forward:
                    computed(shard)

    def merged(self, size: tuple[int, bool], cut: list[tree.Node], held: range) -> Numbers:
        """What the shards of all workers bring to a meeting, as one."""
        (count, backward), leaves = size, len(cut)
        own = self._sums[size]
        own.begin(leaves)
        for place, shard in enumerate(held):

            def read(numbers: Numbers, place: int = place, shard: int = shard) -> None:
                self._session.read_meeting(place, numbers)
                if backward:  # of the mean over a shard; now of that over the batch
                    numbers *= (cut[shard][1] - cut[shard][0]) / cut[-1][1]

            own.add(shard, read)
        group = self._group
        nodes = [tree.largest(leaves, tree.held(leaves, rank, group.size)) for rank in range(group.size)]
        found = np.empty((sum(map(len, nodes)), count))
        first = sum(map(len, nodes[: group.rank]))
        for row, (_, numbers) in enumerate(own.nodes, first):
            found[row] = numbers
        group.share(found.reshape(-1), [len(each) * count for each in nodes])
        names = list(itertools.chain(*nodes))
        total = tree.total(leaves, dict(zip(names, found, strict=True)), _add if backward else merge)
        if not backward and total[-1] < 2:
            raise UnsupportedError(
                "batch norm in training needs more than one value per channel; here a whole batch has one: use a larger batch, "
                "larger maps or inference mode"
            )
        return total
