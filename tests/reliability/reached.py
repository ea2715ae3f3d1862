"""How much of what it entered a run reached: statements of the package's functions."""

from __future__ import annotations

import ast
from pathlib import Path
from types import TracebackType

import coverage
import warploom

PACKAGE = Path(warploom.__file__).resolve().parent


class Reached:
    """Counts between enter and exit. A function counts once one of its statements has run; what runs on import does not count."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage(data_file=None, include=[f"{PACKAGE}/*"])
        self._coverage.set_option("run:disable_warnings", ["no-data-collected"])
        self.reached, self.statements = 0, 0
        self.missed: dict[str, list[int]] = {}  # lines of entered functions that no input reached, by file

    def __enter__(self) -> Reached:
        self._coverage.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        for name in data.measured_files():
            ran = set(data.lines(name) or [])
            for own in _functions(Path(name)):
                if own & ran:
                    self.reached, self.statements = self.reached + len(own & ran), self.statements + len(own)
                    if own - ran:
                        self.missed.setdefault(str(Path(name).relative_to(PACKAGE)), []).extend(sorted(own - ran))

    def __str__(self) -> str:
        return f"{100 * self.reached / max(self.statements, 1):.0f} % of {self.statements} statements"


def _functions(path: Path) -> list[set[int]]:
    """The first lines of each function's statements, without those of functions inside it."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)

    def own(node: ast.AST) -> set[int]:
        found: set[int] = set()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and not _is_docstring(child):
                found.add(child.lineno)
            if not isinstance(child, (*kinds, ast.ClassDef)):
                found |= own(child)
        return found

    return [own(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
