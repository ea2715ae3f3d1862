"""What the commands that use a trained network share: their arguments, opening network and images, and progress on stderr."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from warploom import errors
from warploom.cli.app import say, warn_loudly
from warploom.cli.plain import visible
from warploom.cli.words import complete_from, whole
from warploom.inference.images import FITS, PARTS, Images
from warploom.inference.trained import Trained, open_trained
from warploom.train.progress import duration

_PLAIN_SECONDS = 30.0  # between lines where there is no terminal
_QUIET_SECONDS = 1.0  # what takes less shows nothing

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A trained network: the folder of a run, or a .safetensors file.", show_default=False)
]
DataArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]", show_default=False,
        help="Images: a folder, one image, a .npy or .npz file, cifar10, patches. Default: what the network was trained on.",
    ),
]  # fmt: skip
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar="FOLDER", help="Where CIFAR-10 is, in binary or Python layout.")
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out image files that cannot be read.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", callback=whole(), help="Only the first N images.", show_default=False)
]
_FIT = "own: images keep their size; crop: cut and resized to the network's, as for training; stretch: resized whole."


def part_option(default: str) -> Any:
    return typer.Option(
        default, "--part", metavar="PART", autocompletion=complete_from(PARTS),
        help="Of data with a training and a test part: all, train or test.",
    )  # fmt: skip


def fit_option(default: str) -> Any:
    return typer.Option(default, "--fit", metavar="HOW", autocompletion=complete_from(FITS), help=_FIT)


def opened(run: str, version: str, device: str, precision: str = "fp32", batch_size: int | None = None) -> Trained:
    """The trained network on its device; what runs in place of what was asked for is said loudly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FallbackWarning)
        trained = open_trained(run, version=version, device=device, precision=precision, batch_size=batch_size)
    if trained.model.engine.note:
        warn_loudly(trained.model.engine.note)
    for note in trained.notes:
        print(f"note: {visible(note)}", file=sys.stderr)
    return trained


def images_of(trained: Trained, source: str | None, *, quiet: bool = False, **options: Any) -> Images:
    """The images; notes on them go to stdout, or to stderr where stdout is for a program."""
    found = trained.images(source, **options)
    for note in found.notes:
        if note.startswith("training on patches instead"):
            warn_loudly(note.replace("training on patches", "using patches", 1))
        elif quiet:
            print(visible(note), file=sys.stderr)
        else:
            say(visible(note))
    return found


class Progress:
    """update(done): a bar with the time left on a terminal, a line every half minute elsewhere; all on stderr."""

    def __init__(self, what: str, total: int, unit: str = "images") -> None:
        self.what, self.total, self.unit = what, total, unit
        self._began = self._last = time.monotonic()
        self._bar: Any = None

    def update(self, done: int) -> None:
        now = time.monotonic()
        if now - self._began < _QUIET_SECONDS or not self.total:
            return
        speed = done / (now - self._began)
        left = duration((self.total - done) / speed) if speed else "?"
        if sys.stderr.isatty():
            self._show(done, f"{speed:,.0f} {self.unit}/s  ETA {left}")
        elif now - self._last >= _PLAIN_SECONDS:
            self._last = now
            line = f"{self.what}  {done:,}/{self.total:,} {self.unit}  {speed:,.0f} {self.unit}/s  ETA {left}"
            print(line, file=sys.stderr, flush=True)

    def _show(self, done: int, about: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[about]}")
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, expand=True, refresh_per_second=4)
            self._task = self._bar.add_task(self.what, total=self.total, about="")
            self._bar.start()
        self._bar.update(self._task, completed=done, about=f"{done:,}/{self.total:,}  {about}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextlib.contextmanager
def progress(what: str, total: int, unit: str = "images") -> Iterator[Progress]:
    shown = Progress(what, total, unit)
    try:
        yield shown
    finally:
        shown.close()
