"""`warploom train`: the run goes into a folder of its own, and can be stopped and resumed."""

import shlex
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, Any

import typer

from warploom import errors, metrics, models, optim
from warploom.cli.app import SEED, DeviceOption, PrecisionOption, VersionOption, app, shout
from warploom.data.tasks import TaskData
from warploom.ground import hardware
from warploom.ground.arrays import LARGEST
from warploom.model import Model
from warploom.optim.schedules import BY_NAME as SCHEDULES
from warploom.optim.schedules import Schedule
from warploom.runs.recipe import RunConfig, absolute, named, parse_arguments
from warploom.runs.run import Recorder, RunFolder, finish, prepare
from warploom.runs.scores import Scores


def _compile(model: Model, config: RunConfig) -> None:
    assert config.batch_size is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FallbackWarning)  # said by shout() instead
        model.compile(
            config.make_optimizer(), config.make_losses(), config.version, config.device, config.batch_size, config.seed,
            config.precision,
        )  # fmt: skip
    if model.engine.note:
        shout(model.engine.note)


def _number(name: str, text: str) -> Any:
    """An option that, left out, has the model's own value."""
    return typer.Option(name, help=f"{text} Default: the model's.", show_default=False)


@app.command()
def train(
    context: typer.Context,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = RunConfig.precision,
    model: Annotated[str, typer.Option("--model", help=f"One of: {', '.join(models.BY_NAME)}.")] = RunConfig.model,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Another recipe than the specification's, such as sharp: optimizer, schedule, batch, epochs and start of the "
            "weights. What is given beside it goes before it.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An argument of the model, such as size=96 or skips=true; again for more."
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            "--data", help="auto, cifar10, patches, a folder in the model's layout (docs/data.md), a .npy or .npz file."
        ),
    ] = RunConfig.data,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Folder with CIFAR-10, binary or Python layout.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, max=LARGEST, help="Passes over the training samples.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, max=LARGEST, help="Samples in a step.")] = None,
    lr: Annotated[float | None, _number("--lr", "Learning rate.")] = None,
    optimizer: Annotated[str | None, _number("--optimizer", f"One of: {', '.join(optim.BY_NAME)}.")] = None,
    momentum: Annotated[float | None, _number("--momentum", "Momentum of SGD and RMSprop.")] = None,
    weight_decay: Annotated[float | None, _number("--weight-decay", "Weight decay, as PyTorch's optimizers have it.")] = None,
    clip_norm: Annotated[float | None, _number("--clip-norm", "Largest norm of all gradients together; 0: off.")] = None,
    schedule: Annotated[
        str | None,
        _number(
            "--schedule", f"none, or one of {', '.join(SCHEDULES)}: cosine:warmup=2, or warmup:length=500+step:step_size=10."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Same seed, same bits.")] = RunConfig.seed,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N training and test samples.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder of the run; default runs/<model>-<time>.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Go on with the run in this folder.")] = None,
) -> int:
    """Train a model; the run goes into a folder of its own."""
    config = RunConfig(
        model=model, preset=preset, arguments=parse_arguments(settings or []), data=data,
        data_dir=None if data_dir is None else absolute(data_dir, "--data-dir"),
        epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, momentum=momentum, weight_decay=weight_decay,
        clip_norm=clip_norm, schedule=schedule, seed=seed, limit=limit, version=version, device=device,
        precision=precision,
    )  # fmt: skip
    if config.data not in ("auto", "cifar10", "patches"):
        config.data = absolute(config.data, "--data")
    if resume is not None:
        if out is not None:
            raise errors.ArgumentError("--out and --resume exclude each other: a resumed run stays in its folder")
        folder = RunFolder(named(resume, "--resume"))
        config = _resumed(folder, config, context)
    else:
        folder = RunFolder.fresh(out if out is None else named(out, "--out"), config.model)
    return _train(config, folder, resume=resume is not None)


_MAY_CHANGE = {"epochs", "device", "version", "data_dir"}  # when a run goes on


