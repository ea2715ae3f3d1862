"""The loop behind Model.fit and Model.evaluate."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from warploom._arrays import positive
from warploom._typing import Array, Floats
from warploom.callbacks import Callback, History, Logs
from warploom.engine import Engine
from warploom.errors import ArgumentError, DataError, DivergedError, DTypeError
from warploom.feed import Feed, epoch_order, make_feed

if TYPE_CHECKING:
    from warploom.model import Model

_SYNC_SECONDS = 0.25  # how far the host may run ahead of the device: bounds the wait after Ctrl-C and feeds the display


@dataclass
class Progress:
    """Where a fit stands inside an epoch, to stop and go on at the same batch."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    loss_sum: float = 0.0  # over the samples of those batches
    samples: int = 0


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


def fit(
    model: "Model",
    x: list[Array],
    y: list[Array],
    epochs: int,
    validation: tuple[list[Array], list[Array]] | None,
    callbacks: Iterable[Callback],
    shuffle: bool,
    start: Progress,
) -> History:
    """Trains from `start` to the end of epoch `epochs`."""
    engine, batch_size, seed = model.engine, model.batch_size, model.seed
    rows = len(x[0])
    if batch_size > rows:
        raise DataError(f"the batch size {batch_size} is larger than the data set of {rows} samples: use at most {rows}")
    positive(epochs, "epochs")
    history = History()
    listeners: list[Callback] = [*callbacks, history]  # history last: callbacks may add to the logs
    for callback in listeners:
        if not isinstance(callback, Callback):
            raise DTypeError(f"callbacks must be warploom.callbacks.Callback objects, not {type(callback).__name__}")
        callback.model = model
    steps = math.ceil(rows / batch_size)
    positive(start.epoch, "the epoch to go on after", minimum=0)
    if not 0 <= positive(start.batch, "the batch to go on after", minimum=0) <= steps:
        raise ArgumentError(f"cannot go on at batch {start.batch} of an epoch with {steps} batches")

    model.stop_training = False
    model.progress = replace(start)
    engine.sync()
    feed = make_feed(engine, "train", x, y, batch_size)
    test_feed = make_feed(engine, "test", *validation, batch_size) if validation else None
    engine.session.take_mean_loss()  # starts the running mean at zero
    about: Logs = {"epochs": epochs, "steps": steps, "samples": rows, "device": engine.device, "version": engine.version}
    _tell(listeners, "on_train_begin", about)
    try:
        for epoch in range(start.epoch, epochs):
            good, begun = _values(engine), replace(model.progress)
            for callback in listeners:
                callback.on_epoch_begin(epoch, {"batch": start.batch if epoch == start.epoch else 0})
            logs = _epoch(model, engine, feed, epoch, rows, seed, shuffle, listeners)
            if logs is None:
                break
            sick = "" if math.isfinite(logs["loss"]) else f"the loss became {logs['loss']}"
            if not sick and not all(np.isfinite(value).all() for value in _values(engine).values()):
                sick = "weights became infinite or NaN"  # by the last update: no loss has seen it
            if not sick and test_feed is not None and validation is not None:
                values = _mean_losses(engine, test_feed, len(validation[0][0]), batch_size, model)
                if values is None:  # stopped: progress says that only the validation of this epoch is left
                    break
                logs.update({f"val_{name}": value for name, value in values.items()})
                if not math.isfinite(values["loss"]):
                    sick = f"the validation loss became {values['loss']}"
            if sick:
                for name, parameter in engine.names.items():
                    parameter.set(good[name])
                model.progress = begun
                raise DivergedError(
                    f"{sick} in epoch {epoch + 1}: the weights are back at the end of epoch {epoch}; try a smaller learning rate"
                )
            model.progress = Progress(epoch + 1)
            for callback in listeners:
                callback.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
    finally:
        _tell(listeners, "on_train_end", {})
        feed.close()
        if test_feed is not None:
            test_feed.close()
    return history


def _values(engine: Engine) -> dict[str, Floats]:
    return {name: parameter.value() for name, parameter in engine.names.items()}


def _tell(listeners: list[Callback], hook: str, logs: Logs) -> None:
    for callback in listeners:
        getattr(callback, hook)(logs)


def _epoch(
    model: "Model", engine: Engine, feed: Feed, epoch: int, rows: int, seed: int, shuffle: bool, listeners: list[Callback]
) -> Logs | None:
    """One epoch, or what is left of it; None if it was stopped before its end."""
    progress = model.progress
    batch_size = model.batch_size
    first = progress.batch * batch_size
    begun = time.perf_counter()
    feed.begin(epoch_order(seed, epoch, rows, shuffle)[first:], epoch)
    pace = Pace()
    loss = math.nan
    for start in range(first, rows, batch_size):
        count = min(batch_size, rows - start)
        engine.sync()  # a callback may have changed a hyperparameter or a weight
        feed.train(count)
        engine.changed()
        progress.batch += 1
        if pace.due() or start + count == rows:
            loss = engine.session.loss()
            pace.waited()
        seconds = time.perf_counter() - begun
        logs: Logs = {"loss": loss, "samples": start + count, "fresh": start + count - first, "total": rows, "seconds": seconds}
        for callback in listeners:
            callback.on_train_batch_end(progress.batch - 1, logs)
        if model.stop_training and start + count < rows:
            _take(engine, progress)
            return None
    engine.session.synchronize()
    seconds = time.perf_counter() - begun
    _take(engine, progress)
    return {
        "loss": progress.loss_sum / progress.samples if progress.samples else 0.0,  # none where every label is ignored
        "seconds": seconds,
        "images_per_second": max(0, rows - first) / max(seconds, 1e-9),
    }


def _take(engine: Engine, progress: Progress) -> None:
    mean, samples = engine.session.take_mean_loss()
    if samples:
        progress.loss_sum += mean * samples
        progress.samples += samples


def settle(model: "Model") -> None:
    """In the middle of an epoch: waits for the device and brings model.progress up to date, so that it can be saved."""
    model.engine.session.synchronize()
    _take(model.engine, model.progress)


def evaluate(engine: Engine, x: list[Array], y: list[Array], batch_size: int) -> dict[str, float]:
    """Mean losses over all samples, without training."""
    engine.sync()
    engine.session.take_mean_loss()
    feed = make_feed(engine, "test", x, y, batch_size)
    try:
        values = _mean_losses(engine, feed, len(x[0]), batch_size)
        assert values is not None
        return values
    finally:
        feed.close()


def _mean_losses(engine: Engine, feed: Feed, rows: int, batch_size: int, model: "Model | None" = None) -> dict[str, float] | None:
    """Over all rows: the whole loss, and where there are several each one too; None if the model was told to stop meanwhile."""
    feed.begin(epoch_order(0, 0, rows, shuffle=False))
    pace = Pace()
    sums: dict[str, float] = {}
    for start in range(0, rows, batch_size):
        count = min(batch_size, rows - start)
        feed.evaluate(count)
        for name, value in engine.each_loss().items():
            sums[name] = sums.get(name, 0.0) + value * count
        if pace.due():
            engine.session.synchronize()
            pace.waited()
        if model is not None and model.stop_training:
            engine.session.take_mean_loss()
            return None
    mean, _ = engine.session.take_mean_loss()
    return {"loss": mean, **{name: value / rows for name, value in sums.items()}}
