"""The ladder as files: every rung is right, compiles for a GPU, counts as its page says; every exercise is found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from warploom import lab
from warploom.cli import main
from warploom.cli.ladder import architecture, files
from warploom.errors import StateError
from warploom.kernel_tools.kernels import find_tool
from warploom.lab.profile import profile

ROOT = Path(__file__).resolve().parents[2]
RUNGS = sorted((ROOT / "ladder").glob("*.cu"))
PAGE = (ROOT / "docs/ladder.md").read_text()
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def exercises() -> list[tuple[str, str, str, str, str]]:
    """(rung, what is replaced, by what, option, what is found), from the page."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        for m in re.finditer(r"^- `(.+?)` → (?:`(.+?)`|nothing)(?: with `(.+?)`)?: `([\w-]+)`$", section, re.MULTILINE):
            found.append((section[:2], m.group(1), m.group(2) or "", m.group(3) or "", m.group(4)))
    return found


def try_exercise(exercise: tuple[str, str, str, str, str], folder: Path) -> str:
    """What is wrong with it; empty where it is as the page says."""
    rung, old, new, option, code = exercise
    path = next(p for p in RUNGS if p.stem.startswith(rung))
    source = path.read_text()
    if old not in source:
        return f"{path.stem} does not contain {old!r}"
    broken = folder / f"{path.stem}_{abs(hash(exercise))}.cu"
    broken.write_text(source.replace(old, new, 1))
    options = [option] if option else []
    if code == "bank-conflicts":
        before = profile(path, options=options, registers=False).counted[0].kernel.traffic["shared", "load"].ratio
        after = profile(broken, options=options, registers=False).counted[0].kernel.traffic["shared", "load"].ratio
        return "" if before < 1.05 and after > 1.3 else f"{path.stem}: {old!r}: {before:.2f} became {after:.2f} times the ideal"
    found = {f.code for f in lab.check(broken, options=options, timeout=60).findings}
    return "" if code in found else f"{path.stem}: {old!r}: {code} was not found, but {sorted(found)}"


def test_rungs_share_their_end_and_each_has_its_page() -> None:
    assert len(RUNGS) == 13
    assert len({p.read_text().split("// ---- From here on")[1] for p in RUNGS}) == 1
    for path in RUNGS:
        assert re.search(rf"^## {path.stem[:2]} ", PAGE, re.MULTILINE), f"docs/ladder.md has no section on {path.stem}"
    assert {e[0] for e in exercises()} == {p.stem[:2] for p in RUNGS}, "a rung has no exercise"
    assert [path.name for path in files(["03", "tma"])] == [RUNGS[2].name, RUNGS[9].name]


@needs_compiler
def test_every_rung_is_right_and_without_findings() -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lab.check, RUNGS))
    for path, report in zip(RUNGS, reports, strict=True):
        assert not report.findings, lab.as_text(report)
        assert report.complete, path
        assert report.exit_code == 0, path


@needs_compiler
def test_every_exercise_is_found(tmp_path: Path) -> None:
    assert len(exercises()) >= 30
    with ThreadPoolExecutor(2) as pool:
        problems = [text for text in pool.map(lambda e: try_exercise(e, tmp_path), exercises()) if text]
    assert not problems, "\n".join(problems)


@needs_compiler
def test_the_table_of_counters(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ladder", "01", "02", "12", "--json", "--html", str(tmp_path)]) == 0
    naive, coalesced, halo = json.loads(capsys.readouterr().out)
    assert {p.name for p in tmp_path.iterdir()} == {"01_naive.html", "02_coalesced.html", "12_halo.html"}
    flops = 2 * 9 * 16 * 16 * 64 * 64
    inside = (16 * 3 - 2) ** 2 / (16 * 3) ** 2  # taps that are not in the padding, which 01 and 02 skip and tiles multiply by 0
    for rung in (naive, coalesced):
        assert rung["kernels"][0]["scalar_flops"] == round(flops * inside)
    assert halo["kernels"][-1]["tensor_flops"] == flops
    assert naive["kernels"][0]["coalescing"] > 6
    assert coalesced["kernels"][0]["coalescing"] == pytest.approx(1, abs=0.01)
    for rung, section in ((naive, "01 naive"), (coalesced, "02 coalesced"), (halo, "12 halo")):
        row = re.search(rf"^\| {section} \| ([\d.]+) (MiB|KiB) \| ([\d.]+) ", PAGE, re.MULTILINE)
        assert row is not None
        counted = rung["kernels"][-1]
        assert counted["global_bytes"] / (1 << 20 if row[2] == "MiB" else 1 << 10) == pytest.approx(float(row[1]), rel=0.01)
        assert counted["coalescing"] == pytest.approx(float(row[3]), abs=0.006)
    assert main(["ladder", "nosuch"]) == 2
    assert main(["ladder", "--shape", "x"]) == 2


@pytest.mark.parametrize("path", RUNGS, ids=lambda p: p.stem)
def test_compiles_for_a_gpu(path: Path, tmp_path: Path) -> None:
    try:
        nvcc = find_tool("nvcc")
    except StateError as e:
        pytest.skip(f"no nvcc: {e}")
    arch = architecture(path)
    command = [nvcc, "-std=c++17", "-Werror", "all-warnings", "-gencode", f"arch=compute_{arch},code=sm_{arch}", "-cubin"]
    done = subprocess.run([*command, str(path), "-o", str(tmp_path / "rung.cubin")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "warnings"
