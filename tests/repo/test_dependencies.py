"""docs/dependencies.md gives a reason for every dependency, with pyproject.toml's bound; an installation carries the notices."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML files")
ROOT = Path(__file__).resolve().parents[2]
OWN = "warploom"


def asked() -> dict[tuple[str, str], str]:
    """(list or extra, package) -> bound, of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = {"build": project["build-system"]["requires"], "run": project["project"]["dependencies"]}
    found = {}
    for where, items in (lists | project["project"]["optional-dependencies"]).items():
        for requirement in map(Requirement, items):
            if requirement.name != OWN:
                found[where, requirement.name] = str(requirement.specifier) or "any"
    return found


def told() -> dict[str, str]:
    """Package -> bound, of the page's tables."""
    found = {}
    for line in (ROOT / "docs/dependencies.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] not in ("package", "extra"):
            name, bound, why, licence = cells[-4:]
            assert len(why) > 8, f"{name} has no reason"
            assert licence, f"{name} has no licence"
            found[name] = bound
    return found


def test_every_dependency_has_its_line() -> None:
    bounds = told()
    for (where, name), bound in asked().items():
        assert name in bounds, f"docs/dependencies.md does not say why '{name}' ({where}) is needed"
        assert bounds[name] == bound, f"'{name}' is {bound} in pyproject.toml ({where}), {bounds[name]} in docs/dependencies.md"
    left = bounds.keys() - {name for _, name in asked()}
    assert not left, f"docs/dependencies.md names what nothing asks for: {sorted(left)}"


def test_an_installation_carries_licence_and_notices() -> None:
    try:
        files = metadata.files(OWN)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed: this is a checkout built in place")
    names = {path.name for path in files or () if ".dist-info" in path.as_posix()}
    assert names >= {"LICENSE", "NOTICE"}
