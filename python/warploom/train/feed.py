"""Feeding a session: data that lives on the device, or batches prepared by a thread while the device computes."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from warploom import _core
from warploom.engine import Engine
from warploom.errors import ArgumentError, OutOfMemoryError
from warploom.ground.array_types import Array
from warploom.ground.augmented import Changes, on_device
from warploom.ground.hardware import memory_bytes
from warploom.ground.lazy import Lazy
from warploom.interop import Array as DeviceArray
from warploom.train import watch
from warploom.train.targets import is_lazy, to_host

Order = NDArray[np.int32]
_SHARE = 0.5  # of the device memory that the plan leaves free


def epoch_order(seed: int, epoch: int, rows: int, shuffle: bool = True) -> Order:
    """The order of an epoch, from a counter-based generator: it depends on seed and epoch alone."""
    if not shuffle:
        return np.arange(rows, dtype=np.int32)
    bits = np.random.Philox(key=np.array([seed & 0xFFFFFFFFFFFFFFFF, epoch], dtype=np.uint64)).random_raw(rows)
    return np.argsort(bits, kind="stable").astype(np.int32)


class Feed(Protocol):
    """One pass: begin(order, epoch), then batches in that order by train() or evaluate()."""

    def begin(self, order: Order, epoch: int = 0, sizes: Sequence[int] | None = None) -> None:
        """sizes: of the batches, where they are not all of the size that the feed was made for."""

    def train(self, count: int) -> None: ...
    def evaluate(self, count: int) -> None: ...
    def close(self) -> None: ...


class DeviceFeed:
    """Images that live on the device (as uint8 where they came so): gathered, scaled and changed there. Targets are the inputs,
    before they are damaged."""

    def __init__(self, engine: Engine, images: Array, changes: Changes | None = None) -> None:
        self._engine = engine
        self._slot = engine.load_data(images, changes.attributes() if changes else None)

    def begin(self, order: Order, epoch: int = 0, sizes: Sequence[int] | None = None) -> None:
        self._engine.begin_epoch(self._slot, order, epoch)

    def train(self, count: int) -> None:
        self._engine.train_next(self._slot, count)

    def evaluate(self, count: int) -> None:
        self._engine.evaluate_next(self._slot, count)

    def close(self) -> None:
        self._engine.drop_data(self._slot)


class StreamFeed:
    """Batches cut out of the data by a thread, two ahead of the device. Takes any size of data, memory-mapped files too."""

    def __init__(self, engine: Engine, inputs: list[Array], targets: list[Array], batch_size: int) -> None:
        self._engine = engine
        self._inputs, self._targets, self._batch_size = inputs, targets, batch_size
        self._augmented = on_device(inputs, targets)
        self._epoch = 0
        self._same = len(inputs) == len(targets) and all(a is b for a, b in zip(inputs, targets, strict=True))
        self._queue: queue.Queue[tuple[list[Array], list[Array]] | BaseException] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._watch: watch.Watch | None = None

    def _batches(self, order: Order, sizes: Sequence[int]) -> Iterator[tuple[list[Array], list[Array]]]:
        start = 0
        for size in sizes:
            rows, start = order[start : start + size], start + size
            if self._watch is not None:
                self._watch.check()  # before, since reading what a file has lost kills the process
            if self._augmented is not None:
                images, changes = self._augmented
                made = _core.AugmentedBatch(to_host(images[rows]), rows, self._epoch, changes.attributes())
                yield [cast(Array, made)], []
                continue
            parts = {id(a): to_host(a[rows]) for a in (*self._inputs, *self._targets)}  # an array may serve twice
            if self._watch is not None:
                self._watch.check()  # and after: what was read is what the training began with
            yield [parts[id(a)] for a in self._inputs], [] if self._same else [parts[id(a)] for a in self._targets]

    def _work(self, order: Order, sizes: Sequence[int]) -> None:
        try:
            for batch in self._batches(order, sizes):
                if not self._put(batch):
                    return
        except BaseException as error:  # handed to the thread that trains
            self._put(error)

    def _put(self, item: tuple[list[Array], list[Array]] | BaseException) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def begin(self, order: Order, epoch: int = 0, sizes: Sequence[int] | None = None) -> None:
        self.close()
        self._epoch = epoch
        for array in (*self._inputs, *self._targets):
            if isinstance(array, Lazy):
                array.epoch = epoch
        self._stop = threading.Event()
        self._queue = queue.Queue(maxsize=2)
        self._watch = watch.of([*self._inputs, *self._targets]) if self._watch is None else self._watch
        self._watch.check_contents()
        if sizes is None:
            sizes = [self._batch_size] * -(-len(order) // self._batch_size)
        self._thread = threading.Thread(target=self._work, args=(order, sizes), name="warploom-feed", daemon=True)
        self._thread.start()

    def _next(self, count: int) -> tuple[list[Array], list[Array]]:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        assert len(item[0][0]) == count
        return item

    def train(self, count: int) -> None:
        self._engine.train_batch(*self._next(count))

    def evaluate(self, count: int) -> None:
        self._engine.evaluate_batch(*self._next(count))

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            if self._thread.ident is not None:  # None: interrupted before it was started
                self._thread.join()
            self._thread = None


class PartFeed:
    """This worker's parts of every batch, through another feed; the workers together make the step."""

    def __init__(self, engine: Engine, inner: Feed, batch_size: int) -> None:
        self._engine, self._inner, self._batch_size = engine, inner, batch_size

    def begin(self, order: Order, epoch: int = 0, sizes: Sequence[int] | None = None) -> None:
        rows: list[Order] = []
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            rows += [batch[first : first + count] for first, count in self._parts(len(batch))]
        if rows:
            self._inner.begin(np.concatenate(rows), epoch, [len(part) for part in rows])

    def _parts(self, count: int) -> list[tuple[int, int]]:
        parts = self._engine.parts(count)
        return [(0, count)] if parts is None else parts

    def train(self, count: int) -> None:
        self._engine.begin_batch(count, training=True)
        for _, rows in self._parts(count):
            self._inner.train(rows)
        self._engine.end_batch(training=True)

    def evaluate(self, count: int) -> None:
        self._engine.begin_batch(count, training=False)
        for _, rows in self._parts(count):
            self._inner.evaluate(rows)
        self._engine.end_batch(training=False)

    def close(self) -> None:
        self._inner.close()


