"""Writes docs/reference.md and the pages in docs/api from the package's own signatures and docstrings.

python docs/make_reference.py            rewrites them; needs the package (PYTHONPATH=python in a checkout)
python docs/make_reference.py --check    fails where one is out of date

A page whose module needs a library that is not installed stays as it is.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
TOP = """# Reference

Made by docs/make_reference.py from the docstrings; `help(wl.layers.Conv2d)` and so on say the same.
Arguments are named as in PyTorch, arrays are NCHW, and what goes wrong is an exception of [errors](api/errors.md).

"""
WIDTH = 118
_LONGEST = 90  # words of a paragraph; longer ones are parted between sentences
_OWN = {"layers": "Layer", "losses": "Loss", "optim": "Optimizer", "schedules": "Schedule"}  # whose methods stand with their base


@dataclasses.dataclass(frozen=True)
class Page:
    name: str
    module: str
    title: str
    about: str
    names: tuple[str, ...] = ()  # in that order; empty: all public ones

    @property
    def prefix(self) -> str:
        """How a user writes the module."""
        return "wl" if self.module == "warploom" else self.module.replace("warploom.", "wl.", 1)


PAGES = [
    Page(
        "model",
        "warploom",
        "The model",
        "build, train, run, save",
        ("Model", "Sequential", "Input", "Tensor", "load", "History", "devices", "versions"),
    ),
    Page("layers", "warploom.layers", "Layers", "what networks are made of"),
    Page("losses", "warploom.losses", "Losses", "what a network is trained for"),
    Page("optim", "warploom.optim", "Optimisers", "how its weights are changed"),
    Page("schedules", "warploom.optim.schedules", "Schedules", "how the learning rate moves"),
    Page("callbacks", "warploom.callbacks", "Callbacks", "what is called while a network trains"),
    Page("metrics", "warploom.metrics", "Metrics", "how good outputs are"),
    Page("data", "warploom.data", "Data", "sources of images"),
    Page("tasks", "warploom.data.tasks", "Data of tasks", "inputs and targets of each kind of network"),
    Page("models", "warploom.models", "Networks", "those that are ready, by name"),
    Page(
        "inference",
        "warploom.inference.trained",
        "Trained networks",
        "a run's folder opened for use",
        ("open_trained", "Trained"),
    ),
    Page(
        "images",
        "warploom.inference.images",
        "Sources of images",
        "any source of images, streamed",
        ("open_images", "Images", "Batch"),
    ),
    Page("features", "warploom.features", "Learnt features", "patches, whitening, k-means"),
    Page("recipes", "warploom.recipes", "Recipes", "networks whose filters are learnt without labels"),
    Page("classify", "warploom.classify", "Classification", "from features to classes"),
    Page("detect", "warploom.detect", "Anomaly detection", "what does not look like the rest"),
    Page("sklearn", "warploom.sklearn", "scikit-learn", "estimators"),
    Page("export", "warploom.export", "Export", "ONNX, PyTorch"),
    Page("ops", "warploom.ops", "Operations", "one kernel at a time"),
    Page("interop", "warploom.interop", "Arrays elsewhere", "memory shared with other libraries"),
    Page("lab", "warploom.lab", "Kernel lab", "any CUDA file, checked"),
    Page("errors", "warploom.errors", "Errors", "what is raised"),
]


def public(module: Any, page: Page) -> list[tuple[str, Any]]:
    """Classes and functions of the package that a module offers, classes first, by name."""
    if page.names:
        return [(name, getattr(module, name)) for name in page.names]
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    found = [(n, getattr(module, n)) for n in names]
    ours = [
        (n, v) for n, v in found if (inspect.isclass(v) or inspect.isroutine(v)) and (v.__module__ or "").startswith("warploom")
    ]
    if not hasattr(module, "__all__"):  # imports are no part of it
        ours = [
            (n, v)
            for n, v in ours
            if v.__module__ == module.__name__ or (inspect.isclass(v) and v.__module__ == "warploom._core")
        ]
    base = _OWN.get(page.name, "")
    return sorted(ours, key=lambda pair: (pair[0] != base, not inspect.isclass(pair[1]), pair[0].lower()))


def signature(name: str, of: Any, *, method: bool = False) -> str:
    """As it is called, without types and without self; `name=` of layers is said once, on their page."""
    try:
        given = list(inspect.signature(of).parameters.values())
    except (TypeError, ValueError):
        return f"{name}()"
    shown: list[str] = []
    keywords = False
    for p in given[method:]:
        if p.name == "name" and p.default is None and inspect.isclass(of):
            continue
        if p.kind is p.KEYWORD_ONLY and not keywords:
            shown.append("*")
            keywords = True
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        keywords = keywords or p.kind is p.VAR_POSITIONAL
        default = "" if p.default is p.empty else f"={p.default!r}"
        shown.append(f"{star}{p.name}" + ("=..." if "<" in default else default))  # of a field's factory
    return f"{name}({', '.join(shown if shown[-1:] != ['*'] else shown[:-1])})"


def text_of(of: Any) -> str:
    """A docstring as Markdown: paragraphs and lists wrapped, indented examples as code, everything else literal."""
    doc = (inspect.getdoc(of) or "").strip()
    blocks = []
    for block in re.split(r"\n\s*\n", doc):
        if not block.strip():
            continue
        if all(line.startswith(("    ", "\t")) for line in block.splitlines()):
            code = textwrap.dedent(block)
            blocks.append(f"<!-- not run: a fragment of a docstring -->\n```python\n{code}\n```")
            continue
        for item in re.split(r"\n(?= *(?:\d+\.|-) )", block):
            marker, words = re.fullmatch(r"\s*((?:\d+\.|-) )?(.*)", item, re.DOTALL).groups()  # type: ignore[union-attr]
            parts = parted(escaped(" ".join(words.split())))
            blocks += [filled(part, marker or "" if not i else "", len(marker or "")) for i, part in enumerate(parts)]
    return "\n\n".join(blocks)


def filled(words: str, marker: str, indent: int) -> str:
    """A paragraph, or a point of a list with its marker."""
    first = marker or " " * indent
    return textwrap.fill(
        words, WIDTH, initial_indent=first, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def escaped(words: str) -> str:
    """Plain text as Markdown; what stands in backticks is code already."""
    parts = re.split(r"(`[^`]*`)", words)
    plain = [re.sub(r"([*_\[\]|\\$])", r"\\\1", p).replace("<", "&lt;") if not p.startswith("`") else p for p in parts]
    joined = "".join(plain)
    return re.sub(r"^(\d+)([.)] )|^([-+#>] )", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", joined)


def parted(words: str) -> list[str]:
    """A long paragraph as several, cut between sentences."""
    pieces, current = [], list[str]()
    for sentence in re.split(r"(?<=[\w)\]\"`][.;:]) ", words):
        if current and len(" ".join([*current, sentence]).split()) > _LONGEST:
            pieces.append(" ".join(current))
            current = []
        current.append(sentence)
    return [*pieces, " ".join(current)]


def methods(of: type) -> list[tuple[str, Any]]:
    """What a class of the package defines for its users, in its own order; of two classes the derived one's."""
    found: dict[str, Any] = {}
    for owner in of.__mro__:
        if not owner.__module__.startswith("warploom") or owner.__name__.startswith("_"):
            continue
        for name, value in vars(owner).items():
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if not name.startswith("_") and name not in found and (isinstance(plain, property) or inspect.isroutine(plain)):
                found[name] = plain
    return [(name, value) for name, value in found.items() if inspect.getdoc(value)]


