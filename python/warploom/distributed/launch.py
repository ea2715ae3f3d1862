"""`--workers N`: the same command again, N times, by the mpirun that belongs to mpi4py's MPI."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from warploom.distributed import nccl_interop as nccl
from warploom.distributed.groups import library, why_no_mpi
from warploom.distributed.guard import LAUNCHER
from warploom.errors import DeviceError


def mpirun() -> str:
    """The launcher beside this Python (the mpich wheel's), else on the PATH; "" where there is none."""
    for folder in (Path(sys.executable).parent, Path(sys.prefix) / "bin"):
        for name in ("mpiexec", "mpirun"):
            if os.access(folder / name, os.X_OK):
                return str(folder / name)
    return shutil.which("mpiexec") or shutil.which("mpirun") or ""


def start(workers: int, arguments: list[str]) -> int:
    """Runs `warploom arguments` on several workers; the exit code. Their output is this process's."""
    why = why_no_mpi() or ("" if mpirun() else "mpi4py has an MPI library, but there is no mpirun: pip install mpich")
    if why:
        raise DeviceError(f"--workers needs MPI: {why}")
    own = ["--oversubscribe"] if "Open MPI" in library() else []  # more workers than cores, as MPICH allows
    command = [mpirun(), *own, "-n", str(workers), sys.executable, "-m", "warploom", *arguments]
    answer = os.memfd_create("warploom-exit-code")  # a file without a name: nothing is left of it, however this ends
    told = f"{os.getpid()}:{answer}@{socket.gethostname()}"
    asked: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: object) -> None:
        asked.append(number)
        if process is not None:
            with contextlib.suppress(OSError):
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command, env={**os.environ, LAUNCHER: told})
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        for number in asked[-1:]:  # MPICH's mpiexec, which lives on, loses a signal that comes in its first milliseconds
            forward(number, None)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        said = os.pread(answer, 16, 0)
        os.close(answer)
    # mpirun's own code says whichever worker it saw first: the one that ended, or one that it then killed
    if said:
        return int(said)
    return code if code >= 0 else 128 - code


def engines() -> list[tuple[str, bool, str]]:
    """What can carry numbers between workers here: (name, usable, which one or why not)."""
    rows = [
        (
            "mpi",
            not why_no_mpi(),
            why_no_mpi() or f"{library()}, started by {mpirun() or 'a launcher of its own (no mpirun here)'}",
        )
    ]
    why = "" if shutil.which("torchrun") else "for torchrun only, which is not installed: pip install torch"
    return [
        *rows,
        ("gloo", not why, why or "PyTorch's, for workers that torchrun starts"),
        ("nccl", not nccl.why_not(), nccl.why_not() or f"NCCL {nccl.version()}, between GPUs, beside one of the others"),
    ]
