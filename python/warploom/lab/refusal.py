"""What the lab cannot do, with the place where the program asks for it."""

from __future__ import annotations


class Refusal(Exception):
    """A program that cannot be checked: `path`, `line` (0: not known) and why."""

    def __init__(self, path: str, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}" if line else f"{path}: {why}")
        self.path, self.line, self.why = path, line, why
