"""The GPU run without a GPU: parts that pass, hang, crash and are cut off; what goes on; tests whose process is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks/gpu")]

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {gpu!r})
from run import Part, Run
parts = [Part(name, seconds, command) for name, seconds, command in {parts!r}]
sys.exit(Run(Path({work!r}), Path({out!r}), {total}).all(parts, {again!r}))
"""
PARTS = [
    ("first", 20.0, "echo one; echo $WORK"),
    ("hangs", 0.7, "echo deadlock; sleep 300 & echo $! > {work}/child; wait"),
    ("crashes", 20.0, "echo fault; kill -SEGV $$"),
    ("fails", 20.0, "false | true"),
    ("last", 20.0, "echo two >> {work}/count"),
]


class Folder:
    def __init__(self, path: Path) -> None:
        self.work, self.out = path / "work", path / "out"
        self.work.mkdir()
        self.out.mkdir()

    def start(self, parts: list[tuple[str, float, str]], total: float = 60, again: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        told = [(name, seconds, command.replace("{work}", str(self.work))) for name, seconds, command in parts]
        script = DRIVER.format(
            gpu=str(ROOT / "benchmarks/gpu"), parts=told, work=str(self.work), out=str(self.out), total=total, again=list(again)
        )
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)

    def run(self, parts: list[tuple[str, float, str]], total: float = 60, again: tuple[str, ...] = ()) -> int:
        child = self.start(parts, total, again)
        child.communicate(timeout=60)
        return child.returncode

    def outcome(self, name: str) -> str:
        return str(json.loads((self.work / "state.json").read_text())[name]["outcome"])

    def archived(self) -> dict[str, str]:
        with tarfile.open(self.out / "gpu_run.tar.gz") as archive:
            return {m.name: archive.extractfile(m).read().decode() for m in archive.getmembers()}  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def gone(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] if Path("/proc").exists() else ""
            if state == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_a_part_that_hangs_or_crashes_takes_nothing_along(folder: Folder) -> None:
    assert folder.run(PARTS) == 1
    assert [folder.outcome(name) for name, *_ in PARTS] == ["passed", "stopped", "failed", "failed", "passed"]
    assert gone(int((folder.work / "child").read_text()))  # what a part started ends with it
    kept = folder.archived()
    assert "deadlock" in kept["hangs.log"]
    assert "two" in kept["count"]
    assert "| hangs | stopped at its limit of 1 s" in kept["report.md"]
    assert "exit status -11" in kept["report.md"]
    assert (folder.out / "report.md").read_text() == kept["report.md"]


def test_a_second_call_does_only_what_is_left(folder: Folder) -> None:
    folder.run(PARTS)
    assert folder.run([*PARTS, ("new", 20.0, "true")]) == 1
    assert (folder.work / "count").read_text() == "two\n"
    assert folder.outcome("new") == "passed"
    for name in ("first", "hangs", "crashes", "fails"):  # what failed is not tried again either, unless asked for
        assert (folder.work / f"{name}.log").read_text().count("$ ") == 1
    folder.run(PARTS, again=("last",))
    assert (folder.work / "count").read_text() == "two\ntwo\n"


def test_a_run_that_is_ended_keeps_its_log_and_goes_on(folder: Folder) -> None:
    parts = [
        ("early", 20.0, "echo early"),
        ("cut", 20.0, "echo begun; touch {work}/begun; [ -e {work}/go ] || sleep 300"),
        PARTS[-1],
    ]
    child = folder.start(parts)
    while not (folder.work / "begun").exists():
        time.sleep(0.05)
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert child.returncode == 3
    assert folder.outcome("cut") == "cut off"
    assert "begun" in folder.archived()["cut.log"]
    assert not (folder.work / "count").exists()
    (folder.work / "go").touch()
    assert folder.run(parts) == 0
    assert [folder.outcome(name) for name, *_ in parts] == ["passed"] * 3


def test_a_machine_that_goes_away_loses_one_part(folder: Folder) -> None:
    parts = [("early", 20.0, "echo early"), ("cut", 20.0, "touch {work}/begun; until [ -e {work}/go ]; do sleep 0.1; done")]
    child = folder.start(parts)
    while not (folder.work / "begun").exists():
        time.sleep(0.05)
    child.kill()
    child.communicate()
    assert folder.outcome("cut") == "running"
    assert "early" in folder.archived()["early.log"]
    (folder.work / "go").touch()
    assert folder.run(parts) == 0


