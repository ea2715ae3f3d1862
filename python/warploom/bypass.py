"""How much of a reconstruction comes through the skips, and how much through the bottleneck.

A skip is an input of a Concat, Add or Multiply that does not depend on the latent, where another input does. Each is cut in turn
(zeros in its place where it merges), then all of them (what the bottleneck alone can do), then the latent itself (what the skips
alone can do), and the PSNR against the target is compared with that of the whole network. The network that is run is the
model's own layers with a mask of ones or zeros multiplied onto each of these values; weights are shared and not changed.
"""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warploom._typing import Array, Shape
from warploom.batches import Arrays, inputs_of
from warploom.errors import ArgumentError
from warploom.graph import Call, Input, Tensor
from warploom.layers import Add, Concat, Multiply
from warploom.tables import Report, draw, size

if TYPE_CHECKING:
    from warploom.model import Model


@dataclass(frozen=True)
class Cut:
    """The network with something cut out of it."""

    name: str  # what is cut: "nothing", a skip "source -> merge", "all skips", "bottleneck"
    shape: Shape | None
    psnr: float  # dB against the target
    change: float  # against the whole network


@dataclass(frozen=True)
class _Gate:
    """A value at one place of the network that a mask can cut."""

    name: str
    tensor: Tensor
    call: Call | None  # where it merges; None: the latent, for all that use it


class Bypass(Report):
    """rows: first the whole network, then each skip, all skips, and the bottleneck."""

    def __init__(self, model: "Model", x: Arrays, y: Any = None, *, output: int = 0, peak: float = 1.0) -> None:
        arrays = inputs_of(model, x, "x")
        if not 0 <= output < len(model.outputs):
            raise ArgumentError(f"bypass: output={output}, but model {model.name!r} has {len(model.outputs)} output(s)")
        gates = _gates(model)
        gated, masks = _gated(model, gates)
        self.name, self.samples = model.name, len(arrays[0])
        wanted = model.outputs[output].shape
        whole = _run(model, gated, arrays, masks, set(), output)
        if y is not None:
            target, self.reference = _as_float(np.asarray(y)), "y"
        elif model.inputs[0].shape == wanted:
            target, self.reference = _as_float(arrays[0]), "x"
        else:
            target, self.reference = whole, "the whole network's own output"
        if target.shape != whole.shape:
            raise ArgumentError(f"bypass: y has shape {target.shape}, but the output is {whole.shape}")
        skips = range(1, len(gates))
        self.rows = [Cut("nothing", None, _psnr(whole, target, peak), 0.0)]
        cuts: list[tuple[str, Shape | None, set[int]]] = [(gates[i].name, gates[i].tensor.shape, {i}) for i in skips]
        cuts += [("all skips", None, set(skips))] if len(gates) > 2 else []
        for name, shape, closed in [*cuts, ("bottleneck", gates[0].tensor.shape, {0})]:
            psnr = _psnr(_run(model, gated, arrays, masks, closed, output), target, peak)
            change = psnr - self.rows[0].psnr
            self.rows.append(Cut(name, shape, psnr, 0.0 if math.isnan(change) else change))

    def __repr__(self) -> str:
        return f"<Bypass of {self.name!r}: {', '.join(f'{row.name} {row.psnr:.2f} dB' for row in self.rows)}>"

    def as_dict(self) -> dict[str, Any]:
        rows = [asdict(row) for row in self.rows]
        return {"name": self.name, "samples": self.samples, "reference": self.reference, "cuts": rows}

    def _draw(self, file: Any, *, color: bool) -> None:
        rows = [
            [r.name, "" if r.shape is None else size(r.shape), f"{r.psnr:.2f}", f"{r.change:+.2f}" if r.name != "nothing" else ""]
            for r in self.rows
        ]
        by_name = {row.name: row for row in self.rows}
        skips = by_name.get("all skips") or (self.rows[1] if len(self.rows) > 2 else None)
        notes = []
        if skips is None:
            notes.append("the network has no skips: everything comes through the bottleneck")
        else:
            cut = by_name["bottleneck"]
            notes.append(f"the bottleneck alone (all skips cut): {skips.psnr:.2f} dB; the skips alone: {cut.psnr:.2f} dB")
            more = "skips" if cut.psnr > skips.psnr else "bottleneck"
            notes.append(f"more of the output comes through the {more}")
        title = f"{self.name}: PSNR against {self.reference} over {self.samples} samples"
        draw(file, title, ["what is cut", "shape", "PSNR dB", "change"], rows, notes=notes, color=color)


def _gates(model: "Model") -> list[_Gate]:
    """The latent, then every skip in the order of the calls."""
    latent = model._require_latent()
    names = {id(t): name for call, name in zip(model.calls, model.node_names, strict=True) for t in call.outputs}
    names.update((id(t), str(t.name)) for t in model.inputs)
    after = {id(latent)}
    gates = [_Gate("bottleneck", latent, None)]
    for call in model.calls:
        through = [id(t) in after for t in call.inputs]
        if any(through):
            after.update(id(t) for t in call.outputs)
            if isinstance(call.layer, (Concat, Add, Multiply)):
                merge = names[id(call.outputs[0])]
                found = [t for t, passed in zip(call.inputs, through, strict=True) if not passed]
                gates += [_Gate(f"{names[id(t)]} -> {merge}", t, call) for t in dict.fromkeys(found)]
    return gates


def _gated(model: "Model", gates: list[_Gate]) -> tuple["Model", list[Shape]]:
    """The network with an input per gate whose values are multiplied onto the gate's value, and the shapes of those inputs."""
    from warploom.model import Model

    inputs = [Input(t.shape, name=t.name) for t in model.inputs]
    masks = [Input((1, *gate.tensor.shape[1:]), name=f"gate{i}") for i, gate in enumerate(gates)]
    values: dict[int, Tensor] = {id(own): new for own, new in zip(model.inputs, inputs, strict=True)}

    def cut(i: int) -> Tensor:
        return Multiply(name=f"cut{i}")([values[id(gates[i].tensor)], masks[i]])

    latent = gates[0].tensor
    if id(latent) in values:
        values[id(latent)] = cut(0)
    for call in model.calls:
        given = [values[id(t)] for t in call.inputs]
        for i, gate in enumerate(gates):
            if gate.call is call:
                closed = cut(i)
                given = [closed if t is gate.tensor else value for t, value in zip(call.inputs, given, strict=True)]
        values[id(call.outputs[0])] = call.layer(given)
        if call.outputs[0] is latent:
            values[id(latent)] = cut(0)
    outputs = [values[id(t)] for t in model.outputs]
    gated = Model([*inputs, *masks], outputs, name=f"{model.name}-bypass", latent=values[id(latent)])
    gated._parent = model  # runs where the model runs
    return gated, [m.shape for m in masks]


def _run(model: "Model", gated: "Model", arrays: list[Array], masks: list[Shape], closed: set[int], output: int) -> Array:
    """The gated network's output with some gates closed, on the model's own device, in its batches."""
    size, results = model.batch_size, []
    for start in range(0, len(arrays[0]), size):
        part = [a[start : start + size] for a in arrays]
        rows = len(part[0])
        fills = [np.full((rows, *shape), float(i not in closed), np.float32) for i, shape in enumerate(masks)]
        results.append(gated.engine.predict([*part, *fills], [gated.outputs[output]])[0])
    return np.concatenate(results)


def _as_float(array: Array) -> Array:
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array


def _psnr(output: Array, target: Array, peak: float) -> float:
    error = float(np.mean((output.astype(np.float64) - target) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)
