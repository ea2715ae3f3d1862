"""Workers that are killed, fail, cannot start or differ: all end soon, one sentence says who, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_workers import kill_some, trainer
from launching import environment, living, needs_mpi, run
from warploom.distributed import launch
from warploom.distributed.launch import mpirun
from warploom.ground.atomic import read_tensors

pytestmark = needs_mpi
TRIES = int(os.environ.get("WARPLOOM_KILL_TRIES", "3"))
CLI = [
    "train",
    "--data",
    "patches",
    "--limit",
    "24",
    "--batch-size",
    "8",
    "--preset",
    "sharp",
    "--device",
    "cpu",
    "--epochs",
    "3",
]


def nothing_is_left(word: str) -> None:
    limit = time.monotonic() + 5
    while living(word, ours=True) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not living(word, ours=True)


def test_what_is_left_would_be_seen() -> None:
    code, launcher = "import time; print('here', flush=True); time.sleep(60)  # small.py", mpirun()
    assert launcher
    command = [launcher, "-n", "1", sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"here\n"
        found = living("small.py", ours=True)
        started.terminate()
    assert len(found) >= 2  # mpirun and the worker
    nothing_is_left("small.py")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_mpirun_loses_as_it_starts_is_sent_again(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPICH's mpiexec is deaf in its first milliseconds, and then starts workers that nobody stops."""
    deaf = tmp_path / "mpirun"
    text = f"import os, signal, time; signal.signal({number.value}, lambda *_: None); os.kill(os.getppid(), {number.value})"
    text += f"; time.sleep(0.3); signal.signal({number.value}, signal.SIG_DFL); time.sleep(30)"
    deaf.write_text(f"#!{sys.executable}\n{text}\n")
    deaf.chmod(0o755)
    monkeypatch.setattr(launch, "mpirun", lambda: str(deaf))
    assert launch.start(2, ["train"]) == 128 + number


@pytest.mark.parametrize("attempt", range(TRIES))
def test_a_killed_worker_is_named_and_all_end(attempt: int) -> None:
    rank, step = attempt % 3, 1 + 7 * attempt % 23
    code, _, err, _ = run(3, "cpu", "kill", str(rank), str(step), seconds=60)
    assert code != 0
    said = [line for line in err.splitlines() if line.startswith("warploom:")]
    assert len(said) == 1, err
    assert f"rank {rank} on host {os.uname().nodename} was killed by signal 9 (SIGKILL); all workers were stopped" in said[0]
    nothing_is_left("small.py")


@pytest.mark.parametrize(("rank", "bucket"), [(0, 1), (1, 11), (2, 23)])
def test_a_worker_killed_while_a_bucket_is_on_its_way(rank: int, bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_OPTIONS", '{"bucket_mb": 0.0002}')
    code, _, err, seconds = run(3, "cpu", "kill bucket", str(rank), str(bucket), seconds=60)
    assert code != 0
    assert seconds < 20
    said = [line for line in err.splitlines() if line.startswith("warploom:")]
    assert len(said) == 1, err
    assert f"rank {rank} on host {os.uname().nodename} was killed by signal 9 (SIGKILL); all workers were stopped" in said[0]
    nothing_is_left("small.py")


def test_a_bucket_that_cannot_be_sent_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the thread that sends is the worker's, which ends though the others wait for its bucket."""
    monkeypatch.setenv("SMALL_OPTIONS", '{"bucket_mb": 0.0002}')
    code, _, err, seconds = run(3, "cpu", "break bucket", "1", "12", seconds=60)
    assert code != 0
    assert seconds < 20
    assert "DeviceError: a cable is broken" in err
    assert f"rank 1 on host {os.uname().nodename} ended with exit code 1; all workers were stopped" in err
    nothing_is_left("small.py")


def test_a_killed_guard_ends_all() -> None:
    code, _, err, _ = run(3, "cpu", "guard", "1", "5", seconds=60)
    assert code != 0
    assert "warploom: error:" in err
    nothing_is_left("small.py")


def test_a_worker_that_fails_ends_all() -> None:
    code, _, err, _ = run(3, "cpu", "raise", "1", "5", seconds=60)
    assert code != 0
    assert "DataError: a file is gone" in err
    assert f"rank 1 on host {os.uname().nodename} ended with exit code 1; all workers were stopped" in err
    nothing_is_left("small.py")


def test_a_worker_that_cannot_start_ends_all() -> None:
    code, _, err, _ = run(2, "cpu", "absent", "1", "0", seconds=60)
    assert code != 0
    assert "mpi4py is not installed" in err
    nothing_is_left("small.py")


@pytest.mark.parametrize(
    ("fault", "words"), [("seed", "seed is 4"), ("batch", "batch_size is 13"), ("data", "the data's checksum is")]
)
def test_workers_that_differ_are_told_before_the_first_step(fault: str, words: str) -> None:
    code, _, err, _ = run(2, "cpu", fault, "1", "0", seconds=60)
    assert code != 0
    assert "the workers differ before the first step" in err
    assert words in err
    assert f"on rank 1 on host {os.uname().nodename}" in err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "warploom", *arguments]


