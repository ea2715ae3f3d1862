"""A training run in its own folder: what `warploom train` does, and how it goes on after it was stopped.

config.json              what was asked for, the data's fingerprint, and the instruction set of the cpu kernels
metrics.jsonl            a line per epoch: epoch, train_loss, test_loss, seconds, images_per_second, version, device,
                         and the metrics: test_psnr, test_ssim_index, … (scores.py)
model.safetensors        the weights after the last good epoch (or where the run was stopped), for warploom.load()
checkpoint.safetensors   weights, optimizer state and position, from which --resume goes on with the same bits
loss.png, reconstructions.png (predictions.png where the target is not the input)
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from warploom import metrics
from warploom.callbacks import Callback, Logs
from warploom.data import taken
from warploom.data.tasks import TaskData
from warploom.errors import DataError
from warploom.ground import hardware
from warploom.ground.array_types import Array
from warploom.ground.arrays import LARGEST, positive
from warploom.ground.arrays import seed as check_seed
from warploom.ground.atomic import insist, read_tensors, read_whole, sweep, sync_folder, write_atomically, write_tensors
from warploom.ground.hardware import place
from warploom.model import Model
from warploom.optim.schedules import Schedule
from warploom.runs.pictures import draw, names
from warploom.runs.plots import plot_loss
from warploom.runs.recipe import RunConfig
from warploom.train.loop import Progress

_CHECKPOINT_FORMAT = "warploom-checkpoint-2"
_CHECKPOINT_FORMATS = (_CHECKPOINT_FORMAT, "warploom-checkpoint-1")  # that are read: 1 had no checksum
_CHECKPOINT_SECONDS = 300.0  # between checkpoints inside a long epoch


RECIPE = "recipe.json"  # of a run of a recipe: what it was asked for


class RunFolder:
    """The files of a run."""

    def __init__(self, path: str | Path, others: Iterator[Path] | None = None) -> None:
        """others: to be used where `path` is there already."""
        self._others = others
        self._identity: tuple[int, int] | None = None  # of the folder while it is held
        self.notes: list[str] = []  # sentences a user should read
        self._place(Path(path))

    def _place(self, path: Path) -> None:
        self.path = path
        self.config_path, self.metrics_path = self.path / "config.json", self.path / "metrics.jsonl"
        self.model_path, self.checkpoint_path = self.path / "model.safetensors", self.path / "checkpoint.safetensors"

    @classmethod
    def fresh(cls, path: str | Path | None, model: str) -> "RunFolder":
        """An empty folder: the given one, or runs/<model>-<time>."""
        if path is not None:
            folder = cls(path)
            if folder.path.exists() and not folder.path.is_dir():
                raise DataError(f"{path} is a file; --out expects a folder")
            folder.require_unused()
            return folder
        stamp = time.strftime("%Y%m%d-%H%M%S")
        names = (Path("runs") / f"{model}-{stamp}{f'-{i}' if i else ''}" for i in range(1000))
        return cls(next(names), names)

    def require_unused(self) -> None:
        if self.config_path.exists():
            raise DataError(f"{self.path} already holds a run: choose another --out, or go on with it by --resume {self.path}")
        if (self.path / RECIPE).exists():
            raise DataError(f"{self.path} already holds what a recipe has learnt: choose another --out")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes from training in it; a process that is killed lets go of it. After an error
        a folder that was made and in which nothing was written is no longer there."""
        made = False
        try:
            insist(lambda: self.path.parent.mkdir(parents=True, exist_ok=True))
            while True:
                try:
                    insist(lambda: self.path.mkdir())
                    made = True
                    sync_folder(self.path.parent)
                    break
                except FileExistsError:
                    following = next(self._others, None) if self._others is not None else None
                    if following is None:
                        break
                    self._place(following)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}; choose another place") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"another process is training in {self.path}: wait until it ends, or stop it") from None
            except OSError:  # a file system without locks
                pass
            else:
                sweep(self.path)
            about = os.fstat(descriptor)
            self._identity = about.st_dev, about.st_ino
            yield
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    self.path.rmdir()  # only where it is empty
            raise
        finally:
            self._identity = None
            with contextlib.suppress(InterruptedError):
                os.close(descriptor)

    def require_present(self) -> None:
        """While it is held: DataError where the folder was deleted, moved or replaced; nothing is written into another one."""
        if self._identity is None:
            return
        try:
            about = os.stat(self.path)
        except OSError:
            about = None
        if about is None or (about.st_dev, about.st_ino) != self._identity:
            raise DataError(
                f"the run folder {self.path} was deleted or moved while training in it: bring it back and --resume it, "
                "or train anew"
            )

    def _write(self, path: Path, content: bytes) -> None:
        self.require_present()
        write_atomically(path, content, parents=False)

    def stale(self, pictures: Sequence[str]) -> list[str]:
        """Which pictures are not there, or older than the checkpoint: the run was killed before it drew them."""

        def written(name: str) -> int:
            try:
                return (self.path / name).stat().st_mtime_ns
            except OSError:
                return 0

        return [name for name in pictures if written(name) < max(1, written(self.checkpoint_path.name))]

    def write_config(self, config: RunConfig) -> None:
        self._write(self.config_path, (json.dumps(dataclasses.asdict(config), indent=2) + "\n").encode())

    def read_config(self) -> RunConfig:
        if not self.config_path.is_file():
            raise DataError(f"{self.path} holds no run to resume: there is no {self.config_path.name} in it")
        try:
            values = json.loads(read_whole(self.config_path))
            kinds = {f.name: f.type for f in dataclasses.fields(RunConfig)}
            chosen = {key: value for key, value in values.items() if key in kinds}
            for key in ("model", "data", *chosen):
                if key not in chosen:
                    raise ValueError(f"{key} is missing")
                if not _fits(chosen[key], kinds[key]):
                    raise ValueError(f"{key} is {chosen[key]!r}")
            _require_counts(chosen)
            return RunConfig(**chosen)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{self.config_path} is damaged ({error}); the run cannot be resumed") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows that are whole; a line that was cut off by a crash is left out."""
        rows: list[dict[str, Any]] = []
        if self.metrics_path.is_file():
            for line in read_whole(self.metrics_path).decode(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    break
                if not _is_row(row):
                    break
                rows.append(row)
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        self._write(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write_checkpoint(self, model: Model, schedule: Schedule | None = None) -> None:
        tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
        tensors.update({f"optimizer/{name}": value for name, value in model.engine.optimizer_state().items()})
        metadata: dict[str, Any] = {"format": _CHECKPOINT_FORMAT, "progress": dataclasses.asdict(model.progress)}
        if schedule is not None:
            metadata["schedule"] = schedule.state()
        self.require_present()
        write_tensors(self.checkpoint_path, tensors, metadata, parents=False)

    def restore(self, model: Model, schedule: Schedule | None = None) -> Progress:
        """Weights, optimizer and schedule state of the checkpoint into a compiled model; where to go on."""
        if not self.checkpoint_path.exists():
            if len(self.read_metrics()) > 1:
                raise DataError(f"{self.checkpoint_path} is missing, but {self.metrics_path.name} tells of epochs: restore it")
            return Progress()  # stopped before the first one
        tensors, metadata = read_tensors(self.checkpoint_path)
        try:
            if metadata["format"] not in _CHECKPOINT_FORMATS:
                raise ValueError(f"format {metadata['format']!r}, expected {_CHECKPOINT_FORMAT!r}")
            progress = Progress(**metadata["progress"])
            if not all(_fits(getattr(progress, f.name), f.type) for f in dataclasses.fields(progress)):
                raise ValueError(f"it says {progress}")
            for name in ("epoch", "batch", "samples"):
                positive(getattr(progress, name), f"its {name}", minimum=0, maximum=LARGEST)
            parts: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}}
            for name, value in tensors.items():
                part, key = name.split("/", 1)
                parts[part][key] = value
            model.load_state_dict(parts["model"])
            model.engine.set_optimizer_state(parts["optimizer"])
            if schedule is not None and "schedule" in metadata:
                schedule.load_state(metadata["schedule"])
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"{self.checkpoint_path} does not fit this run ({error}); it cannot be resumed") from error
        return progress


