"""Pages that are made from the sources are up to date."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


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
    spec = importlib.util.spec_from_file_location("make_version_table", ROOT / "docs/make_version_table.py")
    assert spec is not None
    assert spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
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
