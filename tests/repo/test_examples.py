"""The examples of the documentation run, page by page: blocks of Python in one namespace, blocks of sh through the command line.

A comment before a block says what is not for readers:

<!-- not run: REASON -->      it is an installation, or needs a GPU, or hours; the reason is shown
<!-- before: CODE -->         Python that runs before it, such as data that are small
<!-- with: OPTIONS -->        more options for its `warploom train` lines, such as --limit 8
<!-- needs: MODULE -->        it is left out where the module is not installed
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "kernels/_template/README.md"]
RUN_BY = {"docs/export.md": "tests/export/test_export_page.py"}  # pages whose examples another test runs
LANGUAGES = {"python", "sh", "", "text", "cpp", "diff"}  # the last four show files and outputs
BLOCK = re.compile(
    r"(?P<notes>(?:^[ ]*<!--(?:(?!-->).)*-->\n)*)^(?P<pad>[ ]*)```(?P<language>\w*)\n(?P<code>.*?)^(?P=pad)```", re.M | re.S
)
NOTE = re.compile(r"<!-- ?(not run|before|with|needs):\s*(.*?)\s*-->", re.S)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    notes: dict[str, str]


def blocks(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        code = re.sub(rf"^{found['pad']}", "", found["code"], flags=re.M)
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(found["language"], code, line, dict(NOTE.findall(found["notes"])))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_shell(block: Block, where: str) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "warploom", f"{where}: {line!r} is no command of ours; say before the block why it is not run"
        more = shlex.split(block.notes.get("with", "")) if words[1] == "train" else []
        assert main([*words[1:], *more]) == 0, f"{where}: {line}"


def run_page(text: str, name: str) -> int:
    """How many blocks ran."""
    space: dict[str, Any] = {"np": np, "wl": wl, "main": main, "os": os, "shlex": shlex, "__name__": "example"}
    done = 0
    for block in blocks(text):
        where = f"{name}:{block.line}"
        missing = [m for m in block.notes.get("needs", "").split() if importlib.util.find_spec(m) is None]
        if block.language not in ("python", "sh") or "not run" in block.notes or missing:
            continue
        exec(compile(block.notes.get("before", ""), f"{where} (before)", "exec"), space)
        if block.language == "sh":
            run_shell(block, where)
        else:
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), space)
        done += 1
    return done


RUN = [
    p
    for p in PAGES
    if named(p) not in RUN_BY and any(b.language in ("python", "sh") and "not run" not in b.notes for b in blocks(p.read_text()))
]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Examples write into the working folder, may put small data in the place of large ones, and define layers of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wl.layers.Layer, "registry", dict(wl.layers.Layer.registry))
    before = dict(vars(wl.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
    vars(wl.data).update(before)


@pytest.mark.parametrize("path", RUN, ids=named)
def test_the_examples_run(path: Path, own_folder: None) -> None:
    if path.name == "tutorial.md":
        pytest.importorskip("sklearn")
    assert run_page(path.read_text(), named(path)) > 0


def test_every_page_has_its_examples_run_or_says_why_not() -> None:
    assert all((ROOT / test).is_file() for test in RUN_BY.values())
    for path in PAGES:
        for block in blocks(path.read_text()):
            where = f"{named(path)}:{block.line}"
            assert block.language in LANGUAGES, f"{where}: {block.language} is none of {sorted(LANGUAGES)}"
            assert block.notes.get("not run", "x"), f"{where}: a reason is missing"
            first = block.code.split("\n", 1)[0]
            shell = re.match(r"(warploom [a-z-]+ (?! )|python3? |pip |cmake |ninja |\$ )", first)
            assert block.language or not shell, f"{where} is a command: mark it as sh"
        text = path.read_text()
        fences = len(re.findall(r"^ *```", text, re.M))
        assert fences == 2 * len(list(blocks(text))), f"{named(path)}: a block is not closed"


def test_an_example_that_fails_is_found(own_folder: None) -> None:
    good = "<!-- before:\ny = 2\n-->\n```python\nx = y\n```\n\n<!-- not run: a reason -->\n```python\n1 / 0\n```\n"
    assert run_page(good + "```python\nassert x == 2\n```\n", "good.md") == 2
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "bad.md")
    with pytest.raises(AssertionError, match="is no command of ours"):
        run_page("```sh\nrm nothing\n```\n", "bad.md")
    with pytest.raises(AssertionError, match="warploom summary nobody"):
        run_page("```sh\nwarploom summary nobody\n```\n", "bad.md")
