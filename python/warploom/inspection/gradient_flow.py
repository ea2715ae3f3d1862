"""Where a loss's gradient arrives, and where it does not: the norm per parameter, and a flag for what is wrong."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from warploom.ground.array_types import Floats, Shape
from warploom.ground.tables import Column, Report, draw, size
from warploom.network.network import Network

VANISHING = 1e-10


@dataclass(frozen=True)
class Flow:
    """The gradient of one parameter."""

    name: str
    shape: Shape
    norm: float
    weight_norm: float
    flag: str  # "", "frozen", "none" (exactly zero everywhere), "vanishing" (norm below 1e-10), "NaN" or "infinite"


class GradientFlow(Report):
    """One Flow per parameter, in the order of the state dict; buffers have no gradient and are left out."""

    def __init__(self, model: Network, gradients: Mapping[str, Floats]) -> None:
        """gradients: by the parameters' full names, without the frozen ones."""
        state = model.state_dict()
        self.name = model.name
        self.rows: list[Flow] = []
        for name, parameter in model.named_parameters().items():
            if parameter.spec.buffer:
                continue
            weight = float(np.linalg.norm(state[name].astype(np.float64)))
            gradient = gradients.get(name)
            norm = 0.0 if gradient is None else float(np.linalg.norm(gradient.astype(np.float64)))
            self.rows.append(Flow(name, parameter.spec.shape, norm, weight, "frozen" if gradient is None else _flag(norm)))

    @property
    def problems(self) -> list[Flow]:
        """The rows with a flag other than frozen."""
        return [row for row in self.rows if row.flag not in ("", "frozen")]

    def __repr__(self) -> str:
        return f"<GradientFlow of {self.name!r}: {len(self.rows)} parameters, {len(self.problems)} with a problem>"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "parameters": [asdict(row) for row in self.rows]}

    def _draw(self, file: Any, *, color: bool) -> None:
        columns: list[str | Column] = ["parameter", Column("shape", spare=2), "gradient\nnorm"]
        columns += [Column("norm / weight\nnorm", spare=1), "flag"]
        rows = [
            [r.name, size(r.shape), f"{r.norm:.3e}", f"{r.norm / r.weight_norm:.3e}" if r.weight_norm else "", r.flag]
            for r in self.rows
        ]
        count = len(self.problems)
        notes = [f"{count} of {len(self.rows)} parameters have a problem" if count else "every gradient arrives"]
        draw(file, f"{self.name}: gradients", columns, rows, left=2, notes=notes, color=color)


def _flag(norm: float) -> str:
    if math.isnan(norm):
        return "NaN"
    if math.isinf(norm):
        return "infinite"
    return "none" if norm == 0 else "vanishing" if norm < VANISHING else ""