def _resumed(folder: RunFolder, asked: RunConfig, context: typer.Context) -> RunConfig:
    """The run's own configuration, with what was given on this command line and may change."""
    config = folder.read_config()
    for name in vars(asked):
        source = context.get_parameter_source({"arguments": "settings"}.get(name, name))
        if source is None or source.name != "COMMANDLINE" or getattr(asked, name) == getattr(config, name):
            continue
        if name not in _MAY_CHANGE:
            option = {"arguments": "--set"}.get(name, f"--{name.replace('_', '-')}")
            raise errors.ArgumentError(
                f"{option} cannot change when a run goes on (it has {getattr(config, name)}): leave it out"
            )
        setattr(config, name, getattr(asked, name))
    return config


def _train(config: RunConfig, folder: RunFolder, *, resume: bool) -> int:
    hardware.resolve(config.version, config.device, precision=config.precision)  # what cannot run is said before data are read
    hint = "" if resume else config.hint()
    config = config.resolve()
    schedule = config.make_schedule()
    model = config.make_model()
    if hint:
        print(hint)
    samples = config.load_data(model)
    for note in samples.notes:
        if note.startswith(("training on patches instead", "no --data given")):
            shout(note)
        else:
            print(note)
    assert config.batch_size is not None
    if config.batch_size > len(samples.train):
        raise errors.DataError(
            f"the batch size {config.batch_size} is larger than the data set of {len(samples.train)} images: use --batch-size "
            f"{len(samples.train)} or less"
        )
    _compile(model, config)
    with folder.held():
        return _run(config, folder, samples, model, schedule, resume=resume)


def _run(
    config: RunConfig, folder: RunFolder, samples: TaskData, model: Model, schedule: Schedule | None, *, resume: bool
) -> int:
    assert config.epochs is not None
    start = prepare(folder, config, samples, model, schedule, resume=resume)
    print(
        f"{config.model}: {model.count_parameters():,} parameters; {len(samples.train):,} training and {len(samples.test):,} "
        f"test samples; version {model.version} on {model.device}; run folder {folder.path}",
        flush=True,
    )
    if start.epoch or start.batch:
        print(f"going on after epoch {start.epoch}" + (f", batch {start.batch}" if start.batch else ""), flush=True)
    with _Signals(model) as signals:
        try:
            model.fit(
                samples.train.x,
                samples.train.y,
                epochs=config.epochs,
                validation_data=(samples.test.x, samples.test.y),
                callbacks=[*([schedule] if schedule is not None else []), Scores(model, samples), Recorder(folder, schedule)],
                verbose=True,
                start=start,
            )
        except errors.DivergedError:
            if folder.read_metrics():  # the files of the last good epoch stay; the pictures show it
                finish(folder, model, samples, config, schedule, diverged=True)
            raise
        if signals.received:
            model.settle()
        finish(folder, model, samples, config, schedule)
    _closing_words(folder, model)
    if signals.received:
        if model.progress.epoch < config.epochs:
            print(f"stopped; go on with: warploom train --resume {shlex.quote(str(folder.path))}", file=sys.stderr, flush=True)
        return 128 + signals.received
    return 0


def _closing_words(folder: RunFolder, model: Model) -> None:
    rows = folder.read_metrics()
    if rows:
        judged = metrics.text(rows[-1], "test_")
        print(f"test loss {rows[-1]['test_loss']:.6f}{f' ({judged})' if judged else ''} after epoch {rows[-1]['epoch']}")
        for label, value in rows[-1].get("test_losses", {}).items():
            print(f"  {label:<24} {value:.6f}")
    if model.engine.note:
        shout(model.engine.note)
    print(f"written to {folder.path}: {', '.join(sorted(p.name for p in folder.path.iterdir() if not p.name.startswith('.')))}")


class _Signals:
    """The first Ctrl-C (or SIGTERM) ends training after the running batch; the second ends the process at once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        self.model.stop_training = True
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        print("\nstopping after this batch and saving; once more stops at once", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
