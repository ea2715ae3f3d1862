"""The command line. Errors a user can do something about are one sentence on stderr and exit code 2."""

import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from warploom import data as data_sources
from warploom import errors, hardware, models, optim, training
from warploom.model import Model
from warploom.run import Recorder, RunConfig, RunFolder, finish, prepare

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Convolutional autoencoders on hand-written CUDA kernels, on the CPU, and on an emulated GPU.",
)

VersionOption = Annotated[
    str, typer.Option("--version", help="Kernel version: auto, cpu, v1, v2, ... (see `warploom versions`).")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, emulated or emulated:checked.")]
ModelArgument = Annotated[str, typer.Argument(help="A model's name, or a .safetensors file of one.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images in a step.")]


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    try:
        result = app(args=arguments, prog_name="warploom", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except errors.USER_ERRORS as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"the host ran out of memory ({error or 'no details'}); use a smaller --batch-size or --limit")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `warploom ... | head`
        return 141
    except Exception as error:
        if type(error).__name__ == "Abort":
            return _fail("interrupted", 130)
        if isinstance(getattr(error, "exit_code", None), int) and type(error).__name__ == "Exit":
            return int(error.exit_code)  # type: ignore[attr-defined]
        if hasattr(error, "format_message"):  # typer's usage errors, whichever click they come from
            text = str(error.format_message())
            if text:
                return _fail(f"{text.rstrip('.')}; see warploom --help")
            return 2
        raise


def run() -> None:
    """The `warploom` command."""
    sys.exit(main())


def _fail(message: str, code: int = 2) -> int:
    sys.stdout.flush()
    print(f"warploom: {'error: ' if code == 2 else ''}{message}", file=sys.stderr, flush=True)
    return code


def shout(note: str) -> None:
    """A line nobody misses, on stderr."""
    text = f"WARNING: {note}"
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.panel import Panel

        Console(stderr=True).print(Panel(text, style="bold yellow"), highlight=False)
        return
    print("!" * 100, text, "!" * 100, sep="\n", file=sys.stderr, flush=True)


def _compile(model: Model, config: RunConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FallbackWarning)  # said by shout() instead
        model.compile(config.make_optimizer(), "mse", config.version, config.device, config.batch_size, config.seed)
    if model.engine.note:
        shout(model.engine.note)


@app.command()
def train(
    context: typer.Context,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    model: Annotated[str, typer.Option("--model", help=f"One of: {', '.join(models.BY_NAME)}.")] = RunConfig.model,
    data: Annotated[
        str, typer.Option("--data", help="auto, cifar10, patches, a folder of images, or a .npy or .npz file.")
    ] = RunConfig.data,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Folder with CIFAR-10, binary or Python layout.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training images.")] = RunConfig.epochs,
    batch_size: BatchOption = RunConfig.batch_size,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = RunConfig.lr,
    optimizer: Annotated[str, typer.Option("--optimizer", help=f"One of: {', '.join(optim.BY_NAME)}.")] = RunConfig.optimizer,
    momentum: Annotated[float, typer.Option("--momentum", help="Momentum of SGD.")] = RunConfig.momentum,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bits.")] = RunConfig.seed,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N training and test images.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default runs/<model>-<time>.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with the run in this folder.")] = None,
) -> int:
    """Train a model; the run goes into a folder of its own."""
    config = RunConfig(
        model=model, data=data, data_dir=str(Path(data_dir).expanduser().absolute()) if data_dir else None, epochs=epochs,
        batch_size=batch_size, lr=lr, optimizer=optimizer, momentum=momentum, seed=seed, limit=limit, version=version,
        device=device,
    )  # fmt: skip
    if config.data not in ("auto", "cifar10", "patches"):
        config.data = str(Path(config.data).expanduser().absolute())
    if resume is not None:
        if out is not None:
            raise errors.ArgumentError("--out and --resume exclude each other: a resumed run stays in its folder")
        folder = RunFolder(resume)
        config = _resumed(folder, config, context)
    else:
        folder = RunFolder.fresh(out, config.model)
    return _train(config, folder, resume=resume is not None)


_MAY_CHANGE = {"epochs", "device", "version", "data_dir"}  # when a run goes on


def _resumed(folder: RunFolder, asked: RunConfig, context: typer.Context) -> RunConfig:
    """The run's own configuration, with what was given on this command line and may change."""
    config = folder.read_config()
    for name in vars(asked):
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or getattr(asked, name) == getattr(config, name):
            continue
        if name not in _MAY_CHANGE:
            option = f"--{name.replace('_', '-')}"
            raise errors.ArgumentError(
                f"{option} cannot change when a run goes on (it has {getattr(config, name)}): leave it out"
            )
        setattr(config, name, getattr(asked, name))
    return config


def _train(config: RunConfig, folder: RunFolder, *, resume: bool) -> int:
    hardware.resolve(config.version, config.device)  # what cannot run is said before data are read
    config.make_optimizer()
    model = config.make_model()
    images = data_sources.load(config.data, data_dir=config.data_dir, shape=model.inputs[0].shape, seed=config.seed)
    images = images.limited(config.limit)
    for note in images.notes:
        if note.startswith("training on patches instead"):
            shout(note)
        else:
            print(note)
    if config.batch_size > len(images.train):
        raise errors.DataError(
            f"the batch size {config.batch_size} is larger than the data set of {len(images.train)} images: use --batch-size "
            f"{len(images.train)} or less"
        )
    _compile(model, config)
    start = prepare(folder, config, images, model, resume=resume)
    print(
        f"{config.model}: {model.count_parameters():,} parameters; {len(images.train):,} training and {len(images.test):,} test "
        f"images; version {model.version} on {model.device}; run folder {folder.path}",
        flush=True,
    )
    if start.epoch or start.batch:
        print(f"going on after epoch {start.epoch}" + (f", batch {start.batch}" if start.batch else ""), flush=True)
    with _Signals(model) as signals:
        try:
            model.fit(
                images.train,
                epochs=config.epochs,
                validation_data=images.test,
                callbacks=[Recorder(folder)],
                verbose=True,
                start=start,
            )
        except errors.DivergedError:
            if folder.read_metrics():  # the files of the last good epoch stay; the pictures show it
                finish(folder, model, images, config, diverged=True)
            raise
        if signals.received:
            training.settle(model)
        finish(folder, model, images, config)
    _closing_words(folder, model)
    if signals.received:
        print(f"stopped; go on with: warploom train --resume {folder.path}", file=sys.stderr, flush=True)
        return 128 + signals.received
    return 0


def _closing_words(folder: RunFolder, model: Model) -> None:
    from warploom.plots import psnr

    rows = folder.read_metrics()
    if rows:
        loss = rows[-1]["test_loss"]
        print(f"test loss {loss:.6f} ({psnr(loss):.2f} dB) after epoch {rows[-1]['epoch']}")
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
