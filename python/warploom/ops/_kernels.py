"""One kernel call with NCHW arrays: layouts are converted to the version's own and back. Used by the eager operations."""

from typing import Any

import numpy as np

from warploom import _core
from warploom.errors import UnsupportedError
from warploom.ground import hardware
from warploom.ground.array_types import Array
from warploom.interop import Array as DeviceArray

_ACTIVATION_AXES = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1)}
_WEIGHT_AXES = {"oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1), "hwio": (2, 3, 1, 0)}
_IN_ORDER, _CHANNELS_LAST = (0, 1, 2, 3), (0, 2, 3, 1)


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
        """Runs an entry. `outputs` gives the NCHW (or OIHW, if named in `weights`) shape of each wanted output.

        Where an input lies on the device, the outputs do too, and layouts are converted there."""
        version = version or self.pick(entry, attributes)
        layout, weight_layout = hardware.layouts(version)

        def axes(name: str, rank: int) -> tuple[int, ...]:
            if rank != 4:
                return tuple(range(rank))
            return _WEIGHT_AXES[weight_layout] if name in weights else _ACTIVATION_AXES[layout]

        if any(isinstance(a, DeviceArray) for a in inputs.values()):
            given = {name: self._to_version(version, a, axes(name, a.ndim)) for name, a in inputs.items()}
            kept = _core.call(self.device, version, entry, attributes, given, list(outputs), keep=True)
            return [self._from_version(version, kept[name], shape, axes(name, len(shape))) for name, shape in outputs.items()]
        flat = {name: np.ascontiguousarray(a.transpose(axes(name, a.ndim))).reshape(-1) for name, a in inputs.items()}
        raw = _core.call(self.device, version, entry, attributes, flat, list(outputs))
        result = []
        for name, shape in outputs.items():
            order = axes(name, len(shape))
            array = raw[name].reshape([shape[i] for i in order])
            result.append(np.ascontiguousarray(array.transpose(np.argsort(order))))
        return result

    # On the device: every layout is the plain one with an axis moved to the end, once or twice.
    def _to_version(self, version: str, array: Any, order: tuple[int, ...]) -> Any:
        if not isinstance(array, DeviceArray):
            return np.ascontiguousarray(array.transpose(order)).reshape(-1)
        if order == _CHANNELS_LAST:
            return self._turn(version, array, (array.shape[0], array.shape[1], array.size), True)
        if len(order) == 4 and order != _IN_ORDER:  # hwio
            o, i = array.shape[:2]
            return self._turn(version, self._turn(version, array, (o, i, array.size), True), (1, o, array.size), True)
        return array.reshape(-1)

    def _from_version(self, version: str, flat: Any, shape: tuple[int, ...], order: tuple[int, ...]) -> Any:
        if order == _CHANNELS_LAST:
            flat = self._turn(version, flat, (shape[0], shape[1], flat.size), False)
        elif len(order) == 4 and order != _IN_ORDER:
            plain = self._turn(version, flat, (1, shape[0], flat.size), False)
            flat = self._turn(version, plain, (shape[0], shape[1], flat.size), False)
        return flat.reshape(shape)

    def _turn(self, version: str, array: Any, sizes: tuple[int, int, int], last: bool) -> Any:
        """[N, C, rest] to [N, rest, C] (last) or back, of elements of 32 bits."""
        n, c, size = sizes
        ends = ("nchw", "nhwc") if last else ("nhwc", "nchw")
        attributes = {"N": n, "C": c, "H": 1, "W": size // (n * c), "from": ends[0], "to": ends[1]}
        floats = array
        if array.dtype != np.float32:  # the bits are moved, whatever they mean
            floats = _core.array_borrowed(array.device, array.pointer, (size,), np.dtype(np.float32), True, array)
        turned = _core.call(self.device, version, "layout_convert", attributes, {"x": floats.reshape(-1)}, ["y"], keep=True)["y"]
        if array.dtype != np.float32:
            turned = _core.array_borrowed(array.device, turned.pointer, (size,), array.dtype, True, turned)
        return turned
