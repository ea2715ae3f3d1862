"""Where the numbers of a training go: a text file, TensorBoard, or any tracker that has the four methods of Logger."""

import csv
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from warploom.callbacks.base import Callback, Logs
from warploom.errors import DataError
from warploom.ground.array_types import Array, Floats
from warploom.ground.optional import needed


class CSVLogger(Callback):
    """A line per epoch in a text file: epoch (from 0, as in Keras), then what the logs hold. append: go on with the file."""

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._keys: list[str] = []

    def on_train_begin(self, logs: Logs) -> None:
        self._keys = []
        try:
            if self.append and self.filename.is_file():
                with self.filename.open(newline="") as file:
                    self._keys = next(csv.reader(file, delimiter=self.separator), [])[1:]
            else:
                self.filename.parent.mkdir(parents=True, exist_ok=True)
                self.filename.write_text("")
        except OSError as error:
            raise DataError(f"cannot write {self.filename}: {error.strerror or error}; choose another place") from error

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        rows: list[list[Any]] = []
        if not self._keys:
            self._keys = sorted(key for key, value in logs.items() if isinstance(value, (int, float, str)))
            rows.append(["epoch", *self._keys])
        rows.append([epoch, *(logs.get(key, "NA") for key in self._keys)])
        try:
            with self.filename.open("a", newline="") as file:
                csv.writer(file, delimiter=self.separator, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise DataError(f"cannot write {self.filename}: {error.strerror or error}; choose another place") from error


class Logger(Protocol):
    """What an experiment tracker (Weights & Biases, MLflow, ...) offers and `Logging` calls: any class with these methods."""

    def log_hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Once, when training begins: numbers, texts, None."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """After an epoch; step: how many epochs are done."""

    def log_image(self, name: str, image: Floats, step: int) -> None:
        """After an epoch: float32 (channels, height, width) in [0, 1] with 1 or 3 channels."""

    def close(self) -> None:
        """When fit() ends, however it ends."""


class Logging(Callback):
    """Gives a Logger what fit() computes: hyperparameters, each epoch's numbers, and pictures of `images` and their outputs.

    images: a few of the model's inputs [N, C, H, W], float32 or uint8; the picture has them in the first row, the outputs in the
    second. hyperparameters: further values to be logged.
    """

    def __init__(self, logger: Logger, images: Array | None = None, hyperparameters: Mapping[str, Any] | None = None) -> None:
        self.logger, self.images, self.hyperparameters = logger, images, dict(hyperparameters or {})

    def on_train_begin(self, logs: Logs) -> None:
        optimizer = self.model.optimizer
        self.logger.log_hyperparameters({
            "model": self.model.name, "device": self.model.device, "version": self.model.version,
            "batch_size": self.model.batch_size, "epochs": logs["epochs"], "samples": logs["samples"],
            "optimizer": optimizer.kind, **optimizer.values(), **self.hyperparameters,
        })  # fmt: skip

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        numbers = {name: float(value) for name, value in logs.items() if isinstance(value, (int, float))}
        self.logger.log_metrics(numbers, epoch + 1)
        if self.images is not None:
            picture = _side_by_side(self.images, self.model.predict(self.images))
            if picture is not None:
                self.logger.log_image("reconstructions", picture, epoch + 1)

    def on_train_end(self, logs: Logs) -> None:
        self.logger.close()


def _side_by_side(images: Array, outputs: Any) -> Floats | None:
    """Inputs above outputs, in [0, 1]; None where the outputs are no such images."""
    given = images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images
    if not isinstance(outputs, np.ndarray) or outputs.shape != given.shape or given.ndim != 4:
        return None
    channels = given.shape[1] if given.shape[1] in (1, 3) else 1
    rows = [np.concatenate(list(part[:, :channels]), axis=2) for part in (given, outputs)]
    picture: Floats = np.clip(np.nan_to_num(np.concatenate(rows, axis=1)), 0.0, 1.0).astype(np.float32)
    return picture


class TensorBoard(Logging):
    """Writes what `Logging` gives as event files that `tensorboard --logdir` shows. Needs tensorboardX, not TensorBoard itself.

    log_dir: the folder, made if it is not there; a later fit() adds to it. StateError where tensorboardX is not installed,
    DataError where the folder cannot be written.
    """

    def __init__(
        self, log_dir: str | Path = "logs", images: Array | None = None, hyperparameters: Mapping[str, Any] | None = None
    ) -> None:
        needed("tensorboardX", "tensorboardX", "TensorBoard")
        self.log_dir = Path(log_dir)
        super().__init__(_Events(self.log_dir), images, hyperparameters)


_made = itertools.count()  # event files of this process


class _Events:
    """A Logger that writes event files; the file is made at the first call, so that a second fit() begins another one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._open = folder, None

    @property
    def _writer(self) -> Any:
        if self._open is None:
            try:
                library = needed("tensorboardX", "tensorboardX", "TensorBoard")
                suffix = f".{os.getpid()}.{next(_made)}"  # the library's own names differ from one second to the next only
                self._open = library.SummaryWriter(str(self.folder), filename_suffix=suffix)
            except OSError as error:
                raise DataError(f"cannot write {self.folder}: {error.strerror or error}; choose another place") from error
        return self._open

    def log_hyperparameters(self, values: Mapping[str, Any]) -> None:
        lines = [f"| {name} | {value} |" for name, value in values.items()]
        self._writer.add_text("hyperparameters", "\n".join(["| name | value |", "|-|-|", *lines]), 0)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_image(self, name: str, image: Floats, step: int) -> None:
        self._writer.add_image(name, image, step)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
