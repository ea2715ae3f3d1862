"""What a training run was asked for; what is not said is the model's specification's: losses, optimizer, batch, schedule."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warploom import losses, models, optim
from warploom.data import tasks
from warploom.distributed.options import BUCKET_MB
from warploom.errors import ArgumentError, DTypeError
from warploom.ground.atomic import expanded
from warploom.ground.augmented import Changes, augmented
from warploom.model import Model
from warploom.models.saving import is_saved, load_model, objective_of
from warploom.optim import schedules

LOGS = ("tensorboard",)


@dataclass
class RunConfig:
    """With the same data, device and version a run gives the same bits. None: the model's default, filled in by resolve()."""

    model: str = "cifar10_autoencoder"
    preset: str | None = None  # one of models.presets(); None: the specification's recipe
    arguments: dict[str, Any] = field(default_factory=dict)  # of the model's function
    data: str = "auto"
    data_dir: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    ema: float | None = None  # decay of the weights' average
    flip: bool = False  # these four: what is done to the training images at random, as data.augmented() has it
    shift: int = 0
    noise: float = 0.0
    cutout: int = 0
    accumulate: int | None = None  # batches of batch_size whose gradients make one step
    schedule: str | None = None  # as schedules.parse() reads it, or "none"
    seed: int = 0
    limit: int | None = None
    version: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    fingerprint: str = ""  # of the training data, once loaded
    instructions: str = ""  # what the kernels were compiled for, once the run has begun: "same bits" holds within one such set
    limit_test: int | None = None
    skip_bad: bool = False
    patience: int | None = None
    keep_best: bool = False
    log: str | None = None  # one of LOGS: what else writes down the run's numbers
    shards: int | None = None  # of a batch, where several workers may share it; None: it is one call
    reduce: str = "same"  # "fast": the workers' gradients are added in MPI's, gloo's or NCCL's order
    shard_optimizer: bool = False  # among the workers
    bucket_mb: float = BUCKET_MB  # MiB of the gradient that workers send at a time, while backward goes on
    sync_batch_norm: bool = False  # batch norms take the statistics of the whole batch, not of a shard

    @property
    def title(self) -> str:
        """The model's name; of a file the file's, of a run's folder the folder's."""
        path = Path(self.model)
        if not is_saved(path):
            return self.model
        return path.parent.name if path.name == "model.safetensors" else path.stem

    @property
    def objective(self) -> models.Objective:
        """The specification's or the preset's; some arguments of a model change what it is trained for."""
        if is_saved(self.model):
            if self.preset is not None:
                raise ArgumentError(f"{self.model} is a trained model, which has no presets: leave out --preset")
            return objective_of(self.model)
        return models.objective(self.model, preset=self.preset, **self.arguments)

    @property
    def _presets(self) -> dict[str, models.Preset]:
        return {} if is_saved(self.model) else models.presets(self.model)

    def resolve(self) -> "RunConfig":
        """A copy in which nothing that training needs is None."""
        objective = self.objective
        preset = self._presets.get(self.preset or "", models.Preset("", {}))
        made = self.make_optimizer()
        schedule = self.schedule
        if schedule is None:
            schedule = _as_text(objective.schedule) if objective.schedule is not None else "none"
        return dataclasses.replace(
            self,
            arguments={**preset.arguments, **self.arguments},
            epochs=objective.epochs if self.epochs is None else self.epochs,
            batch_size=objective.batch_size if self.batch_size is None else self.batch_size,
            lr=made.lr,
            optimizer=made.kind,
            momentum=getattr(made, "momentum", 0.0),
            weight_decay=made.weight_decay,
            clip_norm=made.clip_norm,
            ema=made.ema,
            schedule=schedule,
        )

    def hint(self) -> str:
        """A sentence on the presets, where the model has some and the specification's recipe is what runs; else nothing."""
        found = self._presets
        if self.preset is not None or not found or self.optimizer is not None or self.lr is not None:
            return ""
        own = self.resolve()
        name, preset = next(iter(found.items()))
        return (
            f"training by the specification ({own.optimizer} {own.lr:g}, {own.epochs} epoch{'s' if own.epochs != 1 else ''}); "
            f"--preset {name}: {preset.about}"
        )

    def make_optimizer(self) -> optim.Optimizer:
        own, arguments = self.objective.optimizer
        name = self.optimizer if self.optimizer is not None else getattr(optim, own).kind
        kind = optim.BY_NAME.get(name)
        if kind is None:
            raise ArgumentError(f"unknown optimizer {name!r}; expected one of {', '.join(optim.BY_NAME)}")
        chosen: dict[str, Any] = dict(arguments) if kind is getattr(optim, own) else {}
        for key in ("lr", "momentum", "weight_decay", "clip_norm", "ema"):
            value = getattr(self, key)
            if value is None or (key == "momentum" and "momentum" not in kind.hyper and not value):
                continue
            if key == "momentum" and "momentum" not in kind.hyper:
                raise ArgumentError(f"optimizer {name} has no momentum")
            chosen[key] = value
        return kind(**chosen)

    def make_schedule(self) -> schedules.Schedule | None:
        return None if self.schedule in (None, "none") else schedules.parse(str(self.schedule))

    def make_losses(self) -> list[losses.Loss]:
        made: list[losses.Loss] = self.objective.make_losses()
        return made

    def make_model(self) -> Model:
        if is_saved(self.model):
            if self.arguments:
                raise ArgumentError(f"{self.model} has its size and its arguments already: leave out --size and --set")
            return load_model(self.model)
        try:
            return models.get(self.model, preset=self.preset, **_tuples(self.arguments))
        except TypeError as error:
            if isinstance(error, DTypeError):
                raise
            reason = str(error).split("() ", 1)[-1]
            raise ArgumentError(f"model {self.model}: {reason}; see --set in warploom train --help") from None

    @property
    def changes(self) -> Changes:
        """What is done to the training images at random."""
        return Changes(self.flip, self.shift, self.noise, self.cutout, self.seed)

    def check_changes(self, model: Model) -> None:
        """ArgumentError where they do not fit the model."""
        if not self.changes:
            return
        kind = self.objective.data
        if kind != "images":
            raise ArgumentError(
                f"--flip, --shift, --noise and --cutout are for models whose target is their input, and {self.title} is trained "
                f"on {kind}: leave them out"
            )
        Changes.checked(model.inputs[0].shape, **dataclasses.asdict(self.changes))

    def fed(self, samples: tasks.Samples) -> tuple[Any, Any]:
        """x and y for fit(): the samples, changed at random."""
        return augmented(samples.x[0], **dataclasses.asdict(self.changes)) if self.changes else (samples.x, samples.y)

    def load_data(self, model: Model) -> tasks.TaskData:
        objective = self.objective
        return tasks.load(
            objective.data, self.data, model.inputs[0].shape, targets=objective.targets, classes=model.outputs[0].shape[0],
            data_dir=self.data_dir, seed=self.seed, limit=self.limit, warp=bool(self.arguments.get("warp", True)),
            test_limit=self.limit_test, skip_bad=self.skip_bad,
        )  # fmt: skip


