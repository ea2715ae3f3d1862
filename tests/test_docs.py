"""Pages that are made from the sources are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_operations_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_operations.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/make_operations.py"
