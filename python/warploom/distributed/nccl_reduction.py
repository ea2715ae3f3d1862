"""The gradients of all shards as one sum, from GPU to GPU by NCCL: the additions of reduction.py, on the devices.

The exchange of a bucket is put on NCCL's stream as the bucket becomes final, and waits there for the kernels before it, while the
kernels after it go on. No thread is needed: nothing here waits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from warploom import _core
from warploom.distributed import tree
from warploom.distributed.groups import Group
from warploom.distributed.nccl_interop import Nccl
from warploom.distributed.options import Options
from warploom.distributed.reduction import OnHost, Statistics, common, cut
from warploom.interop import Array

_BLOCK = 1 << 20  # elements that are multiplied by one call


class OnDevice:
    """The statistics, which are few, go through the host."""

    def __init__(self, session: Any, group: Group, options: Options, statistics: Statistics, nccl: Nccl, version: str) -> None:
        self.about = f"gradients through NCCL {version}"
        self._session, self._group, self._fast, self._nccl = session, group, options.reduce == "fast", nccl
        self._few = OnHost(session, group, options, statistics, gradient=False)
        self._trainable = session.trainable_count
        self._parts = cut(slice(0, self._trainable), group.size)
        cuts = session.cut_buckets(options.bucket_elements)
        self._buckets = [slice(first, first + count) for first, count in cuts]
        self._sum: tree.Sum[Array] = tree.Sum(lambda: self._empty(self._trainable), session.add_into)
        self._share = np.float32(np.nan)
        self._shares = self._empty(min(self._trainable, _BLOCK))  # the product's second factor: one number many times
        self._received: list[list[Array]] = [[] for _ in self._buckets]  # by bucket: the others' vectors of the own part
        self._sums: list[tuple[slice, Array]] = []  # of this step: parts of the gradient, and what they are to hold
        self._leaves, self._whole = 0, True
        self._last: tuple[int, Array, list[tuple[Array, Array]]] | None = None
        self._sent = 0  # buckets

    def _empty(self, count: int) -> Array:
        return _core.array_empty((count,), np.float32, self._session.device)

    def begin(self, leaves: int, whole: bool) -> None:
        self._leaves, self._whole, self._sent, self._sums, self._last = leaves, whole, 0, [], None
        self._sum.begin(leaves)
        self._few.begin(leaves, whole=True)

    def add(self, leaf: int, share: np.float32) -> None:
        self._set_share(share)
        self._sum.add(leaf, lambda array: self._fill(array, slice(0, self._trainable)))
        self._few.add(leaf, share)

    def _set_share(self, share: np.float32) -> None:
        if share != self._share:
            self._shares.assign(np.full(self._shares.size, share, np.float32))
            self._share = share

    def _fill(self, array: Array, piece: slice) -> None:
        gradient = self._session.flat_array("gradients")
        for first in range(piece.start, piece.stop, _BLOCK):
            block = slice(first, min(first + _BLOCK, piece.stop))
            self._session.multiply_into(array[block], gradient[block], self._shares[: block.stop - first])

    def last(self, leaf: int, share: np.float32) -> Callable[[int], None] | None:
        if len(self._buckets) < 2:
            return None
        self._set_share(share)
        self._last = leaf, *self._sum.place(leaf)
        return self._send

    def end_last(self) -> None:
        self._send(len(self._buckets))
        assert self._last is not None
        self._few.add(self._last[0], self._share)

    def _send(self, final: int) -> None:
        """The first buckets of this worker's sum are final: those that are not on their way yet go."""
        for k in range(self._sent, final):
            if self._last is not None:
                _, array, additions = self._last
                self._fill(array, self._buckets[k])
                for to, more in additions:
                    self._session.add_into(to[self._buckets[k]], more[self._buckets[k]])
            self._nccl.after_kernels()
            self._exchange(k)
        self._sent = max(self._sent, final)

    def finish(self) -> None:
        self._last = None
        gradient = self._session.flat_array("gradients")
        if self._fast and not self._sum.nodes:  # a last batch may have fewer shards than workers
            gradient.assign(np.zeros(self._trainable, np.float32))
        self._send(len(self._buckets))
        self._nccl.before_kernels()
        for part, total in self._sums:
            gradient[part].assign(total)
        self._few.finish()

    def _exchange(self, k: int) -> None:
        piece, group, gradient = self._buckets[k], self._group, self._session.flat_array("gradients")
        if self._fast:
            arrays = [array[piece] for _, array in self._sum.nodes] or [gradient[piece]]
            for more in arrays[1:]:
                self._add(arrays[0], more)
            self._nccl.sum(arrays[0], gradient[piece])
            return
        parts = cut(piece, group.size)
        own = parts[group.rank]
        total = self._total(k, parts)
        wants = [slice(0, self._trainable) if self._whole else part for part in self._parts]
        with self._nccl.together():  # to all, or to who updates it
            for rank in range(group.size):
                if rank != group.rank:
                    there, here = common(own, wants[rank]), common(parts[rank], wants[group.rank])
                    self._nccl.send(total[there.start - own.start : there.stop - own.start], rank)
                    self._nccl.receive(gradient[here], rank)
        mine = common(own, wants[group.rank])
        self._sums.append((mine, total[mine.start - own.start : mine.stop - own.start]))

    def _add(self, to: Array, more: Array) -> None:
        self._session.add_into(to, more, stream=self._nccl.stream)

    def _total(self, k: int, cuts: list[slice]) -> Array:
        """The sum of the own part of a bucket."""
        group, leaves = self._group, self._leaves
        nodes = [tree.largest(leaves, tree.held(leaves, rank, group.size)) for rank in range(group.size)]
        own = cuts[group.rank]
        free, used = self._received[k], 0
        parts = {node: array[own] for node, array in self._sum.nodes}
        with self._nccl.together():
            for rank in range(group.size):
                if rank == group.rank:
                    continue
                for _, array in self._sum.nodes:
                    self._nccl.send(array[cuts[rank]], rank)
                for node in nodes[rank]:
                    if used == len(free):
                        free.append(self._empty(own.stop - own.start))
                    parts[node] = free[used]
                    used += 1
                    self._nccl.receive(parts[node], rank)
        return tree.total(leaves, parts, self._add)

    def collect_weights(self) -> None:
        weights, own = self._session.flat_array("weights"), self._group.rank
        self._nccl.after_kernels()
        with self._nccl.together():
            for rank, part in enumerate(self._parts):
                if rank != own:
                    self._nccl.send(weights[self._parts[own]], rank)
                    self._nccl.receive(weights[part], rank)
        self._nccl.before_kernels()
