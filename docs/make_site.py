"""Builds the documentation site: the pages of docs/, the README and the static report, as they stand on GitHub, with a sidebar.

python docs/make_site.py [--out FOLDER]     default build/site; warnings are errors; needs pip install ".[docs]"

docs/README.md is the map: its sections are the groups of the sidebar, its links their pages. Nothing of the package is imported:
the reference is made before, by docs/make_reference.py.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ELSEWHERE = {ROOT / "README.md": "overview.md", ROOT / "benchmarks/results/static_report.md": "static_report.md"}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def places() -> dict[Path, str]:
    """Where each page stands on the site, by its place in the repository."""
    own = {path: path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))}
    return {**own, DOCS / "README.md": "index.md", **ELSEWHERE}


def staged(page: Path, site: dict[Path, str]) -> str:
    """A page with its links as the site has them: what is no page of the site is text."""
    text = page.read_text("utf-8")
    here = Path(site[page]).parent

    def link(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if re.match(r"\w+:", target) or target.startswith("#"):
            return found[0]
        where, _, place = target.partition("#")
        path = (page.parent / where).resolve()
        if path in site:
            moved = os.path.relpath(site[path], here)
            return f"{picture}[{words}]({moved}{f'#{place}' if place else ''})"
        if picture and path.is_relative_to(DOCS):
            return f"![{words}]({os.path.relpath(path.relative_to(DOCS), here)})"
        return words  # a file of the repository

    parts = re.split(r"(^ *```.*?^ *```)", text, flags=re.MULTILINE | re.DOTALL)  # code stays as it is
    return "".join(part if part.lstrip().startswith("```") else LINK.sub(link, part) for part in parts)


def sidebar(site: dict[Path, str]) -> str:
    """The hidden tables of contents: a group for each section of the map."""
    text = (DOCS / "README.md").read_text("utf-8")
    groups, seen = [], {"index.md"}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        targets = [(DOCS / target.partition("#")[0]).resolve() for _, _, target in LINK.findall(body) if ":" not in target]
        pages = [site[t] for t in dict.fromkeys(targets) if t in site and site[t] not in seen]
        if pages:
            seen |= set(pages)
            groups.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"]))
    return "\n\n".join(groups)


def below(site: dict[Path, str], seen: str) -> str:
    """The pages of docs/api, below the reference and in its order."""
    order = re.findall(r"\((api/\w+\.md)\)", (DOCS / "reference.md").read_text("utf-8"))
    pages = [name for name in dict.fromkeys([*order, *sorted(site.values())]) if name.startswith("api/") and name not in seen]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def stage(to: Path) -> None:
    site = places()
    for page, name in site.items():
        text = staged(page, site)
        if name == "index.md":
            text += f"\n{sidebar(site)}\n"
        if name == "reference.md":
            text += below(site, sidebar(site))
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(text, "utf-8")
    shutil.copytree(DOCS / "images", to / "images")
    shutil.copy(DOCS / "conf.py", to)


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the documentation site; warnings are errors.")
    parser.add_argument("--out", type=Path, default=ROOT / "build/site")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="warploom-site-") as folder:
        stage(Path(folder))
        command = [sys.executable, "-m", "sphinx", "-b", "html", "-c", DOCS, "-W", "--keep-going", "-q", "-n", "-E", folder, out]
        code = subprocess.run(command, check=False).returncode
    print(f"{out / 'index.html'}" if not code else "the site was not built without warnings; see above", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
