"""What a person sees while a model trains: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from warploom import metrics
from warploom.callbacks import Callback, Logs

_PLAIN_SECONDS = 30.0  # between lines where there is no terminal


def console_progress(verbose: bool | None) -> list[Callback]:
    """The callback for fit(verbose=...): None shows progress on a terminal only."""
    terminal = sys.stdout.isatty()
    if verbose is False or (verbose is None and not terminal):
        return []
    return [LiveProgress() if terminal else PlainProgress()]


def duration(seconds: float) -> str:
    seconds = int(seconds + 0.5)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


class _Progress(Callback):
    def on_train_begin(self, logs: Logs) -> None:
        self.epochs: int = logs["epochs"]
        self.where = f"{logs['version']} on {logs['device']}"
        self.epoch = 0
        self.first_epoch: int | None = None

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        self.epoch = epoch
        self.first_epoch = epoch if self.first_epoch is None else self.first_epoch

    def remaining(self, logs: Logs) -> float:
        """Seconds of training left, at the speed of this epoch."""
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        left = logs["total"] - logs["samples"] + logs["total"] * (self.epochs - self.epoch - 1)
        return float(left / max(speed, 1e-9))

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
        super().on_train_begin(logs)
        self._last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if time.monotonic() - self._last >= _PLAIN_SECONDS and logs["samples"] < logs["total"]:
            self._last = time.monotonic()
            speed = logs["fresh"] / max(logs["seconds"], 1e-9)
            self.say(
                f"epoch {self.epoch + 1}/{self.epochs}  {logs['samples']:,}/{logs['total']:,} images  loss {logs['loss']:.6f}  "
                f"{speed:,.1f} images/s  ETA {duration(self.remaining(logs))}"
            )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._last = time.monotonic()
        self.say(self.end_line(epoch, logs))

    def say(self, text: str) -> None:
        print(text, flush=True)


class LiveProgress(_Progress):
    """A bar with images/s, loss and the time left, and a line for every finished epoch."""

    def on_train_begin(self, logs: Logs) -> None:
        super().on_train_begin(logs)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("loss {task.fields[loss]:.6f}"),
            TextColumn("{task.fields[speed]:,.1f} images/s"),
            TextColumn("ETA {task.fields[eta]}"),
            console=Console(),
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=logs["samples"], loss=float("nan"), speed=0.0, eta="-:--")
        self._bar.start()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        speed = logs["fresh"] / max(logs["seconds"], 1e-9)
        self._bar.update(
            self._task,
            description=f"epoch {self.epoch + 1}/{self.epochs}",
            completed=logs["samples"],
            loss=logs["loss"],
            speed=speed,
            eta=duration(self.remaining(logs)),
        )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._bar.console.print(self.end_line(epoch, logs), highlight=False)

    def on_train_end(self, logs: Logs) -> None:
        self._bar.stop()