def _fits(value: object, kind: Any) -> bool:
    """Whether a value read from JSON has the type of a field."""
    kinds = [get_origin(k) or k for k in (get_args(kind) if get_origin(kind) is UnionType else (kind,))]
    return type(value) in kinds or (float in kinds and type(value) is int)


def _require_counts(config: dict[str, Any]) -> None:
    """ValueError where a number that counts something counts nothing."""
    for key in ("epochs", "batch_size", "limit", "shards", "accumulate"):
        if config.get(key) is not None:
            positive(config[key], key, maximum=LARGEST)
    check_seed(config.get("seed", 0))


_ROW: dict[str, Any] = {
    "epoch": int, "train_loss": float | None, "test_loss": float | None, "seconds": float, "images_per_second": float,
    "version": str, "device": str, "test_losses": dict, "lr": float, "test_psnr": float, "test_ssim_index": float,
    "test_mae": float,
}  # fmt: skip


def _is_row(row: object) -> bool:
    """Whether a line of metrics.jsonl has what it should, each of its type."""
    if not isinstance(row, dict) or not {"epoch", "train_loss", "version", "device"} <= row.keys():
        return False
    typed = all(_fits(row[key], kind) for key, kind in _ROW.items() if key in row)
    return typed and all(_fits(value, float) for value in row.get("test_losses", {}).values())


