"""The workers of a training, and how they reach each other: through MPI, or under torchrun through PyTorch's gloo."""

import atexit
import os
import pickle
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from warploom.ground.array_types import Array

_SPIN_SECONDS = 0.002  # a wait asks without a pause for so long, then every _PAUSE: the cores may be needed by who is waited for
_PAUSE, _PAUSE_BESIDE = 0.0003, 0.001  # beside this worker's own computing
_SLOWEST = 200e6  # bytes a second: so long it asks for what is on its way. Within a host every 16 KiB want to be asked for


class Group(Protocol):
    """All workers together; every one calls the same methods in the same order, from one thread at a time."""

    rank: int
    size: int
    engine: str  # what carries the bytes, in words
    failed: bool  # set before a worker ends with an error: it does not wait for the others
    computes: bool  # set while this worker computes meanwhile: meet() leaves it the core

    def exchange(self, value: Any) -> list[Any]:
        """Every worker's value (anything that can be pickled), by rank."""

    def meet(self) -> None:
        """Before large messages: all have come here, so that these are on their way at once."""

    def share(self, buffer: Array, counts: Sequence[int]) -> None:
        """Every worker has written its part of the flat buffer, parts in the order of ranks; after it all have all."""

    def swap(self, send: Array, send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]) -> None:
        """Part i of `send` goes to worker i; part i of `receive` came from it."""

    def spread(self, buffer: Array) -> None:
        """Rank 0's buffer to all."""

    def sum(self, buffer: Array) -> None:
        """Over all workers, in place, in an order of the engine's own."""


class Alone:
    """One worker."""

    rank, size, engine, failed, computes = 0, 1, "none: one worker", False, False

    def exchange(self, value: Any) -> list[Any]:
        return [value]

    def meet(self) -> None:
        pass

    def share(self, buffer: Array, counts: Sequence[int]) -> None:
        pass

    def swap(self, send: Array, send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]) -> None:
        receive[:] = send

    def spread(self, buffer: Array) -> None:
        pass

    def sum(self, buffer: Array) -> None:
        pass


class Mpi:
    """Through mpi4py. Waits by asking, so that signals arrive and a worker that waits leaves its core to others."""

    def __init__(self) -> None:
        MPI = _load()
        if not MPI.Is_initialized():
            MPI.Init_thread(MPI.THREAD_SERIALIZED)
            atexit.register(self._finalize)
        self.computes = False
        self.failed = False  # then the others do not come to the end, and MPI's own end would wait for them
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = int(self._comm.Get_rank()), int(self._comm.Get_size())
        self.engine = f"MPI ({library()})"

    def _finalize(self) -> None:
        if not self.failed:
            self.exchange(None)  # by asking: a worker that waits here leaves its core to the one that still writes
            self._mpi.Finalize()

    def _wait(self, request: Any, size: int) -> None:
        started, spins = time.perf_counter(), size / _SLOWEST + (0 if self.computes else _SPIN_SECONDS)
        while not request.Test():
            if time.perf_counter() - started < spins:
                os.sched_yield()
            else:
                time.sleep(_PAUSE)

    def meet(self) -> None:
        request, started = self._comm.Ibarrier(), time.perf_counter()
        while not request.Test():
            if self.computes:
                time.sleep(_PAUSE_BESIDE)
            elif time.perf_counter() - started < _SPIN_SECONDS:
                os.sched_yield()
            else:
                time.sleep(_PAUSE)

    def exchange(self, value: Any) -> list[Any]:
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(own)
        self.share(lengths, [1] * self.size)
        counts = [int(n) for n in lengths]
        everything = np.empty(sum(counts), np.uint8)
        first = sum(counts[: self.rank])
        everything[first : first + len(own)] = own
        self.share(everything, counts)
        ends = np.cumsum(counts)
        return [pickle.loads(everything[end - n : end].tobytes()) for n, end in zip(counts, ends, strict=True)]

    def share(self, buffer: Array, counts: Sequence[int]) -> None:
        self._wait(self._comm.Iallgatherv(self._mpi.IN_PLACE, [buffer, list(counts)]), buffer.nbytes)

    def swap(self, send: Array, send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]) -> None:
        request = self._comm.Ialltoallv([send, list(send_counts)], [receive, list(receive_counts)])
        self._wait(request, send.nbytes + receive.nbytes)

    def spread(self, buffer: Array) -> None:
        self._wait(self._comm.Ibcast(buffer, root=0), buffer.nbytes)

    def sum(self, buffer: Array) -> None:
        self._wait(self._comm.Iallreduce(self._mpi.IN_PLACE, buffer, self._mpi.SUM), buffer.nbytes)


def _load() -> Any:
    """mpi4py's MPI, which would else start MPI as it is imported."""
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize = mpi4py.rc.finalize = False
    from mpi4py import MPI

    return MPI


def why_no_mpi() -> str:
    """Why MPI cannot be used here, in a sentence; "" where it can. Starts nothing."""
    try:
        _load()
    except ModuleNotFoundError as error:
        if error.name in ("mpi4py", None):
            return "mpi4py is not installed: pip install mpi4py mpich"
        return f"mpi4py cannot be imported ({error}): pip install mpi4py mpich"
    except (ImportError, RuntimeError) as error:
        return f"mpi4py finds no MPI library ({str(error).splitlines()[0]}): pip install mpich"
    return ""


def library() -> str:
    """Which MPI it is; "" where there is none."""
    return "" if why_no_mpi() else str(_load().Get_library_version()).split("\n")[0].replace("\t", " ").strip("\0 ")
