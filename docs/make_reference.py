"""Writes docs/reference.md from the package's own signatures and docstrings: layers, losses, optimisers, schedules, callbacks.

python docs/make_reference.py            rewrites the page; needs the package (PYTHONPATH=python in a checkout)
python docs/make_reference.py --check    fails where it is out of date
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import warploom as wl

PAGE = Path(__file__).resolve().parent / "reference.md"
TOP = """# Reference: what networks and trainings are made of

Made by docs/make_reference.py from the package; `help(wl.layers.Conv2d)` and so on say more.
Every layer also takes `name=`; a layer is called on tensors, as in Keras, and arguments are named as in PyTorch.
"""


def classes(module: Any, base: type) -> list[type]:
    """The public classes of a module that derive from `base`, by name; what others derive from only is left out."""
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, base) and c is not base]
    return sorted((c for c in found if not c.__name__.startswith("_")), key=lambda c: c.__name__.lower())


def signature(of: type) -> str:
    """The constructor's arguments as they are written, without types."""
    shown, keywords = [], False
    for p in list(inspect.signature(of).parameters.values()):
        if p.name == "name" and p.default is None:
            continue
        if p.kind is p.KEYWORD_ONLY and not keywords:
            shown.append("*")
            keywords = True
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        keywords = keywords or p.kind is p.VAR_POSITIONAL
        shown.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={p.default!r}"))
    return f"{of.__name__}({', '.join(shown if shown[-1:] != ['*'] else shown[:-1])})"


def first_paragraph(of: type) -> str:
    words = " ".join((inspect.getdoc(of) or "").split("\n\n")[0].split())
    return words.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def section(title: str, prefix: str, found: list[type]) -> str:
    rows = [f"| `{prefix}.{signature(c)}` | {first_paragraph(c)} |" for c in found]
    return "\n".join([f"## {title}", "", "| | |", "|-|-|", *rows])


def page() -> str:
    parts = [
        section("Layers", "wl.layers", classes(wl.layers, wl.layers.Layer)),
        section("Losses", "wl.losses", classes(wl.losses, wl.losses.Loss)),
        section("Optimisers", "wl.optim", classes(wl.optim, wl.optim.Optimizer)),
        section("Schedules", "wl.optim.schedules", classes(wl.optim.schedules, wl.optim.schedules.Schedule)),
        section("Callbacks", "wl.callbacks", classes(wl.callbacks, wl.callbacks.Callback)),
    ]
    return "\n".join([TOP, *(f"{part}\n" for part in parts)])


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        return 0 if PAGE.is_file() and made == PAGE.read_text() else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
