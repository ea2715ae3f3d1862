"""NCCL without a GPU: a library of the same symbols, between workers on cpu and emulated devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launching import needs_mpi, results, run
from test_workers import alone
from warploom.distributed import nccl_interop as nccl

HERE = Path(__file__).parent
CALLS = ("ncclGetUniqueId", "ncclCommInitRank", "ncclGroupStart", "ncclSend", "ncclRecv", "ncclGroupEnd")


def built(folder: Path, *flags: str) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    library = folder / f"libstub{len(flags)}.so"
    command = ["g++", "-std=c++17", "-shared", "-fPIC", "-O1", *flags, "-o", str(library), str(HERE / "stub_nccl.cpp")]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("nccl"))


@pytest.fixture
def used(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers take the stub; the folder of its log."""
    monkeypatch.setenv(nccl.VARIABLE, str(stub))
    monkeypatch.setenv("STUB_NCCL", str(tmp_path))
    return tmp_path


def log(folder: Path, rank: int) -> list[str]:
    return (folder / f"log-{rank}").read_text().splitlines()


@needs_mpi
@pytest.mark.parametrize(("device", "workers"), [("cpu", 2), ("cpu", 3), ("emulated", 2)])
def test_the_bits_of_one_and_the_calls(device: str, workers: int, used: Path) -> None:
    code, out, err, _ = run(workers, device, "none", "0", "0")
    assert code == 0, err
    assert {result["bits"] for result in results(out)} == {alone(device)["bits"]}
    for rank in range(workers):
        calls = log(used, rank)
        names = [call.split()[0] for call in calls]
        begin = names.index("ncclCommInitRank")
        assert calls[begin] == f"ncclCommInitRank {workers} {rank}"
        assert names[-1] == "ncclCommDestroy"
        assert names.count("ncclGroupStart") == names.count("ncclGroupEnd") > 0
        inside = False
        for name in names[begin + 1 : -1]:
            assert (name == "ncclGroupStart") is not inside
            inside = name != "ncclGroupEnd"
        sent = sorted(line.split()[1] for other in range(workers) if other != rank for line in log(used, other)
                      if line.startswith("ncclSend") and line.endswith(f" {rank}"))  # fmt: skip
        assert sorted(line.split()[1] for line in calls if line.startswith("ncclRecv")) == sent


@needs_mpi
@pytest.mark.parametrize(("clip", "shared", "fast"), [(1, False, False), (0, True, False), (0, False, True)])
def test_buckets_are_sent_in_one_order(clip: int, shared: bool, fast: bool, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 buckets of 64 numbers at every step, two groups each, the same on every worker; the bits are those of one piece."""
    told = {"bucket_mb": 0.0002, "shard_optimizer": shared, "reduce": "fast" if fast else "same"}
    monkeypatch.setenv("SMALL_OPTIONS", json.dumps(told))
    monkeypatch.setenv("SMALL_CLIP", str(clip))
    code, out, err, _ = run(2, "cpu", "none", "0", "0")
    assert code == 0, err
    steps = 4 * 3  # two epochs, one that streams and one of augmented images, of three batches
    calls = [[line for line in log(used, rank) if line.startswith(("ncclGroupStart", "ncclAllReduce"))] for rank in (0, 1)]
    assert calls[0] == calls[1]
    assert len(calls[0]) == steps * (8 if fast else 2 * 8 + shared)
    sent = [[line.split()[1] for line in log(used, rank) if line.startswith("ncclSend")] for rank in (0, 1)]
    received = [[line.split()[1] for line in log(used, rank) if line.startswith("ncclRecv")] for rank in (0, 1)]
    assert sent[0] == received[1]
    assert sent[1] == received[0]
    monkeypatch.setenv("SMALL_OPTIONS", "{}")
    monkeypatch.setenv(nccl.VARIABLE, "off")
    assert fast or {result["bits"] for result in results(out)} == {alone("cpu")["bits"]}


@needs_mpi
def test_synchronised_batch_norms_meet_beside_it(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the host, while gradients go by NCCL, in buckets."""
    monkeypatch.setenv("SMALL_OPTIONS", '{"sync_batch_norm": true, "bucket_mb": 0.0002}')
    code, out, err, _ = run(2, "emulated", "none", "0", "0")
    assert code == 0, err
    assert [line for line in log(used, 0) if line.startswith("ncclSend")]
    assert {result["bits"] for result in results(out)} == {alone("emulated")["bits"]}


@needs_mpi
def test_parts_of_the_optimizer_and_the_all_reduce(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_OPTIONS", '{"shard_optimizer": true}')
    code, out, err, _ = run(2, "cpu", "none", "0", "0")
    assert code == 0, err
    assert {result["bits"] for result in results(out)} == {alone("cpu")["bits"]}
    assert not [line for line in log(used, 0) if line.startswith("ncclAllReduce")]
    monkeypatch.setenv("SMALL_OPTIONS", '{"reduce": "fast"}')
    code, out, err, _ = run(2, "cpu", "none", "0", "0")
    assert code == 0, err
    assert len({result["bits"] for result in results(out)}) == 1
    assert [line for line in log(used, 0) if line.startswith("ncclAllReduce")]


@needs_mpi
@pytest.mark.parametrize("call", [*CALLS, "ncclAllReduce"])
def test_an_error_of_any_call_is_one_sentence(call: str, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_NCCL_FAIL", call)
    monkeypatch.setenv("SMALL_OPTIONS", '{"reduce": "fast"}' if call == "ncclAllReduce" else "{}")
    code, _, err, _ = run(2, "cpu", "none", "0", "0", seconds=60)
    assert code != 0
    assert f"{call} failed on rank 0 with error 2 (unhandled system error)" in err
    said = [line for line in err.splitlines() if "; all workers were stopped" in line]
    assert len(said) <= 1, err


def devices(library: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warploom", "devices"], capture_output=True, text=True, check=True,
        env={**os.environ, nccl.VARIABLE: library, "COLUMNS": "300"},
    )  # fmt: skip
    return next(line for line in done.stdout.splitlines() if line.startswith("nccl"))


def test_devices_say_why_not(stub: Path, tmp_path: Path) -> None:
    assert "NCCL 2.28.3" in devices(str(stub))
    assert "lacks ncclAllReduce" in devices(str(built(tmp_path, "-DSTUB_LACKS_ALLREDUCE")))
    assert "pip install nvidia-nccl-cu13" in devices(str(tmp_path / "nothing.so"))


def test_the_wheel_has_every_symbol(tmp_path: Path) -> None:
    """Where it is installed: it loads without a GPU."""
    done = subprocess.run(
        [sys.executable, "-c", "from warploom.distributed import nccl_interop as nccl; print(nccl.why_not() or nccl.version())"],
        capture_output=True, text=True, check=True, env={k: v for k, v in os.environ.items() if k != nccl.VARIABLE},
    )  # fmt: skip
    if "pip install" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.stdout.strip().startswith("2.")