def _as_text(part: tuple[str, dict[str, Any]]) -> str:
    """A schedule of an objective as schedules.parse() reads it."""
    name = next(name for name, kind in schedules.BY_NAME.items() if kind.__name__ == part[0])
    values = (f"{k}={'/'.join(map(str, v)) if isinstance(v, (tuple, list)) else v}" for k, v in part[1].items())
    return f"{name}:{','.join(values)}" if part[1] else name


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def parse_arguments(items: list[str]) -> dict[str, Any]:
    """KEY=VALUE of the command line: true, false, none, numbers, and several of them as 96x128 or 64,128,256."""
    arguments: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not key.isidentifier():
            raise ArgumentError(f"--set {item!r} is no KEY=VALUE, such as size=96")
        arguments[key] = _value(text)
    return arguments


def parse_size(text: str) -> int | list[int]:
    """--size of the command line: 96, or 96x128 for height and width."""
    value = _value(text)
    sides = value if isinstance(value, list) else [value]
    if len(sides) > 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ArgumentError(
            f"--size {text!r} is no side of an image: expected a number such as 96, or 96x128 for height and width"
        )
    return value if isinstance(value, list) else int(value)


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text == "none":
        return None
    parts = text.replace(",", "x").split("x") if text[:1].isdigit() else [text]
    values: list[Any] = []
    for part in parts:
        try:
            values.append(float(part) if "." in part or "e" in part else int(part))
        except ValueError:
            return text
    return values[0] if len(values) == 1 else values


def named(path: str, option: str) -> str:
    """The path; an empty one, as an unset variable of the shell gives, would mean the working folder."""
    if not path:
        raise ArgumentError(f"{option} is empty; expected a path")
    return path


def absolute(path: str, option: str) -> str:
    return str(expanded(named(path, option)).absolute())
