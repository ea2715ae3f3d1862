"""Callbacks: what is called while fit() runs, and the history it returns.

    model.fit(x, validation_split=0.1, epochs=100, callbacks=[
        wl.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
        wl.callbacks.ModelCheckpoint("best.safetensors", save_best_only=True),
        wl.callbacks.CSVLogger("history.csv"),
        wl.callbacks.TensorBoard("logs"),
    ])

Their arguments are named as in Keras.
"""

from warploom.callbacks.base import Callback, History, Logs, Trainee
from warploom.callbacks.loggers import CSVLogger, Logger, Logging, TensorBoard
from warploom.callbacks.watching import EarlyStopping, ModelCheckpoint

__all__ = [
    "CSVLogger", "Callback", "EarlyStopping", "History", "Logger", "Logging", "Logs", "ModelCheckpoint", "TensorBoard", "Trainee",
]  # fmt: skip
