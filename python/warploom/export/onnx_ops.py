"""Each operation of the core in ONNX (opset 18). An operation without an entry in OPS cannot be exported.

A translator adds nodes to a graph. The last one has the step's name and makes its output; those before it are named
"step/part", and so are constants.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from warploom.errors import UnsupportedError
from warploom.export.onnx_graph import Graph
from warploom.export.part import Step

Translator = Callable[[Graph, Step], None]
OPS: dict[str, Translator] = {}


def translate(graph: Graph, step: Step) -> None:
    """Adds a step; UnsupportedError where its operation is not known here."""
    if step.op not in OPS:
        raise UnsupportedError(f"layer {step.name!r} cannot be exported to ONNX: there is no translation of {step.op!r}")
    OPS[step.op](graph, step)


def _op(name: str) -> Callable[[Translator], Translator]:
    def known(translator: Translator) -> Translator:
        OPS[name] = translator
        return translator

    return known


def _simple(op: str, **attributes: Any) -> Translator:
    """A node of ONNX that takes the inputs as they are."""
    return lambda graph, step: graph.finish(step, op, graph.read(step), **attributes)


OPS["identity"] = OPS["dropout"] = OPS["winner_take_all"] = _simple("Identity")  # nothing falls out at inference
OPS["multiply"] = _simple("Mul")
OPS["concat"] = _simple("Concat", axis=1)


@_op("gaussian_sample")
def _gaussian_sample(graph: Graph, step: Step) -> None:
    """The means."""
    starts, ends, axes = (
        graph.constant(step, name, np.array([value], np.int64))
        for name, value in (("starts", 0), ("ends", step.output.shape[0]), ("axes", 1))
    )
    graph.finish(step, "Slice", [*graph.read(step), starts, ends, axes])


@_op("add")
def _add(graph: Graph, step: Step) -> None:
    graph.finish(step, "Add" if len(step.inputs) == 2 else "Sum", graph.read(step))


@_op("conv2d")
def _conv2d(graph: Graph, step: Step) -> None:
    top, bottom, left, right = step.attributes.get("padding", [0, 0, 0, 0])
    graph.finish(
        step, "Conv", [*graph.read(step), *step.parameters], kernel_shape=graph.shape(step.parameters[0])[2:],
        strides=step.attributes.get("stride", [1, 1]), pads=[top, left, bottom, right], group=step.attributes.get("groups", 1),
    )  # fmt: skip


@_op("conv_transpose2d")
def _conv_transpose2d(graph: Graph, step: Step) -> None:
    rows, columns = step.attributes.get("padding", [0, 0])
    graph.finish(
        step, "ConvTranspose", [*graph.read(step), *step.parameters], kernel_shape=graph.shape(step.parameters[0])[2:],
        strides=step.attributes.get("stride", [1, 1]), pads=[rows, columns, rows, columns],
        output_padding=step.attributes.get("output_padding", [0, 0]), group=step.attributes.get("groups", 1),
    )  # fmt: skip


@_op("linear")
def _linear(graph: Graph, step: Step) -> None:
    graph.finish(step, "Gemm", [*graph.read(step), *step.parameters], transB=1)


def _pool(op: str) -> Translator:
    def pool(graph: Graph, step: Step) -> None:
        kernel = step.attributes["kernel"]
        graph.finish(step, op, graph.read(step), kernel_shape=kernel, strides=step.attributes.get("stride", kernel))

    return pool


OPS["max_pool2d"], OPS["avg_pool2d"] = _pool("MaxPool"), _pool("AveragePool")


@_op("upsample")
def _upsample(graph: Graph, step: Step) -> None:
    """nearest: pixel i comes from i // scale; bilinear: half-pixel centres, edges clamped."""
    scales = graph.constant(step, "scales", np.array([1, 1, *step.attributes["scale"]], np.float32))
    inputs = [*graph.read(step), "", scales]
    if step.attributes.get("mode", "nearest") == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    graph.finish(step, "Resize", inputs, **how)


@_op("batch_norm")
def _batch_norm(graph: Graph, step: Step) -> None:
    inputs = [*graph.read(step), *step.parameters]
    graph.finish(step, "BatchNormalization", inputs, epsilon=step.attributes.get("eps", 1e-5))


@_op("group_norm")
def _group_norm(graph: Graph, step: Step) -> None:
    """As an instance normalisation of each group: ONNX's GroupNormalization has a gain per group before opset 21."""
    groups, shape = step.attributes.get("groups", 1), step.output.shape
    grouped = graph.constant(step, "grouped", np.array([0, groups, -1], np.int64))  # 0: as in the input
    one = graph.constant(step, "one", np.ones(groups, np.float32))
    zero = graph.constant(step, "zero", np.zeros(groups, np.float32))
    h = graph.add(step, "group", "Reshape", [*graph.read(step), grouped])
    h = graph.add(step, "normalize", "InstanceNormalization", [h, one, zero], epsilon=step.attributes.get("eps", 1e-5))
    whole = graph.constant(step, "shape", np.array([0, *shape], np.int64))
    if not step.parameters:
        graph.finish(step, "Reshape", [h, whole])
        return
    h = graph.add(step, "ungroup", "Reshape", [h, whole])
    per_channel = graph.constant(step, "per_channel", np.array([shape[0], *[1] * (len(shape) - 1)], np.int64))
    weight, bias = (graph.add(step, p.rpartition(".")[2], "Reshape", [p, per_channel]) for p in step.parameters)
    graph.finish(step, "Add", [graph.add(step, "scale", "Mul", [h, weight]), bias])


