"""How long a network's training step, forward pass and encoder take: what a person asks of a machine before a long training."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom.errors import FallbackWarning, UnsupportedError
from warploom.ground.hardware import place
from warploom.runs.recipe import RunConfig

_LEAST, _MOST = 5, 10_000  # runs that are timed


@dataclass(frozen=True)
class Timing:
    """Of one kind of work on one batch; milliseconds of the clock, with the copies to and from the device."""

    work: str  # "training step", "forward" or "encode"
    where: str  # version and device, in words
    batch: int
    median: float
    p10: float
    p90: float
    runs: int

    @property
    def images_per_second(self) -> float:
        return 1e3 * self.batch / self.median

    def as_dict(self) -> dict[str, Any]:
        milliseconds = {f"{name}_ms": round(getattr(self, name), 4) for name in ("median", "p10", "p90")}
        return {
            "work": self.work,
            "where": self.where,
            **milliseconds,
            "images_per_second": round(self.images_per_second, 2),
            "runs": self.runs,
        }


def time_network(config: RunConfig, *, seconds: float = 3.0, tell: Callable[[str], None] | None = None) -> list[Timing]:
    """Times one batch of the network of a run, on the device and with the optimizer that the run would have.

    seconds: for each kind of work, after a warm-up. The data are crops of photographs, or what the network's kind has of
    synthetic ones: values do not change the time. UnsupportedError on emulated devices, whose times say nothing.
    """
    config = config.resolve()
    assert config.batch_size is not None
    model = config.make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)  # an error, below
        model.compile(
            config.make_optimizer(), config.make_losses(), config.version, config.device, config.batch_size, config.seed,
            config.precision,
        )  # fmt: skip
    if model.engine.note:  # something else would be timed under this name
        raise UnsupportedError(
            f"version {config.version} runs on no device here (`warploom devices` says why): time another, or auto"
        )
    if model.device.startswith("emulated"):
        raise UnsupportedError(
            f"times on {model.device} say nothing of a GPU: `warploom profile` counts there what a GPU would do; to time, take "
            "--device cpu or cuda"
        )
    samples = config.load_data(model).train
    work: dict[str, Callable[[], Any]] = {
        "training step": lambda: model.train_step(samples.x, samples.y),
        "forward": lambda: model.predict(samples.x),
    }
    if model.latent is not None and len(model.inputs) == 1:
        work["encode"] = lambda: model.encode(samples.x)
    found = []
    for name, once in work.items():
        if tell is not None:
            tell(name)
        times = timed(once, seconds)
        p10, median, p90 = np.percentile(times, [10, 50, 90]).tolist()
        found.append(Timing(name, place(model.version, model.device), len(samples), median, p10, p90, len(times)))
    return found


def timed(once: Callable[[], Any], seconds: float) -> list[float]:
    """Milliseconds of each of many calls, after two that are not counted."""
    for _ in range(2):
        once()
    times, end = list[float](), time.perf_counter() + seconds
    while len(times) < _LEAST or (time.perf_counter() < end and len(times) < _MOST):
        began = time.perf_counter()
        once()
        times.append(1e3 * (time.perf_counter() - began))
    return times
