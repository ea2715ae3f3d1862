"""Random networks: whatever is drawn, every version computes what the float64 reference computes, forward and backward.

The draws reach what hand-written networks do not: values read twice, layers shared, sums of sums, concatenations of an input with
itself, maps of one pixel, activations in front of everything, outputs that are also read.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from activations import ACTIVATIONS
from conftest import device_mark, kernel_targets
from graph_oracle import OPERATIONS, Network
from harness import Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warploom.distributed.groups import Alone
from warploom.distributed.meetings import Meetings
from warploom.distributed.tree import cut

TARGETS: list[Target] = kernel_targets()
DRAWN = [(kind, known.drawn) for kind, known in ACTIVATIONS.items() if known.drawn is not None]
KINDS = [
    "conv2d", "conv2d", "conv3", "conv_transpose2d", "batch_norm", "rms_norm", "group_norm", "pool", "upsample", "upsample",
    "activation", "activation", "identity", "concat", "add", "multiply", "depth_to_space", "reshape",
]  # fmt: skip


class Drawing:
    """Draws one network, node by node, into a graph of the core."""

    def __init__(self, core: Any, draw: Any) -> None:
        self.core, self.draw = core, draw
        self.graph = core.Graph("drawn")
        self.weights: dict[tuple[Any, ...], list[int]] = {}  # by what they fit: drawn again, they are shared
        self.count = 0
        size = draw(st.sampled_from([(1, 1), (4, 4), (6, 5), (2, 7), (8, 8)]))
        self.values = [self.graph.input("x", (draw(st.integers(1, 6)), *size))]
        if draw(st.booleans()):
            self.values.append(self.graph.input("z", self.graph.shape(self.values[0])))

    def shape(self, value: int) -> tuple[int, ...]:
        return tuple(self.graph.shape(value))

    def parameters(self, kind: str, *shapes: tuple[int, ...], buffers: int = 0) -> list[int]:
        key = (kind, *shapes)
        if key not in self.weights or self.draw(st.integers(0, 2)):
            made = []
            for i, shape in enumerate(shapes):
                name = f"p{self.count}.{i}"
                buffer = i >= len(shapes) - buffers
                start = "ones" if kind == "batch_norm" and i in (0, 3) else "uniform_fan_in"
                fan = int(np.prod(shapes[0][1:])) if len(shapes[0]) > 1 else 4
                made.append(self.graph.parameter(name, shape, init=start, fan_in=fan, buffer=buffer))
            self.count += 1
            self.weights[key] = made
        return self.weights[key]

    def node(self, op: str, inputs: list[int], parameters: list[int], **attributes: Any) -> int:
        [value] = self.graph.node(op, f"n{len(self.values)}", inputs, parameters, attributes)
        self.values.append(value)
        return value

    def step(self) -> None:
        draw, x = self.draw, self.draw(st.sampled_from(self.values))
        shape = self.shape(x)
        if len(shape) == 1:
            kind = draw(st.sampled_from(["linear", "activation", "reshape", "rms_norm", "add"]))
            if kind == "linear":
                out = draw(st.integers(1, 9))
                self.node("linear", [x], self.parameters("linear", (out, shape[0]), (out,)))
            elif kind == "reshape":
                self.node("reshape", [x], [], shape=[shape[0], 1, 1])
            elif kind == "activation":
                self.activation(x)
            else:
                self.node(kind, [x, x][: 1 + (kind == "add")], [])
            return
        c, h, w = shape
        kind = draw(st.sampled_from(KINDS))
        same = [v for v in self.values if self.shape(v) == shape]
        small = h * w <= 100
        if kind in ("conv2d", "conv3"):
            out = draw(st.integers(1, 8))
            k = 3 if kind == "conv3" else draw(st.sampled_from([1, 2, 3, 5]))
            pad = 1 if kind == "conv3" else draw(st.integers(k // 2, k - 1)) if k > 1 else 0
            groups = c if kind == "conv2d" and draw(st.integers(0, 4)) == 0 else 1
            out = out * c if groups > 1 else out
            stride = 1 if kind == "conv3" else draw(st.integers(1, 2))
            weight = [(out, c // groups, k, k), (out,)][: 1 + draw(st.booleans())]
            self.node("conv2d", [x], self.parameters("conv2d", *weight), stride=[stride] * 2, padding=[pad] * 4, groups=groups)
        elif kind == "conv_transpose2d" and small:
            out, k = draw(st.integers(1, 6)), draw(st.sampled_from([3, 4]))
            extra = draw(st.integers(0, 1))
            weight = [(c, out, k, k), (out,)][: 1 + draw(st.booleans())]
            self.node(
                "conv_transpose2d", [x], self.parameters("t", *weight), stride=[2, 2], padding=[1, 1], output_padding=[extra] * 2
            )
        elif kind == "batch_norm":
            self.node("batch_norm", [x], self.parameters("batch_norm", (c,), (c,), (c,), (c,), buffers=2), momentum=0.2, eps=1e-2)
        elif kind == "group_norm" and c * h * w > 3:
            groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0 and c // g * h * w > 2] or [1]))
            affine = [(c,), (c,)] if draw(st.booleans()) else []
            self.node("group_norm", [x], self.parameters("group_norm", *affine) if affine else [], groups=groups, eps=1e-2)
        elif kind == "pool" and h > 1 and w > 1:
            self.node(
                draw(st.sampled_from(["max_pool2d", "avg_pool2d"])), [x], [], kernel=[2, 2], stride=[draw(st.integers(1, 2))] * 2
            )
        elif kind == "upsample" and small:
            mode = draw(st.sampled_from(["nearest", "nearest", "bilinear"]))
            self.node("upsample", [x], [], scale=[2, 2], mode=mode)
        elif kind == "concat":
            others = [v for v in self.values if self.shape(v)[1:] == shape[1:]]
            chosen = draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
            if c * (1 + len(chosen)) <= 40:
                self.node("concat", [x, *chosen], [])
        elif kind == "add":
            self.node("add", [x, *draw(st.lists(st.sampled_from(same), min_size=1, max_size=3))], [])
        elif kind == "multiply":
            masks = [v for v in self.values if self.shape(v) == (1, h, w)]
            self.node("multiply", [x, draw(st.sampled_from(same + masks))], [])
        elif kind == "depth_to_space" and c % 4 == 0:
            self.node("depth_to_space", [x], [], block=2, order=draw(st.sampled_from(["dcr", "crd"])))
        elif kind == "reshape" and c * h * w <= 300:
            self.node("reshape", [x], [], shape=draw(st.sampled_from([[c * h * w], [h, c, w], [1, c * h, w]])))
        elif kind in ("identity", "rms_norm"):
            self.node(kind, [x], [])
        else:
            self.activation(x)

    def activation(self, x: int) -> None:
        kind, slope = self.draw(st.sampled_from(DRAWN))
        self.node("activation", [x], [], kind=kind, negative_slope=slope)

    def finish(self) -> Any:
        """The last value and, at times, another one are the outputs; behind each stands a convolution."""
        chosen = [self.values[-1]]
        if self.draw(st.booleans()):
            chosen.append(self.draw(st.sampled_from(self.values)))
        outputs = []
        for v in chosen:
            c = self.shape(v)[0]
            op, weight = ("linear", (2, c)) if len(self.shape(v)) == 1 else ("conv2d", (2, c, 1, 1))
            outputs.append(self.node(op, [v], self.parameters(op, weight, (2,))))
        self.graph.set_outputs(outputs)
        return self.graph


@st.composite
def networks(draw: Any, core: Any) -> Any:
    drawing = Drawing(core, draw)
    for _ in range(draw(st.integers(1, 9))):
        drawing.step()
    return drawing.finish()


def close(got: Any, want: Any, what: str) -> None:
    scale = max(float(np.abs(want).max(initial=0.0)), 1e-3)
    error = float(np.abs(np.asarray(got, float) - want).max(initial=0.0)) / scale
    assert error <= 2e-4, f"{what}: relative error {error:.2g}"


def of_shards(session: Any, meetings: Meetings, inputs: list[Any], targets: list[Any]) -> dict[str, Any]:
    """The gradients of shards of one sample whose batch norms take the statistics of all, averaged."""
    batch = len(inputs[0])
    flat, total = (np.zeros(session.trainable_count, np.float32) for _ in range(2))
    for k in range(batch):
        session.train_step([a[k : k + 1] for a in inputs], [a[k : k + 1] for a in targets], update=False, shard=k, place=k)
    meetings.hold(cut(batch, batch), lambda shard: None)
    for k in range(batch):
        session.take_gradients(k)
        session.read_flat("gradients", 0, flat)
        total += flat / batch
    session.write_flat("gradients", 0, total)
    return {name: session.get_from("gradients", name) for name, _, _, trainable, _ in session.parameter_layout() if trainable}


def judge(core: Any, target: Target, graph: Any, seed: int, batch: int) -> None:
    description = graph.describe()
    rng = np.random.default_rng(seed)
    losses = [{"kind": "mse", "output": i, "target": i} for i in range(len(description["outputs"]))]
    session = core.Session(graph, target.device, target.version, losses=losses, optimizer={"kind": "sgd"}, seed=seed)
    names = [p["name"] for p in description["parameters"]]
    network = Network(description, {name: session.get_parameter(name) for name in names})
    inputs = [rng.standard_normal((batch, *graph.shape(v))).astype(np.float32) for v in description["inputs"]]
    targets = [rng.standard_normal((batch, *graph.shape(v))).astype(np.float32) for v in description["outputs"]]
    for got, want in zip(session.predict(inputs), network.predict(inputs), strict=True):
        close(got, want, "an output")
    for training in (False, True):
        norms = [node for node in description["nodes"] if node["op"] == "batch_norm"]
        if training and any(batch * np.prod(n["output_shapes"][0][1:]) < 2 for n in norms):
            continue  # no variance of one value
        loss, expected = network.gradients(inputs, targets, training)
        gradients = session.gradients(inputs, targets, eval_mode=not training)
        close(session.loss(), loss, "the loss")
        scale = max((float(np.abs(expected[name]).max()) for name in gradients), default=1.0)
        for name, got in gradients.items():  # where a norm cancels a gradient nothing but rounding is left of it
            close(got + scale, expected[name] + scale, f"the gradient of {name}, training={training}")
        if training and (meetings := Meetings(session, Alone())):
            for name, got in of_shards(session, meetings, inputs, targets).items():
                close(got + scale, expected[name] + scale, f"the gradient of {name}, by shards")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(t, id=str(t), marks=device_mark(t.device))
        for t in TARGETS
        if t.device != "emulated:checked" or t.version in ("v2", "v4")
    ],
)
def test_random_networks(core: Any, target: Target) -> None:
    examples = 60 if target.device in ("cpu", "cuda") else 12 if target.device == "emulated" else 3

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(graph=networks(core), seed=st.integers(0, 1000), batch=st.sampled_from([1, 2, 3]))
    def check(graph: Any, seed: int, batch: int) -> None:
        judge(core, target, graph, seed, batch)

    check()


def test_every_operation_is_drawn_and_has_its_twin(core: Any) -> None:
    with pytest.raises(core.GraphError) as refused:
        core.Graph("words").node("?", "a", [], [], {})
    known = set(str(refused.value).partition("there are ")[2].split(", "))
    elsewhere = {"dropout", "gaussian_sample", "conv2d_mean", "upsample_conv2d"}  # they draw; the planner makes them
    elsewhere |= {"winner_take_all"}  # jumps where two values are nearly equal: test_winner_take_all.py
    assert known - elsewhere == OPERATIONS.keys(), "tests/support/graph_oracle.py needs the float64 twin of every operation"
    drawn = set(re.findall(r'"(\w+)"', inspect.getsource(Drawing.step))) & {*KINDS, "linear", "max_pool2d", "avg_pool2d"}
    assert drawn >= OPERATIONS.keys(), "each has its kind in KINDS and its lines in Drawing.step"


REPEATED = [(op, operands) for op in ("add", "concat") for operands in ("vv", "vvv", "vvvv", "uvv", "vuv", "vvu", "uvuv")]


@pytest.mark.parametrize(("op", "operands"), [*REPEATED, ("multiply", "vv")])
@pytest.mark.parametrize(
    "target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS if t.version in ("cpu", "v1")]
)
def test_a_value_that_is_an_operand_several_times(core: Any, target: Target, op: str, operands: str) -> None:
    """Its gradient is a sum whose parts are one buffer: nothing may be added in place while that is still to be read."""
    graph = core.Graph("repeated")
    x = graph.input("x", (3, 4, 5))
    weights = [graph.parameter(name, (2, 3, 1, 1), init="uniform_fan_in", fan_in=3) for name in ("u.w", "v.w")]
    u, v = (graph.node("conv2d", f"conv{i}", [x], [w], {})[0] for i, w in enumerate(weights))
    [merged] = graph.node(op, "merged", [u if c == "u" else v for c in operands], [], {"axis": 1} if op == "concat" else {})
    channels = graph.shape(merged)[0]
    [y] = graph.node("conv2d", "last", [merged], [graph.parameter("p", (2, channels, 1, 1), init="uniform_fan_in", fan_in=4)], {})
    graph.set_outputs([y])
    judge(core, target, graph, 1, 2)
