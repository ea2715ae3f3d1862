"""`warploom train`: the run goes into a folder of its own, and can be stopped and resumed. Long because of its many options."""

import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from warploom import errors, models, optim, recipes
from warploom.callbacks import Callback, TensorBoard
from warploom.cli.app import SEED, DeviceOption, PrecisionOption, VersionOption, app, given, say, warn_loudly
from warploom.cli.closing import already_finished, say_end
from warploom.cli.config_file import arguments_of, from_file
from warploom.cli.find_rate import compile_as_asked, find_rate, say_notes
from warploom.cli.learn import learn
from warploom.cli.plain import visible
from warploom.cli.words import TRAIN, complete_from, complete_models, whole
from warploom.data.tasks import TaskData
from warploom.distributed.engine import SHARDS, ShardedEngine
from warploom.distributed.groups import Alone
from warploom.distributed.launch import start as start_workers
from warploom.distributed.options import BUCKET_MB, REDUCE, Options
from warploom.distributed.world import World, init, launched
from warploom.ground import hardware
from warploom.ground.atomic import expanded
from warploom.ground.optional import needed
from warploom.model import Model
from warploom.models.saving import is_saved
from warploom.optim.schedules import BY_NAME as SCHEDULES
from warploom.optim.schedules import Schedule
from warploom.runs.guards import Patience, make_guards
from warploom.runs.recipe import LOGS, RunConfig, absolute, named, parse_arguments, parse_size
from warploom.runs.run import Recorder, RunFolder, finish, prepare
from warploom.runs.scores import Scores
from warploom.train.loop import Progress

_MODEL, _DATA, _OPTIMISATION, _RUN = "Model", "Data", "Optimisation", "Run"  # panels of --help


