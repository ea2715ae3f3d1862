"""Tables on a terminal or as text, for everything that explains a network."""

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

WIDTH = 240  # a table that does not go to a terminal is as wide as its text, up to this


def draw(
    file: Any, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, notes: Sequence[str] = (),
    color: bool = False,
) -> None:  # fmt: skip
    """A table; columns from number `left` on are aligned to the right, notes stand below it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(file=file, width=WIDTH if not color else None, no_color=not color)
    console.print(title, style="bold", highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


class Report:
    """Base of what a model says about itself: print() draws a table, str() gives it as text."""

    def _draw(self, file: Any, *, color: bool) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        buffer = io.StringIO()
        self._draw(buffer, color=False)
        return buffer.getvalue()

    def print(self) -> "Self":
        self._draw(sys.stdout, color=sys.stdout.isatty())
        return self


def size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def bytes_text(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
