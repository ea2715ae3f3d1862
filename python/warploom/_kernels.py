"""One kernel call with NCHW arrays: layouts are converted to the version's own and back. Used by the eager operations."""

from typing import Any

import numpy as np

from warploom import _core, hardware
from warploom._typing import Array
from warploom.errors import UnsupportedError

_ACTIVATION_AXES = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1)}
_WEIGHT_AXES = {"oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1), "hwio": (2, 3, 1, 0)}


class Kernels:
    """A device and the version that takes an operation there."""

    def __init__(self, version: str, device: str) -> None:
        choice = hardware.resolve(version, device, kernels_first=True)
        self.device = choice.device
        self.candidates = choice.versions

    def pick(self, entry: str, attributes: dict[str, Any]) -> str:
        """The first candidate that takes the operation; where none does, UnsupportedError with the reasons."""
        reasons = []
        for version in self.candidates:
            why = _core.why_not(self.device, version, entry, attributes)
            if not why:
                return version
            reasons.append(f"{version}: {why}")
        raise UnsupportedError(f"no version on {self.device} takes {entry} with these shapes: {'; '.join(reasons)}")

    def takes(self, version: str, entry: str, attributes: dict[str, Any]) -> bool:
        return not _core.why_not(self.device, version, entry, attributes)

    def call(
        self,
        entry: str,
        attributes: dict[str, Any],
        inputs: dict[str, Array],
        outputs: dict[str, tuple[int, ...]],
        *,
        weights: tuple[str, ...] = (),
        version: str | None = None,
    ) -> list[Array]:
        """Runs an entry. `outputs` gives the NCHW (or OIHW, if named in `weights`) shape of each wanted output."""
        version = version or self.pick(entry, attributes)
        layout, weight_layout = hardware.layouts(version)

        def axes(name: str, rank: int) -> tuple[int, ...]:
            if rank != 4:
                return tuple(range(rank))
            return _WEIGHT_AXES[weight_layout] if name in weights else _ACTIVATION_AXES[layout]

        flat = {name: np.ascontiguousarray(a.transpose(axes(name, a.ndim))).reshape(-1) for name, a in inputs.items()}
        raw = _core.call(self.device, version, entry, attributes, flat, list(outputs))
        result = []
        for name, shape in outputs.items():
            order = axes(name, len(shape))
            array = raw[name].reshape([shape[i] for i in order])
            result.append(np.ascontiguousarray(array.transpose(np.argsort(order))))
        return result
