"""The table of a model's layers: shapes, parameters, work, receptive field, stride and bytes of activations."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from warploom.ground.array_types import Shape
from warploom.ground.tables import Column, Report, bytes_text, draw, size
from warploom.inspection.receptive import ReceptiveFields
from warploom.network.graph import Layer
from warploom.network.network import Network


@dataclass(frozen=True)
class Row:
    """One use of one layer."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    formula: str  # how that number comes about
    trainable: bool
    shared: bool  # its parameters are counted in an earlier row
    macs: int  # multiply-accumulates per sample
    receptive_field: tuple[int, int] | None  # smallest and largest, in rows of the input; None: the whole input
    stride: str  # input pixels between neighbouring values
    activation_bytes: int  # of the output, per sample
    latent: bool


class Summary(Report):
    """Rows and totals; print() draws the table, str() gives it as text."""

    def __init__(self, model: Network, *, formulas: bool = False) -> None:
        lowered = model.lowered()
        description = lowered.graph.describe()
        fields = ReceptiveFields(description)
        by_name: dict[str, list[dict[str, Any]]] = {}
        for node in description["nodes"]:
            by_name.setdefault(str(node["name"]).split("/")[0], []).append(node)
        self.name = model.name
        self.formulas = formulas
        self.inputs = [(str(t.name), t.shape) for t in model.inputs]
        self.rows: list[Row] = []
        seen: set[int] = set()
        for call, node_name in zip(model.calls, lowered.nodes, strict=True):
            nodes = by_name.get(node_name, [])
            value = nodes[-1]["outputs"][0] if nodes else None
            count = sum(math.prod(p.spec.shape) for p in call.layer.parameters.values() if not p.spec.buffer)
            step = fields.step(value) if value is not None else None
            self.rows.append(
                Row(
                    name=node_name,
                    kind=type(call.layer).__name__,
                    output_shape=call.outputs[0].shape,
                    parameters=count,
                    formula=formula(call.layer),
                    trainable=call.layer.trainable,
                    shared=count > 0 and id(call.layer) in seen,
                    macs=sum(int(node["macs"]) for node in nodes),
                    receptive_field=fields.of(value) if value is not None else None,
                    stride=str(step) if step is not None else "",
                    activation_bytes=sum(4 * math.prod(t.shape) for t in call.outputs),
                    latent=model.latent is not None and any(t is model.latent for t in call.outputs),
                )
            )
            seen.add(id(call.layer))
        self.total_parameters = model.count_parameters()
        self.trainable_parameters = model.count_parameters(trainable_only=True)
        self.frozen_parameters = self.total_parameters - self.trainable_parameters
        self.total_macs = sum(row.macs for row in self.rows)
        self.total_activation_bytes = sum(row.activation_bytes for row in self.rows)
        inputs = sum(math.prod(t.shape) for t in model.inputs)
        self.latent_ratio = inputs / math.prod(model.latent.shape) if model.latent is not None else None

    def __repr__(self) -> str:
        return f"<Summary of {self.name!r}: {len(self.rows)} layers, {self.total_parameters:,} parameters>"

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        totals = ("total_parameters", "trainable_parameters", "frozen_parameters", "total_macs", "total_activation_bytes")
        return {
            "name": self.name,
            "inputs": [{"name": name, "shape": shape} for name, shape in self.inputs],
            "layers": [asdict(row) for row in self.rows],
            **{key: getattr(self, key) for key in (*totals, "latent_ratio")},
        }

    def _draw(self, file: Any, *, color: bool) -> None:
        columns: list[str | Column] = [
            *("layer", Column("type", spare=1), "output shape", "parameters", Column("MACs", spare=2)),
            *(Column("receptive\nfield", spare=3), Column("stride", spare=4), Column("activations", spare=5)),
        ]
        rows = [[name, "Input", size(shape), "", "", "1", "1", bytes_text(4 * math.prod(shape))] for name, shape in self.inputs]
        rows += [self._cells(row) for row in self.rows]
        lines = [f"parameters: {self.total_parameters:,}"]
        lines[0] += f" ({self.trainable_parameters:,} trained, {self.frozen_parameters:,} frozen)" * bool(self.frozen_parameters)
        lines.append(f"multiply-accumulates: {self.total_macs:,} per sample, forward")
        lines.append(f"activations: {bytes_text(self.total_activation_bytes)} per sample, if every output were kept")
        if self.latent_ratio is not None:
            word = "smaller" if self.latent_ratio > 1 else "larger"
            factor = self.latent_ratio if self.latent_ratio > 1 else 1 / self.latent_ratio
            lines.append(f"latent: {factor:.2f} times {word} than the input")
        draw(file, self.name, columns, rows, left=2, notes=lines, color=color)

    def _cells(self, row: Row) -> list[str]:
        count = f"{row.parameters:,}" if row.parameters else ""
        if row.shared:
            count = "shared"
        elif self.formulas and row.formula:
            count = f"{row.formula} = {count}"
        field = row.receptive_field
        return [
            row.name,
            (f"{row.kind} -> latent" if row.latent else row.kind) + (" (frozen)" if not row.trainable and row.parameters else ""),
            size(row.output_shape),
            count,
            f"{row.macs:,}" if row.macs else "",
            "all" if field is None else (f"{field[0]}" if field[0] == field[1] else f"{field[0]}-{field[1]}"),
            row.stride,
            bytes_text(row.activation_bytes),
        ]


def formula(layer: Layer) -> str:
    """How a layer's parameter count comes about, from the shapes of its parameters: 256·3·3·3 + 256."""
    return " + ".join("·".join(map(str, p.spec.shape)) for p in layer.parameters.values() if not p.spec.buffer)
