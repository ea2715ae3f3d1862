"""What watches a run's test loss: --patience and --keep-best. Both know what earlier parts of a resumed run gave."""

import math

from warploom.callbacks import Callback, EarlyStopping, Logs
from warploom.model import Model
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder


class Best(Callback):
    """Keeps the weights of the epoch with the lowest test loss in best.safetensors."""

    FILE = "best.safetensors"
    model: Model

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.best, self.epoch = folder, math.inf, 0
        for row in folder.read_metrics() if (folder.path / self.FILE).is_file() else ():
            self._better(row["epoch"], row.get("test_loss"))

    def _better(self, epoch: int, loss: float | None) -> bool:
        found = loss is not None and loss < self.best
        if found and loss is not None:
            self.best, self.epoch = loss, epoch
        return found

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._better(epoch + 1, logs["val_loss"]):
            self.model.save(self.folder.path / self.FILE)


class Patience(EarlyStopping):
    """EarlyStopping that has seen the epochs of the run's metrics file."""

    def __init__(self, folder: RunFolder, patience: int) -> None:
        super().__init__("val_loss", patience=patience)
        self._folder = folder

    def on_train_begin(self, logs: Logs) -> None:
        self._read()

    def exhausted(self) -> bool:
        """Whether the epochs that the run has had were its last ones: it was stopped after them, and is not to have another."""
        self._read()
        return self.wait >= max(1, self.patience)

    def _read(self) -> None:
        super().on_train_begin({})
        for row in self._folder.read_metrics():
            if row.get("test_loss") is not None:
                self.observe(row["epoch"] - 1, row["test_loss"])


def make_guards(folder: RunFolder, config: RunConfig) -> list[Best | Patience]:
    made: list[Best | Patience] = [Best(folder)] if config.keep_best else []
    return [*made, Patience(folder, config.patience)] if config.patience is not None else made
