"""Model: a network that can be compiled, trained and run, and everything that a user asks of it.

Long because it is one class, the one that people read first: a line or two of each method are code, the rest says what it takes.
"""

import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from warploom import _core, losses, optim
from warploom.anysize.resizing import Sizes
from warploom.anysize.running import MEMORY, run_at_any_size, run_in_windows
from warploom.callbacks import Callback, History
from warploom.distributed.engine import SHARDS, ShardedEngine
from warploom.distributed.groups import Alone
from warploom.distributed.options import Options
from warploom.distributed.world import World, init
from warploom.engine import Engine
from warploom.errors import ArgumentError, DTypeError, FallbackWarning, GraphError, StateError
from warploom.ground import arrays, hardware
from warploom.ground.array_types import Array, Floats
from warploom.ground.atomic import write_tensors
from warploom.inspection.bypass import Bypass
from warploom.inspection.gradient_flow import GradientFlow
from warploom.inspection.graph_plot import picture, plot
from warploom.inspection.summary import Summary
from warploom.inspection.trace import Trace
from warploom.interop import Array as DeviceArray
from warploom.network.config import FORMAT
from warploom.network.graph import Tensor
from warploom.network.network import Network
from warploom.train import loop
from warploom.train.progress import console_progress
from warploom.train.targets import (
    Arrays,
    Target,
    batch,
    images_of,
    inputs_of,
    pairs,
    split_off,
    targets_by_default,
    wanted_by,
    warn_of_pixels,
)

# Endings that promise another program's format.
_FOREIGN = frozenset({
    *(".ckpt", ".engine", ".gguf", ".h5", ".hdf5", ".joblib", ".json", ".keras", ".mat", ".npy", ".npz", ".onnx", ".pb"),
    *(".pickle", ".pkl", ".plan", ".pt", ".pt2", ".pth", ".tar", ".tflite", ".zip"),
})  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """What compile() was given."""

    optimizer: optim.Optimizer
    losses: list[losses.Loss]
    targets: list[Target]  # what y must look like, by number
    accumulate: int = 1  # batches in a step


