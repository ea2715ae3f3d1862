"""Learning-rate schedules: callbacks of fit() that set the optimiser's learning rate.

    model.fit(x, epochs=20, callbacks=[wl.optim.schedules.CosineLR(warmup=2)])
    Chain([Warmup(500, per="step"), StepLR(10)])        # each takes what the one before it gives

A schedule maps the base rate (the optimiser's when training begins) and a position to a rate. The position, counted in epochs or,
with per="step", in batches, is where fit() stands, so that a resumed run continues with the same numbers; PlateauLR has a memory,
which state() and load_state() carry through checkpoints.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from warploom.callbacks import Callback, Logs
from warploom.errors import ArgumentError, DTypeError
from warploom.ground.arrays import number, positive


class Schedule(Callback):
    """Base: override lr(). per: what a position counts, "epoch" or "step"."""

    def __init__(self, per: str = "epoch") -> None:
        if per not in ("epoch", "step"):
            raise ArgumentError(f"{type(self).__name__}: per must be 'epoch' or 'step', not {per!r}")
        self.per = per
        self._base: float | None = None
        self._used: float | None = None  # by the last batch
        self._last: float | None = None  # what was set last
        self._epochs = self._steps = self._epoch = 0

    def lr(self, base: float, epoch: int, step: int) -> float:
        """The rate after so many whole epochs and, over all epochs, batches."""
        raise NotImplementedError

    def total(self, epochs: int, steps: int) -> None:
        """Told before training: how many epochs there are, and batches in one."""
        self._epochs, self._steps = epochs, steps

    def observe(self, logs: Logs) -> None:
        """Told at the end of an epoch what it gave."""

    def position(self, epoch: int, step: int) -> int:
        return epoch if self.per == "epoch" else step

    # What a checkpoint keeps
    def state(self) -> dict[str, Any]:
        return {"base": self._base, "last": self._last}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("base", "last"):
            if state[name] is not None:
                number(state[name], f"{type(self).__name__}: {name}", 0.0)
        self._base, self._last = state["base"], state["last"]

    # Callback
    def on_train_begin(self, logs: Logs) -> None:
        self.total(logs["epochs"], logs["steps"])
        if self._base is None or self.model.optimizer.lr != self._last:  # the first time, or the user has set another
            self._base = self.model.optimizer.lr

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        self._epoch = epoch
        if logs["batch"] > 0:  # a run that goes on, perhaps with the validation only
            self._used = self._rate(logs["batch"] - 1)
        self._set(logs["batch"])

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._used = self.model.optimizer.lr
        self._set(batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["lr"] = self._used
        self.observe(logs)
        self._epoch = epoch + 1
        self._set(0)

    def _set(self, batch: int) -> None:
        self.model.optimizer.lr = self._last = self._rate(batch)

    def _rate(self, batch: int) -> float:
        assert self._base is not None
        whole = batch // self._steps  # the last batch of an epoch is done: the next one begins
        try:
            rate = self.lr(self._base, self._epoch + whole, self._epoch * self._steps + batch)
        except OverflowError:
            raise ArgumentError(f"{type(self).__name__}: the learning rate grows beyond what a number can hold") from None
        return number(rate, f"{type(self).__name__}: the learning rate", 0.0)


class StepLR(Schedule):
    """The rate times gamma after every step_size epochs."""

    def __init__(self, step_size: int = 10, gamma: float = 0.1, *, per: str = "epoch") -> None:
        super().__init__(per)
        self.step_size, self.gamma = positive(step_size, "StepLR: step_size"), number(gamma, "StepLR: gamma", 0.0)

    def lr(self, base: float, epoch: int, step: int) -> float:
        return base * self.gamma ** (self.position(epoch, step) // self.step_size)


class MultiStepLR(Schedule):
    """The rate times gamma at each of the milestones."""

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1, *, per: str = "epoch") -> None:
        super().__init__(per)
        self.milestones = sorted(positive(m, "MultiStepLR: a milestone") for m in milestones)
        self.gamma = number(gamma, "MultiStepLR: gamma", 0.0)

    def lr(self, base: float, epoch: int, step: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, self.position(epoch, step))


class ExponentialLR(Schedule):
    """The rate times gamma after every epoch."""

    def __init__(self, gamma: float = 0.95, *, per: str = "epoch") -> None:
        super().__init__(per)
        self.gamma = number(gamma, "ExponentialLR: gamma", 0.0)

    def lr(self, base: float, epoch: int, step: int) -> float:
        return float(base * self.gamma ** self.position(epoch, step))


class Warmup(Schedule):
    """From start_factor of the rate to all of it in a straight line over `length` steps (or epochs)."""

    def __init__(self, length: int = 500, start_factor: float = 0.01, *, per: str = "step") -> None:
        super().__init__(per)
        self.length = positive(length, "Warmup: length")
        self.start_factor = number(start_factor, "Warmup: start_factor", 0.0, 1.0)

    def lr(self, base: float, epoch: int, step: int) -> float:
        done = min(1.0, self.position(epoch, step) / self.length)
        return base * (self.start_factor + (1.0 - self.start_factor) * done)


class CosineLR(Schedule):
    """Half a cosine from the rate down to eta_min at t_max (default: the end of training), where it stays.

    With warmup > 0 the first of those epochs (or steps) climb from start_factor of the rate in a straight line; a warmup
    between 0 and 1 is a share of the whole (0.1: a tenth of t_max).
    """

    def __init__(
        self,
        t_max: int | None = None,
        eta_min: float = 0.0,
        *,
        warmup: float = 0,
        start_factor: float = 0.01,
        per: str = "epoch",
    ) -> None:
        super().__init__(per)
        self.t_max = None if t_max is None else positive(t_max, "CosineLR: t_max")
        self.eta_min = number(eta_min, "CosineLR: eta_min", 0.0)
        share = isinstance(warmup, float) and 0.0 < warmup < 1.0
        self.warmup: float = warmup if share else positive(warmup, "CosineLR: warmup", minimum=0)
        self.start_factor = number(start_factor, "CosineLR: start_factor", 0.0, 1.0)
        if self.t_max is not None and self.t_max <= self.warmup:
            raise ArgumentError(f"CosineLR: t_max must be larger than warmup, not {self.t_max} after {self.warmup}")

    def lr(self, base: float, epoch: int, step: int) -> float:
        t, end = self.position(epoch, step), self.t_max
        if end is None:
            end = self._epochs * (1 if self.per == "epoch" else self._steps)
        warmup = max(1, round(self.warmup * end)) if 0.0 < self.warmup < 1.0 else self.warmup
        if t < warmup:
            return base * (self.start_factor + (1.0 - self.start_factor) * t / warmup)
        done = min(1.0, (t - warmup) / max(1, end - warmup))
        return self.eta_min + (base - self.eta_min) * (1.0 + math.cos(math.pi * done)) / 2.0


class CyclicCosineLR(Schedule):
    """Whole cosines between the rate and 0, one every `period` steps (or epochs)."""

    def __init__(self, period: int = 500, *, per: str = "step") -> None:
        super().__init__(per)
        self.period = positive(period, "CyclicCosineLR: period")

    def lr(self, base: float, epoch: int, step: int) -> float:
        return base * (1.0 + math.cos(2.0 * math.pi * (self.position(epoch, step) % self.period) / self.period)) / 2.0


class LambdaLR(Schedule):
    """The rate times function(position)."""

    def __init__(self, function: Callable[[int], float], *, per: str = "epoch") -> None:
        super().__init__(per)
        if not callable(function):
            raise DTypeError(f"LambdaLR: function must take a number and return a factor, not be {function!r}")
        self.function = function

    def lr(self, base: float, epoch: int, step: int) -> float:
        return base * float(self.function(self.position(epoch, step)))


_MOST_CUTS = 1_000_000  # epochs, in a checkpoint: each is a step of a loop


class PlateauLR(Schedule):
    """The rate times `factor` when the loss has not fallen below threshold of its best for more than `patience` epochs.

    It looks at the validation loss where there is one. As PyTorch's ReduceLROnPlateau with mode "min" and a relative threshold.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        *,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        monitor: str | None = None,
    ) -> None:
        super().__init__("epoch")
        self.factor = number(factor, "PlateauLR: factor", 0.0, 1.0)
        self.patience = positive(patience, "PlateauLR: patience", minimum=0)
        self.threshold = number(threshold, "PlateauLR: threshold", 0.0, 1.0)
        self.cooldown = positive(cooldown, "PlateauLR: cooldown", minimum=0)
        self.min_lr = number(min_lr, "PlateauLR: min_lr", 0.0)
        self.monitor = monitor
        self.best, self.bad, self.cooling, self.cuts = math.inf, 0, 0, 0

    def lr(self, base: float, epoch: int, step: int) -> float:
        rate = base
        for _ in range(self.cuts):
            before, rate = rate, max(rate * self.factor, min(self.min_lr, rate))
            if rate == before:
                break
        return rate

    def observe(self, logs: Logs) -> None:
        key = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        if key not in logs:
            known = ", ".join(k for k, v in logs.items() if isinstance(v, float))
            raise ArgumentError(f"PlateauLR: monitor={key!r}, but an epoch gives {known}")
        value = float(logs[key])
        if value < self.best * (1.0 - self.threshold):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            self.cuts, self.cooling, self.bad = self.cuts + 1, self.cooldown, 0

    def state(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best  # JSON has no infinity
        return {**super().state(), "best": best, "bad": self.bad, "cooling": self.cooling, "cuts": self.cuts}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best = math.inf if state["best"] is None else number(state["best"], "PlateauLR: best")
        counts = [
            positive(state[name], f"PlateauLR: {name}", minimum=0, maximum=_MOST_CUTS) for name in ("bad", "cooling", "cuts")
        ]
        self.bad, self.cooling, self.cuts = counts


class Chain(Schedule):
    """Several schedules at once: the rate that one gives is the base of the next."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        super().__init__()
        self.schedules = list(schedules)
        if not self.schedules or not all(isinstance(s, Schedule) for s in self.schedules):
            raise DTypeError("Chain takes a list of one or more schedules")

    def lr(self, base: float, epoch: int, step: int) -> float:
        for schedule in self.schedules:
            base = schedule.lr(base, epoch, step)
        return base

    def total(self, epochs: int, steps: int) -> None:
        super().total(epochs, steps)
        for schedule in self.schedules:
            schedule.total(epochs, steps)

    def observe(self, logs: Logs) -> None:
        for schedule in self.schedules:
            schedule.observe(logs)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "parts": [s.state() for s in self.schedules]}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        for schedule, part in zip(self.schedules, state["parts"], strict=True):
            schedule.load_state(part)


BY_NAME: dict[str, type[Schedule]] = {
    "step": StepLR,
    "multistep": MultiStepLR,
    "exponential": ExponentialLR,
    "cosine": CosineLR,
    "cyclic": CyclicCosineLR,
    "plateau": PlateauLR,
    "warmup": Warmup,
}
_TEXT = frozenset({"per", "monitor"})
_EXAMPLE = "cosine:warmup=2 or warmup:length=500+step:step_size=10,gamma=0.5"


def parse(text: str) -> Schedule:
    """A schedule as the command line writes it: NAME[:key=value,...], several joined by '+'; milestones as 20/80."""
    made = [_parse_one(part) for part in re.split(r"\+(?=[a-z])", text)]
    return made[0] if len(made) == 1 else Chain(made)


def _parse_one(text: str) -> Schedule:
    name, _, rest = text.partition(":")
    if name not in BY_NAME:
        raise ArgumentError(f"unknown schedule {name!r}; expected one of {', '.join(BY_NAME)}, such as {_EXAMPLE}")
    arguments: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ArgumentError(f"schedule {name}: {item!r} is no key=value, such as {_EXAMPLE}")
        arguments[key] = value if key in _TEXT else _value(name, key, value)
    try:
        return BY_NAME[name](**arguments)
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
        reason = str(error).split(") ", 1)[-1].replace("__init__() ", "")
        raise ArgumentError(f"schedule {name}: {reason}") from None


def _value(name: str, key: str, text: str) -> Any:
    def one(part: str) -> int | float:
        try:
            return int(part)
        except ValueError:
            return float(part)

    try:
        return [one(part) for part in text.split("/")] if key == "milestones" else one(text)
    except ValueError:
        raise ArgumentError(f"schedule {name}: {key}={text!r} is no number") from None
