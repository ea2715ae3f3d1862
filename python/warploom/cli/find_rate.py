"""`warploom train --find-lr`, and the steps that it shares with a training."""

import warnings
from collections.abc import Callable
from pathlib import Path

from warploom import errors
from warploom.callbacks import Callback, Logs
from warploom.cli.app import say, warn_loudly
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.data.tasks import TaskData
from warploom.distributed.options import Options
from warploom.ground.atomic import expanded
from warploom.model import Model
from warploom.runs.lr_finder import lr_finder
from warploom.runs.recipe import RunConfig


def compile_as_asked(model: Model, config: RunConfig) -> None:
    assert config.batch_size is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FallbackWarning)  # said by warn_loudly() instead
        model.compile(
            config.make_optimizer(), config.make_losses(), config.version, config.device, config.batch_size, config.seed,
            config.precision,
            distributed=config.shards is not None and Options(
                config.reduce, config.shard_optimizer, config.bucket_mb, config.sync_batch_norm
            ),
            shards=config.shards or 1, accumulate=config.accumulate or 1,
        )  # fmt: skip
    if model.engine.note:
        warn_loudly(model.engine.note)


def say_notes(samples: TaskData) -> None:
    for note in samples.notes:
        if note.startswith(("training on patches instead", "no --data given")):
            warn_loudly(note)
        else:
            say(visible(note))


class _Each(Callback):
    """Says how many steps are done."""

    def __init__(self, shown: Callable[[int], None]) -> None:
        self.shown, self.done = shown, 0

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self.done += 1
        self.shown(self.done)


def find_rate(config: RunConfig, folder: Path) -> int:
    config = config.resolve()
    model = config.make_model()
    config.check_changes(model)
    samples = config.load_data(model)
    compile_as_asked(model, config)
    say_notes(samples)
    steps = 100
    with Progress() as shown:
        each = _Each(shown.counting("trying learning rates", steps))
        found = lr_finder(model, *config.fed(samples.train), steps=steps, callbacks=[each])
    path = expanded(folder) / "lr.png"
    found.plot(path)
    print(f"suggested: --lr {found.suggestion:.2g} (the model's is {config.lr:g}); {len(found.lrs)} steps drawn in {path}")
    return 0
