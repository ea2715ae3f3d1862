"""A network on a device: the core's session, and the parameters kept in step with the layers that own them.

Only this file touches _core.Session.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom import _core
from warploom.errors import FallbackWarning, UnsupportedError
from warploom.ground.array_types import Array, Floats
from warploom.ground.hardware import Choice
from warploom.ground.parameters import Parameter
from warploom.interop import Array as DeviceArray
from warploom.losses import Loss
from warploom.network.graph import Tensor
from warploom.network.lowering import Lowered
from warploom.optim import Optimizer


class Engine:
    """A session and what it was made with."""

    waits = False  # every step is waited for: its loss costs nothing more

    def __init__(
        self,
        lowered: Lowered,
        choice: Choice,
        *,
        losses: Sequence[Loss] = (),
        optimizer: Optimizer | None = None,
        seed: int = 0,
        batch_size: int = 1,
        redraw: bool = False,
        plan_only: bool = False,
        precision: str = "fp32",
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """part: (rank, size) of a worker that keeps the optimizer's states of that part of the parameters alone.
        redraw: what was neither trained nor loaded is drawn again from the seed. plan_only: nothing is allocated."""
        self.names = lowered.parameters
        self._values = lowered.values
        self.optimizer = optimizer
        self.training = bool(losses)
        self.loss_labels: list[str] = []  # by the model, which knows its outputs' names
        self.note, self.precision = choice.note, precision
        loss_configs = [loss.config() for loss in losses] or None
        refusals = []
        for version in choice.versions:
            session = _core.Session(
                lowered.graph, choice.device, version,
                losses=loss_configs, optimizer=optimizer.config() if optimizer else None, seed=seed, precision=precision,
                allocate=not plan_only, part=part,
            )  # fmt: skip
            try:
                session.memory(
                    batch_size, self.training
                )  # plans without allocating: the version takes the network or says why not
            except UnsupportedError as error:
                refusals.append(str(error))
                if len(choice.versions) == 1:
                    raise
                continue
            break
        else:
            raise UnsupportedError(f"no version on {choice.device} takes this network: {'; '.join(refusals)}")
        if refusals:
            self.note = f"{choice.note + '; ' if choice.note else ''}version {version} runs, because {'; '.join(refusals)}"
        self.session = session
        self.device, self.version = choice.device, version
        self._hyper = optimizer.values() if optimizer else {}
        self._full_names = {id(p): name for name, p in self.names.items()}
        self._seen: dict[str, int] = {}
        self._slots: set[str] = set()  # data sets on the device, by the feeds that hold them
        self._told_of_calls = False
        self._passes = 0  # under way, one inside the other
        self._mean = (0.0, 0)  # sum and samples of the running mean that were taken off the device early
        for name, parameter in self.names.items() if not plan_only else ():
            if parameter.stamp == 0 or (redraw and parameter.pristine):
                parameter.held_by(self, pristine=True)
                self._seen[name] = parameter.stamp
        self._averages = optimizer is not None and optimizer.ema > 0 and not plan_only
        self._averaged: set[str] = set()  # the parameters that have an average
        self._shows_average = True
        self._begin_average()

    # Parameters
    def read(self, parameter: Parameter) -> Floats:
        self.show_average()
        value: Floats = np.array(self.session.get_parameter(self._full_names[id(parameter)]), dtype=np.float32)
        return value

    def sync(self) -> None:
        """Takes over what other networks or the user changed since the last call."""
        for name, parameter in self.names.items():
            if self._seen.get(name) != parameter.stamp:
                self.session.set_parameter(name, parameter.value())
                if name in self._averaged:
                    self.session.set_optimizer_state({f"ema/{name}": parameter.value()})
                self._seen[name] = parameter.stamp
        if self.optimizer is not None:
            values = self.optimizer.values()
            changed = {name: value for name, value in values.items() if value != self._hyper.get(name)}
            if changed:
                self.session.set_optimizer(**changed)
                self._hyper = values

    def changed(self) -> None:
        """A training step has changed every parameter."""
        for name, parameter in self.names.items():
            parameter.held_by(self)
            self._seen[name] = parameter.stamp

    def release(self) -> None:
        """Before the engine is dropped: values only it holds go back to the layers."""
        for parameter in self.names.values():
            parameter.release(self)

    def optimizer_state(self) -> dict[str, Array]:
        """ "<state>/<parameter>": array, and "step": the number of steps taken."""
        self.show_average()
        return self.session.optimizer_state()

    def set_optimizer_state(self, state: dict[str, Array]) -> None:
        """What optimizer_state() gave. ValueError where another kind of optimizer wrote it."""
        differing = sorted(set(state) ^ set(self.optimizer_state()))
        if differing:
            raise ValueError(f"another optimizer wrote it, which keeps {differing[0]} or lacks it")
        self.sync()  # what was loaded before it counts as average and as weight until here
        self.session.set_optimizer_state(state)

    def forget_optimizer_state(self) -> None:
        """As before the first step."""
        self.session.set_optimizer_state({name: np.zeros_like(value) for name, value in self.optimizer_state().items()})
        self._begin_average()

    # The average of the weights. The session's weights are either what is trained, or the average while the state "ema" holds
    # what is trained: so everything that reads weights, the forward pass too, reads the average without knowing of it.
    def _begin_average(self) -> None:
        """Before the first step both are the same."""
        if self._averages:
            self._averaged = {name.partition("/")[2] for name in self.session.optimizer_state() if name.startswith("ema/")}
            weights = np.empty(self.session.trainable_count, np.float32)
            self.session.read_flat("weights", 0, weights)
            self.session.write_flat("ema", 0, weights)

    def show_average(self, shown: bool = True) -> None:
        """Whether the session's weights are to be the average; else what is trained."""
        if not self._averages or shown == self._shows_average:
            return
        weights, others = (np.empty(self.session.trainable_count, np.float32) for _ in range(2))
        self.session.read_flat("weights", 0, weights)
        self.session.read_flat("ema", 0, others)
        self.session.write_flat("weights", 0, others)
        self.session.write_flat("ema", 0, weights)
        self._shows_average = shown

    # Losses
    def loss(self) -> float:
        """The last step's loss; waits for it."""
        if self.session.recording_failure and not self._told_of_calls:
            self._told_of_calls = True
            why = self.session.recording_failure
            warnings.warn(
                f"{self.device} cannot record a step ({why}); each is made of single calls", FallbackWarning, stacklevel=2
            )
        return self.session.loss()

    def losses(self) -> list[float]:
        """The last step's value of each loss, times its weight; waits."""
        return self.session.losses()

    def each_loss(self) -> dict[str, float]:
        """The last value of every loss, times its weight; nothing where there is but one."""
        if len(self.loss_labels) < 2:
            return {}
        return dict(zip(self.loss_labels, self.losses(), strict=True))

    def take_mean_loss(self) -> tuple[float, int]:
        """(sum of the loss over samples, samples) since the last take; starts anew."""
        (late_sum, late_samples), (early_sum, early_samples) = self._take(), self._mean
        self._mean = (0.0, 0)
        return early_sum + late_sum, early_samples + late_samples

    def _take(self) -> tuple[float, int]:
        mean, samples = self.session.take_mean_loss()
        return mean * samples, samples

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """A pass over data whose mean loss is wanted; it starts at zero, and one around it goes on after it."""
        with self.aside():
            self.take_mean_loss()
            self._passes += 1
            try:
                yield
            finally:
                self._passes -= 1

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """For what a callback computes in the middle of a pass: its losses are no part of that pass's mean."""
        if not self._passes:
            yield
            return
        before = self.take_mean_loss()
        try:
            yield
        finally:
            self._take()
            self._mean = before

    @property
    def target_shapes(self) -> list[tuple[int, ...]]:
        """Per sample, by the target's number."""
        return self.session.target_shapes()

    # Running
    def train_step(self, inputs: list[Array], targets: list[Array]) -> float:
        self.sync()
        with self.aside():
            parts = self.parts(len(inputs[0]))
            if parts is None:
                self.train_batch(inputs, targets)
            else:
                self.begin_batch(len(inputs[0]), training=True)
                for first, rows in parts:
                    self.train_batch([a[first : first + rows] for a in inputs], [a[first : first + rows] for a in targets])
                self.end_batch(training=True)
            self.changed()
            return self.loss()

    def gradients(self, inputs: list[Array], targets: list[Array], *, training: bool = True) -> dict[str, Floats]:
        """training=False: normalisations use their running statistics. Nothing is updated, running statistics neither."""
        self.sync()
        self.show_average()
        with self.aside():
            buffers = {name: self.session.get_parameter(name) for name, p in self.names.items() if p.spec.buffer}
            gradients = self.session.gradients(inputs, targets, not training)
            for name, value in buffers.items() if training else ():
                self.session.set_parameter(name, value)
            return gradients

    def predict(self, inputs: list[Array], wanted: Sequence[Tensor], out: list[DeviceArray] | None = None) -> list[Any]:
        """The values of those tensors of the network, into `out` if given; what they do not need is not computed."""
        self.sync()
        self.show_average()
        given = [a if isinstance(a, DeviceArray) else np.ascontiguousarray(a) for a in inputs]
        return self.session.predict(given, [self._values[id(t)] for t in wanted], out)

    def synchronize(self) -> None:
        """Waits for all steps."""
        self.session.synchronize()

    # What several workers do together (distributed/engine.py); here there is one
    def parts(self, count: int) -> list[tuple[int, int]] | None:
        """(first, count) of the samples of a batch that this process computes, each by a call; None: all in one call."""
        return None

    def begin_batch(self, count: int, *, training: bool) -> None:
        """Before the calls for the parts of a batch."""

    def end_batch(self, *, training: bool) -> None:
        """After them: in training, the update."""

    def begin_fit(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Before the first step; facts() must be the same for all workers."""

    def agreed_stop(self, stop: bool, *, now: bool = False) -> bool:
        """Whether to stop, from whether this process was told to; now=False: as known from the last batch."""
        return stop

    def collect_state(self) -> None:
        """Where all workers are, before one may ask for the optimizer's state."""

    def state_is_whole(self) -> bool:
        """Whether optimizer_state() can be asked for now; where not, it can after the next step."""
        return True

    def same(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    # One pass over data: batches from the host, or a data set that lives on the device. No call waits.
    def train_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        self.show_average(False)
        self.session.train_step(inputs, targets)

    def evaluate_batch(self, inputs: list[Array], targets: list[Array]) -> None:
        self.show_average()
        self.session.evaluate_step(inputs, targets)

    def load_data(self, images: Array, augmentation: dict[str, Any] | None = None) -> str:
        """Copies a data set to the device, which changes its images at random by those attributes of augment_images; the slot it
        is in, until drop_data()."""
        slot = next(name for name in map("data{}".format, itertools.count()) if name not in self._slots)
        given = images if isinstance(images, DeviceArray) else np.ascontiguousarray(images)
        self.session.load_data(slot, given, augmentation)
        self._slots.add(slot)
        return slot

    def drop_data(self, slot: str) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
            self.session.drop_data(slot)

    def begin_epoch(self, slot: str, order: NDArray[np.int32], epoch: int = 0) -> None:
        self.session.begin_epoch(slot, order, epoch)

    def train_next(self, slot: str, count: int) -> None:
        self.show_average(False)
        self.session.train_next(count, slot)

    def evaluate_next(self, slot: str, count: int) -> None:
        self.show_average()
        self.session.evaluate_next(count, slot)

    # What a step is made of
    @property
    def has_meetings(self) -> bool:
        """Whether there are batch norms that could take the statistics of several shards."""
        return bool(self.session.meetings())

    def memory(self, batch_size: int, shards: int = 0) -> dict[str, int]:
        """shards: so many of that size under way at once, because batch norms are synchronised; 0: a step in one call."""
        return self.session.memory(batch_size, self.training, shards)

    def explain(self, batch_size: int) -> list[dict[str, Any]]:
        return self.session.explain(batch_size, self.training)

    def refusals(self, batch_size: int) -> list[str]:
        """Fusions that were offered and refused, a sentence each."""
        return self.session.refusals(batch_size, self.training)
