"""What the commands that use a trained network share: their arguments, opening network and images."""

import sys
import warnings
from typing import Annotated, Any

import typer

from warploom import errors
from warploom.cli.app import say, warn_loudly
from warploom.cli.plain import visible
from warploom.cli.words import complete_from, whole
from warploom.inference.images import FITS, PARTS, Images
from warploom.inference.trained import Trained, open_trained

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
        help="all, train or test; auto: the test part of data that have one or that the network was trained on, all of others.",
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


def say_skipped(names: list[str]) -> None:
    """What --skip-bad has left out."""
    if names:
        say(visible(f"left out, since they cannot be read: {', '.join(names)}"))


def counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
