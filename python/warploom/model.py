"""Model: a network between inputs and outputs, and everything a user does with it."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warploom import _arrays, _core, hardware, losses, optim, training
from warploom import state as state_dicts
from warploom._typing import Array, Floats
from warploom.batches import Arrays, batch, inputs_of, pairs, wanted_by
from warploom.callbacks import Callback, History
from warploom.engine import Engine, lower
from warploom.errors import ArgumentError, DTypeError, FallbackWarning, GraphError, StateError
from warploom.explain import Explained
from warploom.graph import Tensor, calls_between, calls_to, check_name, given_tensors, name_everything
from warploom.interop import Array as DeviceArray
from warploom.layers import Latent, Layer
from warploom.layers.base import Parameter


@dataclass(frozen=True)
class Compiled:
    """What compile() was given."""

    optimizer: optim.Optimizer
    losses: list[losses.Loss]
    targets: list[str]  # their names, by number


class Model(Explained):
    """A network from its input tensors to its output tensors. Models made of the same layers share their parameters."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str = "model",
        *,
        latent: Tensor | None = None,
    ) -> None:
        check_name(name, "model")
        self.name = name
        self.inputs = given_tensors(inputs, "inputs")
        self.outputs = given_tensors(outputs, "outputs")
        self.calls = calls_between(self.inputs, self.outputs)
        marked = [call.outputs[0] for call in self.calls if isinstance(call.layer, Latent)]
        if len(marked) > 1 and latent is None:
            raise GraphError(
                f"model {name!r} has {len(marked)} Latent layers: say which one counts with Model(..., latent=tensor)"
            )
        self.latent = latent if latent is not None else (marked[0] if marked else None)
        name_everything(name, self.inputs, self.layers)
        self._lowered = lower(name, self.inputs, self.outputs, self.calls)  # checks the whole graph
        self._engine: Engine | None = None
        self._compiled: Compiled | None = None
        self._encoder: Model | None = None
        self._parent: Model | None = None  # of an encoder: runs where its parent runs
        self.batch_size, self.seed = 64, 0
        self.stop_training = False
        self.progress = training.Progress()

    @property
    def layers(self) -> list[Layer]:
        """Every layer once, in the order of first use."""
        return list({id(call.layer): call.layer for call in self.calls}.values())

    def layer(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ArgumentError(f"model {self.name!r} has no layer {name!r}; it has {', '.join(str(x.name) for x in self.layers)}")

    def __call__(self, *inputs: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The same layers on other tensors: a shared sub-network."""
        tensors = [t for value in inputs for t in (value if isinstance(value, (list, tuple)) else [value])]
        if len(tensors) != len(self.inputs):
            raise ArgumentError(f"model {self.name!r} takes {len(self.inputs)} input(s), not {len(tensors)}")
        values: dict[int, Any] = {id(own): given for own, given in zip(self.inputs, tensors, strict=True)}
        for call in self.calls:
            made = call.layer([values[id(t)] for t in call.inputs])
            values[id(call.outputs[0])] = made
        results: list[Tensor] = [values[id(t)] for t in self.outputs]
        return results[0] if len(results) == 1 else results

    def __repr__(self) -> str:
        return f"<Model {self.name!r}: {len(self.layers)} layers, {self.count_parameters():,} parameters>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are models of their own: the network and its parameters, not compiled."""
        from warploom.files import config_of, from_parts

        return from_parts, (config_of(self), self.state_dict())

    # Training
    def compile(
        self,
        optimizer: str | optim.Optimizer = "sgd",
        loss: Any = "mse",
        version: str = "auto",
        device: str = "auto",
        batch_size: int = 64,
        seed: int = 0,
        precision: str = "fp32",
    ) -> None:
        """Binds the model to a device, a kernel version, an optimiser and a loss.

        precision: "fp32" may use algorithms with fewer multiplications (Winograd), "fp32-exact" only sums of products; "tf32",
        "bf16" and "fp16" round the operands of convolutions and need a version with tensor cores.

        Parameters that were neither trained nor loaded are drawn anew from the seed; others keep their values.
        """
        batch_size = _arrays.positive(batch_size, "batch_size")
        seed = _arrays.seed(seed)
        choice = hardware.resolve(version, device, precision=precision)
        chosen = optim.get(optimizer)
        objective, targets = losses.resolve(loss, self.output_names)
        wanted_by(objective, targets, [t.shape for t in self.outputs])  # before the core, which knows no names
        self._compiled = None  # in case the next line raises
        engine = self._bind(
            choice, losses=objective, optimizer=chosen, seed=seed, batch_size=batch_size, redraw=True, precision=precision
        )
        engine.loss_labels = losses.labels(objective, self.output_names)
        self.batch_size, self.seed = batch_size, seed
        self._compiled = Compiled(chosen, objective, targets)

    def _bind(self, choice: hardware.Choice, **options: Any) -> Engine:
        if self._engine is not None:
            self._engine.release()
            self._engine = None  # its memory is free before the next one is made
        self._lowered = lower(self.name, self.inputs, self.outputs, self.calls)  # layers may have been frozen since
        self._engine = Engine(self._lowered, choice, **options)
        if self._engine.note:
            warnings.warn(self._engine.note, FallbackWarning, stacklevel=3)
        return self._engine

    @property
    def engine(self) -> Engine:
        """What runs the model: as compiled, else the default device, for inference."""
        if self._parent is not None and self._compiled is None:  # an encoder follows its model
            own = self._parent.engine
            if self._engine is None or (self._engine.device, self._engine.version) != (own.device, own.version):
                self._bind(hardware.Choice(own.device, [own.version], ""), seed=self._parent.seed)
        if self._engine is not None:
            return self._engine
        return self._bind(hardware.resolve(), seed=self.seed)

    @property
    def device(self) -> str:
        return self.engine.device

    @property
    def version(self) -> str:
        return self.engine.version

    @property
    def optimizer(self) -> optim.Optimizer:
        return self._require_compiled("optimizer").optimizer

    @property
    def losses(self) -> "list[losses.Loss] | None":
        """The training objective; None before compile()."""
        return self._compiled.losses if self._compiled is not None else None

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs; dictionaries of losses and targets are keyed by them."""
        made = {id(t): name for call, name in zip(self.calls, self._lowered.nodes, strict=True) for t in call.outputs}
        return [made.get(id(t), str(t.name)) for t in self.outputs]

    @property
    def target_names(self) -> list[str]:
        """The keys of a dictionary y, in the order of a list y."""
        return self._compiled.targets if self._compiled is not None else self.output_names

    def _require_compiled(self, what: str) -> Compiled:
        if self._compiled is None:
            raise StateError(f"{what} needs a compiled model: call model.compile(optimizer=..., loss=...) first")
        return self._compiled

    def fit(
        self,
        x: Arrays,
        y: Arrays | None = None,
        epochs: int = 20,
        validation_data: Any = None,
        callbacks: Iterable[Callback] = (),
        *,
        shuffle: bool = True,
        verbose: bool | None = None,
        start: training.Progress | None = None,
    ) -> History:
        """Trains; y=None reconstructs x. validation_data: x or (x, y). verbose=None shows progress on a terminal.

        Several inputs or targets: lists in order, or dictionaries by the names of inputs and of `target_names`.
        `start` goes on where an earlier fit stopped (`model.progress`); epochs counts from the very beginning.
        """
        self._require_compiled("fit()")
        if not isinstance(callbacks, Iterable):
            raise DTypeError(f"callbacks must be a list of warploom.callbacks.Callback objects, not {type(callbacks).__name__}")
        inputs, targets = pairs(self, x, y)
        validation = None
        if validation_data is not None:
            paired = isinstance(validation_data, tuple) and len(validation_data) == 2
            test_x, test_y = validation_data if paired else (validation_data, None)
            validation = pairs(self, test_x, test_y, "validation_data")
        from warploom.progress import console_progress

        listeners = [*callbacks, *console_progress(verbose)]
        return training.fit(self, inputs, targets, epochs, validation, listeners, shuffle, start or training.Progress())

    def train_step(self, x: Arrays, y: Arrays | None = None) -> dict[str, float]:
        """One update on one batch of any size; the loss before it, and each loss times its weight where there are several."""
        self._require_compiled("train_step()")
        return {"loss": self.engine.train_step(*batch(self, x, y)), **self.engine.each_loss()}

    def gradients(self, x: Arrays, y: Arrays | None = None, *, training: bool = True) -> dict[str, Floats]:
        """The gradient of the loss by every trainable parameter on one batch; nothing is updated.

        training=False: with batch norms in evaluation mode, which use their running statistics.
        """
        self._require_compiled("gradients()")
        return self.engine.gradients(*batch(self, x, y), training=training)

    def evaluate(self, x: Arrays, y: Arrays | None = None, *, batch_size: int | None = None) -> dict[str, float]:
        """The mean loss over a data set, and each loss times its weight where there are several.

        A mean over batches, weighted by their samples: RMSE, Dice, and CrossEntropy with ignored labels or class weights,
        which are no means over elements, depend on the batch size.
        """
        self._require_compiled("evaluate()")
        size = self.batch_size if batch_size is None else _arrays.positive(batch_size, "batch_size")
        return training.evaluate(self.engine, *pairs(self, x, y), size)

    # Inference
    def predict(self, x: Arrays, *, batch_size: int | None = None) -> Any:
        """The outputs for x: an array, or a list of arrays if the model has several outputs.

        For arrays on a GPU (PyTorch, CuPy, warploom.Array) the outputs are warploom.Arrays there; nothing is copied to the host.
        """
        results = self._run(inputs_of(self, x, "x"), self.outputs, batch_size)
        return results[0] if len(results) == 1 else results

    def encode(self, x: Arrays, *, batch_size: int | None = None) -> Floats:
        """The latent of x, in the latent's own shape; `.reshape(len(x), -1)` gives feature vectors."""
        return self._run(inputs_of(self, x, "x"), [self._require_latent()], batch_size)[0]

    def _run(self, inputs: list[Array], wanted: Sequence[Tensor], batch_size: int | None) -> list[Floats]:
        size = self.batch_size if batch_size is None else _arrays.positive(batch_size, "batch_size")
        rows = len(inputs[0])
        if any(isinstance(a, DeviceArray) for a in inputs):
            return self._run_on_device(inputs, wanted, rows, size)
        results = [np.empty((rows, *t.shape), np.float32) for t in wanted]
        for start in range(0, rows, size):
            part = self.engine.predict([a[start : start + size] for a in inputs], wanted)
            for whole, piece in zip(results, part, strict=True):
                whole[start : start + len(piece)] = piece
        return results

    def _run_on_device(self, inputs: list[Array], wanted: Sequence[Tensor], rows: int, size: int) -> list[Any]:
        device = self.engine.device
        results = [_core.array_empty((rows, *t.shape), "float32", device) for t in wanted]
        for start in range(0, rows, size):
            part = slice(start, min(start + size, rows))
            self.engine.predict([a[part] for a in inputs], wanted, [whole[part] for whole in results])
        return results

    def _require_latent(self) -> Tensor:
        if self.latent is None:
            raise GraphError(
                f"model {self.name!r} has no latent: mark it with warploom.layers.Latent() or Model(..., latent=tensor)"
            )
        return self.latent

    @property
    def encoder(self) -> "Model":
        """The sub-network up to the latent; it shares this model's parameters and runs where this model runs."""
        if self._encoder is None:
            latent = self._require_latent()
            reached = {id(t) for call in calls_to(latent) for t in call.inputs}
            self._encoder = Model([t for t in self.inputs if id(t) in reached], latent, name=f"{self.name}-encoder")
            self._encoder._parent = self
        self._encoder.batch_size = self.batch_size
        return self._encoder

    # Parameters
    def state_dict(self) -> dict[str, Floats]:
        """Copies of all parameters under PyTorch's names and shapes."""
        self._draw()
        return {name: p.value().copy() for name, p in self._lowered.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes all parameters and buffers from arrays (or CPU tensors) under PyTorch's names and shapes."""
        parameters = self._lowered.parameters
        for name, value in state_dicts.checked(parameters, state, self.name).items():
            parameters[name].set(value)

    def _draw(self) -> dict[str, Parameter]:
        """Parameters without a value yet get their first one."""
        if any(p.stamp == 0 for p in self._lowered.parameters.values()):
            _ = self.engine
        return self._lowered.parameters

    def named_parameters(self) -> dict[str, Parameter]:
        """Parameters and buffers (`spec.buffer`) by their names in the state dict."""
        return dict(self._lowered.parameters)

    def count_parameters(self, *, trainable_only: bool = False) -> int:
        """How many numbers the model trains (and with frozen ones, holds); buffers such as running statistics do not count."""
        counted = {id(p): p for x in self.layers for p in x.parameters.values() if x.trainable or not trainable_only}
        chosen = [p for p in counted.values() if not p.spec.buffer and (p.trainable or not trainable_only)]
        return sum(math.prod(p.spec.shape) for p in chosen)

    # Files
    def save(self, path: str | Path) -> None:
        """Writes network and parameters to a .safetensors file that warploom.load() reads without further code."""
        from warploom.files import save_model

        save_model(self, path)
