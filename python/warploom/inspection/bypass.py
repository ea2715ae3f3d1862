"""How much of a reconstruction comes through the skips, and how much through the bottleneck.

A skip is an input of a Concat, Add or Multiply that does not depend on the latent, where another input does. Each is cut in turn
(zeros in its place where it merges), then all of them (what the bottleneck alone can do), then the latent itself (what the skips
alone can do), and the PSNR against the target is compared with that of the whole network. The network that is run is the
model's own layers with a mask of ones or zeros multiplied onto each of these values; weights are shared and not changed.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from warploom.engine import Engine
from warploom.errors import ArgumentError
from warploom.ground.array_types import Array, Shape
from warploom.ground.hardware import Choice
from warploom.ground.tables import Column, Report, draw, size
from warploom.layers import Add, Concat, Multiply
from warploom.network.graph import Call, Input, Tensor
from warploom.network.network import Network


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

    def __init__(
        self,
        model: Network,
        engine: Engine,
        arrays: list[Array],
        y: Any = None,
        *,
        output: int = 0,
        peak: float = 1.0,
        batch_size: int = 64,
    ) -> None:
        """engine: the network's own, whose device and version are used. arrays: one per input, checked."""
        if not 0 <= output < len(model.outputs):
            raise ArgumentError(f"bypass: output={output}, but model {model.name!r} has {len(model.outputs)} output(s)")
        gates = _gates(model)
        gated, masks = _gated(model, gates)
        place = Choice(engine.device, [engine.version], "")
        runner = _Runner(gated, Engine(gated.lowered(), place), arrays, masks, output, batch_size)
        self.name, self.samples = model.name, len(arrays[0])
        wanted = model.outputs[output].shape
        whole = runner.run(set())
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
            psnr = _psnr(runner.run(closed), target, peak)
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
        draw(file, title, ["what is cut", Column("shape", spare=1), "PSNR dB", "change"], rows, notes=notes, color=color)


def _gates(model: Network) -> list[_Gate]:
    """The latent, then every skip in the order of the calls."""
    latent = model.require_latent()
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


def _gated(model: Network, gates: list[_Gate]) -> tuple[Network, list[Shape]]:
    """The network with an input per gate whose values are multiplied onto the gate's value, and the shapes of those inputs."""
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
    gated = Network([*inputs, *masks], outputs, name=f"{model.name}-bypass", latent=values[id(latent)])
    return gated, [m.shape for m in masks]


@dataclass(frozen=True)
class _Runner:
    """The gated network on the network's own device, in its batches."""

    gated: Network
    engine: Engine
    arrays: list[Array]
    masks: list[Shape]
    output: int
    batch_size: int

    def run(self, closed: set[int]) -> Array:
        """The output with some gates closed."""
        results = []
        for start in range(0, len(self.arrays[0]), self.batch_size):
            part = [a[start : start + self.batch_size] for a in self.arrays]
            rows = len(part[0])
            fills = [np.full((rows, *shape), float(i not in closed), np.float32) for i, shape in enumerate(self.masks)]
            results.append(self.engine.predict([*part, *fills], [self.gated.outputs[self.output]])[0])
        return np.concatenate(results)


def _as_float(array: Array) -> Array:
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array


def _psnr(output: Array, target: Array, peak: float) -> float:
    error = float(np.mean((output.astype(np.float64) - target) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)