class Model(Network):
    """A network from its input tensors to its output tensors. Models made of the same layers share their parameters."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str = "model",
        *,
        latent: Tensor | None = None,
    ) -> None:
        super().__init__(inputs, outputs, name, latent=latent)
        self._engine: Engine | None = None
        self._compiled: Compiled | None = None
        self._encoder: Model | None = None
        self._decoder: Model | None = None
        self._host: Model | None = None  # runs where that one runs
        self._known_sizes: Sizes[Model] | None = None  # made when it is first asked for
        self._fitting = threading.Lock()
        self._job = loop.Job(([], []), 0, 0)
        self.batch_size, self.seed = 64, 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are models of their own: the network and its parameters, not compiled."""
        return _rebuilt, (type(self), self.config(), self.state_dict())

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
        distributed: bool | Options = False,
        shards: int = SHARDS,
        accumulate: int = 1,
    ) -> None:
        """Binds the model to a device, a kernel version, an optimiser and a loss.

        precision: "fp32" may use algorithms with fewer multiplications (Winograd), "fp32-exact" only sums of products; "tf32",
        "bf16" and "fp16" round the operands of convolutions and need a version with tensor cores. With the latter two the maps
        between convolutions are stored in 16 bits (gradients with "bf16" alone); weights, their gradients, sums and losses are
        float32, and so are all arrays that go in or come out.

        distributed: fit(), evaluate() and train_step() share each batch among the workers that a launcher has started (see
        warploom.distributed); every worker makes the same calls. A batch is cut into `shards`, whose gradients are added in one
        order: the bits depend on their number, and not on that of the workers. warploom.distributed.Options says more.

        accumulate: a step adds up the gradients of so many batches of batch_size: the gradient of one batch as large, up to
        rounding, in the memory of a small one. Batch norms take each small batch's statistics. For one worker: several have
        shards.

        Parameters that were neither trained nor loaded are drawn anew from the seed; others keep their values.
        """
        if self._fitting.locked():
            raise StateError("compile() was called while fit() runs: call it before or after")
        batch_size = arrays.positive(batch_size, "batch_size")
        seed = arrays.seed(seed)
        shards, accumulate = arrays.positive(shards, "shards"), arrays.positive(accumulate, "accumulate")
        if distributed and accumulate > 1:
            raise ArgumentError(
                "compile() takes distributed=True or accumulate, not both: workers add up the gradients of `shards` parts of a "
                "batch, so that a larger batch_size with more shards is the same"
            )
        world = init() if distributed else None
        choice = hardware.resolve(
            version, device if world is None else hardware.of_worker(device, world.local_rank), precision=precision
        )
        chosen = optim.get(optimizer)
        objective, names = losses.resolve(loss, self.output_names)
        targets = wanted_by(objective, names, [t.shape for t in self.outputs])  # before the core, which knows no names
        penalties = self.penalties()
        objective += losses.of_layers([(kind, weight) for _, kind, weight in penalties], len(self.outputs))
        self._compiled = None  # in case the next line raises
        make: Callable[..., Engine] = Engine
        if world is not None:
            told = distributed if isinstance(distributed, Options) else Options()
            if told.shard_optimizer and chosen.ema:
                raise ArgumentError(
                    "ema and shard_optimizer do not go together: a worker would show an average of a part of the weights; "
                    "leave one of them out"
                )
            make = partial(ShardedEngine, world=world, shards=shards, distribution=told)
        elif accumulate > 1:  # shards of a larger batch that one worker computes
            make = partial(ShardedEngine, world=World(Alone()), shards=accumulate)
        engine = self._bind(
            choice, make,
            further=[tensor for tensor, *_ in penalties], losses=objective, optimizer=chosen, seed=seed, batch_size=batch_size,
            redraw=True, precision=precision,
        )  # fmt: skip
        engine.loss_labels = losses.labels(objective, self.output_names)
        self.batch_size, self.seed = batch_size, seed
        self._compiled = Compiled(chosen, objective, targets, accumulate)

    def _bind(
        self, choice: hardware.Choice, make: Callable[..., Engine] = Engine, further: Sequence[Tensor] = (), **options: Any
    ) -> Engine:
        if self._engine is not None:
            self._engine.release()
            self._engine = None  # its memory is free before the next one is made
        self._engine = make(self.lowered(further), choice, **options)
        if self._engine.note:
            warnings.warn(self._engine.note, FallbackWarning, stacklevel=3)
        return self._engine

    @property
    def engine(self) -> Engine:
        """What runs the model: as compiled, else the default device, for inference."""
        if self._host is not None and self._compiled is None:  # an encoder follows its model
            own = self._host.engine
            where = own.device, own.version, own.precision
            if self._engine is None or (self._engine.device, self._engine.version, self._engine.precision) != where:
                self._bind(hardware.Choice(own.device, [own.version], ""), seed=self._host.seed, precision=own.precision)
        if self._engine is not None:
            return self._engine
        return self._bind(hardware.resolve(), seed=self.seed)

    def place(self, version: str = "auto", device: str = "auto", precision: str = "fp32") -> None:
        """Binds the model to a device and a kernel version for inference only; compile() binds it for training."""
        if self._fitting.locked():
            raise StateError("place() was called while fit() runs: call it before or after")
        choice = hardware.resolve(version, device, precision=precision)
        self._compiled = None
        self._bind(choice, seed=self.seed, precision=precision)

    @property
    def bound(self) -> bool:
        """Whether it has a device yet: by compile(), place() or its first use."""
        return self._engine is not None

    def resized(self, height: int, width: int) -> "Model":
        """The same layers, with the same parameters, on images of that size; it runs where this model runs.

        ArgumentError or GraphError names the layer that cannot take it."""
        made = super().resized(height, width)
        made.run_with(self)
        made.batch_size = self.batch_size
        return made

    def run_with(self, host: "Model") -> None:
        """Until it is compiled itself, this model runs on the other one's device, with its version."""
        self._host = host

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
    def losses(self) -> list[losses.Loss] | None:
        """The training objective, with what layers add to it; None before compile()."""
        return self._compiled.losses if self._compiled is not None else None

    @property
    def targets(self) -> list[Target]:
        """What the arrays of y must look like, in order; before compile(), one per output."""
        return self._compiled.targets if self._compiled is not None else targets_by_default(self)

    @property
    def target_names(self) -> list[str]:
        """The keys of a dictionary y, in the order of a list y."""
        return [target.name for target in self.targets]

    @property
    def progress(self) -> loop.Progress:
        """Where the last fit() stands, for fit(start=...)."""
        return self._job.progress

    @property
    def stop_training(self) -> bool:
        """Set by a callback or another thread, it ends fit() after the running batch."""
        return self._job.stop

    @stop_training.setter
    def stop_training(self, stop: bool) -> None:
        self._job.stop = stop

    def update_progress(self) -> None:
        """Inside fit(), or after it was stopped: brings `progress` up to date, so that it can be saved."""
        self._job.take(self.engine)

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
        batch_size: int | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        verbose: bool | None = None,
        start: loop.Progress | None = None,
    ) -> History:
        """Trains; y=None reconstructs x. validation_data: x or (x, y); validation_split: the share of the samples, the last ones,
        that is kept for it instead.

        Several inputs or targets: lists in order, or dictionaries by the names of inputs and of `target_names`.
        batch_size: None takes compile()'s. Progress is shown on a terminal, in a notebook and as plain lines elsewhere;
        verbose=False shows nothing. `start` goes on where an earlier fit stopped (`model.progress`); epochs counts from the very
        beginning. DivergedError when the loss or a weight becomes NaN or infinite: the weights are back at the last good epoch.
        """
        compiled = self._require_compiled("fit()")
        targets = compiled.targets
        if not isinstance(callbacks, Iterable):
            raise DTypeError(f"callbacks must be a list of warploom.callbacks.Callback objects, not {type(callbacks).__name__}")
        size = self._size(batch_size) * compiled.accumulate
        data = pairs(self, targets, x, y)
        warn_of_pixels(data[0])
        validation = None
        if validation_split:
            if validation_data is not None:
                raise ArgumentError("fit() takes validation_data or validation_split, not both")
            data, validation = split_off(data, validation_split)
        if validation_data is not None:
            paired = isinstance(validation_data, tuple) and len(validation_data) == 2
            test_x, test_y = validation_data if paired else (validation_data, None)
            validation = pairs(self, targets, test_x, test_y, "validation_data")
        listeners = [*callbacks, *console_progress(verbose)]
        loop.check_callbacks(listeners)
        if not self._fitting.acquire(blocking=False):
            raise StateError(f"model {self.name!r} is being trained already: wait until that fit() has ended, or train a copy")
        try:
            progress = loop.Progress() if start is None else replace(start)
            job = loop.Job(data, epochs, size, self.seed, validation, shuffle, progress)
            job.check()
            self._job = job
            for callback in listeners:
                callback.model = self
            return loop.fit(self.engine, job, listeners)
        finally:
            self._job.data, self._job.validation = ([], []), None  # the user's arrays are not kept
            self._fitting.release()

    def train_step(self, x: Arrays, y: Arrays | None = None) -> dict[str, float]:
        """One update on one batch of any size; the loss before it, and each loss times its weight where there are several."""
        targets = self._require_compiled("train_step()").targets
        return {"loss": self.engine.train_step(*batch(self, targets, x, y)), **self.engine.each_loss()}

    def gradients(self, x: Arrays, y: Arrays | None = None, *, training: bool = True) -> dict[str, Floats]:
        """The gradient of the loss by every trainable parameter on one batch; nothing is updated.

        training=False: with batch norms in evaluation mode, which use their running statistics.
        """
        targets = self._require_compiled("gradients()").targets
        return self.engine.gradients(*batch(self, targets, x, y), training=training)

    def evaluate(self, x: Arrays, y: Arrays | None = None, *, batch_size: int | None = None) -> dict[str, float]:
        """The mean loss over a data set, and each loss times its weight where there are several.

        A mean over batches, weighted by their samples: RMSE, Dice, and CrossEntropy with ignored labels or class weights,
        which are no means over elements, depend on the batch size.
        """
        compiled = self._require_compiled("evaluate()")
        data = pairs(self, compiled.targets, x, y)
        warn_of_pixels(data[0])
        size = self._size(batch_size) * compiled.accumulate  # of which the engine computes parts
        return loop.evaluate(self.engine, data, size)

    # Inference
    def predict(self, x: Arrays, *, batch_size: int | None = None, memory: int = MEMORY) -> Any:
        """The outputs for x: an array, or a list of arrays if the model has several outputs.

        x: images as NCHW, NHWC or NHW, or one image (CHW, HWC, HW, or of Pillow); outputs come in the same layout. A list of
        images, which may differ in size, gives a list. float32, or uint8 scaled by 1/255; float64, float16 and bool become
        float32. A network of convolutions takes any size: images are padded inside, outputs cropped; what would need more than
        `memory` bytes of activations is computed in tiles.

        For arrays on a GPU (PyTorch, CuPy, warploom.Array) the outputs are warploom.Arrays there; nothing is copied to the host.
        """
        given, groups = images_of(self, x, "x")
        warn_of_pixels(chain.from_iterable(groups), whole=True)
        results = [self._at_any_size(self, group, batch_size, memory) for group in groups]
        outputs = [given.back([r[i] for r in results]) for i in range(len(self.outputs))]
        return outputs[0] if len(outputs) == 1 else outputs

    def encode(self, x: Arrays, *, batch_size: int | None = None) -> Any:
        """The latent of x, in the latent's own shape; `.reshape(len(x), -1)` gives feature vectors. x: as predict() takes it; one
        image gives one latent. Images of another size give a latent of another size."""
        latent = self.require_latent()
        given, groups = images_of(self, x, "x")
        warn_of_pixels(chain.from_iterable(groups), whole=True)
        results = []
        for group in groups:
            if self._is_own(group):
                results.append(self._run(group, [latent], batch_size)[0])
            else:
                needed = {id(t) for t in self.encoder.inputs}
                used = [a for a, t in zip(group, self.inputs, strict=True) if id(t) in needed]
                results.append(self._at_any_size(self.encoder, used, batch_size, MEMORY)[0])
        return given.unbatched(results)

    def reconstruct(self, x: Arrays, *, batch_size: int | None = None, memory: int = MEMORY) -> Any:
        """x as the network gives it back, in x's own layout and size whatever they are. x: as predict() takes it.

        A network of a fixed size (with a Linear layer, say) goes over larger images in overlapping windows, which are blended.
        ArgumentError where the network does not give an image of its input's shape.
        """
        if len(self.inputs) != 1 or len(self.outputs) != 1 or self.inputs[0].shape != self.outputs[0].shape:
            shapes = [t.shape for t in self.inputs], [t.shape for t in self.outputs]
            raise ArgumentError(f"model {self.name!r} does not reconstruct its input: {shapes[0]} becomes {shapes[1]}")
        given, groups = images_of(self, x, "x")
        results = []
        for group in groups:
            if self._is_own(group) or len(self.inputs[0].shape) != 3 or self._sizes.steps is not None:
                results.append(self._at_any_size(self, group, batch_size, memory)[0])
            else:
                results.append(run_in_windows(self._sizes, Model._run_at, group[0], self._size(batch_size)))
        return given.back(results)

    def decode(self, z: Any, *, batch_size: int | None = None) -> Any:
        """What the network makes of latents z, in the latent's own shape or flat (N, k); one latent gives one output.

        GraphError where the outputs need more than the latent, as in a network with skips."""
        decoder = self.decoder
        value: Any = arrays.placed(z, "z")
        shape = decoder.inputs[0].shape
        if isinstance(value, np.ndarray) and value.shape[-1:] == (math.prod(shape),) and value.ndim < 3:
            value = value.reshape(*value.shape[:-1], *shape)
        one = isinstance(value, np.ndarray) and value.shape == shape
        results = decoder._run(inputs_of(decoder, value[None] if one else value, "z"), decoder.outputs, batch_size)
        results = [r[0] for r in results] if one else results
        return results[0] if len(results) == 1 else results

    def _is_own(self, inputs: list[Array]) -> bool:
        return all(a.shape[1:] == t.shape for a, t in zip(inputs, self.inputs, strict=True))

    def _at_any_size(self, network: "Model", inputs: list[Array], batch_size: int | None, memory: int) -> list[Floats]:
        """The outputs of this model or of its encoder."""
        if network._is_own(inputs):
            return network._run(inputs, network.outputs, batch_size)
        memory = arrays.positive(memory, "memory", maximum=1 << 62)
        return run_at_any_size(network._sizes, Model._run_at, network.engine, inputs, self._size(batch_size), memory)

    @property
    def _sizes(self) -> "Sizes[Model]":
        if self._known_sizes is None:
            self._known_sizes = Sizes(self)
        return self._known_sizes

    def _run_at(self, inputs: list[Array], batch_size: int) -> list[Floats]:
        return self._run(inputs, self.outputs, batch_size)

    def _size(self, batch_size: int | None) -> int:
        return self.batch_size if batch_size is None else arrays.positive(batch_size, "batch_size")

    def _run(self, inputs: list[Array], wanted: Sequence[Tensor], batch_size: int | None) -> list[Floats]:
        size = self._size(batch_size)
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

    @property
    def encoder(self) -> "Model":
        """The sub-network up to the latent; it shares this model's parameters and runs where this model runs."""
        if self._encoder is None:
            self._encoder = Model(self.inputs_of_latent(), self.require_latent(), name=f"{self.name}-encoder")
            self._encoder.run_with(self)
        self._encoder.batch_size = self.batch_size
        return self._encoder

    @property
    def decoder(self) -> "Model":
        """The sub-network from the latent to the outputs; it shares this model's parameters and runs where this model runs.

        GraphError where the outputs need more than the latent, as in a network with skips."""
        if self._decoder is None:
            try:
                self._decoder = Model(self.require_latent(), self.outputs, name=f"{self.name}-decoder")
            except GraphError as error:
                raise GraphError(f"model {self.name!r} has no decoder by itself: {error}") from None
            self._decoder.run_with(self)
        self._decoder.batch_size = self.batch_size
        return self._decoder

    # What explains the model. Each prints a table and returns it as an object whose rows can be read.
    def summary(self, *, formulas: bool = False) -> Summary:
        """The layers: shapes, parameters (formulas=True: how each count comes about), work, receptive fields, activations."""
        return Summary(self, formulas=formulas).print()

    def trace(self, x: Arrays) -> Trace:
        """Shape, range, mean and deviation of the values after every layer, in inference."""
        return Trace(self, self.engine, inputs_of(self, x, "x"), self.batch_size).print()

    def gradient_flow(self, x: Arrays, y: Arrays | None = None) -> GradientFlow:
        """The norm of every parameter's gradient, flagged where there is none, where it vanishes and where it is NaN."""
        return GradientFlow(self, self.gradients(x, y)).print()

    def bypass(self, x: Arrays, y: Any = None, *, output: int = 0) -> Bypass:
        """How much of an output comes through the skips and how much through the bottleneck: each is cut, and the PSNR compared.

        The target is y, else x where the output has its shape, else the whole network's own output.
        """
        return Bypass(self, self.engine, inputs_of(self, x, "x"), y, output=output, batch_size=self.batch_size).print()

    def plot(self, path: str | Path | None = None) -> Any:
        """Draws the network as a picture, .svg or .png. Without a path: the picture itself, which a notebook shows."""
        if path is None:
            return picture(self)
        plot(self, path)
        return None

    def memory(self, batch_size: int | None = None) -> dict[str, int]:
        """Bytes by category for a training step (of an uncompiled model: with MSE and SGD) before anything is allocated."""
        size = self._size(batch_size)
        return self._planned(size).memory(size)

    def explain(self, batch_size: int | None = None) -> list[dict[str, Any]]:
        """The steps of a training step in order: kernel entry, version, what was fused, what was refused and why."""
        size = self._size(batch_size)
        return self._planned(size).explain(size)

    def _planned(self, batch_size: int) -> Engine:
        return self.engine if self._compiled is not None else planned(self, hardware.resolve(), batch_size)

    # Parameters and files
    def state_dict(self) -> dict[str, Floats]:
        """Copies of all parameters under PyTorch's names and shapes."""
        if any(p.stamp == 0 for p in self.named_parameters().values()):
            _ = self.engine  # draws them
        return super().state_dict()

    def save(self, path: str | Path, *, dtype: str = "fp32") -> None:
        """Writes network and parameters to a .safetensors file that warploom.load() reads without further code.

        dtype: "fp16" or "bf16" rounds the parameters to that type, which halves the file. They are float32 again once loaded;
        DataError where one is too large for the type."""
        ending = Path(path).suffix.lower()
        if ending in _FOREIGN:
            raise ArgumentError(f"save() writes .safetensors files, not {ending} ({path}): name it {Path(path).stem}.safetensors")
        write_tensors(path, self.state_dict(), {"format": FORMAT, "graph": self.config()}, dtype=dtype)


def planned(
    network: Network,
    choice: hardware.Choice,
    batch_size: int,
    precision: str = "fp32",
    optimizer: optim.Optimizer | None = None,
    part: tuple[int, int] = (0, 1),
) -> Engine:
    """The plan of a training step with MSE (and SGD), for memory() and explain(): nothing is allocated."""
    return Engine(
        network.lowered(), choice, losses=losses.get("mse", len(network.outputs)), optimizer=optimizer or optim.SGD(),
        batch_size=batch_size, precision=precision, plan_only=True, part=part,
    )  # fmt: skip


def _rebuilt(kind: type[Model], config: dict[str, Any], state: Mapping[str, Array]) -> Model:
    model = kind.from_config(config)
    model.load_state_dict(state)
    return model
