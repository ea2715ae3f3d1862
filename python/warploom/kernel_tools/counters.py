"""What kernels do to memory and how their warps part, counted on the emulated device: facts about the source, no times.

    with counters.counting(blocks=8) as counts:
        wl.ops.conv2d(x, weight, padding=1, version="v3", device="emulated:counting")
    for kernel in counts.kernels:
        print(kernel.name, kernel.coalescing, kernel.conflicts)

docs/emulator.md says what each number means.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from warploom import _core
from warploom.errors import ArgumentError, DeviceError
from warploom.ground import hardware

DEVICE = "emulated:counting"
ACTIONS = ("load", "store", "atomic", "copy")  # copy: cp.async, from device into shared memory


@dataclass(frozen=True)
class Traffic:
    """Warp requests of one kind: to device memory in 32-byte sectors, to shared memory in wavefronts."""

    requests: int = 0
    lanes: int = 0  # active, of all requests together
    bytes: int = 0  # lanes times the size of their accesses
    moved: int = 0  # sectors or wavefronts
    ideal: int = 0  # that the same bytes, or the same phases, need at least

    @classmethod
    def of(cls, row: dict[str, Any], shared: bool) -> "Traffic":
        moved, ideal = ("wavefronts", "ideal_wavefronts") if shared else ("sectors", "ideal_sectors")
        return cls(row["requests"], row["lanes"], row["bytes"], row[moved], row[ideal])

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests, self.lanes + other.lanes, self.bytes + other.bytes, self.moved + other.moved,
            self.ideal + other.ideal,
        )  # fmt: skip

    @property
    def per_request(self) -> float:
        return self.moved / self.requests if self.requests else 0.0

    @property
    def ratio(self) -> float:
        """Times the ideal; 1 where there is no traffic."""
        return self.moved / self.ideal if self.ideal else 1.0

    @property
    def active(self) -> float:
        """Share of a warp's 32 lanes that take part."""
        return self.lanes / (32 * self.requests) if self.requests else 1.0


@dataclass(frozen=True)
class Line:
    """The accesses of one source line: one kind, one width."""

    place: str  # "kernels/v1_naive_nhwc/conv2d_forward.cu:31"
    function: str
    space: str  # "global" or "shared"
    action: str
    access_bytes: int
    traffic: Traffic
    request: dict[str, Any] | None = None  # of the lab: one of its requests, {"bytes", "buffer", "lanes": [offset or None] * 32}

    @property
    def wasted(self) -> int:
        return self.traffic.moved - self.traffic.ideal


@dataclass(frozen=True)
class Parting:
    """A branch at which lanes of a warp went different ways; `place` is where the first of the ways begins."""

    place: str
    function: str
    branches: int  # executed by warps
    divergent: int


@dataclass(frozen=True)
class Kernel:
    """A kernel and a launch shape within an operation: what its counted blocks did."""

    call: str  # "conv2.conv2d_forward": layer and operation; the operation alone outside of a model
    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    launches: int
    static_shared: int
    dynamic_shared: int
    blocks: int  # of all its launches
    blocks_counted: int
    barriers: int
    shuffles: int
    votes: int
    warp_syncs: int
    matrix_loads: int  # ldmatrix
    matrix_multiplies: dict[str, int]  # mma.sync by shape and type; wgmma
    basic_blocks: int
    basic_block_lanes: int
    branches: int
    divergent_branches: int
    traffic: dict[tuple[str, str], Traffic]  # (space, action)
    lines: list[Line] = field(repr=False)
    partings: list[Parting] = field(repr=False)

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Kernel":
        traffic = {(s, a): Traffic.of(row[s][a], s == "shared") for s in ("global", "shared") for a in ACTIONS}
        lines = [
            Line(
                _place(x),
                x["function"],
                x["space"],
                x["action"],
                x["access_bytes"],
                Traffic.of(x, x["space"] == "shared"),
                x.get("request"),
            )
            for x in row["lines"]
        ]
        partings = [Parting(_place(x), x["function"], x["branches"], x["divergent"]) for x in row["partings"]]
        plain = {
            key: row[key]
            for key in (
                "launches", "static_shared", "dynamic_shared", "blocks", "blocks_counted", "barriers", "shuffles", "votes",
                "warp_syncs", "matrix_loads", "matrix_multiplies", "basic_blocks", "basic_block_lanes", "branches",
                "divergent_branches",
            )
        }  # fmt: skip
        grid, block = tuple(row["grid"]), tuple(row["block"])
        return cls(
            call=row["call"], name=row["kernel"], grid=grid, block=block, traffic=traffic, lines=lines, partings=partings, **plain
        )

    def total(self, space: str) -> Traffic:
        return sum((t for (s, _), t in self.traffic.items() if s == space), Traffic())

    @property
    def coalescing(self) -> float:
        """Sectors moved over the fewest that would do; 1 is perfect."""
        return self.total("global").ratio

    @property
    def conflicts(self) -> float:
        """Shared-memory wavefronts over the fewest; 1 is free of bank conflicts."""
        return self.total("shared").ratio

    @property
    def active_lanes(self) -> float:
        """Share of active lanes over all basic blocks that warps ran."""
        return self.basic_block_lanes / (32 * self.basic_blocks) if self.basic_blocks else 1.0

    @property
    def divergence(self) -> float:
        """Share of the branches at which lanes parted."""
        return self.divergent_branches / self.branches if self.branches else 0.0

    @property
    def global_bytes(self) -> float:
        """Bytes in all sectors of all blocks, from the counted ones."""
        return 32.0 * self.total("global").moved * self.blocks / max(self.blocks_counted, 1)


def _place(row: dict[str, Any]) -> str:
    return f"{row['file']}:{row['line']}" if row["line"] else str(row["file"])


def _order(words: str) -> str:
    hardware.prepare(DEVICE)
    rows = [row for row in hardware.devices() if row["kind"] == DEVICE]
    if not rows[0]["usable"]:
        raise DeviceError(f"device {DEVICE} is not usable: {rows[0]['why']}")
    return _core.counters(words)


class Counts:
    """What counting() counts; the numbers are there once its block has ended."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []  # as the device tells it, JSON-able
        self.kernels: list[Kernel] = []  # in the order of their first launches


@contextmanager
def counting(blocks: int = 0, *, calls: str = "", skip_rest: bool = False) -> Iterator[Counts]:
    """Counts what runs on the device "emulated:counting" meanwhile.

    blocks: of each launch so many, spread over its grid; 0: all. calls: only operations that match, such as "conv2.*".
    skip_rest: what is not counted does not run at all, so that only the counts mean anything, not the results.
    """
    if not isinstance(blocks, int) or isinstance(blocks, bool) or blocks < 0:
        raise ArgumentError(f"counting: blocks is {blocks!r}; expected a number of blocks per launch, or 0 for all")
    counts = Counts()
    _order(f"start {blocks} {'skip' if skip_rest else 'run'} {calls}".rstrip())
    try:
        yield counts
    finally:
        _order("stop")
    counts.rows = json.loads(_order("report"))
    counts.kernels = [Kernel.of(row) for row in counts.rows]
