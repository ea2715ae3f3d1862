"""How far a command is, on stderr: a bar with the time left on a terminal, a line now and then elsewhere.

Training has lines of its own (warploom/train/progress.py).
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from warploom.train.progress import duration

_LINE_SECONDS = 30.0  # between lines where there is no terminal
_QUIET_SECONDS = 1.0  # what takes less shows nothing


class Progress:
    """progress(what, done, of): `done` of `of` things, or a share of 1.0; another `what` begins another bar.

    quiet: nothing where there is no terminal. seconds: what it took, once it is closed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._terminal = sys.stderr.isatty()  # asked once: a bar puts something else there, which may say no
        self._quiet = quiet and not self._terminal
        self._bar: Any = None
        self._task: Any = None
        self._what = ""
        self._began = self._first = self._called = self._last = time.monotonic()
        self.seconds = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self.seconds = time.monotonic() - self._began

    def __call__(self, what: str, done: float, of: float = 1.0) -> None:
        now = time.monotonic()
        if what != self._what:
            self._stop()
            self._what, self._first = what, self._called  # it has been under way since then
        self._called = now
        if self._quiet or now - self._first < _QUIET_SECONDS or not of:
            return
        text = _so_far(done, of, now - self._first)
        if self._terminal:
            self._show(done, of, text)
        elif now - max(self._first, self._last) >= _LINE_SECONDS and done < of:
            self._last = now
            print(f"{what}: {text}", file=sys.stderr, flush=True)

    def counting(self, what: str, of: int) -> Callable[[int], None]:
        """For what calls back with a number alone."""
        return lambda done: self(what, done, of)

    def _show(self, done: float, of: float, text: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[text]}")
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, expand=True, refresh_per_second=4)
            self._task = self._bar.add_task(self._what, completed=done, total=of, text=text)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=of, text=text)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _so_far(done: float, of: float, seconds: float) -> str:
    left = f"ETA {duration(seconds / done * (of - done))}" if done else ""
    if isinstance(of, int):
        speed = f"{done / seconds:,.0f}/s  " if done >= seconds else ""  # less than one a second would be 0/s
        return f"{done:,}/{of:,}  {speed}{left}".rstrip()
    return f"{100 * done / of:.0f} %  {left}".rstrip()
