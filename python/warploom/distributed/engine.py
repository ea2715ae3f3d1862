"""A network on a device whose batches are computed by several workers, with the same bits however many they are.

Every batch is cut into virtual shards (tree.py). A worker computes forward and backward of its shards one by one. Each gradient,
times the shard's share of the batch, is a leaf of the tree; the running statistics of batch norms that a shard has moved are
averaged in the same way. A worker adds up what it holds. Then every worker gets one part of all vectors, ends the additions in it
(a reduce-scatter in the tree's order), and all collect the parts. Losses are exchanged as they are, and summed by shard.
"""

import itertools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from warploom import __version__
from warploom.distributed import tree
from warploom.distributed.world import World
from warploom.engine import Engine
from warploom.errors import ArgumentError
from warploom.ground.array_types import Array, Floats

SHARDS = 8  # of a batch, where nothing else is said


class ShardedEngine(Engine):
    """An engine that is one of several; all of them must be told the same."""

    waits = True

    def __init__(self, *arguments: Any, world: World, shards: int = SHARDS, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if world.size > shards:
            raise ArgumentError(
                f"{world.size} workers need at least as many shards, and a batch has {shards}: take fewer workers or "
                f"more shards (a number that a run keeps: its bits depend on it)"
            )
        self.world, self.shards = world, shards
        layout = self.session.parameter_layout()
        self._buffers = _joined([(first, count) for _, first, count, _, buffer in layout if buffer])
        self._trainable = self.session.trainable_count
        self._size = self._trainable + sum(count for _, count in self._buffers)
        self._sum = tree.Sum(self._size)
        self._statistics: Floats = np.empty(self._size - self._trainable, np.float32)  # at the start of the step
        self._cut: list[tree.Node] = [(0, 1)]
        self._next: itertools.count[int] = itertools.count()
        self._batch: Array = np.zeros((1, 3))
        self._stops = self._stop_agreed = False
        self._losses: list[float] = []
        self._total, self._samples = 0.0, 0

    # Parts of a batch
    def parts(self, count: int) -> list[tuple[int, int]]:
        cut = tree.cut(count, self.shards)
        return [(cut[k][0], cut[k][1] - cut[k][0]) for k in tree.held(len(cut), self.world.rank, self.world.size)]

    def begin_batch(self, count: int, *, training: bool) -> None:
        self._cut = tree.cut(count, self.shards)
        self._next = itertools.count(tree.held(len(self._cut), self.world.rank, self.world.size).start)
        # By shard: the sum and the number of what its mean loss is of, each loss; then by worker whether it was told to stop.
        self._batch = np.zeros((len(self._cut), 2 + self.loss_count))
        self.show_average(not training)
        if training:
            self._sum.begin(len(self._cut))
            self._read_statistics(self._statistics)

    def train_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        shard = self._begin_shard()
        self.session.train_step(inputs, targets, update=False, shard=shard)
        self._end_shard(shard)

    def train_next(self, slot: str, count: int) -> None:
        shard = self._begin_shard()
        self.session.train_next(count, slot, update=False, shard=shard)
        self._end_shard(shard)

    def evaluate_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        super().evaluate_batch(inputs, targets)
        self._note(next(self._next))

    def evaluate_next(self, slot: str, count: int) -> None:
        super().evaluate_next(slot, count)
        self._note(next(self._next))

    def _begin_shard(self) -> int:
        shard = next(self._next)
        self._write_statistics(self._statistics)
        return shard

    def _end_shard(self, shard: int) -> None:
        def fill(leaf: Floats) -> None:
            self.session.read_flat("gradients", 0, leaf[: self._trainable])
            self._read_statistics(leaf[self._trainable :])
            with np.errstate(all="ignore"):
                np.multiply(leaf, self._share(shard), out=leaf)

        self._sum.add(shard, fill)
        self._note(shard)

    def _share(self, shard: int) -> np.float32:
        begin, end = self._cut[shard]
        share: np.float32 = np.float32((end - begin) / self._cut[-1][1])
        return share

    def _note(self, shard: int) -> None:
        mean, samples = self.session.take_mean_loss()
        self._batch[shard] = [mean * samples, samples, *self.session.losses()]

    def end_batch(self, *, training: bool) -> None:
        group, leaves = self.world.group, len(self._cut)
        held = [tree.held(leaves, rank, group.size) for rank in range(group.size)]
        width = self._batch.shape[1]
        numbers = np.zeros(leaves * width + group.size)
        counts, at = [], 0
        for rank, part in enumerate(held):
            here = len(part) * width
            if rank == group.rank:
                numbers[at : at + here] = self._batch[part.start : part.stop].ravel()
                numbers[at + here] = self._stops
            counts.append(here + 1)
            at += here + 1
        group.share(numbers, counts)
        ends = np.cumsum(counts) - 1
        self._stop_agreed = bool(numbers[ends].any())
        by_shard = np.delete(numbers, ends).reshape(leaves, width)
        self._losses = [0.0] * self.loss_count
        for shard, row in enumerate(by_shard):  # in one order everywhere
            self._total += float(row[0])
            self._samples += int(row[1])
            share = float(self._share(shard))
            self._losses = [sum_ + share * float(value) for sum_, value in zip(self._losses, row[2:], strict=True)]
        if not training:
            return
        whole = self._reduced(leaves, held)
        self.session.write_flat("gradients", 0, whole[: self._trainable])
        self._write_statistics(whole[self._trainable :])
        self.session.update()

    def _reduced(self, leaves: int, held: Sequence[range]) -> Floats:
        """The sum over all shards."""
        group = self.world.group
        if group.size == 1:
            return self._sum.nodes[0][1]
        bounds = [self._size * rank // group.size for rank in range(group.size + 1)]
        pieces = [slice(a, b) for a, b in itertools.pairwise(bounds)]
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
        parts = dict(zip(itertools.chain(*nodes), receive.reshape(-1, own), strict=True))
        whole = np.empty(self._size, np.float32)
        whole[pieces[group.rank]] = tree.total(leaves, parts)
        group.share(whole, lengths)
        return whole

    def _read_statistics(self, out: Floats) -> None:
        at = 0
        for first, count in self._buffers:
            self.session.read_flat("weights", first, out[at : at + count])
            at += count

    def _write_statistics(self, values: Floats) -> None:
        at = 0
        for first, count in self._buffers:
            self.session.write_flat("weights", first, values[at : at + count])
            at += count

    # Losses
    @property
    def loss_count(self) -> int:
        return max(1, len(self.loss_labels))

    def losses(self) -> list[float]:
        return self._losses

    def loss(self) -> float:
        return sum(self._losses)

    def _take(self) -> tuple[float, int]:
        self.session.take_mean_loss()
        taken = self._total, self._samples
        self._total, self._samples = 0.0, 0
        return taken

    # Agreement
    def agreed_stop(self, stop: bool, *, now: bool = False) -> bool:
        self._stops = stop
        if now:
            self._stop_agreed = any(self.world.group.exchange(stop))
        return self._stop_agreed

    def same(self, value: Any) -> Any:
        return self.world.group.exchange(value if self.world.is_main else None)[0]

    def begin_fit(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Tells what differs between workers, then gives all of them rank 0's weights and optimizer state."""
        self._stops = self._stop_agreed = False
        own = {
            "warploom": __version__,
            "numpy": np.__version__,
            **facts(),
            "shards": self.shards,
            "kernels": f"{self.version} on {self.device.partition(':')[0]}",
            "precision": self.precision,
            "optimizer": self.optimizer.config() if self.optimizer else None,
            "network (checksum)": zlib.crc32(repr(self.session.parameter_layout()).encode()),
        }
        compare(self.world, own)
        flat = np.empty(max([first + count for _, first, count, *_ in self.session.parameter_layout()], default=0), np.float32)
        self.sync()
        self.show_average()
        for space in ("weights", *self.session.state_names):
            values = flat if space == "weights" else flat[: self._trainable]
            self.session.read_flat(space, 0, values)
            self.world.group.spread(values)
            self.session.write_flat(space, 0, values)
        self.session.set_optimizer_state({"step": self.same(self.session.optimizer_state()["step"])})
        self.changed()


def compare(world: World, facts: dict[str, Any]) -> None:
    """ArgumentError on every worker where one is told something else than rank 0."""
    everyone = world.group.exchange(facts)
    for rank, theirs in enumerate(everyone):
        for name in [*everyone[0], *(key for key in theirs if key not in everyone[0])]:
            here, there = everyone[0].get(name), theirs.get(name)
            if here != there:
                raise ArgumentError(
                    f"the workers differ before the first step: {name} is {there} on {world.name(rank)} and {here} on "
                    f"{world.name(0)}; start all of them with the same command, data and packages"
                )


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ranges as one; gaps of less than 64 elements lie between parameters and are taken along."""
    found: list[tuple[int, int]] = []
    for first, count in sorted(ranges):
        if found and 0 <= first - sum(found[-1]) < 64:
            found[-1] = (found[-1][0], first + count - found[-1][0])
        else:
            found.append((first, count))
    return found
