"""The command line: the application, what its commands share, and how errors end it.

Errors a user can do something about are one sentence on stderr and exit code 2.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from warploom import errors, models
from warploom.ground.arrays import LARGEST, LARGEST_SEED
from warploom.model import Model
from warploom.models.saving import load_model

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
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32, fp32-exact (no Winograd and its like), on tensor cores tf32, bf16, fp16 (v5, v7)."),
]
ModelArgument = Annotated[str, typer.Argument(help="A model's name, or a .safetensors file of one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, max=LARGEST, help="Images in a step.")]
SEED: dict[str, Any] = {"min": 0, "max": LARGEST_SEED}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `warploom ... >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        result = app(args=arguments, prog_name="warploom", standalone_mode=False)
        sys.stdout.flush()  # here, where an error of it is still an error
        return result if isinstance(result, int) else 0
    except errors.USER_ERRORS as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"the host ran out of memory ({error or 'no details'}); use a smaller --batch-size or --limit")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `warploom ... | head`
        _drop_stdout()
        return 141
    except OSError as error:  # a full disk, a folder without permission, a name too long
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}")
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


def _drop_stdout() -> None:
    """What stdout still holds can go nowhere: the interpreter must not try once more when it ends."""
    with contextlib.suppress(OSError, ValueError):  # not in a test, whose stdout is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = 2) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
    print(f"warploom: {'error: ' if code == 2 else ''}{message}", file=sys.stderr, flush=True)
    return code


def shout(note: str) -> None:
    """A line nobody misses, on stderr."""
    text = f"WARNING: {note}"
    if sys.stderr.isatty():
        Console(stderr=True).print(Panel(text, style="bold yellow"), highlight=False)
        return
    print("!" * 100, text, "!" * 100, sep="\n", file=sys.stderr, flush=True)


def table(title: str, columns: list[str], rows: list[list[str]], right: int = 99) -> None:
    """A table on stdout; columns from number `right` on are aligned to the right."""
    drawn = Table(header_style="bold")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="right" if i >= right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(title, style="bold", highlight=False)
    console.print(drawn)


def load_network(name: str) -> Model:
    return load_model(name) if name.endswith(".safetensors") or Path(name).is_file() else models.get(name)
