"""Tables on a terminal or as text, for everything that explains a network.

A table is never wider than the terminal, and a number in it is never cut: where it does not fit, long counts are written short
(7.1 M), then columns that a reader can spare are left out and named below, then sentences are wrapped between words.
"""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

WIDTH = 240  # a table that does not go to a terminal is as wide as its text, up to this
_GAP = 2  # between columns: a space of padding, and the space that stands for a line
_NARROWEST = 16  # of a column of sentences
_LONGEST_WORD = 24  # there: longer ones, such as paths, are broken where a line ends
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Column:
    """How a column behaves where the table is too wide."""

    title: str
    right: bool | None = None  # aligned to the right; None: as the table says
    spare: int = 0  # left out before columns with a smaller number; 0: never
    wrap: bool = False  # sentences, which may be broken between words


class Styled(str):
    """A cell in rich's markup. All others are what they are: a bracket or a colon in a file's name styles nothing."""


@dataclass(frozen=True)
class _Layout:
    columns: list[Column]
    rows: list[list[str]]
    dropped: list[str]
    widths: list[int | None]  # None: as wide as its text


def draw(
    file: Any, title: str, columns: Sequence[str | Column], rows: Sequence[Sequence[str]], *, left: int = 1,
    notes: Sequence[str] = (), color: bool = False, width: int | None = None,
) -> None:  # fmt: skip
    """A table; columns from number `left` on are aligned to the right, notes stand below it. width: None takes the terminal's."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    room = width if width is not None else (terminal_width() if color else WIDTH)
    laid = _fit([c if isinstance(c, Column) else Column(c) for c in columns], [list(r) for r in rows], room, left)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, limit in zip(laid.columns, laid.widths, strict=True):
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=not column.wrap, overflow="fold", width=limit
        )
    for row in laid.rows:
        table.add_row(*map(_rendered, row))
    # In a notebook one text, not an output per line.
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "force_jupyter": False}
    if not color or os.environ.get("NO_COLOR"):  # not even bold; else rich chooses, which knows TERM=dumb and the like
        plain["color_system"] = None
    console = Console(file=file, width=max(room, _least(laid)), **plain)
    whole = width is None and not color  # lines of a file are not broken
    console.print(title, style="bold", soft_wrap=whole)
    console.print(table)
    for note in [*_left_out(laid), *notes]:
        console.print(note, soft_wrap=whole)


def _rendered(cell: str) -> Any:
    from rich.text import Text

    return Text.from_markup(cell) if isinstance(cell, Styled) else Text(cell)


def terminal_width() -> int:
    """Columns of the terminal on stdout; as $COLUMNS says where that is set."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def on_terminal() -> bool:
    """Whether what is printed is for a person in front of a terminal, whose width counts."""
    return sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()


def short_count(text: str) -> str:
    """A long whole number with fewer digits: 7,077,888 as 7.1 M; anything else, and what is short already, as it is."""
    digits = text.replace(",", "")
    if not digits.isdigit() or len(digits) <= 6:
        return text
    value = int(digits)
    for scale, unit in _UNITS:
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.1f} {unit}" if scaled < 99.95 else f"{scaled:.0f} {unit}"
    return text


def _fit(columns: list[Column], rows: list[list[str]], room: int, left: int) -> _Layout:
    columns = [
        Column(c.title, (i >= left) if c.right is None else c.right, c.spare, c.wrap) for i, c in enumerate(columns)
    ]  # fmt: skip
    kept = list(range(len(columns)))
    if _total(columns, rows, kept) > room:
        rows = [[short_count(cell) for cell in row] for row in rows]
    dropped: list[int] = []
    while _total(columns, rows, kept, wrapped=True) > room:
        spare = max(kept, key=lambda i: columns[i].spare)
        if not columns[spare].spare:
            break
        kept.remove(spare)
        dropped.append(spare)
    excess = _total(columns, rows, kept) - room
    shrunk = {i: _width(columns, rows, i) for i in kept if columns[i].wrap} if excess > 0 else {}
    least = {i: _least_width(columns, rows, i) for i in shrunk}
    for _ in range(excess):  # the widest gives way
        widest = max((i for i in shrunk if shrunk[i] > least[i]), key=lambda i: shrunk[i], default=None)
        if widest is None:
            break
        shrunk[widest] -= 1
    widths = {i: shrunk.get(i) for i in kept}
    chosen = [columns[i] for i in kept]
    cells = [[row[i] for i in kept] for row in rows]
    return _Layout(chosen, cells, [columns[i].title for i in sorted(dropped)], [widths[i] for i in kept])


def _width(columns: list[Column], rows: list[list[str]], i: int) -> int:
    from rich.cells import cell_len

    lines = [columns[i].title, *(_rendered(row[i]).plain for row in rows)]
    return max(cell_len(line) for text in lines for line in text.split("\n"))


def _least_width(columns: list[Column], rows: list[list[str]], i: int) -> int:
    """Of a column of sentences: its longest word that is not broken, and no less than can be read."""
    from rich.cells import cell_len

    words = [word for text in [columns[i].title, *(_rendered(row[i]).plain for row in rows)] for word in text.split()]
    return min(_width(columns, rows, i), max(_NARROWEST, *(min(cell_len(word), _LONGEST_WORD) for word in words)))


def _total(columns: list[Column], rows: list[list[str]], kept: Sequence[int], *, wrapped: bool = False) -> int:
    widths = [_least_width(columns, rows, i) if wrapped and columns[i].wrap else _width(columns, rows, i) for i in kept]
    return sum(widths) + _GAP * (len(widths) - 1)


def _least(laid: _Layout) -> int:
    """What the table takes up however narrow the terminal is: a line that is too long beats a number that is cut."""
    kept = range(len(laid.columns))
    widths = [laid.widths[i] or _width(laid.columns, laid.rows, i) for i in kept]
    return sum(widths) + _GAP * (len(widths) - 1)


def _left_out(laid: _Layout) -> list[str]:
    if not laid.dropped:
        return []
    titles = ", ".join(title.replace("\n", " ").replace(" /", "/") for title in laid.dropped)
    return [f"(no room for: {titles}; a wider terminal, a file or --json has all)"]


class Report:
    """Base of what a model says about itself: print() draws a table, str() gives it as text."""

    def _draw(self, file: Any, *, color: bool) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        buffer = io.StringIO()
        self._draw(buffer, color=False)
        return buffer.getvalue()

    def print(self) -> "Self":
        self._draw(sys.stdout, color=on_terminal())
        self._printed_in = _notebook_cell()
        return self

    def _ipython_display_(self) -> None:
        """In a notebook: the table, but not once more where this cell has just printed it."""
        if getattr(self, "_printed_in", None) is None or self._printed_in != _notebook_cell():
            self.print()


def _notebook_cell() -> int | None:
    """The number of the running cell of IPython or Jupyter; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return None if shell is None else int(shell.execution_count)


def size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def bytes_text(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
