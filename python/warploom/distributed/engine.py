"""A network on a device whose batches are computed by several workers, with the same bits however many they are.

Every batch is cut into virtual shards (tree.py). A worker computes forward and backward of its shards one by one. Each gradient,
times the shard's share of the batch, is a leaf of the tree; the running statistics of batch norms that a shard has moved are
averaged in the same way (reduction.py). Losses are exchanged as they are, and summed by shard. With synchronised batch norms a
worker's shards go side by side from one meeting to the next (meetings.py).
"""

import itertools
import os
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from warploom import __version__
from warploom.distributed import nccl_interop as nccl
from warploom.distributed import tree
from warploom.distributed.meetings import Meetings
from warploom.distributed.nccl_reduction import OnDevice
from warploom.distributed.options import Options
from warploom.distributed.reduction import OnHost, Reduction, Statistics, bounds
from warploom.distributed.world import World
from warploom.engine import Engine
from warploom.errors import ArgumentError, StateError
from warploom.ground.array_types import Array, Floats

SHARDS = 8  # of a batch, where nothing else is said
_DEFAULT = Options()


class ShardedEngine(Engine):
    """An engine that is one of several; all of them must be told the same."""

    waits = True

    def __init__(
        self, *arguments: Any, world: World, shards: int = SHARDS, distribution: Options = _DEFAULT, **options: Any
    ) -> None:
        if distribution.shard_optimizer:
            options["part"] = (world.rank, world.size)
        super().__init__(*arguments, **options)
        if world.size > shards:
            raise ArgumentError(
                f"{world.size} workers need at least as many shards, and a batch has {shards}: take fewer workers or "
                f"more shards (a number that a run keeps: its bits depend on it)"
            )
        self.world, self.shards, self.options = world, shards, distribution
        layout = self.session.parameter_layout()
        self._buffers = Statistics(self.session, _joined([(first, count) for _, first, count, _, buffer in layout if buffer]))
        self._trainable = self.session.trainable_count
        self._reduction = self._choose()
        self.carrier = self._reduction.about
        self._meetings = Meetings(self.session, world.group) if distribution.sync_batch_norm else None
        self._statistics: Floats = np.empty(self._buffers.size, np.float32)  # at the start of the step
        self._kept: tuple[int, dict[str, Array]] | None = None  # the whole optimizer state, and after how many steps it was so
        self._cut: list[tree.Node] = [(0, 1)]
        self._next: itertools.count[int] = itertools.count()
        self._batch: Array = np.zeros((1, 3))
        self._stops = self._stop_agreed = self._wants_state = False
        self._losses: list[float] = []
        self._total, self._samples = 0.0, 0

    # Parts of a batch
    def parts(self, count: int) -> list[tuple[int, int]]:
        cut = tree.cut(count, self.shards)
        return [(cut[k][0], cut[k][1] - cut[k][0]) for k in tree.held(len(cut), self.world.rank, self.world.size)]

    def begin_batch(self, count: int, *, training: bool) -> None:
        self._cut = tree.cut(count, self.shards)
        self._next = itertools.count(self._held.start)
        # By shard: the sum and the number of what its mean loss is of, each loss; then by worker whether it was told to stop.
        self._batch = np.zeros((len(self._cut), 2 + self.loss_count))
        self.show_average(not training)
        if training:
            self._reduction.begin(len(self._cut), whole=not self._updates_part or self._clips)
            self._buffers.read(self._statistics)

    def train_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        self._train(lambda **how: self.session.train_step(inputs, targets, update=False, **how))

    def train_next(self, slot: str, count: int) -> None:
        self._train(lambda **how: self.session.train_next(count, slot, update=False, **how))

    def evaluate_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        super().evaluate_batch(inputs, targets)
        self._note(next(self._next))

    def evaluate_next(self, slot: str, count: int) -> None:
        super().evaluate_next(slot, count)
        self._note(next(self._next))

    @property
    def _held(self) -> range:
        return tree.held(len(self._cut), self.world.rank, self.world.size)

    def _train(self, step: Callable[..., None]) -> None:
        """Forward and backward of the next shard; with meetings up to the first one."""
        shard = next(self._next)
        if self._meetings:
            step(shard=shard, place=shard - self._held.start)
            return
        self._buffers.write(self._statistics)
        last = shard + 1 == self._held.stop
        ready = self._reduction.last(shard, self._share(shard)) if last else None
        step(shard=shard, ready=ready)
        if ready is None:
            self._reduction.add(shard, self._share(shard))
        else:
            self._reduction.end_last()
        self._note(shard)

    def _share(self, shard: int) -> np.float32:
        begin, end = self._cut[shard]
        share: np.float32 = np.float32((end - begin) / self._cut[-1][1])
        return share

    def _note(self, shard: int) -> None:
        mean, samples = self.session.take_mean_loss()
        self._batch[shard] = [mean * samples, samples, *self.session.losses()]

    @property
    def _updates_part(self) -> bool:
        return self.options.shard_optimizer and self.world.size > 1

    @property
    def _clips(self) -> bool:
        """By the norm of the whole gradient, in one order of additions."""
        return bool(self.optimizer and self.optimizer.clip_norm)

    def end_batch(self, *, training: bool) -> None:
        if training and self._meetings:
            self._meetings.hold(self._cut, self._note)
            for place, shard in enumerate(self._held):
                self.session.take_gradients(place)
                self._reduction.add(shard, self._share(shard))
        if training:
            self._reduction.finish()  # which alone talks to the others until here
        group, leaves = self.world.group, len(self._cut)
        held = [tree.held(leaves, rank, group.size) for rank in range(group.size)]
        width = self._batch.shape[1]
        numbers = np.zeros(leaves * width + group.size)
        counts, at = [], 0
        for rank, part in enumerate(held):
            here = len(part) * width
            if rank == group.rank:
                numbers[at : at + here] = self._batch[part.start : part.stop].ravel()
                numbers[at + here] = self._stops + 2 * self._wants_state
            counts.append(here + 1)
            at += here + 1
        group.share(numbers, counts)
        ends = np.cumsum(counts) - 1
        told = numbers[ends].astype(np.int64)
        self._stop_agreed = bool((told & 1).any())
        by_shard = np.delete(numbers, ends).reshape(leaves, width)
        self._losses = [0.0] * self.loss_count
        for shard, row in enumerate(by_shard):  # in one order everywhere
            self._total += float(row[0])
            self._samples += int(row[1])
            share = float(self._share(shard))
            self._losses = [sum_ + share * float(value) for sum_, value in zip(self._losses, row[2:], strict=True)]
        if not training:
            return
        self.session.update()
        if self._updates_part:
            self._reduction.collect_weights()
            if (told & 2).any():
                self.collect_state()

    def _choose(self) -> Reduction:
        """The same on all workers: NCCL where each has a GPU of its own and the library."""
        group = self.world.group
        host = OnHost(self.session, group, self.options, self._buffers)
        if group.size == 1 or not any(group.exchange(nccl.wanted(self.device))):
            return host
        place = (self.world.hosts[group.rank], os.environ.get("CUDA_VISIBLE_DEVICES"), self.device)
        told = group.exchange((nccl.wanted(self.device), nccl.why_not(), place))
        why = [f"{self.world.name(rank)}: {text}" for rank, (_, text, _) in enumerate(told) if text]
        places = [place for *_, place in told if place[-1].startswith("cuda")]
        if len(set(places)) < len(places):
            why.append("several workers share a GPU")
        if not all(wanted for wanted, *_ in told):
            why.append("not every worker has a GPU")
        if why:
            host.about = f"gradients through the host's memory, because NCCL cannot be used ({why[0]})"
            return host
        carrier = nccl.Nccl(group, self.device)
        return OnDevice(self.session, group, self.options, self._buffers, carrier, nccl.version())

    # The optimizer's state, of which a worker may have a part
    def collect_state(self) -> None:
        """All workers, where one of them may ask for the whole state: rank 0 keeps a copy."""
        if not self._updates_part or not self.session.state_names:
            return
        group, ends = self.world.group, bounds(self._trainable, self.world.size)
        found: dict[str, Array] = {}
        for space in self.session.state_names:
            flat = np.zeros(self._trainable, np.float32)
            begin, end = self.session.state_range
            self.session.read_flat(space, begin, flat[begin:end])
            group.share(flat, [b - a for a, b in itertools.pairwise(ends)])
            if self.world.is_main:
                self.session.write_flat("gradients", 0, flat)  # which the next step writes anew
                for name, parameter in self.names.items():
                    if not parameter.spec.buffer and self._is_trainable(name):
                        found[f"{space}/{name}"] = self.session.get_from("gradients", name)
        steps, self._wants_state = self.session.steps, False
        self._kept = steps, {**found, "step": np.array([steps], np.int32)}

    def state_is_whole(self) -> bool:
        parts = self._updates_part and self.session.state_names
        whole = not parts or (self._kept is not None and self._kept[0] == self.session.steps)
        self._wants_state = not whole
        return whole

    def _is_trainable(self, name: str) -> bool:
        return any(trainable for each, _, _, trainable, _ in self.session.parameter_layout() if each == name)

    def optimizer_state(self) -> dict[str, Array]:
        if not self._updates_part or not self.session.state_names:
            return super().optimizer_state()
        if self._kept is None or self._kept[0] != self.session.steps or not self.world.is_main:
            raise StateError(
                "the optimizer's state is shared among the workers: rank 0 has the whole of it before the first step, at the end "
                "of an epoch and after fit()"
            )
        return self._kept[1]

    def set_optimizer_state(self, state: dict[str, Array]) -> None:
        """On rank 0 before fit(), which gives all workers their part; or on all."""
        if not self._updates_part or not self.session.state_names:
            return super().set_optimizer_state(state)
        names = {f"{s}/{n}" for s in self.session.state_names for n in self.names if self._is_trainable(n)} | {"step"}
        if differing := sorted(set(state) ^ names):
            raise ValueError(f"another optimizer wrote it, which keeps {differing[0]} or lacks it")
        self.session.set_optimizer_state({"step": state["step"]})
        for space in self.session.state_names:
            self._write_part(space, self._flat_state(space, state))
        self._kept = int(np.ravel(state["step"])[0]), {name: np.array(value) for name, value in state.items()}

    def _flat_state(self, space: str, state: dict[str, Array]) -> Floats:
        flat = np.zeros(self._trainable, np.float32)
        self.session.write_flat("gradients", 0, flat)
        for name in self.names:
            if self._is_trainable(name):
                self.session.set_in("gradients", name, state[f"{space}/{name}"])
        self.session.read_flat("gradients", 0, flat)
        return flat

    def _write_part(self, space: str, flat: Floats) -> None:
        begin, end = self.session.state_range
        self.session.write_flat(space, begin, flat[begin:end])

    def forget_optimizer_state(self) -> None:
        begin, end = self.session.state_range
        for space in self.session.state_names:
            self.session.write_flat(space, begin, np.zeros(end - begin, np.float32))
        self.session.set_optimizer_state({"step": np.zeros(1, np.int32)})
        self._kept = None

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
            "reduce": self.options.reduce,
            "sharded optimizer": self.options.shard_optimizer,
            "bucket_mb": self.options.bucket_mb,
            "synchronised batch norm": self.options.sync_batch_norm,
            "kernels": f"{self.version} on {self.device.partition(':')[0]}",
            "precision": self.precision,
            "optimizer": self.optimizer.config() if self.optimizer else None,
            "network (checksum)": zlib.crc32(repr(self.session.parameter_layout()).encode()),
        }
        compare(self.world, own)
        flat = np.empty(max([first + count for _, first, count, *_ in self.session.parameter_layout()], default=0), np.float32)
        self.sync()
        self.show_average()
        self.session.read_flat("weights", 0, flat)
        self.world.group.spread(flat)
        self.session.write_flat("weights", 0, flat)
        kept = self._updates_part
        loaded = self.same(self._kept is not None and self._kept[0] == self.session.steps) if kept else False
        values = np.zeros(self._trainable, np.float32)
        for space in self.session.state_names:
            if not kept:
                self.session.read_flat(space, 0, values)
                self.world.group.spread(values)
                self.session.write_flat(space, 0, values)
            elif loaded:  # else every worker's part is as its last step left it
                if self.world.is_main and self._kept is not None:
                    values[:] = self._flat_state(space, self._kept[1])
                self.world.group.spread(values)
                self._write_part(space, values)
        self.session.set_optimizer_state({"step": np.array([self.same(self.session.steps)], np.int32)})
        self.changed()
        self.collect_state()


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
