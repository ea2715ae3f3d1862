"""What `warploom train` says when a run is at its end."""

import sys

from warploom import metrics
from warploom.cli.app import say
from warploom.cli.plain import visible
from warploom.data.tasks import TaskData
from warploom.ground import hardware
from warploom.model import Model
from warploom.runs.guards import Best, Patience
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder, complete
from warploom.train.loop import Progress


def say_end(folder: RunFolder, model: Model, guards: list[Best | Patience]) -> None:
    _closing_words(folder, model)
    for guard in guards:
        if isinstance(guard, Best):
            print(f"the best epoch was {guard.epoch} (test loss {guard.best:.6f}): {folder.path / Best.FILE}")
        elif guard.stopped_epoch is not None:
            print(f"stopped early: the test loss was lowest after epoch {guard.best_epoch + 1}")


def already_finished(folder: RunFolder, model: Model, samples: TaskData, config: RunConfig, start: Progress) -> int:
    """Nothing is left to train: what a kill has kept it from writing is written. 0, so that a loop until success ends."""
    done = f"has finished its {start.epoch} epochs; pass --epochs with a larger number to go on"
    if start.epoch < (config.epochs or 0):
        done = f"was stopped early after {start.epoch} epochs, since the test loss no longer fell"
    if complete(folder, model, samples, config, start):
        done += " (it had been killed before its last files were written; they are there now)"
    say(f"{visible(str(folder.path))} {done}")
    return 0


def _closing_words(folder: RunFolder, model: Model) -> None:
    rows = folder.read_metrics()
    if rows:
        judged = metrics.text(rows[-1], "test_")
        print(f"test loss {rows[-1]['test_loss']:.6f}{f' ({judged})' if judged else ''} after epoch {rows[-1]['epoch']}")
        for label, value in rows[-1].get("test_losses", {}).items():
            print(f"  {label:<24} {value:.6f}")
    if model.device == "emulated:checked":
        say("0 faults: races, barriers, bounds and uninitialised reads were checked in every access of the kernels")
    if model.engine.note:
        print(f"note: this ran with {hardware.place(model.version, model.device)}, as said at the start", file=sys.stderr)
    files = sorted(p.name for p in folder.path.iterdir() if not p.name.startswith("."))
    say(f"written to {visible(str(folder.path))}: {', '.join(files)}")
