"""Callbacks that watch a number of every epoch: they stop, or save what is best."""

import math
from pathlib import Path
from typing import Any

from warploom.callbacks.base import Callback, Logs
from warploom.errors import ArgumentError

_HIGHER_IS_BETTER = ("acc", "psnr", "ssim", "iou", "auc", "f1", "precision", "recall")


class _Monitor:
    """A number of an epoch's logs, and whether it is better than the best so far."""

    def __init__(self, who: str, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None) -> None:
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(f"{who}: mode must be 'auto', 'min' or 'max', not {mode!r}")
        self.who, self.name, self.min_delta = who, monitor, abs(min_delta)
        rising = any(part in monitor for part in _HIGHER_IS_BETTER) and "loss" not in monitor and "dssim" not in monitor
        self.sign = 1.0 if mode == "max" or (mode == "auto" and rising) else -1.0
        self.best = best

    def value(self, logs: Logs) -> float:
        if self.name not in logs:
            known = ", ".join(key for key, value in logs.items() if isinstance(value, (int, float)))
            hint = "; pass validation_data or validation_split to fit()" if self.name.startswith("val_") else ""
            raise ArgumentError(f"{self.who}: monitor={self.name!r}, but an epoch gives {known}{hint}")
        return float(logs[self.name])

    def better(self, value: float) -> bool:
        """Takes the value as the best if it is."""
        found = math.isfinite(value) and (self.best is None or self.sign * (value - self.best) > self.min_delta)
        if found:
            self.best = value
        return found


class EarlyStopping(Callback):
    """Ends fit() when `monitor` has not become better, by more than min_delta, for `patience` epochs.

    mode: "min", "max" or "auto" (from the name: losses fall, scores rise). baseline: what the first epochs must beat.
    restore_best_weights: the model ends with the weights of its best epoch, however fit() ends. start_from_epoch: epochs before
    it do not count. stopped_epoch: the number of the epoch (from 0) that was the last one, None if it was not this that ended it.
    """

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, verbose: int = 0, mode: str = "auto",
        baseline: float | None = None, restore_best_weights: bool = False, start_from_epoch: int = 0,
    ) -> None:  # fmt: skip
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
            raise ArgumentError(f"EarlyStopping: patience must be a whole number of at least 0, not {patience!r}")
        self.monitor, self.patience, self.verbose = monitor, patience, verbose
        self.restore_best_weights, self.start_from_epoch, self.baseline = restore_best_weights, start_from_epoch, baseline
        self._watched = _Monitor("EarlyStopping", monitor, mode, min_delta, baseline)
        self._mode, self._min_delta = mode, min_delta
        self.wait, self.best_epoch = 0, 0
        self.stopped_epoch: int | None = None
        self._weights: Any = None

    @property
    def best(self) -> float | None:
        return self._watched.best

    def on_train_begin(self, logs: Logs) -> None:
        self._watched = _Monitor("EarlyStopping", self.monitor, self._mode, self._min_delta, self.baseline)
        self.wait, self.best_epoch, self.stopped_epoch, self._weights = 0, 0, None, None

    def observe(self, epoch: int, value: float) -> bool:
        """Takes an epoch's value into account; whether it is the best so far."""
        if self._watched.better(value):
            self.wait, self.best_epoch = 0, epoch
            return True
        self.wait += 1
        return False

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = self._watched.value(logs)
        if epoch < self.start_from_epoch:
            return
        if self.observe(epoch, value):
            if self.restore_best_weights:
                self._weights = self.model.state_dict()
        elif self.wait >= max(1, self.patience):
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                print(f"stopped early after epoch {epoch + 1}: {self.monitor} was best in epoch {self.best_epoch + 1}")

    def on_train_end(self, logs: Logs) -> None:
        if self._weights is not None and self.wait:
            self.model.load_state_dict(self._weights)
            if self.verbose:
                print(f"the weights are those of epoch {self.best_epoch + 1}, the best one")


class ModelCheckpoint(Callback):
    """Saves the model after every epoch, or with save_best_only only when `monitor` has become better.

    filepath: a .safetensors file that warploom.load() reads; it may name the epoch (from 1) and what the logs hold:
    "nets/{epoch:02d}-{val_loss:.4f}.safetensors". mode: as for EarlyStopping. initial_value_threshold: what the first must beat.
    """

    def __init__(
        self, filepath: str | Path, monitor: str = "val_loss", verbose: int = 0, save_best_only: bool = False,
        mode: str = "auto", initial_value_threshold: float | None = None,
    ) -> None:  # fmt: skip
        self.filepath, self.monitor, self.verbose, self.save_best_only = str(filepath), monitor, verbose, save_best_only
        self._watched = _Monitor("ModelCheckpoint", monitor, mode, 0.0, initial_value_threshold)

    @property
    def best(self) -> float | None:
        return self._watched.best

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.save_best_only and not self._watched.better(self._watched.value(logs)):
            return
        try:
            path = self.filepath.format(**{**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(["epoch", *logs])
            raise ArgumentError(f"ModelCheckpoint: {self.filepath!r} cannot be filled in ({error}); there are {known}") from None
        self.model.save(path)
        if self.verbose:
            print(f"epoch {epoch + 1}: saved to {path}")
