"""What a callback is, and the history that fit() returns."""

from typing import Any, Protocol

Logs = dict[str, Any]


class Trainee(Protocol):
    """What a callback may do with the model in training; warploom.Model is one, and its documentation has the details."""

    name: str
    stop_training: bool
    batch_size: int

    @property
    def device(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def engine(self) -> Any: ...
    @property
    def optimizer(self) -> Any: ...
    @property
    def progress(self) -> Any: ...
    def predict(self, x: Any, *, batch_size: int | None = None) -> Any: ...
    def encode(self, x: Any, *, batch_size: int | None = None) -> Any: ...
    def evaluate(self, x: Any, y: Any = None, *, batch_size: int | None = None) -> dict[str, float]: ...
    def gradients(self, x: Any, y: Any = None, *, training: bool = True) -> dict[str, Any]: ...
    def train_step(self, x: Any, y: Any = None) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, given: Any) -> None: ...
    def save(self, path: Any) -> None: ...
    def update_progress(self) -> None: ...


class Callback:
    """Override what you need. `self.model` is the model in training; setting model.stop_training ends fit() after this batch.

    Every method of the model may be called from here but fit() and compile(): predict(), evaluate() and the like change neither
    losses nor weights. Epochs count from 0, as in Keras. logs of a batch: loss (of the last step that was waited for), samples
    (done in this epoch), total (samples in an epoch), seconds (spent on this epoch). logs of a batch of the validation: samples,
    total, seconds. logs of an epoch: loss, seconds, images_per_second and, with validation data, val_loss.
    """

    model: Trainee

    def on_train_begin(self, logs: Logs) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Logs) -> None: ...
    def on_train_batch_end(self, batch: int, logs: Logs) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Logs) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Logs) -> None: ...
    def on_train_end(self, logs: Logs) -> None: ...


class History(Callback):
    """What fit() returns: `history["loss"]` is a list with one value per epoch."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)

    def __getitem__(self, key: str) -> list[float]:
        return self.history[key]

    def __repr__(self) -> str:
        last = ", ".join(f"{key} {values[-1]:.6g}" for key, values in self.history.items())
        return f"<History of {len(self.epoch)} epochs{': ' + last if last else ''}>"