def make_feed(engine: Engine, inputs: list[Array], targets: list[Array], batch_size: int) -> Feed:
    """What feeds the engine batch by batch."""
    feed = _make_feed(engine, inputs, targets, batch_size)
    return feed if engine.parts(batch_size) is None else PartFeed(engine, feed, batch_size)


def _make_feed(engine: Engine, inputs: list[Array], targets: list[Array], batch_size: int) -> Feed:
    """On the device where the target is the input, or made from it there, and the data fit beside the plan; else streamed."""
    augmented = on_device(inputs, targets)
    same = len(inputs) == 1 and len(targets) == 1 and inputs[0] is targets[0]
    images, changes = augmented if augmented is not None else (inputs[0] if same else None, None)
    if images is not None and not is_lazy(images):
        plan = engine.memory(batch_size)["total"]
        if images.nbytes <= _SHARE * max(0, memory_bytes(engine.device) - plan):
            try:
                return DeviceFeed(engine, images, changes)
            except OutOfMemoryError:  # others use the device too: less was free than it has
                pass
    for array in (*inputs, *targets):
        if isinstance(array, DeviceArray):
            raise ArgumentError(
                f"data on {array.device} can be trained on whole where the target is the input and they fit beside the plan; "
                "else pass arrays on the host (x.numpy()), or batches of your own to train_step()"
            )
    return StreamFeed(engine, inputs, targets, batch_size)
