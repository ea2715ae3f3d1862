"""What a command is doing, while it does it."""

import sys
import time

from warploom.train.progress import about

_PLAIN_SECONDS = 15.0  # between lines where there is no terminal


class Told:
    """What is being done, with a bar and the time left, on a terminal; elsewhere nothing, or with `plain` a line now and then."""

    def __init__(self, *, quiet: bool = False, plain: bool = False) -> None:
        self._bar = None
        self._plain = plain and not quiet
        self._what, self._since, self._last = "", 0.0, 0.0
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description:<22}"), BarColumn(30), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> "Told":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, share: float) -> None:
        if self._bar is not None:
            if what != self._what:
                self._bar.reset(self._task, total=1.0)
            self._bar.update(self._task, description=what, completed=share)
        elif self._plain:
            self._line(what, share)
        self._what = what

    def _line(self, what: str, share: float) -> None:
        now = time.monotonic()
        if what != self._what:
            self._since = now
            print(what, file=sys.stderr, flush=True)
        elif now - self._last < _PLAIN_SECONDS:
            return
        elif 0.0 < share < 1.0:
            left = about((now - self._since) * (1.0 - share) / share)
            print(f"{what}: {100.0 * share:.0f} %, {left} left", file=sys.stderr, flush=True)
        self._last = now
