"""Saving: what a crash, a full disk or a signal leaves is the old file or the new one, and a run goes on to the same bits.

A small part of what fail_saves.py and kill_runs.py try; see docs/reliability.md.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import broken_runs
import numpy as np
import pytest
import warploom as wl
from fail_saves import fail_each
from kill_runs import kill_some
from warploom.ground import atomic
from warploom.ground.atomic import (
    _nameless,
    atomic_stream,
    metadata_of,
    read_tensors,
    sweep,
    write_atomically,
    write_tensors,
)
from warploom.runs.run import RunFolder

_EVERY = 17  # of some 90 calls


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = broken_runs.compiled(tmp_path_factory.mktemp("library"))
    if found is None:
        pytest.skip("a C compiler and Linux are needed to make file-system calls fail")
    return found


@pytest.mark.parametrize("how", list(broken_runs.HOWS))
def test_a_failed_call_loses_nothing(how: str, library: Path, tmp_path: Path) -> None:
    first = 1 + list(broken_runs.HOWS).index(how)  # other calls for each
    with broken_runs.worker(library) as at:
        failed, wrong = fail_each(at, tmp_path, "memory", [how], _EVERY, first)
    assert failed >= 4
    assert not wrong, wrong


@pytest.mark.parametrize("kind", ["memory", "mapped", "lazy"])
def test_killed_runs_end_as_whole_ones(kind: str, tmp_path: Path) -> None:
    with broken_runs.worker() as at:
        hit, _, wrong = kill_some(at, tmp_path, kind, 3, seed=1)
    assert hit >= 3
    assert not wrong, wrong


def test_stopped_by_a_signal(tmp_path: Path) -> None:
    with broken_runs.worker() as at:
        _, _, wrong = kill_some(at, tmp_path, "memory", 2, seed=2, number=signal.SIGTERM)
    assert not wrong, wrong


SYSTEMS = ["files without a name", "none", "none that may get one"]


def become(system: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes the folder's file system one of SYSTEMS."""
    probe = _nameless(folder)
    if probe is None:
        pytest.skip("this file system has no files without a name")
    os.close(probe)
    opened = os.open

    def refuses(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no such files here")
        return opened(path, flags, *more, **named)

    def forbids(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if system == "none":
        patch.setattr(os, "open", refuses)
    elif system == "none that may get one":
        patch.setattr(os, "link", forbids)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_order_of_a_save(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and mode are on the disk before the name is, and the name before the call returns."""
    become(system, tmp_path, monkeypatch)
    done: list[str] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def synchronised(descriptor: int) -> None:
        about = os.fstat(descriptor)
        folder = stat.S_ISDIR(about.st_mode)
        done.append("folder" if folder else f"file of {about.st_size} bytes, {about.st_mode & 0o777:o}")
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        done.append("name")
        replace(source, target)

    def linked(source: Any, target: Any, **how: Any) -> None:
        link(source, target, **how)
        done.append("name" if Path(target).name == "x" else "hidden name")

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "link", linked)
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", b"12345")
        once = list(done)
        write_atomically(tmp_path / "x", b"6789")
    finally:
        os.umask(before)
    twice = ["file of 5 bytes, 640"] * (1 + (system == SYSTEMS[2]))  # where no link may be made, the bytes are copied
    assert once == [*twice, "name", "folder"]
    hidden = ["hidden name"] * (system == SYSTEMS[0])
    assert done[len(once) :] == [word.replace("5", "4") for word in twice] + [*hidden, "name", "folder"]
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "close"])
def test_an_error_keeps_the_old_file(call: str, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    real = getattr(os, call)

    def failing(first: Any, *rest: Any) -> Any:
        if call == "close":
            real(first)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        become(system, tmp_path, patch)
        patch.setattr(os, call, failing)
        if call == "close" and system == SYSTEMS[0]:  # after fsync and the name
            path.unlink()
            write_atomically(path, b"old")
        else:
            with pytest.raises(wl.DataError, match=r"cannot write .*Input/output error"):
                write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    swept = [".checkpoint.safetensors.abcd_f12", ".checkpoint.safetensors.12ab34cd.tmp", ".loss.png.00000000.tmp"]
    kept = [".notes.tmp", ".hidden", "checkpoint.safetensors.abcdefgh", ".checkpoint.safetensors", "model.safetensors.tmp"]
    for name in [*swept, *kept]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".folder.png.00000000.tmp").mkdir()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".folder.png.00000000.tmp"])


def test_a_name_written_by_a_killed_save_is_what_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, names = [], ["config.json", "loss.png", "metrics.jsonl", "model.safetensors"]
    for name in names:
        write_atomically(tmp_path / name, b"x")
    monkeypatch.setattr(os, "replace", lambda source, target: left.append(Path(source).name))
    for name in names:
        write_atomically(tmp_path / name, b"y")
    assert len(left) == 4
    assert sorted(os.listdir(tmp_path)) == sorted([*left, *names])
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == names


def test_the_checksum_is_of_all(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(
        path, {"b": np.ones((2, 3), np.float32), "a": np.zeros(0, np.float32)}, {"format": "warploom-model-2", "n": [1]}
    )
    tensors, metadata = read_tensors(path)
    assert (sorted(tensors), metadata) == (["a", "b"], {"format": "warploom-model-2", "n": [1]})
    from safetensors.numpy import save_file

    def write(tensors: dict[str, Any], changes: dict[str, Any]) -> None:
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            whole = json.loads(file.metadata()["warploom"])
        save_file(tensors, tmp_path / "y.safetensors", {"warploom": json.dumps({**whole, **changes})})

    good = {k: np.array(v) for k, v in tensors.items()}
    write(good, {})
    assert sorted(read_tensors(tmp_path / "y.safetensors")[0]) == ["a", "b"]
    for tensors, changes in (
        (good, {"n": [2]}),
        (good, {"checksum": None}),
        (good, {"checksum": "text"}),
        ({**good, "c": good["a"]}, {}),
        ({**good, "b": good["b"].reshape(3, 2)}, {}),
        ({**good, "b": -good["b"]}, {}),
        ({"a": good["b"], "b": good["a"]}, {}),
    ):
        write(tensors, changes)
        with pytest.raises(wl.DataError, match="damaged"):
            read_tensors(tmp_path / "y.safetensors")


def test_a_signal_that_interrupts_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, left = os.replace, [3]

    def interrupted(source: Any, target: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise InterruptedError
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    write_atomically(tmp_path / "x", b"old")
    write_atomically(tmp_path / "x", b"new")
    assert left[0] < 0
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_signal_that_interrupts_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that a signal interrupts has closed, but Python reports it: what was read is read again."""
    write_tensors(tmp_path / "x.safetensors", {"a": np.ones(3, np.float32)}, {"format": "warploom-model-2"})
    folder = RunFolder(tmp_path)
    folder.metrics_path.write_text('{"epoch": 1, "train_loss": 0.5, "version": "cpu", "device": "cpu"}\n')
    expected = (read_tensors(tmp_path / "x.safetensors")[1], metadata_of(tmp_path / "x.safetensors"), folder.read_metrics())
    assert expected[2]
    opened, left = io.open, [0]

    class Interrupted(io.BufferedReader):
        def __exit__(self, *_: Any) -> None:
            self.close()
            left[0] += 1
            if left[0] % 3:
                raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    monkeypatch.setattr(io, "open", lambda *a, **k: Interrupted(opened(*a, **k).detach()))
    found = (read_tensors(tmp_path / "x.safetensors")[1], metadata_of(tmp_path / "x.safetensors"), folder.read_metrics())
    monkeypatch.undo()
    assert found == expected
    assert left[0] == 9


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stream_is_whole_under_its_name_or_not_there(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(system, tmp_path, monkeypatch)
    path = tmp_path / "x.npy"
    for content in (b"one", b"another"):
        with atomic_stream(path) as file:
            file.write(content)
            file.flush()
            there = {p.name for p in tmp_path.iterdir()} - {"x.npy"}
            assert bool(there) == (system == "none")
        assert path.read_bytes() == content
        assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_killed_stream_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom warploom.ground.atomic import atomic_stream\n"
        "with atomic_stream(sys.argv[1]) as file:\n"
        "    file.write(bytes(100_000))\n    file.flush()\n    print('written', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.npy")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    probe = _nameless(tmp_path)
    if probe is None:
        pytest.skip("this file system has no files without a name")
    os.close(probe)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.npy"
    with atomic_stream(path) as file:
        file.write(b"one")

    def fails() -> None:
        with atomic_stream(path) as file:
            file.write(b"two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["x.npy"]
    with pytest.raises(wl.DataError, match=r"cannot write .*deep: Is a directory"), atomic_stream(path.parent):
        pass
