"""What a layer's kernels do to memory, counted while a training step's plan runs on the counting emulated device."""

import fnmatch
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from warploom import errors, losses, optim
from warploom.engine import Engine
from warploom.ground import hardware
from warploom.ground.atomic import write_atomically
from warploom.inspection.summary import Summary
from warploom.kernel_tools import counters
from warploom.kernel_tools.counters import Kernel, Line, Parting
from warploom.network.network import Network

DIRECTIONS = ("forward", "backward_input", "backward_weight", "backward_bias", "backward")


@dataclass(frozen=True)
class Profile:
    """The kernels of some operations of a training step, in the order in which they run."""

    model: str
    version: str
    batch_size: int
    precision: str
    kernels: list[Kernel]
    rows: list[dict[str, Any]]  # the same as the device tells it
    flops: dict[str, int]  # by operation, of the plain definition of its layer: multiplications and additions

    def bytes_per_flop(self, kernel: Kernel) -> float | None:
        """Bytes of the sectors it asks for, over the arithmetic of its layer in that direction."""
        flops = self.flops.get(kernel.call, 0)
        return kernel.global_bytes / flops if flops else None

    def hottest(self, count: int) -> list[tuple[str, Line]]:
        """(kernel, line) of the source lines that move most: device sectors and shared wavefronts, scaled to all blocks."""
        found: dict[tuple[str, ...], tuple[float, Line]] = {}
        for k in self.kernels:
            for line in k.lines:
                key = (k.name, line.place, line.space, line.action, str(line.access_bytes))
                weight, same = found.get(key, (0.0, None))
                moved = line.traffic.moved * k.blocks / max(k.blocks_counted, 1)
                merged = replace(line, traffic=same.traffic + line.traffic) if same else line
                found[key] = (weight + moved, merged)
        order = sorted(found.items(), key=lambda item: -item[1][0])
        return [(key[0], line) for key, (_, line) in order[:count]]

    def partings(self, count: int) -> list[tuple[str, Parting]]:
        """(kernel, branch) where lanes part most often."""
        found: dict[tuple[str, str], Parting] = {}
        for k in self.kernels:
            for p in k.partings:
                same = found.get((k.name, p.place))
                more = (same.branches, same.divergent) if same else (0, 0)
                found[k.name, p.place] = replace(p, branches=p.branches + more[0], divergent=p.divergent + more[1])
        order = sorted(found.items(), key=lambda item: -item[1].divergent)
        return [(key[0], p) for key, p in order[:count]]

    def record(self) -> dict[str, Any]:
        """JSON-able: the device's counts and what follows from them."""
        derived = [
            {
                "coalescing": k.coalescing, "conflicts": k.conflicts, "active_lanes": k.active_lanes,
                "divergence": k.divergence, "bytes_per_flop": self.bytes_per_flop(k),
            }
            for k in self.kernels
        ]  # fmt: skip
        about = {"model": self.model, "version": self.version, "batch_size": self.batch_size, "precision": self.precision}
        return about | {"kernels": [row | more for row, more in zip(self.rows, derived, strict=True)]}

    def write(self, path: Path) -> None:
        write_atomically(path, (json.dumps(self.record(), indent=1) + "\n").encode())


def check_names(network: Network, layer: str = "", direction: str = "") -> None:
    """ArgumentError for a direction or a layer that no version can have: known before the counting device is compiled."""
    if direction and direction not in DIRECTIONS:
        raise errors.ArgumentError(f"unknown direction {direction!r}; expected one of {', '.join(DIRECTIONS)}")
    layers = [row.name for row in Summary(network).rows]
    if layer and not any(fnmatch.fnmatchcase(name, layer) for name in {*layers, *network.lowered().nodes}):
        raise errors.ArgumentError(f"there is no layer {layer!r} in {network.name}; there are {', '.join(layers)}")


def pattern_of(kernel: str) -> "re.Pattern[str]":
    """A regular expression of names of kernels; ArgumentError where it is none."""
    try:
        return re.compile(kernel)
    except re.error as error:
        raise errors.ArgumentError(f"the kernel pattern {kernel!r} is not a regular expression: {error}") from None


