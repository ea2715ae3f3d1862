"""The command line: the application, what its commands share, and how errors end it.

Errors a user can do something about are one sentence on stderr and exit code 2; defects one sentence and 1.
"""

import contextlib
import os
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from typer.core import TyperGroup

from warploom import __version__, errors, models
from warploom.cli.config_file import add_option
from warploom.cli.plain import take_any_text, visible
from warploom.cli.words import (
    CONFIGURED,
    FIRST,
    PANELS,
    complete_devices,
    complete_from,
    complete_models,
    complete_versions,
    whole,
)
from warploom.distributed.world import leaving
from warploom.ground.arrays import LARGEST_SEED
from warploom.ground.hardware import PRECISIONS
from warploom.ground.tables import Column, Styled, draw, on_terminal, terminal_width
from warploom.model import Model
from warploom.models.saving import is_saved, load_model


class _Interrupted(Exception):
    """Ctrl-C while a command ran."""


class _Commands(TyperGroup):
    """Lists the commands by their panels, in the order in which a person needs them."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        _without_types(self)

    def list_commands(self, ctx: Any) -> list[str]:
        def place(name: str) -> tuple[int, int]:
            panel = getattr(self.commands[name], "rich_help_panel", None)
            first = FIRST.index(name) if name in FIRST else len(FIRST)
            return PANELS.index(panel) if panel in PANELS else len(PANELS), first

        return sorted(self.commands, key=place)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would end the command with code 130 and no word
            raise _Interrupted from None

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _without_types(command)
            panel = getattr(command, "rich_help_panel", None) or self.rich_help_panel
            if panel in CONFIGURED and not hasattr(command, "commands"):
                add_option(command)
        return command


def _without_types(command: Any) -> None:
    """Help names no Python types: those of options are told by their metavars, those of arguments and flags by their text."""
    if hasattr(command, "all_params"):
        return
    command.all_params = command.get_params

    def get_params(ctx: Any) -> Any:
        params = command.all_params(ctx)
        for param in params:
            if param.param_type_name == "argument" or getattr(param, "is_flag", False):
                param.display_type_rich = lambda ctx: None
        return params

    command.get_params = get_params


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Convolutional autoencoders on hand-written CUDA kernels, on the CPU, and on an emulated GPU.",
    epilog="To begin: [bold]warploom train --limit 2000 --epochs 3[/bold]. Every command explains itself with --help.",
)


def group(name: str, panel: str, text: str) -> typer.Typer:
    """A command that has commands of its own."""
    made = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode="rich", help=text)
    app.add_typer(made, name=name, rich_help_panel=panel)
    return made


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"warploom {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of warploom.")
    ] = False,
) -> None:
    """Convolutional autoencoders on hand-written CUDA kernels, on the CPU, and on an emulated GPU."""


VersionOption = Annotated[
    str,
    typer.Option(
        "--version", metavar="VERSION", autocompletion=complete_versions, rich_help_panel="Device",
        help="Kernels: auto, cpu, v1, v2, ... (see `warploom versions`).",
    ),
]  # fmt: skip
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", autocompletion=complete_devices, rich_help_panel="Device",
        help="auto, cpu, cuda, cuda:N, emulated or emulated:checked.",
    ),
]  # fmt: skip
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", metavar="NAME", autocompletion=complete_from(PRECISIONS), rich_help_panel="Device",
        help="fp32, fp32-exact (no Winograd and its like), on tensor cores tf32, bf16, fp16 (v5, v7).",
    ),
]  # fmt: skip
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", autocompletion=complete_models,
        help="A model's name (see `warploom models`), its .safetensors file, or the folder of a run.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
BatchOption = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", callback=whole(), help="Images in a step; default: the model's own.")
]
SEED: dict[str, Any] = {"metavar": "N", "callback": whole(0, LARGEST_SEED)}


given: list[str] = []  # the arguments of the running command


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `warploom ... >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    take_any_text()
    if os.environ.get("NO_COLOR"):  # typer's help: without it rich leaves out colours alone, not bold
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None
    given[:] = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(args=arguments, prog_name="warploom", standalone_mode=False)
        sys.stdout.flush()  # here, where an error of it is still an error
        return result if isinstance(result, int) else 0
    except errors.USER_ERRORS as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"the host ran out of memory ({error or 'no details'}); use a smaller --batch-size or --limit")
    except (KeyboardInterrupt, _Interrupted):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `warploom ... | head`
        _drop_stdout()
        return 141
    except OSError as error:  # a full disk, a folder without permission, a name too long
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}")
    except Exception as error:
        if type(error).__name__ == "Abort" or _interrupted(error):
            return _fail("interrupted", 130)
        if isinstance(getattr(error, "exit_code", None), int) and type(error).__name__ == "Exit":
            return int(error.exit_code)  # type: ignore[attr-defined]
        if hasattr(error, "format_message"):  # typer's usage errors, whichever click they come from
            text = str(error.format_message())
            if text:
                where = getattr(getattr(error, "ctx", None), "command_path", "warploom")
                return _fail(f"{text.rstrip('.')}; see {where} --help")
            return 2
        return _defect(error)


def run() -> None:
    """The `warploom` command."""
    sys.exit(main())


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C stands behind an error: what a module raises from it while it is imported, late."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _interrupted(error.__cause__))


def _defect(error: Exception) -> int:
    """What nobody foresaw: still a sentence, and the traceback in a file, for a report. $WARPLOOM_TRACEBACK shows it at once."""
    if os.environ.get("WARPLOOM_TRACEBACK"):
        raise error
    with tempfile.NamedTemporaryFile("w", prefix="warploom-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return _fail(
        f"a defect of warploom ({type(error).__name__}: {error}): please report it with {file.name}, which tells where", 1
    )


def _drop_stdout() -> None:
    """What stdout still holds can go nowhere: the interpreter must not try once more when it ends."""
    with contextlib.suppress(OSError, ValueError):  # not in a test, whose stdout is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = 2) -> int:
    if code in (1, 2) and leaving(visible(message)):  # one of several workers: what watches them says it once
        return code
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
    text = f"warploom: {'error: ' if code in (1, 2) else ''}{visible(message)}"
    if sys.stderr.isatty():  # a terminal by itself breaks lines inside words
        text = _wrapped(text)
    print(text, file=sys.stderr, flush=True)
    return code


def warn_loudly(note: str) -> None:
    """A line nobody misses, on stderr."""
    text = f"WARNING: {visible(note)}"
    if sys.stderr.isatty():
        Console(stderr=True).print(Panel(text, style="bold yellow"), highlight=False)
        return
    print("!" * 100, text, "!" * 100, sep="\n", file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str | Column], rows: list[list[str]], right: int = 99, notes: Sequence[str] = ()) -> None:
    """A table on stdout; columns from number `right` on are aligned to the right."""
    cells = [[cell if isinstance(cell, Styled) else visible(cell) for cell in row] for row in rows]
    draw(sys.stdout, title, columns, cells, left=right, notes=notes, color=on_terminal())


def say(sentence: str) -> None:
    """A sentence on stdout, broken between words where it is longer than the terminal is wide."""
    print(_wrapped(sentence) if on_terminal() else sentence, flush=True)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, terminal_width(), break_long_words=False, break_on_hyphens=False)


def load_network(name: str) -> Model:
    return load_model(name) if is_saved(name) else models.get(name)


def own_batch_size(network: Model, given: int | None) -> int:
    """What was given, else the batch size that the model of that name is trained with."""
    if given is not None:
        return given
    return models.objective(network.name).batch_size if network.name in models.BY_NAME else network.batch_size