def test_what_the_whole_has_no_time_for_is_left_for_the_next_call(folder: Folder) -> None:
    parts = [("long", 20.0, "[ -e {work}/go ] || sleep 300"), PARTS[-1]]
    assert folder.run(parts, total=5.5) == 3
    assert folder.outcome("long") == "cut off"  # not "stopped": its own limit was longer
    assert folder.outcome("last") == "left out"
    (folder.work / "go").touch()
    assert folder.run(parts) == 0


FAULTY = """
import os, time
import pytest

def test_before(): pass
def test_crashes(): os.abort()
def test_between(): pass
def test_loses_the_gpu(): raise RuntimeError("v9: an illegal address; this process can no longer use the GPU")
def test_hangs(): time.sleep(300)
@pytest.mark.skip
def test_skipped(): pass
def test_wrong(): assert False
def test_after(): pass
"""


def test_a_worker_that_is_lost_is_replaced(tmp_path: Path) -> None:
    import tests_apart

    (tmp_path / "test_faulty.py").write_text(FAULTY)
    told = tmp_path / "told.jsonl"
    line = tests_apart.run_group("faulty", [str(tmp_path / "test_faulty.py"), "-c", os.devnull], told, quiet_limit=20)
    found = {test.split("::")[1]: outcome for test, outcome in tests_apart.last_told(told).items()}
    assert found == {
        "test_before": "passed", "test_crashes": "CRASHED (-6)", "test_between": "passed", "test_loses_the_gpu": "failed",
        "test_hangs": "HANGS", "test_skipped": "skipped", "test_wrong": "failed", "test_after": "passed",
    }, told.with_suffix(".log").read_text()  # fmt: skip
    assert "3 passed" in line
    before = told.read_text()
    tests_apart.run_group("faulty", [str(tmp_path / "test_faulty.py"), "-c", os.devnull], told, quiet_limit=6)
    assert told.read_text() == before  # nothing is run again


def test_every_test_of_a_version_has_a_group() -> None:
    import tests_apart

    chosen = tests_apart.groups("cuda", few=False)
    assert next(iter(chosen)) == "v7"
    assert chosen["v1"][-1] == "cuda-v1- or cuda-v1]"  # ids that end in [cuda-v1] too
    for version in tests_apart.VERSIONS:
        assert f"not cuda-{version}]" in chosen["rest"][-1]


def test_nodes_of_a_step_are_found_among_many(tmp_path: Path) -> None:
    import nodes

    step = ["gather_kernel", "conv_kernel", "conv_kernel", "sgd_kernel"]
    names = ["fill_kernel", *step * 20, "loss_kernel"]
    events = [(name, 10.0 * i, 1.0 + i % 4) for i, name in enumerate(names)]
    found = nodes.by_node(events[::-1], 20)
    assert sorted(name for name, _ in found) == sorted(step)
    assert sum(us for _, us in found) == 1 + 2 + 3 + 4
    with pytest.raises(RuntimeError, match="no sequence"):
        nodes.by_node([(f"{i}_kernel", float(i), 1.0) for i in range(80)], 20)


def test_references_by_torch_are_the_oracles() -> None:
    pytest.importorskip("torch")
    import oracle
    import torch_references

    random = np.random.default_rng(0)
    x, w, bias = random.normal(size=(2, 4, 7, 6)), random.normal(size=(6, 2, 3, 2)), random.normal(size=6)
    how = {"stride": (2, 1), "pad": (1, 0, 2, 1), "groups": 2}
    y = oracle.conv2d(x, w, bias, **how)
    np.testing.assert_allclose(torch_references.conv2d(x, w, bias, **how), y, rtol=1e-12, atol=1e-12)
    for own, theirs in zip(oracle.conv2d_backward(y, x, w, **how), torch_references.conv2d_backward(y, x, w, **how), strict=True):
        np.testing.assert_allclose(theirs, own, rtol=1e-12, atol=1e-10)


def test_parts_begin_with_the_newest_and_fit_a_call() -> None:
    import parts

    found = [p for p in parts.on_gpu() if not p.name.startswith("build")]
    names = [p.name for p in found]
    assert names.index("smoke") < names.index("step-v7-v5-64") < names.index("rival-64") < names.index("nodes-bf16")
    assert names.index("nodes-bf16") < names.index("tests") < names.index("memcheck") < names.index("operations-bf16")
    assert len(set(names)) == len(names)
    # What tells most, even if each takes its whole limit.
    assert sum(p.seconds for p in found[: names.index("nodes-fp32")]) <= 310
    assert all(p.command or p.why_not for p in found + parts.rehearsal())