def _option(panel: str, *names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def _number(name: str, text: str, metavar: str = "X", **more: Any) -> Any:
    """An option that, left out, has the model's own value."""
    return _option(_OPTIMISATION, name, help=f"{text} Default: the model's.", show_default=False, metavar=metavar, **more)


@app.command(rich_help_panel=TRAIN)
def train(
    context: typer.Context,
    model: Annotated[
        str,
        _option(
            _MODEL,
            "--model",
            metavar="MODEL",
            autocompletion=complete_models,
            help="A model's name (see `warploom models`); to train one further its .safetensors file or its run's folder.",
        ),
    ] = RunConfig.model,
    preset: Annotated[
        str | None,
        _option(
            _MODEL,
            "--preset",
            metavar="NAME",
            autocompletion=complete_from(dict.fromkeys(preset for name in models.NAMES for preset in models.presets(name))),
            help="Another recipe than the specification's (optimizer, schedule, batch, epochs, start of the weights): sharp for "
            "cifar10_autoencoder, quick for the others. What is given beside it goes before it.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        _option(
            _MODEL,
            "--recipe",
            metavar="NAME",
            autocompletion=complete_from(recipes.BY_NAME),
            help="Learn a network of features without labels instead (see `warploom recipes`).",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None, _option(_MODEL, "--size", metavar="N", help="Side of the images, or HxW. Default: the model's.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        _option(
            _MODEL,
            "--set",
            metavar="KEY=VALUE",
            help="An argument of the model, such as skips=true; again for more. `warploom models` lists them.",
        ),
    ] = None,
    data: Annotated[
        str,
        _option(
            _DATA,
            "--data",
            metavar="DATA",
            help="auto, cifar10, patches, a folder in the model's layout (docs/data.md), a .npy or .npz file.",
        ),
    ] = RunConfig.data,
    data_dir: Annotated[
        str | None, _option(_DATA, "--data-dir", metavar="FOLDER", help="Where CIFAR-10 is, in binary or Python layout.")
    ] = None,
    limit: Annotated[
        int | None,
        _option(
            _DATA,
            "--limit",
            metavar="N",
            callback=whole(),
            help="Only the first N training samples, and no more for testing.",
        ),
    ] = None,
    limit_test: Annotated[
        int | None, _option(_DATA, "--limit-test", metavar="N", callback=whole(), help="Only the first N test samples.")
    ] = None,
    skip_bad: Annotated[bool, _option(_DATA, "--skip-bad", help="Leave out image files that cannot be read.")] = False,
    flip: Annotated[
        bool, _option(_DATA, "--flip", help="In training, flip images left to right at random, anew in every epoch.")
    ] = False,
    shift: Annotated[
        int,
        _option(
            _DATA, "--shift", metavar="K", callback=whole(0), help="And shift them by up to K pixels, mirrored at the edges."
        ),
    ] = 0,
    noise: Annotated[
        float,
        _option(_DATA, "--noise", metavar="X", help="And add Gaussian noise to the inputs: its deviation, such as 0.1."),
    ] = 0.0,
    cutout: Annotated[
        int,
        _option(_DATA, "--cutout", metavar="K", callback=whole(0), help="And cut a square of K pixels out of the inputs."),
    ] = 0,
    epochs: Annotated[int | None, _number("--epochs", "Passes over the training samples.", "N", callback=whole())] = None,
    batch_size: Annotated[int | None, _number("--batch-size", "Samples in a step.", "N", callback=whole())] = None,
    optimizer: Annotated[
        str | None,
        _number("--optimizer", f"One of: {', '.join(optim.BY_NAME)}.", "NAME", autocompletion=complete_from(optim.BY_NAME)),
    ] = None,
    lr: Annotated[float | None, _number("--lr", "Learning rate.")] = None,
    momentum: Annotated[float | None, _number("--momentum", "Momentum of SGD and RMSprop.")] = None,
    weight_decay: Annotated[float | None, _number("--weight-decay", "Weight decay, as PyTorch's optimizers have it.")] = None,
    clip_norm: Annotated[float | None, _number("--clip-norm", "Largest norm of all gradients together; 0: off.")] = None,
    find_lr: Annotated[
        bool,
        _option(
            _OPTIMISATION,
            "--find-lr",
            help="Train no further than to find a learning rate: says one, and draws lr.png (into --out, if given).",
        ),
    ] = False,
    ema: Annotated[
        float | None,
        _number("--ema", "Decay of a moving average of the weights, such as 0.999, which is evaluated and saved; 0: off."),
    ] = None,
    accumulate: Annotated[
        int | None,
        _option(
            _OPTIMISATION,
            "--accumulate",
            metavar="N",
            callback=whole(),
            help="Add up the gradients of N batches for one step: as N times --batch-size, in the memory of one.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        _number(
            "--schedule",
            f"none, or {', '.join(SCHEDULES)}, with arguments: cosine:warmup=2; several joined: "
            "warmup:length=500+step:step_size=10.",
            "NAME",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        _option(
            _OPTIMISATION,
            "--patience",
            metavar="N",
            callback=whole(),
            help="Stop when the test loss has not fallen for N epochs.",
        ),
    ] = None,
    seed: Annotated[int, _option(_OPTIMISATION, "--seed", help="Same seed, same bits.", **SEED)] = RunConfig.seed,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = RunConfig.precision,
    workers: Annotated[
        int | None,
        _option(
            _RUN,
            "--workers",
            metavar="N",
            callback=whole(),
            help="Share every batch among N processes of this machine, which mpirun starts (docs/distributed.md).",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        _option(
            _RUN,
            "--shards",
            metavar="N",
            callback=whole(),
            help="Parts of a batch that workers share; same number, same bits on any number of workers. Default with several "
            f"workers: {SHARDS}.",
        ),
    ] = None,
    reduce: Annotated[
        str,
        _option(
            _RUN,
            "--reduce",
            metavar="|".join(REDUCE),
            help="How workers add their gradients: the same bits for any number of workers, or fast, in MPI's or NCCL's order.",
        ),
    ] = "same",
    shard_optimizer: Annotated[
        bool, _option(_RUN, "--shard-optimizer", help="Each worker keeps the optimizer's state of its part alone; same bits.")
    ] = False,
    bucket_mb: Annotated[
        float,
        _option(
            _RUN,
            "--bucket-mb",
            metavar="N",
            help="MiB of the gradient that workers send at a time, while backward goes on; 0: all.",
        ),
    ] = BUCKET_MB,
    sync_batch_norm: Annotated[
        bool,
        _option(
            _RUN,
            "--sync-batch-norm",
            help="Batch norms take the statistics of the whole batch, not of each shard; all shards of a worker are in memory.",
        ),
    ] = False,
    out: Annotated[
        str | None, _option(_RUN, "--out", metavar="FOLDER", help="Folder of the run; default runs/<model>-<time>.")
    ] = None,
    keep_best: Annotated[
        bool,
        _option(_RUN, "--keep-best", help="Also keep the weights of the best epoch (best.safetensors)."),
    ] = False,
    log: Annotated[
        str | None,
        _option(
            _RUN,
            "--log",
            metavar="NAME",
            autocompletion=complete_from(LOGS),
            help=f"Also write the run's numbers and pictures for: {', '.join(LOGS)} (into the run's folder).",
        ),
    ] = None,
    resume: Annotated[str | None, _option(_RUN, "--resume", metavar="FOLDER", help="Go on with the run in this folder.")] = None,
    config_file: Annotated[
        str | None,
        _option(
            _RUN,
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=from_file("config_file", "resume", "settings"),
            help="Options from a TOML or YAML file, or from the config.json of a run; what the command line says goes before it.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Train a model; the run goes into a folder of its own."""
    place = launched()
    if workers is not None and place is None:
        return start_workers(workers, _without(given, "--workers"))
    if place is not None and workers not in (None, place.size):
        raise errors.ArgumentError(f"--workers {workers} under {place.launcher}, which started {place.size}: leave it out")
    world = World(Alone()) if place is None else init()
    if not world.is_main:  # rank 0 talks for all
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if accumulate is not None and (place is not None or shards is not None):
        raise errors.ArgumentError(
            "--accumulate is for one worker: several add up the gradients of --shards parts of a batch; give them a "
            "larger --batch-size and more --shards instead"
        )
    if place is not None and shards is None:
        shards = SHARDS
    if resume is None:
        _shared(shards, reduce, shard_optimizer, bucket_mb, sync_batch_norm)
    if config_file is not None and resume is not None:
        raise errors.ArgumentError("--config and --resume exclude each other: a run goes on with the options that it began with")
    arguments = arguments_of(context) | parse_arguments(settings or [])
    if size is not None:
        arguments["size"] = parse_size(size)
    config = RunConfig(
        model=str(expanded(model).absolute()) if is_saved(expanded(model)) else model, preset=preset, arguments=arguments,
        data=data,
        data_dir=None if data_dir is None else absolute(data_dir, "--data-dir"),
        epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, momentum=momentum, weight_decay=weight_decay,
        clip_norm=clip_norm, ema=ema, accumulate=accumulate, schedule=schedule, seed=seed, limit=limit, version=version,
        device=device, precision=precision, limit_test=limit_test, skip_bad=skip_bad, patience=patience, keep_best=keep_best,
        shards=shards, reduce=reduce, shard_optimizer=shard_optimizer, bucket_mb=bucket_mb,
        sync_batch_norm=sync_batch_norm, log=log, flip=flip, shift=shift, noise=noise, cutout=cutout,
    )  # fmt: skip
    if config.data not in ("auto", "cifar10", "patches"):
        config.data = absolute(config.data, "--data")
    if log is not None:
        if log not in LOGS:
            raise errors.ArgumentError(f"--log {log!r} is not known; expected {' or '.join(LOGS)}")
        needed("tensorboardX", "tensorboardX", f"--log {log}")
    if recipe is not None:
        if world.size > 1:
            raise errors.ArgumentError("--recipe learns on one worker: leave out --workers and mpirun")
        return learn(recipe, config, None if out is None else named(out, "--out"), _given(context))
    if find_lr:
        if world.size > 1 or resume is not None:
            raise errors.ArgumentError("--find-lr is for the start of a training by one worker: leave out --resume and --workers")
        return find_rate(config, Path("." if out is None else named(out, "--out")))
    if resume is not None:
        if out is not None:
            raise errors.ArgumentError("--out and --resume exclude each other: a resumed run stays in its folder")
        folder = RunFolder(named(resume, "--resume"))
        asked = config
        config = world.on_main(lambda: _resumed(folder, asked, context))
        if config.shards is None and place is not None:
            raise errors.ArgumentError(
                f"{folder.path} was begun by one worker without shards, and several would change its bits: go on with one worker"
            )
    elif world.is_main:
        folder = RunFolder.fresh(out if out is None else named(out, "--out"), config.title)
    else:
        folder = RunFolder(os.devnull)  # rank 0 writes for all
    return _train(config, folder, world, resume=resume is not None)


def _shared(shards: int | None, reduce: str, shard_optimizer: bool, bucket_mb: float, sync_batch_norm: bool) -> None:
    """ArgumentError where an option for several workers has none to act on."""
    Options(reduce, shard_optimizer, bucket_mb, sync_batch_norm)
    given = {f"--reduce {reduce}": reduce != "same", f"--bucket-mb {bucket_mb:g}": bucket_mb != BUCKET_MB}
    given |= {"--shard-optimizer": shard_optimizer, "--sync-batch-norm": sync_batch_norm}
    for option in [name for name, is_given in given.items() if is_given and shards is None]:
        raise errors.ArgumentError(f"{option} is for several workers: add --workers N, or --shards N to begin with one")


def _without(arguments: list[str], option: str) -> list[str]:
    """The command line without an option and its value."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != option and not argument.startswith(f"{option}="):
            kept.append(argument)
        skip = not skip and argument == option
    return kept


def _given(context: typer.Context) -> list[str]:
    """The options on the command line, by their arguments' names."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


_MAY_CHANGE = {  # when a run goes on
    "epochs", "device", "version", "data_dir", "patience", "keep_best", "shard_optimizer", "bucket_mb", "log",
}  # fmt: skip


def _resumed(folder: RunFolder, asked: RunConfig, context: typer.Context) -> RunConfig:
    """The run's own configuration, with what was given on this command line and may change."""
    config = folder.read_config()
    if is_saved(config.model) and not Path(config.model).exists() and folder.model_path.is_file():
        config.model = str(folder.model_path)  # the file it began with is gone; the network is the same
    for name in vars(asked):
        sources = [context.get_parameter_source(n) for n in (("settings", "size") if name == "arguments" else (name,))]
        given = any(source is not None and source.name == "COMMANDLINE" for source in sources)
        if not given or getattr(asked, name) == getattr(config, name):
            continue
        if name not in _MAY_CHANGE:
            option = {"arguments": "--set or --size"}.get(name, f"--{name.replace('_', '-')}")
            raise errors.ArgumentError(
                f"{option} cannot change when a run goes on (it has {getattr(config, name)}): leave it out"
            )
        setattr(config, name, getattr(asked, name))
    return config


def _train(config: RunConfig, folder: RunFolder, world: World, *, resume: bool) -> int:
    hardware.resolve(config.version, config.device, precision=config.precision)  # what cannot run is said before data are read
    hint = "" if resume else config.hint()
    config = config.resolve()
    schedule = config.make_schedule()
    model = config.make_model()
    config.check_changes(model)
    if hint:
        say(hint)
    for turn in (True, False):  # before anything is allocated; the first worker of a host alone may download
        if (world.local_rank == 0) is turn:
            samples = config.load_data(model)
        world.group.exchange(None)
    say_notes(samples)
    if config.changes:
        say(f"training with {config.changes}, anew in every epoch")
    assert config.batch_size is not None
    compile_as_asked(model, config)
    with folder.held() if world.is_main else contextlib.nullcontext():
        return _run(config, folder, samples, model, schedule, world, resume=resume)


def _run(
    config: RunConfig,
    folder: RunFolder,
    samples: TaskData,
    model: Model,
    schedule: Schedule | None,
    world: World,
    *,
    resume: bool,
) -> int:
    assert config.epochs is not None

    def begin() -> tuple[Progress, Any]:
        start = prepare(folder, config, samples, model, schedule, resume=resume)
        return start, None if schedule is None else schedule.state()

    start, state = world.on_main(begin)  # weights and optimizer state are given to all by fit()
    if schedule is not None and not world.is_main:
        schedule.load_state(state)
    say(
        f"{config.title}: {model.count_parameters():,} parameters; {len(samples.train):,} training and {len(samples.test):,} "
        f"test samples; {hardware.place(model.version, model.device)}; run folder {visible(str(folder.path))}"
    )
    if config.shards is not None:
        _say_workers(world, model, config.shards)
    if config.sync_batch_norm:
        met = "batch norms take the statistics of the whole batch" if model.engine.has_meetings else "there is no batch norm"
        say(f"--sync-batch-norm: {met}")
    for note in folder.notes:
        warn_loudly(note)
    guards = make_guards(folder, config) if world.is_main else []
    exhausted = any(isinstance(guard, Patience) and guard.exhausted() for guard in guards)
    if world.on_main(lambda: start.epoch >= (config.epochs or 0) or exhausted):
        return already_finished(folder, model, samples, config, start) if world.is_main else 0
    if start.epoch or start.batch:
        print(f"going on after epoch {start.epoch}" + (f", batch {start.batch}" if start.batch else ""), flush=True)
    world.hint(f"go on with: warploom train --resume {shlex.quote(str(folder.path))}")
    main_only = []
    if world.is_main:
        main_only = [Scores(model, samples), *guards, Recorder(folder, schedule), *_loggers(config, folder, samples)]
    with _Signals(model) as signals:
        try:
            model.fit(
                *config.fed(samples.train),
                epochs=config.epochs,
                validation_data=(samples.test.x, samples.test.y),
                callbacks=[*([schedule] if schedule else []), *main_only],
                verbose=world.is_main,
                start=start,
            )
        except errors.DivergedError:
            if world.is_main and folder.read_metrics():  # the files of the last good epoch stay; the pictures show it
                finish(folder, model, samples, config, schedule, diverged=True)
            raise
        received: int = max(world.group.exchange(signals.received))
        if received:
            model.update_progress()
        if world.is_main:
            finish(folder, model, samples, config, schedule)
    if world.is_main:
        say_end(folder, model, guards)
    if received:
        if model.progress.epoch < config.epochs:
            print(f"stopped; go on with: warploom train --resume {shlex.quote(str(folder.path))}", file=sys.stderr, flush=True)
        return 128 + received
    return 0


def _loggers(config: RunConfig, folder: RunFolder, samples: TaskData) -> list[Callback]:
    """What --log asks for."""
    if config.log is None:
        return []
    asked = {name: value for name, value in vars(config).items() if value is not None and name not in ("epochs", "batch_size")}
    images = samples.test.x[0][:8] if len(samples.test.x) == 1 and len(samples.test) else None
    return [TensorBoard(folder.path / "tensorboard", images, asked)]


def _say_workers(world: World, model: Model, shards: int) -> None:
    places = world.group.exchange(f"{world.name(world.rank)}: {model.device}")
    threads = (
        f", {os.environ['WARPLOOM_THREADS']} threads each" if "WARPLOOM_THREADS" in os.environ and model.device == "cpu" else ""
    )
    count = f"{world.size} worker{'s' if world.size > 1 else ''}"
    say(f"{count}{threads}, through {world.group.engine}; {shards} shards of a batch ({'; '.join(places)})")
    if isinstance(model.engine, ShardedEngine) and model.engine.carrier:
        say(model.engine.carrier)


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
