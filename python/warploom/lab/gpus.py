"""What GPUs can do at most, from their makers' data sheets: for estimates, which say what a kernel cannot be faster than."""

from __future__ import annotations

from dataclasses import dataclass

from warploom.errors import ArgumentError


@dataclass(frozen=True)
class Gpu:
    """Peaks, dense, at boost clocks. `half`: products of 16 bits on the tensor cores, summed in float32."""

    name: str
    arch: str  # of its compute capability: "90"
    multiprocessors: int
    gigahertz: float
    fp32: float  # FLOP/s
    half: float
    memory: float  # bytes/s

    @property
    def shared(self) -> float:
        """Wavefronts of shared memory in a second: one each cycle and multiprocessor."""
        return self.multiprocessors * self.gigahertz * 1e9


GPUS = {
    g.name: g
    for g in (
        Gpu("T4", "75", 40, 1.59, 8.1e12, 65e12, 320e9),
        Gpu("A100", "80", 108, 1.41, 19.5e12, 312e12, 1555e9),
        Gpu("RTX3090", "86", 82, 1.695, 35.6e12, 71e12, 936e9),
        Gpu("RTX4090", "89", 128, 2.52, 82.6e12, 165.2e12, 1008e9),
        Gpu("H100", "90", 132, 1.98, 66.9e12, 989.4e12, 3352e9),
    )
}


def gpu(name: str) -> Gpu:
    """By name, in any case; ArgumentError where it is not known."""
    for known in GPUS.values():
        if known.name.lower() == name.lower().replace(" ", ""):
            return known
    raise ArgumentError(f"no GPU named {name!r} is known; known: {', '.join(GPUS)}")
