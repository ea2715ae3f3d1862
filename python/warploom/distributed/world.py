"""init(): who the workers are, found out once per process from what the launcher left in the environment."""

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from warploom.distributed.groups import Alone, Group, Mpi, library, why_no_mpi
from warploom.distributed.guard import Worker, stand
from warploom.distributed.torch_interop import Gloo
from warploom.errors import DeviceError

T = TypeVar("T")


class Place(NamedTuple):
    """What a launcher says of a worker."""

    launcher: str
    rank: int
    size: int


@dataclass
class World:
    """All workers, and which of them this process is."""

    group: Group
    hosts: list[str] = field(default_factory=lambda: [socket.gethostname()])
    worker: Worker | None = None  # the wire to its guard, where there are several workers

    @property
    def rank(self) -> int:
        return self.group.rank

    @property
    def size(self) -> int:
        return self.group.size

    @property
    def is_main(self) -> bool:
        """Rank 0, which alone writes files and talks."""
        return self.rank == 0

    @property
    def local_rank(self) -> int:
        """Among the workers of this host."""
        return self.hosts[: self.rank].count(self.hosts[self.rank])

    @property
    def local_size(self) -> int:
        return self.hosts.count(self.hosts[self.rank])

    def name(self, rank: int) -> str:
        return f"rank {rank} on host {self.hosts[rank]}"

    def on_main(self, work: Callable[[], T]) -> T:
        """What rank 0 makes of it, given to all."""
        return cast(T, self.group.exchange(work() if self.is_main else None)[0])

    def hint(self, sentence: str) -> None:
        """What the user may do after a fault."""
        if self.worker is not None:
            self.worker.send(hint=sentence)


_LAUNCHERS = (  # name, and the variables of rank and size
    ("MPI", "PMI_RANK", "PMI_SIZE"),
    ("MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
_world: list[World] = []


def launched() -> Place | None:
    """What started this process as one of several workers; None where nothing did."""
    for launcher, rank, size in _LAUNCHERS:
        if rank in os.environ and size in os.environ:
            try:
                return Place(launcher, int(os.environ[rank]), int(os.environ[size]))
            except ValueError:
                text = f"{rank}={os.environ[rank]!r}, {size}={os.environ[size]!r}"
                raise DeviceError(f"the environment says {text}; expected two whole numbers") from None
    return None


def init() -> World:
    """Finds the other workers; the same object at every call. One worker, where no launcher started this process.

    Under a launcher it forks: call it early, before other threads or a CUDA device are in use. DeviceError where the engine that
    the launcher needs is missing.
    """
    if not _world:
        place = launched()
        _world.append(World(Alone()) if place is None or place.size == 1 else _meet(place))
    return _world[0]


def world() -> World | None:
    """What init() gave; None before it."""
    return _world[0] if _world else None


def _meet(place: Place) -> World:
    worker = stand(place.rank)
    with _told(worker):
        if place.launcher != "torchrun" and why_no_mpi():
            raise DeviceError(f"{place.launcher} started {place.size} workers, but {why_no_mpi()}")
        with worker.bound():
            group: Group = Gloo() if place.launcher == "torchrun" else Mpi()
        if group.size != place.size:
            raise DeviceError(
                f"{place.launcher} started {place.size} workers, but MPI sees {group.size}: the launcher is of another MPI than "
                f"mpi4py's ({library()}); use its own mpirun, or srun --mpi=pmi2"
            )
        token = secrets.token_hex(16) if group.rank == 0 else ""
        if token:
            worker.send(token=token)
        met = group.exchange((socket.gethostname(), worker.port, _addresses(), token))
        world = World(group, [host for host, *_ in met], worker)
        addresses = ["127.0.0.1"] if world.hosts[group.rank] == world.hosts[0] else met[0][2]
        worker.send(
            group={"rank": group.rank, "hosts": world.hosts, "port": met[0][1], "addresses": addresses, "token": met[0][3]}
        )
    _share_threads(world.local_size)
    before = sys.excepthook

    def failed(*error: Any) -> None:
        group.failed = True
        before(*error)

    sys.excepthook = failed
    return world


class _told(contextlib.AbstractContextManager["_told"]):
    """A fault in here is what the guard says of the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._worker.send(says=str(error))


def _addresses() -> list[str]:
    """Under which other hosts may reach this one."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found += sorted({str(about[4][0]) for about in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)})
    return found


def _share_threads(workers: int) -> None:
    """The cores of a host among its workers, where nothing else is said."""
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("WARPLOOM_THREADS", str(max(1, cores // workers)))


def leaving(sentence: str) -> bool:
    """Before this worker ends with an error. Whether its guard says the sentence, together with those of the others."""
    if not _world:
        return False
    _world[0].group.failed = True
    if _world[0].worker is None:
        return False
    _world[0].worker.send(says=sentence)
    return True
