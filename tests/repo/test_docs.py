"""Pages and drawings that are made from the sources are up to date; links lead somewhere; files that a page names exist."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "kernels/_template/README.md"]
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.md"))  # made by programs: their links count, their words are not ours
FOLDERS = ("benchmarks", "cmake", "csrc", "docs", "kernels", "python", "tests", ".ci")
ENDINGS = ("py", "cpp", "h", "cu", "cuh", "def", "md", "sh", "jsonl", "svg", "png")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links and pictures that lead nowhere."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+://", target):
            continue
        where, _, place = target.partition("#")
        page = (path.parent / where).resolve() if where else path
        if not page.exists() or ROOT not in [page, *page.parents]:
            found.append(target)
        elif place and page.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", prose(text if page == path else page.read_text()), re.MULTILINE)
            if place not in map(anchor, headings):
                found.append(target)
    return found


@functools.cache
def file_names() -> set[str]:
    return {p.name for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.is_file()} | {p.name for p in ROOT.iterdir()}


def missing_files(text: str) -> list[str]:
    """Files named in backticks that are not there: paths from the root, and bare names, which may stand in any folder."""
    found = []
    for words in re.findall(r"`([^`\n]+)`", prose(text)):
        for word in words.split():
            word = re.sub(r":\d+$", "", word.rstrip(",.;:"))
            if re.search(r"[<>*{}…$=()]|\.\.|vN|v9_", word):
                continue
            if word.split("/")[0] in FOLDERS and "/" in word:
                found += [word] if not (ROOT / word).exists() else []
            elif re.fullmatch(rf"\w+\.(?:{'|'.join(ENDINGS)})", word) and word not in OUTPUTS | file_names():
                found.append(word)
    return found


# Files that a program writes for its user, or that a guide invents; everything else must be in the repository.
OUTPUTS = {
    "net.svg",
    "net.png",
    "unet.svg",
    "r.jsonl",
    "metrics.jsonl",
    "roofline.png",
    "loss.png",
    "confusion.png",
    "7.png",
    "7.jpg",
    "overview.png",
    "scores.png",
    "roc_pr.png",
}


def load(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", [*PAGES, *RESULTS], ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    assert not broken_links(path, path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_named_in_the_text_exist(path: Path) -> None:
    assert not missing_files(path.read_text())


def test_pages_that_messages_name_exist() -> None:
    """An error that sends its reader to a page that is not there is worse than one that does not."""
    named_pages = {
        word
        for path in (ROOT / "python/warploom").rglob("*.py")
        for word in re.findall(r"\b(?:docs|benchmarks|kernels)/[\w/-]+\.md\b", path.read_text())
    }
    assert len(named_pages) > 3
    assert not [word for word in sorted(named_pages) if not (ROOT / word).is_file()]


def test_a_broken_link_and_a_missing_file_are_found() -> None:
    here = ROOT / "docs/design.md"
    assert broken_links(here, "[a](gone.md), [b](#words), [c](README.md#nowhere), [d](https://example.org/x.md)\n## Words") == [
        "gone.md",
        "README.md#nowhere",
    ]
    assert missing_files(
        "`kernels/ops.h`, `kernels/gone.cu`, `conv2d.cu`, `nobody.py`, `csrc/cpu`, `kernels/ops/<name>/args.h`"
    ) == [
        "kernels/gone.cu",
        "nobody.py",
    ]


def test_every_page_and_picture_is_reached_from_the_map() -> None:
    """docs/README.md leads to every page, the reference to its own; every picture stands on one."""
    links = {
        path: {(path.parent / t.partition("#")[0]).resolve() for t in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text()))}
        for path in PAGES
    }
    led = links[ROOT / "docs/README.md"] | links[ROOT / "docs/reference.md"]
    unseen = [named(p) for p in (ROOT / "docs").rglob("*.md") if p.name != "README.md" and p not in led]
    assert not unseen, f"give each page its line in docs/README.md: {unseen}"
    shown = set().union(*links.values())
    unused = [p.name for p in (ROOT / "docs/images").iterdir() if p not in shown]
    assert not unused, f"no page shows {unused}"


@pytest.mark.parametrize("path", [p for p in PAGES if ROOT / "docs" in p.parents], ids=named)
def test_pages_are_not_walls(path: Path) -> None:
    """A paragraph or a point of a list that is longer than this has more than one thought in it."""
    text = re.sub(r"<!--.*?-->", "", prose(path.read_text()), flags=re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        if not block.lstrip().startswith(("|", "#")):
            assert len(block.split()) <= 100, f"{len(block.split())} words: {block.strip()[:80]} ..."


def test_the_drawings_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/make_drawings.py", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr or "run python docs/make_drawings.py"


def test_the_drawn_plan_is_the_engines() -> None:
    plan = load("make_drawings").plan
    assert plan.text_of(plan.planned()) == plan.DATA.read_text(), "the plan has changed: run python docs/make_drawings.py --plan"


def test_a_drawing_refuses_text_that_nobody_could_read() -> None:
    load("make_drawings")
    from drawing.svg import Drawing, DrawingError  # type: ignore[import-not-found]

    d = Drawing("a title", "what it says", 200, 100)
    d.text(20, 30, "some words")
    with pytest.raises(DrawingError, match="'over it' runs into 'some words'"):
        d.text(40, 34, "over it")
    with pytest.raises(DrawingError, match="is cut off"):
        d.text(20, 60, "a line that is far longer than the drawing is wide")
    with pytest.raises(DrawingError, match="does not fit its box"):
        d.box(20, 60, 40, 20, ["too long"])


def test_the_table_of_the_python_package_names_every_part() -> None:
    tree = ast.parse((ROOT / "tests/repo/test_layering.py").read_text())
    table = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "FLOORS")
    assert isinstance(table, ast.Dict)
    parts = {ast.literal_eval(key) for key in table.keys if key is not None}
    text = (ROOT / "docs/python.md").read_text()
    said = set(
        re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]*) \|", text[text.index("## Where things are") :], re.MULTILINE)))
    )
    assert said == parts | {"_core"}, f"docs/python.md, Where things are: {sorted(said ^ (parts | {'_core'}))}"


def test_each_version_has_one_summary() -> None:
    """kernels/versions.def alone carries it; library.cu names the tables from there."""
    for path in sorted((ROOT / "kernels").glob("*/table.cu")):
        assert not re.search(r"\.(summary|version) = ", path.read_text()), f"{named(path)} repeats what versions.def says"


def test_the_table_of_operations_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_operations.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/make_operations.py"


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_reference.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/make_reference.py"


def test_the_table_of_versions_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_version_table.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/make_version_table.py"


def test_the_table_of_versions_tells_only_what_was_measured(tmp_path: Path) -> None:
    made = load("make_version_table")
    step = {"kind": "step", "version": "v4", "device": "cuda", "device_name": "NVIDIA H100", "batch": 64, "milliseconds": 3.0}
    step |= {"measured": True, "verified_before": True, "verified_after": True, "when": "2026-01-02"}
    records: list[dict[str, Any]] = [
        step | {"milliseconds": 9.0, "when": "2026-01-01"},  # older
        step,
        step | {"precision": "bf16", "milliseconds": 1.25, "version": "v5"},
        step | {"version": "v3", "measured": False, "device": "emulated"},
        step | {"version": "v2", "verified_after": False},
        step | {"version": "v1", "batch": 2},
        step | {"version": "torch eager nchw fp32"},
    ]
    (tmp_path / "gpu.jsonl").write_text("\n".join(json.dumps(r) for r in records) + "\n")
    rows = {line.split("|")[1].strip(): line for line in made.table(made.read(tmp_path)).splitlines() if line.startswith("| `")}
    assert "| 3.00 ms |" in rows["`v4`"]
    assert "| 1.25 ms (bf16) |" in rows["`v5`"]
    for version in ("v1", "v2", "v3"):
        assert "| not measured |" in rows[f"`{version}`"], version
    assert rows["`cpu`"].endswith("| not measured |")
    (tmp_path / "gpu.jsonl").write_text("")
    assert all("not measured" in line for line in made.table(made.read(tmp_path)).splitlines() if line.startswith("| `"))