class Profiler:
    """A model's training step on the counting device, made once, profiled as often as wanted."""

    def __init__(self, model: Network, version: str = "auto", *, batch_size: int = 64, precision: str = "fp32") -> None:
        hardware.check(version, precision)
        choice = hardware.resolve(version, counters.DEVICE)
        objective = losses.get("mse", len(model.outputs))
        self.engine = Engine(
            model.lowered(), choice, losses=objective, optimizer=optim.SGD(), batch_size=batch_size, precision=precision,
            redraw=True,
        )  # fmt: skip
        self.model, self.batch_size, self.precision = model, batch_size, precision
        self.macs = {row.name: row.macs * batch_size for row in Summary(model).rows}
        rng = np.random.default_rng(0)

        def draw(shape: tuple[int, ...]) -> Any:
            return rng.random((batch_size, *shape), dtype=np.float32)

        self.inputs = [draw(t.shape) for t in model.inputs]
        self.targets = [draw(shape) for shape in self.engine.target_shapes]
        # A network that reconstructs its input trains from images on the device, as Model.fit() does.
        self.slot = ""
        if len(self.inputs) == 1 and [t.shape for t in self.targets] == [self.inputs[0].shape]:
            self.slot = self.engine.load_data(self.inputs[0])

    def step(self) -> None:
        if self.slot:
            self.engine.begin_epoch(self.slot, np.arange(self.batch_size, dtype=np.int32))
            self.engine.train_next(self.slot, self.batch_size)
        else:
            self.engine.train_batch(self.inputs, self.targets)
        self.engine.synchronize()

    @property
    def calls(self) -> list[str]:
        """The operations of the step in order, each once: "conv2.conv2d_forward"."""
        steps = self.engine.explain(self.batch_size)
        return list(dict.fromkeys(f"{s['node']}.{s['entry']}" if s["node"] else str(s["entry"]) for s in steps))

    def chosen(self, layer: str = "", direction: str = "") -> str:
        """A pattern of operations; raises ArgumentError, with what there is, where none matches."""
        check_names(self.model, layer, direction)
        pattern = f"{layer or '*'}.*{'_' + direction if direction else ''}" if layer or direction else "*"
        if any(fnmatch.fnmatchcase(call, pattern) for call in self.calls):
            return pattern
        of_layer = [call for call in self.calls if call.split(".")[0] == layer]
        if of_layer:
            raise errors.ArgumentError(f"layer {layer} has no operation *_{direction} in this plan; it has {', '.join(of_layer)}")
        layers = dict.fromkeys(call.rsplit(".", 1)[0] for call in self.calls if "." in call)
        folded = " (a layer that is folded into another has none)" if layer in self.macs else ""
        raise errors.ArgumentError(
            f"version {self.engine.version} runs no operation of a layer {layer!r} of {self.model.name}{folded}; there are "
            f"{', '.join(layers)}"
        )

    def launches(self) -> dict[str, int]:
        """Kernel launches of a training step by operation, in order: the nodes of its recording (on cuda, of its graph)."""
        with counters.counting(1, skip_rest=True) as counts:  # one block a launch: the numbers of launches do not depend on data
            self.step()
        found: dict[str, int] = {}
        for k in counts.kernels:
            found[k.call] = found.get(k.call, 0) + k.launches
        return found

    def run(self, layer: str = "", direction: str = "", *, kernel: str = "", blocks: int = 8, complete: bool = False) -> Profile:
        """Counts a training step. complete: every block of every kernel runs, so that data are a step's own."""
        calls, wanted = self.chosen(layer, direction), pattern_of(kernel)
        with counters.counting(blocks, calls=calls, skip_rest=not complete) as counts:
            self.step()
        kept = [(k, row) for k, row in zip(counts.kernels, counts.rows, strict=True) if wanted.search(f"{k.call} {k.name}")]
        if not kept:
            names = ", ".join(dict.fromkeys(k.name for k in counts.kernels))
            raise errors.ArgumentError(f"no kernel matches {kernel!r}; this step runs {names}")
        flops = {}
        for k, _ in kept:
            node, _, entry = k.call.rpartition(".")
            plain = entry.endswith(("_forward", "_backward_input", "_backward_weight"))
            products = 1 if plain else 2 if entry == "conv2d_backward" else 0  # the combined entry computes dx and dw
            flops[k.call] = 2 * products * self.macs.get(node, 0)
        return Profile(
            self.model.name,
            self.engine.version,
            self.batch_size,
            self.precision,
            [k for k, _ in kept],
            [r for _, r in kept],
            flops,
        )
