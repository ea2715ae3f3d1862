"""What a person sees while a model trains: a live line on a terminal or in a notebook, plain lines elsewhere.

Whatever it is, soon after the start it says how long the whole training will take.
"""

import sys
import time
from typing import Any

from warploom import metrics
from warploom.callbacks import Callback, Logs
from warploom.ground.hardware import place

_PLAIN_SECONDS = 30.0  # between lines where there is no terminal
_FORECAST_SECONDS = 3.0  # of training, after which the speed is known
_LONG_SECONDS = 20.0  # a training that takes longer is worth a forecast
_NOTEBOOK_SECONDS = 0.5  # between updates in a notebook
_VALIDATION_SHARE = 1 / 3  # of a training step's time, until it was measured: the forward pass


def console_progress(verbose: bool | None) -> list[Callback]:
    """The callback for fit(verbose=...): False shows nothing."""
    if verbose is False:
        return []
    if sys.stdout.isatty():
        return [LiveProgress()]
    return [NotebookProgress() if in_notebook() else PlainProgress()]


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: what is printed goes into a cell's output."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def duration(seconds: float) -> str:
    seconds = int(seconds + 0.5)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def took(seconds: float) -> str:
    """What something has taken: tenths of a second where they are of interest."""
    return f"{seconds:.1f} s" if seconds < 9.95 else duration(seconds)


