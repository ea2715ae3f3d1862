"""The loop behind Model.fit and Model.evaluate."""

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from warploom.callbacks import Callback, History, Logs
from warploom.engine import Engine
from warploom.errors import ArgumentError, DivergedError, DTypeError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import positive
from warploom.interop import Array as DeviceArray
from warploom.train.feed import Feed, epoch_order, make_feed

_SYNC_SECONDS = 0.25  # how far the host may run ahead of the device: bounds the wait after Ctrl-C and feeds the display

Pairs = tuple[list[Array], list[Array]]  # inputs and targets


@dataclass
class Progress:
    """Where a fit stands inside an epoch, to stop and go on at the same batch."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    loss_sum: float = 0.0  # over the samples of those batches
    samples: int = 0
    seconds: float = 0.0  # spent on them


@dataclass
class Job:
    """One training: what is asked for, how far it is, and whether it was told to stop."""

    data: Pairs
    epochs: int
    batch_size: int
    seed: int = 0
    validation: Pairs | None = None
    shuffle: bool = True
    progress: Progress = field(default_factory=Progress)
    stop: bool = False  # after the running batch
    note: str = ""  # what a user should know before it starts
    clock: float | None = None  # since when time counts for this epoch

    @property
    def rows(self) -> int:
        return len(self.data[0][0])

    @property
    def steps(self) -> int:
        """In an epoch; its last one may be smaller."""
        return math.ceil(self.rows / self.batch_size)

    def check(self) -> None:
        if self.batch_size > self.rows:
            self.note = f"batch size {self.batch_size:,} is more than the {self.rows:,} samples: an epoch is one step with all"
            self.batch_size = self.rows
        positive(self.epochs, "epochs")
        positive(self.progress.epoch, "the epoch to go on after", minimum=0)
        if not 0 <= positive(self.progress.batch, "the batch to go on after", minimum=0) <= self.steps:
            raise ArgumentError(f"cannot go on at batch {self.progress.batch} of an epoch with {self.steps} batches")
        done = min(self.progress.batch * self.batch_size, self.rows)
        if self.progress.samples not in (0, done) or (self.progress.batch == self.steps and not self.progress.samples):
            raise ArgumentError(f"cannot go on after {self.progress.samples} samples: {self.progress.batch} batches have {done}")

    def take(self, engine: Engine) -> None:
        """In the middle of an epoch: waits for the device and brings progress up to date, so that it can be saved."""
        engine.synchronize()
        loss_sum, samples = engine.take_mean_loss()
        self.progress.loss_sum += loss_sum
        self.progress.samples += samples
        if self.clock is not None:
            now = time.perf_counter()
            self.progress.seconds += now - self.clock
            self.clock = now


@dataclass
class Pace:
    """Chooses after how many steps to wait for the device, from how long steps take."""

    every: int = 1
    since: int = 0
    started: float = field(default_factory=time.perf_counter)

    def due(self) -> bool:
        self.since += 1
        return self.since >= self.every

    def waited(self) -> None:
        now = time.perf_counter()
        step = max((now - self.started) / self.since, 1e-6)
        self.every = max(1, min(int(_SYNC_SECONDS / step), 2 * self.every))
        self.since, self.started = 0, now


def check_callbacks(callbacks: Sequence[object]) -> None:
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise DTypeError(f"callbacks must be warploom.callbacks.Callback objects, not {type(callback).__name__}")


def fit(engine: Engine, job: Job, callbacks: Sequence[Callback]) -> History:
    """Trains from job.progress to the end of epoch job.epochs."""
    job.check()
    history = History()
    listeners: list[Callback] = [*callbacks, history]  # history last: callbacks may add to the logs
    start = replace(job.progress)
    engine.sync()
    engine.begin_fit(lambda: _facts(job))
    feed = make_feed(engine, *job.data, job.batch_size)
    test_feed = make_feed(engine, *job.validation, job.batch_size) if job.validation else None
    about: Logs = {
        "epochs": job.epochs, "steps": job.steps, "samples": job.rows, "device": engine.device, "version": engine.version,
        "validation_samples": len(job.validation[0][0]) if job.validation else 0, "note": job.note,
    }  # fmt: skip
    try:
        with engine.counted():
            _tell(listeners, "on_train_begin", about)
            for epoch in range(start.epoch, job.epochs):
                good, before = _values(engine), replace(job.progress)
                for callback in listeners:
                    callback.on_epoch_begin(epoch, {"batch": start.batch if epoch == start.epoch else 0})
                try:
                    logs = engine.same(_epoch(engine, job, feed, epoch, listeners))
                    if logs is None:
                        engine.collect_state()
                        break
                    if not all(np.isfinite(value).all() for value in _values(engine).values()):
                        raise _NotFinite(f"weights became infinite or NaN in epoch {epoch + 1}")  # no loss has seen it yet
                    if test_feed is not None and job.validation is not None:
                        rows = len(job.validation[0][0])
                        values = engine.same(_mean_losses(engine, test_feed, rows, job.batch_size, job, listeners))
                        if values is None:  # stopped: progress says that only the validation of this epoch is left
                            engine.collect_state()
                            break
                        logs.update({f"val_{name}": value for name, value in values.items()})
                        if not math.isfinite(values["loss"]):
                            raise _NotFinite(f"the validation loss became {values['loss']} in epoch {epoch + 1}")
                except _NotFinite as wrong:
                    for name, parameter in engine.names.items():
                        parameter.set(good[name])
                    engine.forget_optimizer_state()  # its means hold the NaN too
                    job.progress = before
                    place = f"at the end of epoch {epoch}" if epoch else "as they were before training"
                    place = "where this fit() began" if before.batch else place
                    raise DivergedError(f"{wrong}: the weights are back {place}; {_advice(engine)}") from None
                job.progress = Progress(epoch + 1)
                engine.collect_state()
                for callback in listeners:
                    callback.on_epoch_end(epoch, logs)
                if engine.agreed_stop(job.stop, now=True):
                    break
    finally:
        job.clock = None
        _tell(listeners, "on_train_end", {})
        feed.close()
        if test_feed is not None:
            test_feed.close()
    return history


def _facts(job: Job) -> dict[str, Any]:
    """What several workers must have in common; of the data, some samples."""
    rows = np.unique(np.linspace(0, job.rows - 1, 32).astype(np.int64))
    crc = 0
    for array in {id(a): a for a in (*job.data[0], *job.data[1])}.values():
        if not isinstance(array, DeviceArray):
            crc = zlib.crc32(np.ascontiguousarray(array[rows]).tobytes(), crc)
    return {
        "seed": job.seed, "batch_size": job.batch_size, "epochs": job.epochs, "samples": job.rows,
        "the data's checksum": crc, "shuffle": job.shuffle, "start": (job.progress.epoch, job.progress.batch),
        "validation samples": len(job.validation[0][0]) if job.validation else 0,
    }  # fmt: skip


class _NotFinite(Exception):
    """A loss or a weight is NaN or infinite; the text says which, and where."""


def _values(engine: Engine) -> dict[str, Floats]:
    return {name: parameter.value() for name, parameter in engine.names.items()}


def _advice(engine: Engine) -> str:
    optimizer = engine.optimizer
    assert optimizer is not None
    tried = f"try a smaller learning rate (lr={optimizer.lr / 10:g} instead of {optimizer.lr:g})"
    if not optimizer.clip_norm:
        tried += " or clip the gradients (clip_norm=1)"
    return tried


def _tell(listeners: list[Callback], hook: str, logs: Logs) -> None:
    for callback in listeners:
        getattr(callback, hook)(logs)


def _epoch(engine: Engine, job: Job, feed: Feed, epoch: int, listeners: list[Callback]) -> Logs | None:
    """One epoch, or what is left of it; None if it was stopped before its end."""
    progress, rows = job.progress, job.rows
    first = progress.batch * job.batch_size
    counted = rows if progress.seconds else rows - first  # the samples that `seconds` tells of
    started = job.clock = time.perf_counter()
    feed.begin(epoch_order(job.seed, epoch, rows, job.shuffle)[first:], epoch)
    pace = Pace()
    loss, waited = math.nan, progress.batch
    for start in range(first, rows, job.batch_size):
        count = min(job.batch_size, rows - start)
        engine.sync()  # a callback may have changed a hyperparameter or a weight
        feed.train(count)
        engine.changed()
        progress.batch += 1
        if pace.due() or engine.waits or start + count == rows:
            loss = engine.loss()
            pace.waited()
            if not math.isfinite(loss):
                steps = f"between steps {waited + 1} and {progress.batch}"
                steps = steps if waited + 1 < progress.batch else f"at step {progress.batch}"
                raise _NotFinite(f"the loss became {loss} in epoch {epoch + 1}, {steps} of {job.steps}")
            waited = progress.batch
        seconds = time.perf_counter() - started
        logs: Logs = {"loss": loss, "samples": start + count, "fresh": start + count - first, "total": rows, "seconds": seconds}
        for callback in listeners:
            callback.on_train_batch_end(progress.batch - 1, logs)
        if engine.agreed_stop(job.stop) and start + count < rows:
            job.take(engine)
            return None
    job.take(engine)
    loss = progress.loss_sum / progress.samples if progress.samples else 0.0  # none where every label is ignored
    if not math.isfinite(loss):  # in a step whose loss nobody looked at
        raise _NotFinite(f"the loss became {loss} in epoch {epoch + 1}")
    return {"loss": loss, "seconds": progress.seconds, "images_per_second": counted / max(progress.seconds, 1e-9)}


def evaluate(engine: Engine, data: Pairs, batch_size: int) -> dict[str, float]:
    """Mean losses over all samples, without training."""
    engine.sync()
    feed = make_feed(engine, *data, batch_size)
    try:
        with engine.counted():
            values = _mean_losses(engine, feed, len(data[0][0]), batch_size)
        assert values is not None
        return values
    finally:
        feed.close()


def _mean_losses(
    engine: Engine, feed: Feed, rows: int, batch_size: int, job: Job | None = None, listeners: Sequence[Callback] = ()
) -> dict[str, float] | None:
    """Over all rows: the whole loss, and where there are several each one too; None if the job was told to stop meanwhile."""
    started = time.perf_counter()
    feed.begin(epoch_order(0, 0, rows, shuffle=False))
    pace = Pace()
    sums: dict[str, float] = {}
    for start in range(0, rows, batch_size):
        count = min(batch_size, rows - start)
        feed.evaluate(count)
        for name, value in engine.each_loss().items():
            sums[name] = sums.get(name, 0.0) + value * count
        if pace.due():
            engine.synchronize()
            pace.waited()
        seen: Logs = {"samples": start + count, "total": rows, "seconds": time.perf_counter() - started}
        for callback in listeners:
            callback.on_test_batch_end(start // batch_size, seen)
        if job is not None and engine.agreed_stop(job.stop):
            engine.take_mean_loss()
            return None
    loss_sum, samples = engine.take_mean_loss()
    return {"loss": loss_sum / samples if samples else 0.0, **{name: value / rows for name, value in sums.items()}}