@_op("rms_norm")
def _rms_norm(graph: Graph, step: Step) -> None:
    (x,) = graph.read(step)
    axes = graph.constant(step, "axes", np.arange(1, len(step.output.shape) + 1, dtype=np.int64))
    mean = graph.add(step, "mean", "ReduceMean", [graph.add(step, "square", "Mul", [x, x]), axes], keepdims=1)
    sum_ = graph.add(step, "add", "Add", [mean, graph.number(step, "eps", step.attributes.get("eps", 1e-6))])
    graph.finish(step, "Div", [x, graph.add(step, "root", "Sqrt", [sum_])])


@_op("depth_to_space")
def _depth_to_space(graph: Graph, step: Step) -> None:
    mode = step.attributes.get("order", "dcr").upper()
    graph.finish(step, "DepthToSpace", graph.read(step), blocksize=step.attributes["block"], mode=mode)


@_op("reshape")
def _reshape(graph: Graph, step: Step) -> None:
    shape = graph.constant(step, "shape", np.array([0, *step.output.shape], np.int64))
    graph.finish(step, "Reshape", [*graph.read(step), shape])


@_op("activation")
def _activation(graph: Graph, step: Step) -> None:
    kind = step.attributes.get("kind", "relu")
    if kind not in KINDS:
        raise UnsupportedError(f"layer {step.name!r} cannot be exported to ONNX: there is no translation of {kind!r}")
    KINDS[kind](graph, step)


def _silu(graph: Graph, step: Step) -> None:
    (x,) = graph.read(step)
    graph.finish(step, "Mul", [x, graph.add(step, "sigmoid", "Sigmoid", [x])])


def _gelu(graph: Graph, step: Step) -> None:
    """x / 2 * (1 + erf(x / sqrt(2))); an operator of its own only from opset 20 on."""
    (x,) = graph.read(step)
    _halved(graph, step, graph.add(step, "erf", "Erf", [_times(graph, step, "scale", x, math.sqrt(0.5))]))


def _gelu_tanh(graph: Graph, step: Step) -> None:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    (x,) = graph.read(step)
    cube = graph.add(step, "cube", "Mul", [graph.add(step, "square", "Mul", [x, x]), x])
    inner = graph.add(step, "inner", "Add", [x, _times(graph, step, "small", cube, 0.044715)])
    _halved(graph, step, graph.add(step, "tanh", "Tanh", [_times(graph, step, "scale", inner, math.sqrt(2 / math.pi))]))


def _exp(graph: Graph, step: Step) -> None:
    """exp(r * (x - 1))."""
    shifted = graph.add(step, "shift", "Sub", [*graph.read(step), graph.number(step, "one", 1.0)])
    graph.finish(step, "Exp", [_times(graph, step, "scale", shifted, _slope(step))])


def _signed_sqrt(graph: Graph, step: Step) -> None:
    (x,) = graph.read(step)
    root = graph.add(step, "root", "Sqrt", [graph.add(step, "size", "Abs", [x])])
    graph.finish(step, "Mul", [graph.add(step, "sign", "Sign", [x]), root])


def _rsqrt(graph: Graph, step: Step) -> None:
    """1 / sqrt(max(x, 0) + eps)."""
    positive = graph.add(step, "positive", "Relu", graph.read(step))
    sum_ = graph.add(step, "add", "Add", [positive, graph.number(step, "eps", _slope(step))])
    graph.finish(step, "Reciprocal", [graph.add(step, "root", "Sqrt", [sum_])])


def _slope(step: Step) -> float:
    """The number of an activation: its slope, alpha, r or eps."""
    return float(step.attributes.get("negative_slope", 0.0))


def _times(graph: Graph, step: Step, name: str, x: str, factor: float) -> str:
    return graph.add(step, f"{name}d", "Mul", [x, graph.number(step, name, factor)])


def _halved(graph: Graph, step: Step, bent: str) -> None:
    """x * (0.5 * (1 + bent))."""
    share = _times(graph, step, "half", graph.add(step, "plus_one", "Add", [bent, graph.number(step, "one", 1.0)]), 0.5)
    graph.finish(step, "Mul", [*graph.read(step), share])


KINDS: dict[str, Translator] = {
    "none": _simple("Identity"),
    "relu": _simple("Relu"),
    "leaky_relu": lambda g, s: g.finish(s, "LeakyRelu", g.read(s), alpha=_slope(s)),
    "sigmoid": _simple("Sigmoid"),
    "tanh": _simple("Tanh"),
    "elu": lambda g, s: g.finish(s, "Elu", g.read(s), alpha=_slope(s)),
    "exp": _exp,
    "signed_sqrt": _signed_sqrt,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "rsqrt": _rsqrt,
}
