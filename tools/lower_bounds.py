"""Tries the package with the oldest versions that its bounds allow.

    python tools/lower_bounds.py [--python python3.10] [--extras test] [-- PYTEST_ARGUMENTS]

Makes a fresh environment, installs every dependency of pyproject.toml in the lowest version of its bound (of an extra's too),
then this checkout, and runs pytest with the arguments; without any, the tests of the Python package and the command line. That
an old library calls what a newer one beside it has deprecated is no error here.
Prints the versions that stood there. The exit status is pytest's. The interpreter must be old enough to have wheels of them:
Python 3.10.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TESTS = ["-q", "tests/python", "tests/cli"]


def oldest(items: list[str]) -> list[str]:
    """Requirements of exactly the lowest version that each allows."""
    found = []
    for requirement in map(Requirement, items):
        lowest = [s.version for s in requirement.specifier if s.operator in (">=", "==", "~=")]
        if lowest:
            found.append(f"{requirement.name}=={lowest[0]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="python3.10", help="the interpreter of the environment (default: %(default)s)")
    parser.add_argument("--extras", default="test", help="extras to install too, with commas (default: %(default)s)")
    parser.add_argument("tests", nargs="*", default=TESTS, help="arguments for pytest, after --")
    options = parser.parse_args()
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [e for e in options.extras.split(",") if e]
    wanted = oldest([*project["dependencies"], *(item for e in extras for item in project["optional-dependencies"][e])])
    with tempfile.TemporaryDirectory(prefix="warploom-oldest.") as folder:
        subprocess.run([options.python, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        package = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package, *wanted], check=True)
        subprocess.run([python, "-m", "pip", "list"], check=True)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [python, "-m", "pytest", "-W", "default::DeprecationWarning", *options.tests], cwd=ROOT, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