class Recorder(Callback):
    """Writes metrics, model and checkpoint while fit() runs."""

    model: Model

    def __init__(self, folder: RunFolder, schedule: Schedule | None = None) -> None:
        self.folder, self.schedule = folder, schedule
        self.rows = folder.read_metrics()
        self.last_checkpoint = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if time.monotonic() - self.last_checkpoint < _CHECKPOINT_SECONDS or not self.model.engine.state_is_whole():
            return
        self.model.update_progress()
        if math.isfinite(self.model.progress.loss_sum):
            self.folder.write_checkpoint(self.model, self.schedule)
        self.last_checkpoint = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "train_loss": _rounded(logs["loss"]),
            "test_loss": _rounded(logs["val_loss"]) if "val_loss" in logs else None,
            "seconds": round(logs["seconds"], 4),
            "images_per_second": round(logs["images_per_second"], 2),
            "version": self.model.version,
            "device": self.model.device,
        }
        each = {label: _rounded(logs[f"val_{label}"]) for label in self.model.engine.loss_labels if f"val_{label}" in logs}
        if each:
            row["test_losses"] = each  # each times its weight
        row.update({f"test_{name}": _rounded(logs[f"val_{name}"]) for name in metrics.SHOWN if f"val_{name}" in logs})
        if "lr" in logs:
            row["lr"] = logs["lr"]
        self.rows.append(row)
        # The checkpoint comes last: where it is, the rest is. Killed in between, the epoch is simply done again.
        self.folder.write_metrics(self.rows)
        self.folder.require_present()
        self.model.save(self.folder.model_path)
        self.folder.write_checkpoint(self.model, self.schedule)
        self.last_checkpoint = time.monotonic()


def _rounded(loss: float) -> float:
    """Nine digits: all that float32 holds, and free of the last bits of a double's running mean."""
    return float(f"{loss:.9g}")


def prepare(
    folder: RunFolder, config: RunConfig, data: TaskData, model: Model, schedule: Schedule | None, *, resume: bool
) -> Progress:
    """Writes or checks the folder; the model is compiled. Returns where to start."""
    if not resume:
        folder.require_unused()  # another process may have been quicker
    fingerprint = data.fingerprint()
    if resume and config.fingerprint and config.fingerprint != fingerprint:
        raise DataError(
            f"the data differ from those {folder.path} was trained on ({fingerprint} now, {config.fingerprint} then): "
            "pass the same --data-dir, or start a new run"
        )
    config.fingerprint = fingerprint
    config.data = taken(config.data, data.name)
    progress = folder.restore(model, schedule) if resume else Progress()
    if progress.epoch >= (config.epochs or 0):
        return progress  # nothing is left to train; complete() sees to the rest
    here = hardware.instructions(model.device)
    if resume and config.instructions not in ("", here):
        folder.notes.append(
            f"the run was trained with the instruction set {config.instructions} and goes on with {here}: as good, "
            "but their last bits may differ from those of an unbroken run"
        )
    config.instructions = here
    folder.write_config(config)
    if resume:
        folder.write_metrics([row for row in folder.read_metrics() if row["epoch"] <= progress.epoch])
    return progress


def finish(
    folder: RunFolder,
    model: Model,
    data: TaskData,
    config: RunConfig,
    schedule: Schedule | None = None,
    *,
    diverged: bool = False,
) -> None:
    """The pictures, and where the run was stopped inside an epoch, its model and checkpoint."""
    folder.require_present()
    if model.progress.batch and not diverged:
        model.save(folder.model_path)
        folder.write_checkpoint(model, schedule)
    _draw(folder, model, data, config, model.progress)


def complete(folder: RunFolder, model: Model, data: TaskData, config: RunConfig, progress: Progress) -> bool:
    """What a run lacks that was killed between its last epoch and its end; whether there was something."""
    lacking = folder.stale(names(model, data))
    if not folder.model_path.exists():
        lacking.append(folder.model_path.name)
        model.save(folder.model_path)
    if lacking:
        _draw(folder, model, data, config, progress)
    return bool(lacking)


def _draw(folder: RunFolder, model: Model, data: TaskData, config: RunConfig, progress: Progress) -> None:
    rows = folder.read_metrics()
    if rows:
        title = f"{config.title}, {data.name}, {place(rows[-1]['version'], rows[-1]['device'])}"
        label = {"mse": "mean squared error"}.get("+".join(model.engine.loss_labels), " + ".join(model.engine.loss_labels))
        plot_loss(folder.path / "loss.png", rows, title, label if len(label) <= 40 else "weighted sum")
    epochs = progress.epoch
    title = f"{config.title}: {data.name} test images, after {epochs} epoch{'s' if epochs != 1 else ''}"
    if progress.batch:
        title += f" and {progress.batch} batches"
    draw(folder.path, model, data, title)
