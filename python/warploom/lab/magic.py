"""The cell magic of Jupyter and IPython: `%load_ext warploom.lab.magic`, then `%%warploom` above CUDA code."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from warploom.errors import ArgumentError
from warploom.lab import html
from warploom.lab.check import check
from warploom.lab.gpus import gpu
from warploom.lab.module import Module, load
from warploom.lab.profile import profile
from warploom.lab.refusal import Refusal
from warploom.lab.report import as_text

USAGE = (
    "use %%warploom [check | profile | NAME] [options of the compiler]: check, which is meant where nothing is said, runs a "
    "program with main() and prints what is wrong with it; profile counts it too and shows the page below the cell; "
    'NAME is for a cell of kernels and becomes their module, NAME.kernel("saxpy")[grid, block](x, y)'
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"%%warploom: {message}; {USAGE}")


class Page:
    """A profile's page, as notebooks show it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        quoted = self.text.replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{quoted}" width="100%" height="700" style="border: 1px solid #ccc"></iframe>'


def run_cell(line: str, cell: str) -> Module | Page | str:
    """What the magic does with a cell."""
    parser = _Parser(prog="%%warploom", add_help=False)
    parser.add_argument("what", nargs="?", default="check")
    known, options = parser.parse_known_args(shlex.split(line))
    folder = Path(tempfile.gettempdir()) / f"warploom-cells-{hashlib.sha256(str(Path.home()).encode()).hexdigest()[:8]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"cell_{hashlib.sha256(cell.encode()).hexdigest()[:12]}.cu"
    path.write_text(cell)
    try:
        if known.what == "check":
            return as_text(check(path, options=options)).replace(str(path), "cell")
        if known.what == "profile":
            return Page(html.page(profile(path, options=options), gpu("H100")))
        if not known.what.isidentifier():
            raise ArgumentError(f"%%warploom: {known.what!r} is neither check nor profile nor a name; {USAGE}")
        module = load(path, options=options)
        for name in module.names:  # compiled now, so that mistakes show under this cell
            try:
                module.kernel(name)
            except ArgumentError:
                continue  # a template
        return module
    except Refusal as e:
        return f"cell:{e.line}: {e.why}" if e.line else f"cell: {e.why}"


def load_ipython_extension(shell: Any) -> None:
    """Called by %load_ext."""

    def warploom(line: str, cell: str) -> Page | None:
        result = run_cell(line, cell)
        if isinstance(result, Module):
            name = shlex.split(line)[0]
            shell.push({name: result})
            print(f"{name}: kernels {', '.join(result.names)}")
        elif isinstance(result, str):
            print(result)
        else:
            return result
        return None

    shell.register_magic_function(warploom, magic_kind="cell", magic_name="warploom")