def about(seconds: float) -> str:
    """A duration in words, no more exact than it is known."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 600 else f"{round(minutes / 60)} h"


class _Progress(Callback):
    def on_train_begin(self, logs: Logs) -> None:
        self.epochs: int = logs["epochs"]
        self.where = place(logs["version"], logs["device"])
        self.samples: int = logs["samples"]
        self.validation_samples: int = logs.get("validation_samples", 0)
        self.epoch = 0
        self.first_epoch: int | None = None
        self._validation_seconds: float | None = None  # of the last whole pass
        self._forecast_due, self._began = True, time.monotonic()
        self._unfinished: Logs | None = None  # how far the running epoch is
        if logs.get("note"):
            self.say(f"note: {logs['note']}")

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        self.epoch = epoch
        self.first_epoch = epoch if self.first_epoch is None else self.first_epoch

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._unfinished = logs
        self.forecast(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._unfinished = None
        self.say(self.end_line(epoch, logs))

    def on_train_end(self, logs: Logs) -> None:
        if self._unfinished is not None:  # Ctrl-C, or a callback that stopped it
            done, total, loss = (self._unfinished[name] for name in ("samples", "total", "loss"))
            self.say(f"stopped in epoch {self.epoch + 1}/{self.epochs} after {done:,} of {total:,} images, loss {loss:.6f}")

    def say(self, text: str) -> None:
        """A line that stays."""
        raise NotImplementedError

    def remaining(self, logs: Logs) -> float:
        """Seconds left, validation included, at the speed of this epoch."""
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        epochs = self.epochs - self.epoch - 1
        left = logs["total"] - logs["samples"] + logs["total"] * epochs
        return float(left / max(speed, 1e-9)) + (epochs + 1) * self.validation_seconds(speed)

    def validation_seconds(self, speed: float) -> float:
        if self._validation_seconds is not None:
            return self._validation_seconds
        return _VALIDATION_SHARE * self.validation_samples / max(speed, 1e-9)

    def forecast(self, logs: Logs) -> None:
        """Once, as soon as the speed is known: how long all of it takes."""
        if not self._forecast_due or time.monotonic() - self._began < _FORECAST_SECONDS:
            return
        self._forecast_due = False
        left = self.remaining(logs)
        if left < _LONG_SECONDS:
            return
        epochs = self.epochs - self.epoch
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        each = logs["total"] / speed + self.validation_seconds(speed)
        by_epoch = f", {about(each)} an epoch" if epochs > 1 else ""
        self.say(f"about {about(left)} to go for {epochs} epoch{'s' if epochs > 1 else ''} with {self.where}{by_epoch}")

    def on_test_batch_end(self, batch: int, logs: Logs) -> None:
        if logs["samples"] == logs["total"]:
            self._validation_seconds = logs["seconds"]

    def running_line(self, logs: Logs) -> str:
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        return (
            f"epoch {self.epoch + 1}/{self.epochs}  {logs['samples']:,}/{logs['total']:,} images  loss {logs['loss']:.6f}  "
            f"{speed:,.1f} images/s  ETA {duration(self.remaining(logs))}"
        )

    def validation_line(self, logs: Logs) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs}  validation  {logs['samples']:,}/{logs['total']:,} images"

    def end_line(self, epoch: int, logs: Logs) -> str:
        test = f"  test loss {logs['val_loss']:.6f}" if "val_loss" in logs else ""
        judged = metrics.text(logs, "val_")
        test += f"  {judged}" if judged else ""
        speed = f"{logs['images_per_second']:,.1f} images/s"
        place = f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
        return f"{place}  loss {logs['loss']:.6f}{test}  {duration(logs['seconds'])}  {speed}"


class PlainProgress(_Progress):
    """One line per epoch, and one every half minute within long ones."""

    def on_train_begin(self, logs: Logs) -> None:
        self._last = time.monotonic()
        super().on_train_begin(logs)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_train_batch_end(batch, logs)
        if logs["samples"] < logs["total"]:
            self._now_and_then(self.running_line, logs)

    def on_test_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_test_batch_end(batch, logs)
        if logs["samples"] < logs["total"]:
            self._now_and_then(self.validation_line, logs)

    def _now_and_then(self, line: Any, logs: Logs) -> None:
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self.say(line(logs))

    def say(self, text: str) -> None:
        self._last = time.monotonic()
        print(text, flush=True)


class NotebookProgress(_Progress):
    """A line that is written over in place, and a line for every finished epoch, in one output of the cell."""

    def on_train_begin(self, logs: Logs) -> None:
        self._lines: list[str] = []
        self._handle: Any = None
        self._last = 0.0
        super().on_train_begin(logs)
        self._show("")

    def say(self, text: str) -> None:
        self._lines.append(text)
        if self._due():  # epochs may be short, and what a browser does not read in time is dropped: the cell's error too
            self._show("")

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_train_batch_end(batch, logs)
        self._now_and_then(self.running_line, logs)

    def on_test_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_test_batch_end(batch, logs)
        self._now_and_then(self.validation_line, logs)

    def _due(self) -> bool:
        return time.monotonic() - self._last >= _NOTEBOOK_SECONDS

    def _now_and_then(self, line: Any, logs: Logs) -> None:
        if self._due():
            share = logs["samples"] / logs["total"]
            self._show(f"{'█' * int(20 * share):░<20} {line(logs)}")

    def on_train_end(self, logs: Logs) -> None:
        super().on_train_end(logs)
        self._show("")

    def _show(self, running: str) -> None:
        display = sys.modules["IPython"].display.display  # there, since this is a notebook

        self._last = time.monotonic()
        data = {"text/plain": "\n".join([*self._lines, running]).rstrip() or "training begins"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


class LiveProgress(_Progress):
    """A bar with images/s, loss and the time left, and a line for every finished epoch."""

    def on_train_begin(self, logs: Logs) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[about]}"),
            console=Console(),
            transient=True,
            expand=True,
            refresh_per_second=4,
        )
        super().on_train_begin(logs)
        self._task = self._bar.add_task("", total=logs["samples"], about="")
        self._bar.start()

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_train_batch_end(batch, logs)
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        details = f"loss {logs['loss']:.5f} {speed:,.0f} images/s ETA {duration(self.remaining(logs))}"
        self._update(f"epoch {self.epoch + 1}/{self.epochs}", details, logs)

    def on_test_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_test_batch_end(batch, logs)
        speed = logs["samples"] / max(logs["seconds"], 1e-9)
        self._update(f"epoch {self.epoch + 1}/{self.epochs}", f"validation {speed:,.0f} images/s", logs)

    def _update(self, description: str, details: str, logs: Logs) -> None:
        self._bar.update(
            self._task, description=description, completed=logs["samples"], total=logs["total"], about=details
        )  # fmt: skip

    def on_train_end(self, logs: Logs) -> None:
        super().on_train_end(logs)
        self._bar.stop()
