"""A learning rate to begin with, found by a short training in which the rate grows.

Source: Smith 2015, "Cyclical learning rates for training neural networks", https://arxiv.org/abs/1506.01186 (section 3.3).
"""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from warploom.callbacks import Callback, Logs
from warploom.errors import ArgumentError, DivergedError, StateError
from warploom.ground.arrays import number, positive
from warploom.model import Model
from warploom.runs.plots import new_figure, save_figure

_SMOOTH = 0.9  # of the losses, whose noise would hide the slope
_DIVERGED = 4.0  # times the lowest smoothed loss: the rate has become too large
_LEAST = 12  # steps before which no slope is read off


@dataclass
class LRFinder:
    """What lr_finder() gives: the rates that were tried, the smoothed loss before each step, and a suggestion."""

    lrs: list[float]
    losses: list[float]
    suggestion: float  # where the loss falls fastest

    def plot(self, path: str | Path) -> None:
        """Loss over rate as a .png, with the suggestion marked."""
        figure = new_figure(7.0, 4.2)
        axes = figure.add_subplot()
        axes.plot(self.lrs, self.losses, "-")
        axes.axvline(self.suggestion, linestyle="--", color="tab:red", label=f"suggested: {self.suggestion:.2g}")
        axes.set_xscale("log")
        top = 1.5 * max(self.losses[:_LEAST])
        axes.set_ylim(top=min(top, 1.05 * max(self.losses)))
        axes.set(xlabel="learning rate", ylabel="loss, smoothed")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")  # "best" is slow with many values, and then says so
        save_figure(figure, path)

    def __repr__(self) -> str:
        return f"<LRFinder: {len(self.lrs)} rates from {self.lrs[0]:.2g} to {self.lrs[-1]:.2g}, suggested {self.suggestion:.2g}>"


class _Growing(Callback):
    """Each step takes a larger rate than the one before; ends the training when the loss has risen far."""

    model: Model

    def __init__(self, rates: list[float]) -> None:
        self.rates, self.losses, self._mean = rates, list[float](), 0.0

    def on_train_begin(self, logs: Logs) -> None:
        self.model.optimizer.lr = self.rates[0]

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        loss = self.model.engine.loss()  # every step is waited for
        if math.isfinite(loss):
            self._mean = _SMOOTH * self._mean + (1 - _SMOOTH) * loss
            self.losses.append(self._mean / (1 - _SMOOTH ** (len(self.losses) + 1)))
        done = len(self.losses)
        risen = not math.isfinite(loss) or (done > _LEAST and self.losses[-1] > _DIVERGED * min(self.losses))
        if risen or done == len(self.rates):
            self.model.stop_training = True
        else:
            self.model.optimizer.lr = self.rates[done]


def lr_finder(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 1.0,
    steps: int = 100,
    batch_size: int | None = None,
    callbacks: Iterable[Callback] = (),
) -> LRFinder:
    """Trains `steps` steps with a rate that grows evenly on a logarithmic scale, until the loss has risen far above its lowest.

    The suggestion is the rate at which the smoothed loss falls fastest. Weights, optimizer state and learning rate are
    afterwards what they were before. x, y, batch_size, callbacks: as fit() takes them; data are gone through again and again.
    ArgumentError where the loss falls at none of the rates.
    """
    low, high = number(start_lr, "start_lr", 1e-30), number(end_lr, "end_lr", 1e-30)
    if not low < high:
        raise ArgumentError(f"start_lr must be less than end_lr, not {low:g} and {high:g}")
    count = positive(steps, "steps", minimum=_LEAST + 1)
    optimizer, engine = model.optimizer, model.engine
    weights, state, lr, progress = model.state_dict(), engine.optimizer_state(), optimizer.lr, replace(model.progress)
    parameters = model.named_parameters()
    pristine = {name: p.pristine for name, p in parameters.items()}
    growing = _Growing([float(rate) for rate in np.geomspace(low, high, count)])
    try:
        with contextlib.suppress(DivergedError):  # what large rates are tried for
            model.fit(x, y, epochs=count, callbacks=[growing, *callbacks], batch_size=batch_size, verbose=False)
    finally:
        optimizer.lr = lr
        model.load_state_dict(weights)
        engine.set_optimizer_state(state)
        vars(model.progress).update(vars(progress))  # where an earlier fit() stands
        for name, parameter in parameters.items():
            parameter.pristine = pristine[name]
    losses = growing.losses
    if len(losses) <= _LEAST:
        raise StateError(
            f"the loss was not finite after {len(losses)} steps at rates up to {growing.rates[len(losses)]:.2g}: look at the "
            f"data, or take a smaller start_lr than {low:g}"
        )
    lrs, lowest = growing.rates[: len(losses)], int(np.argmin(losses))
    slopes = np.gradient(np.array(losses), np.log(lrs))[: lowest + 1]
    best = int(np.argmin(slopes))
    if slopes[best] >= 0:
        raise ArgumentError(
            f"the loss falls at no rate from {low:g} to {high:g}: take a larger end_lr or a smaller start_lr, or look at the data"
        )
    return LRFinder(lrs, losses, lrs[best])
