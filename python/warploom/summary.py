"""The table of a model's layers: shapes, parameters, work, receptive field and stride."""

import io
import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from warploom._typing import Shape
from warploom.receptive import ReceptiveFields

if TYPE_CHECKING:
    from warploom.model import Model


@dataclass(frozen=True)
class Row:
    """One use of one layer."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    shared: bool  # its parameters are counted in an earlier row
    macs: int  # multiply-accumulates per sample
    receptive_field: tuple[int, int] | None  # smallest and largest, in rows of the input; None: the whole input
    stride: str  # input pixels between neighbouring values
    latent: bool


class Summary:
    """Rows and totals; print() draws the table, str() gives it as text."""

    def __init__(self, model: "Model") -> None:
        from warploom.engine import lower

        lowered = lower(model.name, model.inputs, model.outputs, model.calls)
        description = lowered.graph.describe()
        fields = ReceptiveFields(description)
        by_name: dict[str, list[dict[str, Any]]] = {}
        for node in description["nodes"]:
            by_name.setdefault(str(node["name"]).split("/")[0], []).append(node)
        self.name = model.name
        self.inputs = [(str(t.name), t.shape) for t in model.inputs]
        self.rows: list[Row] = []
        seen: set[int] = set()
        for call, node_name in zip(model.calls, lowered.nodes, strict=True):
            nodes = by_name.get(node_name, [])
            value = nodes[-1]["outputs"][0] if nodes else None
            count = sum(math.prod(p.spec.shape) for p in call.layer.parameters.values())
            step = fields.step(value) if value is not None else None
            self.rows.append(
                Row(
                    name=node_name,
                    kind=type(call.layer).__name__,
                    output_shape=call.outputs[0].shape,
                    parameters=count,
                    shared=count > 0 and id(call.layer) in seen,
                    macs=sum(int(node["macs"]) for node in nodes),
                    receptive_field=fields.of(value) if value is not None else None,
                    stride=str(step) if step is not None else "",
                    latent=model.latent is not None and any(t is model.latent for t in call.outputs),
                )
            )
            seen.add(id(call.layer))
        self.total_parameters = model.count_parameters()
        self.trainable_parameters = model.count_parameters(trainable_only=True)
        self.total_macs = sum(row.macs for row in self.rows)
        inputs = sum(math.prod(t.shape) for t in model.inputs)
        self.latent_ratio = inputs / math.prod(model.latent.shape) if model.latent is not None else None

    def __repr__(self) -> str:
        return f"<Summary of {self.name!r}: {len(self.rows)} layers, {self.total_parameters:,} parameters>"

    def __str__(self) -> str:
        buffer = io.StringIO()
        self._draw(buffer, color=False)
        return buffer.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        return {
            "name": self.name,
            "inputs": [{"name": name, "shape": shape} for name, shape in self.inputs],
            "layers": [asdict(row) for row in self.rows],
            "total_parameters": self.total_parameters,
            "trainable_parameters": self.trainable_parameters,
            "total_macs": self.total_macs,
        }

    def print(self) -> None:
        self._draw(sys.stdout, color=sys.stdout.isatty())

    def _draw(self, file: Any, *, color: bool) -> None:
        from rich.console import Console
        from rich.table import Table

        table = Table(header_style="bold")
        table.add_column("layer")
        table.add_column("type")
        for title in ("output shape", "parameters", "MACs", "receptive field", "stride"):
            table.add_column(title, justify="right")
        for name, shape in self.inputs:
            table.add_row(name, "Input", _size(shape), "", "", "1", "1")
        for row in self.rows:
            field = row.receptive_field
            table.add_row(
                row.name,
                f"{row.kind} -> latent" if row.latent else row.kind,
                _size(row.output_shape),
                "" if not row.parameters else ("shared" if row.shared else f"{row.parameters:,}"),
                f"{row.macs:,}" if row.macs else "",
                "all" if field is None else (f"{field[0]}" if field[0] == field[1] else f"{field[0]}-{field[1]}"),
                row.stride,
            )
        frozen = self.total_parameters - self.trainable_parameters
        lines = [f"parameters: {self.total_parameters:,}" + (f" ({frozen:,} frozen)" if frozen else "")]
        lines.append(f"multiply-accumulates: {self.total_macs:,} per sample, forward")
        if self.latent_ratio is not None:
            word = "smaller" if self.latent_ratio > 1 else "larger"
            factor = self.latent_ratio if self.latent_ratio > 1 else 1 / self.latent_ratio
            lines.append(f"latent: {factor:.2f} times {word} than the input")
        console = Console(file=file, width=max(110, min(160, Console().width)) if not color else None, no_color=not color)
        console.print(self.name, style="bold", highlight=False)
        console.print(table)
        for line in lines:
            console.print(line, highlight=False)


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape))