def entry(name: str, of: Any, page: Page) -> str:
    if not inspect.isclass(of):
        return f"## {name}\n\n`{page.prefix}.{signature(name, of)}`\n\n{text_of(of)}"
    derived = page.name in _OWN and name != _OWN[page.name]
    head = "" if issubclass(of, BaseException) else f"`{page.prefix}.{signature(name, of)}`\n\n"
    parts = [f"## {name}\n\n{head}{text_of(of)}"]
    for method, value in methods(of) if not derived and not issubclass(of, BaseException) else ():
        if isinstance(value, property):
            parts.append(f"**`{method}`** (a value)\n\n{text_of(value)}")
        else:
            static = isinstance(inspect.getattr_static(of, method), staticmethod)
            parts.append(f"**`{signature(method, value, method=not static)}`**\n\n{text_of(value)}")
    return "\n\n".join(parts)


def page_text(page: Page) -> str | None:
    """None where its module cannot be imported here, or is not there."""
    if not importable(page):
        return None
    found = public(importlib.import_module(page.module), page)
    lead = "Every layer also takes `name=`; a layer is called on tensors, as in Keras." if page.name == "layers" else ""
    about = f"`{page.prefix}`: {page.about}. {lead}".strip()
    made = "Made from the docstrings by docs/make_reference.py."
    return "\n\n".join([f"# {page.title}", f"{about}\n{made}", *(entry(n, v, page) for n, v in found)]).rstrip() + "\n"


def first_sentence(of: Any) -> str:
    words = " ".join((inspect.getdoc(of) or "").split("\n\n")[0].split())
    return escaped(re.split(r"(?<=[a-z)`\]]{2}\.) ", words)[0])


def anchor(name: str) -> str:
    return re.sub(r"[^\w\- ]", "", name.lower())


def index(pages: list[Page]) -> str:
    """All names of all pages, a line each."""
    parts = []
    for page in pages:
        rows = [f"## {page.title}", "", f"[`{page.prefix}`](api/{page.name}.md): {page.about}.", "", "| | |", "|-|-|"]
        found = public(importlib.import_module(page.module), page)
        rows += [f"| [`{name}`](api/{page.name}.md#{anchor(name)}) | {first_sentence(of)} |" for name, of in found]
        parts.append("\n".join(rows))
    return TOP + "\n\n".join(parts) + "\n"


def made() -> dict[Path, str]:
    """Every page that can be made here, by its path. The index only where all modules can be imported."""
    there = [
        page
        for page in PAGES
        if importlib.util.find_spec(page.module.rpartition(".")[0] or "warploom") and importlib.util.find_spec(page.module)
    ]
    there = [page for page in there if page.names or not importable(page) or public(importlib.import_module(page.module), page)]
    texts = {page: page_text(page) for page in there}
    pages = {DOCS / f"api/{page.name}.md": text for page, text in texts.items() if text is not None}
    if len(pages) == len(there):
        pages[DOCS / "reference.md"] = index(there)
    return pages


def importable(page: Page) -> bool:
    try:
        importlib.import_module(page.module)
    except ImportError:
        return False
    return True


def main() -> int:
    stale = {path: text for path, text in made().items() if not path.is_file() or path.read_text() != text}
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is out of date", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