def test_a_run_whose_worker_was_killed_goes_on_with_the_same_bits_on_another_number(tmp_path: Path) -> None:
    code, _, err, _ = run(1, command=command(*CLI, "--shards", "8", "--out", str(tmp_path / "whole")), seconds=240)
    assert code == 0, err
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        command(*CLI, "--workers", "2", "--out", str(broken)), stderr=subprocess.PIPE, text=True, env=environment()
    )
    limit = time.monotonic() + 120
    while not (broken / "checkpoint.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
    victim = trainer(1, str(broken))
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    err = process.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 10
    assert process.returncode != 0
    assert f"rank 1 on host {os.uname().nodename} was killed by signal 9" in err
    assert f"go on with: warploom train --resume {broken}" in err
    nothing_is_left(str(broken))
    code, out, err, _ = run(1, command=command("train", "--resume", str(broken), "--workers", "3"), seconds=240)
    assert code == 0, err
    assert "going on after epoch" in out
    whole, again = (read_tensors(tmp_path / folder / "checkpoint.safetensors")[0] for folder in ("whole", "broken"))
    assert whole.keys() == again.keys()
    assert all(whole[name].tobytes() == again[name].tobytes() for name in whole)


def test_a_checkpoint_of_a_shared_optimizer_is_whole(tmp_path: Path) -> None:
    """It goes on with another number of workers, and without sharing."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    short = [*CLI[:-1], "1", "--shards", "8"]
    for arguments in (  # a schedule may depend on --epochs, so both runs are told the same
        [*short, "--out", str(whole)],
        ["train", "--resume", str(whole), "--epochs", "2"],
        [*short, "--workers", "2", "--shard-optimizer", "--out", str(parts)],
        ["train", "--resume", str(parts), "--workers", "3", "--epochs", "2"],
    ):
        code, _, err, _ = run(1, command=command(*arguments), seconds=240)
        assert code == 0, err
    expected, found = (read_tensors(folder / "checkpoint.safetensors")[0] for folder in (whole, parts))
    assert expected.keys() == found.keys()
    assert all(expected[name].tobytes() == found[name].tobytes() for name in expected)


def test_some_random_kills(tmp_path: Path) -> None:
    """A few of what kill_workers.py tries; see docs/reliability.md."""
    rows = list(kill_some(tmp_path, TRIES, [2, 4], seed=5))
    assert sum(not row["ended"] for row in rows) == TRIES
    assert [text for row in rows for text in row["wrong"]] == []


def test_options_for_several_workers_need_them() -> None:
    code, _, err, _ = run(1, command=command(*CLI, "--shard-optimizer"), seconds=60)
    assert code == 2
    assert "--shard-optimizer is for several workers: add --workers N" in err


def test_a_killed_launcher_leaves_no_worker(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(*CLI, "--workers", "2", "--out", str(folder)), stderr=subprocess.DEVNULL, env=environment()
    )
    limit = time.monotonic() + 60
    while not (folder / "config.json").exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.kill()
    process.wait()
    limit = time.monotonic() + 10
    while living(str(folder)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not living(str(folder))


def test_an_error_of_all_is_said_once() -> None:
    code, _, err, _ = run(1, command=command("train", "--model", "nothing", "--workers", "3"), seconds=60)
    assert code == 2
    assert err.count("warploom: error:") == 1
    assert "nothing" in err


def test_the_exit_code_is_not_of_a_worker_that_mpirun_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """mpirun kills the others of a worker that ended with an error, and may answer with their 9."""
    hurried = tmp_path / "mpirun"
    hurried.write_text(f'#!/bin/sh\n"{mpirun()}" "$@"\nexit 9\n')
    hurried.chmod(0o755)
    monkeypatch.setattr(launch, "mpirun", lambda: str(hurried))
    monkeypatch.setenv("WARPLOOM_THREADS", "1")
    assert launch.start(2, ["train", "--model", "nothing"]) == 2
    assert launch.start(2, [*CLI, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert "unknown model 'nothing'" in capfd.readouterr().err


def test_a_run_without_shards_is_not_shared(tmp_path: Path) -> None:
    arguments = [*CLI[:-1], "1", "--limit-test", "8", "--out", str(tmp_path / "run")]
    code, _, err, _ = run(1, command=command(*arguments), seconds=120)
    assert code == 0, err
    code, _, err, _ = run(
        1, command=command("train", "--resume", str(tmp_path / "run"), "--epochs", "2", "--workers", "2"), seconds=60
    )
    assert code == 2
    assert "was begun by one worker without shards" in err
