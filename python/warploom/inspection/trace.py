"""What flows through a network: the shape and the range of values after every layer."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from warploom.engine import Engine
from warploom.ground.array_types import Array, Shape
from warploom.ground.tables import Column, Report, draw, size
from warploom.network.network import Network

_VALUES_AT_ONCE = 1 << 27  # elements that one pass may bring back to the host


@dataclass(frozen=True)
class Range:
    """The values after one layer, over all samples. NaN anywhere makes min, max, mean and std NaN."""

    name: str
    kind: str
    shape: Shape
    minimum: float
    maximum: float
    mean: float
    std: float
    zeros: float  # share of values that are exactly 0, such as what a ReLU cut off


class _Moments:
    """Running sums in float64: shifted by the first value seen, so that a large mean costs no digits."""

    def __init__(self) -> None:
        self.count, self.zeros = 0, 0
        self.low, self.high, self.shift, self.sum, self.squares = math.inf, -math.inf, 0.0, 0.0, 0.0

    def add(self, values: Array) -> None:
        flat = values.reshape(-1)
        if not self.count:
            self.shift = float(flat[0]) if np.isfinite(flat[0]) else 0.0
        self.count += flat.size
        self.zeros += int(flat.size - np.count_nonzero(flat))
        self.low = float(np.minimum(self.low, flat.min()))
        self.high = float(np.maximum(self.high, flat.max()))
        moved = flat.astype(np.float64) - self.shift
        self.sum += float(moved.sum())
        self.squares += float(moved @ moved)

    def range(self, name: str, kind: str, shape: Shape) -> Range:
        mean = self.sum / self.count
        variance = self.squares / self.count - mean * mean
        std = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
        return Range(name, kind, shape, self.low, self.high, self.shift + mean, std, self.zeros / self.count)


class Trace(Report):
    """One Range per input and per layer, in the order of computation."""

    def __init__(self, model: Network, engine: Engine, arrays: list[Array], batch_size: int = 64) -> None:
        """arrays: one per input, checked; they run through the engine in batches of at most batch_size samples."""
        values = [*(t for call in model.calls for t in call.outputs)]
        names = [name for call, name in zip(model.calls, model.node_names, strict=True) for _ in call.outputs]
        kinds = [type(call.layer).__name__ for call in model.calls for _ in call.outputs]
        per_sample = sum(math.prod(t.shape) for t in values)
        rows = max(1, min(batch_size, _VALUES_AT_ONCE // per_sample))
        moments = [_Moments() for _ in [*arrays, *values]]
        for start in range(0, len(arrays[0]), rows):
            part = [a[start : start + rows] for a in arrays]
            results = engine.predict(part, values)
            floats = [p.astype(np.float32) / np.float32(255) if p.dtype == np.uint8 else p for p in part]
            for moment, result in zip(moments, [*floats, *results], strict=True):
                moment.add(result)
        heads = [(str(t.name), "Input", t.shape) for t in model.inputs]
        bodies = [(name, kind, t.shape) for name, kind, t in zip(names, kinds, values, strict=True)]
        self.name, self.samples = model.name, len(arrays[0])
        self.rows = [m.range(*about) for m, about in zip(moments, [*heads, *bodies], strict=True)]

    def __repr__(self) -> str:
        return f"<Trace of {self.name!r}: {len(self.rows)} values over {self.samples} samples>"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "samples": self.samples, "values": [asdict(row) for row in self.rows]}

    def _draw(self, file: Any, *, color: bool) -> None:
        columns: list[str | Column] = ["layer", Column("type", spare=2), Column("shape", spare=1)]
        columns += ["min", "max", "mean", "std", "zeros"]
        rows = [
            [
                r.name,
                r.kind,
                size(r.shape),
                *(f"{v:.4g}" for v in (r.minimum, r.maximum, r.mean, r.std)),
                f"{100 * r.zeros:.1f} %",
            ]
            for r in self.rows
        ]
        broken = next((r.name for r in self.rows if not math.isfinite(r.minimum + r.maximum)), None)
        notes = [] if broken is None else [f"the first values that are not finite come out of {broken}"]
        draw(file, f"{self.name}: values over {self.samples} samples", columns, rows, left=2, notes=notes, color=color)
