"""The gradients of all shards as one sum: through the host's memory, or from GPU to GPU by NCCL.

A worker adds up what it holds. Then every worker gets one part of all vectors, ends the additions in it (a reduce-scatter in the
tree's order), and all collect the parts. Both ways make the same additions in the same order. Parts have the bounds of the
optimizer's, so that a worker that updates a part alone needs no more than that.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from warploom import _core
from warploom.distributed import tree
from warploom.distributed.groups import Group
from warploom.distributed.nccl_interop import Nccl
from warploom.distributed.options import Options
from warploom.ground.array_types import Floats
from warploom.interop import Array

_BLOCK = 1 << 20  # elements that are multiplied by one call
GRID = 64  # elements: as kPartGrid in csrc/train/optimizer.cpp


def bounds(count: int, size: int) -> list[int]:
    """Where the parts of `size` workers begin and end."""
    return [*(count * rank // size // GRID * GRID for rank in range(size)), count]


class Reduction(Protocol):
    about: str

    def begin(self, leaves: int) -> None:
        """A batch of that many shards."""

    def add(self, leaf: int, share: np.float32) -> None:
        """The session's gradient, times the shard's share of the batch, and the statistics it has moved."""

    def finish(self, held: Sequence[range], whole: bool) -> None:
        """Gives the sum to the session: all of the gradient, or the own part of it; and the statistics."""

    def collect_weights(self) -> None:
        """Each worker has updated its part: all get all."""


class Statistics:
    """The running statistics of batch norms, which stand in the weights, as one vector."""

    def __init__(self, session: Any, ranges: list[tuple[int, int]]) -> None:
        self._session, self._ranges = session, ranges
        self.size = sum(count for _, count in ranges)

    def read(self, out: Floats) -> None:
        at = 0
        for first, count in self._ranges:
            self._session.read_flat("weights", first, out[at : at + count])
            at += count

    def write(self, values: Floats) -> None:
        at = 0
        for first, count in self._ranges:
            self._session.write_flat("weights", first, values[at : at + count])
            at += count


class OnHost:
    """gradient=False: the statistics alone."""

    about = ""

    def __init__(self, session: Any, group: Group, options: Options, statistics: Statistics, *, gradient: bool = True) -> None:
        self._session, self._group, self._fast, self._statistics = session, group, options.reduce == "fast", statistics
        self._trainable = session.trainable_count if gradient else 0
        self._bounds = bounds(self._trainable, group.size)
        self._size = self._trainable + statistics.size
        self._sum: tree.Sum[Floats] = tree.Sum(lambda: np.empty(self._size, np.float32), _add)
        self._leaves = 0

    def begin(self, leaves: int) -> None:
        self._leaves = leaves
        self._sum.begin(leaves)

    def add(self, leaf: int, share: np.float32) -> None:
        def fill(array: Floats) -> None:
            if self._trainable:
                self._session.read_flat("gradients", 0, array[: self._trainable])
            self._statistics.read(array[self._trainable :])
            with np.errstate(all="ignore"):
                np.multiply(array, share, out=array)

        self._sum.add(leaf, fill)

    def finish(self, held: Sequence[range], whole: bool) -> None:
        if not self._size:
            return
        total = self._fast_total() if self._fast else self._tree_total(held, whole)
        begin, end = (0, self._trainable) if whole else (self._bounds[self._group.rank], self._bounds[self._group.rank + 1])
        if end > begin:
            self._session.write_flat("gradients", begin, total[begin:end])
        self._statistics.write(total[self._trainable :])

    def _fast_total(self) -> Floats:
        arrays = [array for _, array in self._sum.nodes]
        total = arrays[0] if arrays else np.zeros(self._size, np.float32)  # a last batch may have fewer shards than workers
        for more in arrays[1:]:
            _add(total, more)
        self._group.sum(total)
        return total

    def _tree_total(self, held: Sequence[range], whole: bool) -> Floats:
        group, leaves = self._group, self._leaves
        if group.size == 1:
            return self._sum.nodes[0][1]
        ends = [*self._bounds[:-1], self._size]  # the statistics lie behind the last part
        pieces = [slice(a, b) for a, b in itertools.pairwise(ends)]
        lengths = [piece.stop - piece.start for piece in pieces]
        arrays = [array for _, array in self._sum.nodes]
        if len(arrays) == 1:
            send = arrays[0]
        else:
            send = np.concatenate([array[piece] for piece in pieces for array in arrays] or [np.empty(0, np.float32)])
        nodes = [tree.largest(leaves, part) for part in held]
        own = lengths[group.rank]
        receive = np.empty(own * sum(map(len, nodes)), np.float32)
        group.swap(send, [n * len(arrays) for n in lengths], receive, [own * len(each) for each in nodes])
        names = list(itertools.chain(*nodes))
        parts = dict(zip(names, receive.reshape(len(names), own), strict=True))
        total = np.empty(self._size, np.float32)
        total[pieces[group.rank]] = tree.total(leaves, parts, _add)
        if whole:
            group.share(total, lengths)
        elif self._statistics.size:
            group.share(total[self._trainable :], [0] * (group.size - 1) + [self._statistics.size])
        return total

    def collect_weights(self) -> None:
        weights = np.empty(self._trainable, np.float32)
        begin, end = self._bounds[self._group.rank], self._bounds[self._group.rank + 1]
        if end > begin:
            self._session.read_flat("weights", begin, weights[begin:end])
        self._group.share(weights, [b - a for a, b in itertools.pairwise(self._bounds)])
        if self._trainable:
            self._session.write_flat("weights", 0, weights)


def _add(to: Floats, more: Floats) -> None:
    with np.errstate(all="ignore"):  # what is not finite is told by the loss
        np.add(to, more, out=to)


class OnDevice:
    """NCCL; the statistics, which are few, go through the host."""

    def __init__(self, session: Any, group: Group, options: Options, statistics: Statistics, nccl: Nccl, version: str) -> None:
        self.about = f"gradients through NCCL {version}"
        self._session, self._group, self._fast, self._nccl = session, group, options.reduce == "fast", nccl
        self._few = OnHost(session, group, options, statistics, gradient=False)
        self._trainable = session.trainable_count
        self._bounds = bounds(self._trainable, group.size)
        self._sum: tree.Sum[Array] = tree.Sum(lambda: self._empty(self._trainable), session.add_into)
        self._share = np.float32(np.nan)
        self._shares = self._empty(min(self._trainable, _BLOCK))  # the product's second factor: one number many times
        self._parts: list[Array] = []
        self._leaves = 0

    def _empty(self, count: int) -> Array:
        return _core.array_empty((count,), np.float32, self._session.device)

    def begin(self, leaves: int) -> None:
        self._leaves = leaves
        self._sum.begin(leaves)
        self._few.begin(leaves)

    def add(self, leaf: int, share: np.float32) -> None:
        if share != self._share:
            self._shares.assign(np.full(self._shares.size, share, np.float32))
            self._share = share
        gradient = self._session.flat_array("gradients")

        def fill(array: Array) -> None:
            for first in range(0, self._trainable, _BLOCK):
                block = slice(first, min(first + _BLOCK, self._trainable))
                self._session.multiply_into(array[block], gradient[block], self._shares[: block.stop - first])

        self._sum.add(leaf, fill)
        self._few.add(leaf, share)

    def finish(self, held: Sequence[range], whole: bool) -> None:
        gradient = self._session.flat_array("gradients")
        if self._fast:
            arrays = [array for _, array in self._sum.nodes]
            for more in arrays[1:]:
                self._session.add_into(arrays[0], more)
            if arrays:
                gradient.assign(arrays[0])
            else:
                gradient.assign(np.zeros(self._trainable, np.float32))
            self._nccl.sum(gradient)
        else:
            own = slice(self._bounds[self._group.rank], self._bounds[self._group.rank + 1])
            gradient[own].assign(self._total(held, own))
            if whole:
                self._collect(gradient)
        self._few.finish(held, whole=True)

    def _total(self, held: Sequence[range], own: slice) -> Array:
        """The own part of the sum."""
        group, leaves = self._group, self._leaves
        nodes = [tree.largest(leaves, part) for part in held]
        count = own.stop - own.start
        while len(self._parts) < sum(map(len, nodes)):
            self._parts.append(self._empty(count))
        free = iter(self._parts)
        parts = {node: array[own] for node, array in self._sum.nodes}
        with self._nccl.together():
            for rank in range(group.size):
                if rank == group.rank:
                    continue
                for _, array in self._sum.nodes:
                    self._nccl.send(array[self._bounds[rank] : self._bounds[rank + 1]], rank)
                for node in nodes[rank]:
                    parts[node] = next(free)
                    self._nccl.receive(parts[node], rank)
        return tree.total(leaves, parts, self._session.add_into)

    def _collect(self, flat: Array) -> None:
        """Every worker's part of a flat buffer to all."""
        own = self._group.rank
        with self._nccl.together():
            for rank in range(self._group.size):
                if rank != own:
                    self._nccl.send(flat[self._bounds[own] : self._bounds[own + 1]], rank)
                    self._nccl.receive(flat[self._bounds[rank] : self._bounds[rank + 1]], rank)

    def collect_weights(self) -> None:
        self._collect(self._session.flat_array("weights")[: self._trainable])
