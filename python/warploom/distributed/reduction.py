"""The gradients of all shards as one sum. Here through the host's memory; by NCCL in nccl_reduction.py.

A worker adds up what it holds. Then, bucket by bucket, every worker gets one part of all vectors, ends the additions in it (a
reduce-scatter in the tree's order), and all collect the parts. Both ways make the same additions in the same order. While a
worker computes its last shard, buckets that are final go on their way: all workers send them in one order, the session's.
"""

import functools
import itertools
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from warploom.distributed import tree
from warploom.distributed.groups import Group
from warploom.distributed.options import Options
from warploom.errors import StateError
from warploom.ground.array_types import Floats

_LARGE = 1 << 16  # elements: of less, a message costs less than a meeting
GRID = 64  # elements: as kPartGrid in csrc/train/optimizer.cpp


def bounds(count: int, size: int) -> list[int]:
    """Where the parts of `size` workers begin and end."""
    return [*(count * rank // size // GRID * GRID for rank in range(size)), count]


def cut(piece: slice, size: int) -> list[slice]:
    """A piece of a flat vector in a part for each worker."""
    return [slice(piece.start + a, piece.start + b) for a, b in itertools.pairwise(bounds(piece.stop - piece.start, size))]


def common(a: slice, b: slice) -> slice:
    """What lies in both; empty where nothing does."""
    start = max(a.start, b.start)
    return slice(start, max(start, min(a.stop, b.stop)))


class Reduction(Protocol):
    about: str

    def begin(self, leaves: int, whole: bool) -> None:
        """A batch of that many shards. whole: every worker wants all of the gradient; else its own part (`bounds`)."""

    def add(self, leaf: int, share: np.float32) -> None:
        """The session's gradient, times the shard's share of the batch, and the statistics it has moved."""

    def last(self, leaf: int, share: np.float32) -> Callable[[int], None] | None:
        """For the worker's last shard, before its step: what the session calls as buckets become final. add() is not called for
        it then, but end_last() after the step. None: nothing goes on its way before the end."""

    def end_last(self) -> None: ...

    def finish(self) -> None:
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


class Beside:
    """A thread that does one piece of work after the other. Nobody waits for it as the process ends: others may be gone."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.under_way = 0
        threading.Thread(target=_serve, args=(self._work, self._done), name="warploom-reduce", daemon=True).start()
        weakref.finalize(self, self._work.put, None)

    def give(self, work: Callable[[], None]) -> None:
        self.under_way += 1
        self._work.put(work)

    def take(self) -> None:
        """Waits for the oldest piece of work that was not taken; raises what it raised."""
        error = self._done.get()
        self.under_way -= 1
        if error is not None:
            raise error


def _serve(work: "queue.SimpleQueue[Callable[[], None] | None]", done: "queue.SimpleQueue[BaseException | None]") -> None:
    while (task := work.get()) is not None:
        try:
            task()
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
        del task  # it holds what it works on


class OnHost:
    """gradient=False: the statistics alone."""

    about = ""

    def __init__(self, session: Any, group: Group, options: Options, statistics: Statistics, *, gradient: bool = True) -> None:
        self._session, self._group, self._fast, self._statistics = session, group, options.reduce == "fast", statistics
        self._trainable = session.trainable_count if gradient else 0
        self._size = self._trainable + statistics.size
        self._parts = cut(slice(0, self._trainable), group.size)
        cuts = session.cut_buckets(options.bucket_elements) if gradient else []
        self._buckets = [slice(first, first + count) for first, count in cuts]
        self._pieces: list[slice] = []  # of this step's vectors: the buckets, and behind them the statistics
        self._sum: tree.Sum[Floats] = tree.Sum(lambda: np.empty(self._size, np.float32), _add)
        self._total: Floats = np.empty(self._size if group.size > 1 else 0, np.float32)
        self._beside = Beside() if len(self._buckets) > 1 and group.size > 1 else None
        self._leaves, self._whole = 0, True
        self._leaf, self._additions, self._share = self._total, list[tuple[Floats, Floats]](), np.float32(0)
        self._filled = 0  # pieces of the last shard that are final

    def begin(self, leaves: int, whole: bool) -> None:
        if self._beside is not None and self._beside.under_way:
            raise StateError(
                "a step was left while its gradients were on their way, so the workers are out of step: start them anew"
            )
        self._leaves, self._whole, self._filled = leaves, whole, 0
        self._sum.begin(leaves)
        rest = slice(self._trainable, self._size)
        self._pieces = [*self._buckets, rest] if self._beside is not None or not whole else [slice(0, self._size)]
        self._pieces = [piece for piece in self._pieces if piece.stop > piece.start]

    def add(self, leaf: int, share: np.float32) -> None:
        def fill(array: Floats) -> None:
            self._read(array, slice(0, self._size), share)

        self._sum.add(leaf, fill)

    def _read(self, array: Floats, piece: slice, share: np.float32) -> None:
        gradient = common(piece, slice(0, self._trainable))
        if gradient.stop > gradient.start:
            self._session.read_flat("gradients", gradient.start, array[gradient])
        if piece.stop > self._trainable:
            self._statistics.read(array[self._trainable :])
        with np.errstate(all="ignore"):
            np.multiply(array[piece], share, out=array[piece])

    def last(self, leaf: int, share: np.float32) -> Callable[[int], None] | None:
        if self._beside is None:
            return None
        (self._leaf, self._additions), self._share = self._sum.place(leaf), share
        self._group.computes = True
        return self._send

    def end_last(self) -> None:
        self._send(len(self._pieces))

    def _send(self, final: int) -> None:
        """The first pieces of the last shard are final: those that are not on their way yet go."""
        assert self._beside is not None
        for piece in self._pieces[self._filled : final]:
            self._read(self._leaf, piece, self._share)
            self._beside.give(functools.partial(self._exchange, piece, self._additions))
        self._filled = max(self._filled, final)

    def finish(self) -> None:
        self._group.computes = False
        if self._beside is None:
            for piece in self._pieces:
                self._exchange(piece, [])
        else:
            for piece in self._pieces[self._filled :]:  # of a last batch with fewer shards than workers
                self._beside.give(functools.partial(self._exchange, piece, []))
        total = self._sum.nodes[0][1] if self._group.size == 1 else self._total
        own = slice(0, self._trainable) if self._whole else self._parts[self._group.rank]
        for piece in self._pieces:
            if self._beside is not None:
                self._beside.take()
            mine = common(piece, own)
            if mine.stop > mine.start:
                self._session.write_flat("gradients", mine.start, total[mine])
        if self._statistics.size:
            self._statistics.write(total[self._trainable :])

    def _exchange(self, piece: slice, additions: list[tuple[Floats, Floats]]) -> None:
        """The sum of a piece, by all workers."""
        for to, more in additions:
            _add(to[piece], more[piece])
        group, total = self._group, self._total[piece]
        if group.size == 1:
            return
        arrays = [array[piece] for _, array in self._sum.nodes]
        if total.size >= _LARGE:
            group.meet()
        if self._fast:
            total[:] = arrays[0] if arrays else 0  # a last batch may have fewer shards than workers
            for more in arrays[1:]:
                _add(total, more)
            group.sum(total)
            return
        parts = cut(slice(0, piece.stop - piece.start), group.size)
        lengths = [part.stop - part.start for part in parts]
        send = arrays[0] if len(arrays) == 1 else np.concatenate([a[p] for p in parts for a in arrays] or [total[:0]])
        nodes = [tree.largest(self._leaves, tree.held(self._leaves, rank, group.size)) for rank in range(group.size)]
        own = parts[group.rank]
        receive = np.empty(lengths[group.rank] * sum(map(len, nodes)), np.float32)
        group.swap(send, [n * len(arrays) for n in lengths], receive, [lengths[group.rank] * len(each) for each in nodes])
        names = list(itertools.chain(*nodes))
        found = dict(zip(names, receive.reshape(len(names), lengths[group.rank]), strict=True))
        total[own] = tree.total(self._leaves, found, _add)
        if self._whole or piece.start >= self._trainable:
            group.share(total, lengths)
        elif len(self._buckets) > 1:  # else the parts of the piece are those of the owners
            self._to_owners(piece)

    def _to_owners(self, piece: slice) -> None:
        """Each worker has the sum of a part of the piece, and gets what of its own part of all lies in the piece."""
        group, parts = self._group, cut(piece, self._group.size)
        mine = parts[group.rank]
        counts = [[_length(common(part, owned)) for owned in self._parts] for part in parts]  # from, to
        receive = self._total[common(piece, self._parts[group.rank])]
        group.swap(self._total[mine].copy(), counts[group.rank], receive, [row[group.rank] for row in counts])

    def collect_weights(self) -> None:
        weights = np.empty(self._trainable, np.float32)
        own = self._parts[self._group.rank]
        if own.stop > own.start:
            self._session.read_flat("weights", own.start, weights[own])
        self._group.share(weights, [_length(part) for part in self._parts])
        if self._trainable:
            self._session.write_flat("weights", 0, weights)


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _add(to: Floats, more: Floats) -> None:
    with np.errstate(all="ignore"):  # what is not finite is told by the loss
        np.add(to, more, out=to)
