"""Networks as ONNX files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from warploom import __version__
from warploom.errors import ArgumentError, DataError
from warploom.export.onnx_graph import IR, OPSET, Graph, need_onnx
from warploom.export.onnx_ops import translate
from warploom.export.part import Part, Value, part_of
from warploom.ground.atomic import expanded, write_atomically
from warploom.model import Model

LAYOUTS = ("nchw", "nhwc")
PREFIX = "warploom."  # of our entries among a file's metadata
_LARGEST = 2_000_000_000  # bytes: a message of ONNX holds less than 2^31
PIXEL = np.float32(1 / 255)  # what the engine multiplies uint8 by


def write_onnx(model: Model, path: str | Path, *, part: str = "whole", skips: bool = False, uint8: str | None = None) -> Path:
    """Writes a network, its encoder or its decoder to an ONNX file (opset 18), and returns the file's path.

    Inputs and outputs are float32 [batch, C, H, W] (or as the network has them), of any batch size, under the network's names;
    layers and parameters keep theirs. part: "whole", "encoder" (up to the latent) or "decoder" (what follows it). skips: encoder
    and decoder pass on what goes around the latent, too. uint8: "nchw" or "nhwc" makes the inputs uint8 images of that layout,
    which the graph scales by 1/255. Dropout is the identity, batch normalisation uses its running statistics.

    StateError without the package onnx; GraphError where the network has no such part; UnsupportedError where a layer of your own
    uses an operation that has no translation; DataError where the file cannot be written.
    """
    if uint8 is not None and uint8 not in LAYOUTS:
        raise ArgumentError(f"unknown layout {uint8!r} of uint8 images; expected one of {', '.join(LAYOUTS)}")
    path = expanded(path)
    if path.suffix.lower() != ".onnx":
        raise ArgumentError(f"{path} does not end in .onnx: name it {path.stem or 'model'}.onnx")
    chosen = part_of(model, part, skips=skips)
    kept = model if part == "whole" else model.encoder if part == "encoder" and not skips else None
    made = message(chosen, uint8, json.dumps(kept.config()) if kept is not None else "")
    write_atomically(path, made.SerializeToString(deterministic=True))
    return path


def message(part: Part, uint8: str | None = None, config: str = "") -> Any:
    """The part as an ONNX model in memory, checked by onnx.checker with all its types and shapes.

    config: the network as JSON, from which read_onnx() builds it again."""
    onnx = need_onnx()
    size = sum(array.nbytes for array in part.parameters.values())
    if size > _LARGEST:
        raise DataError(f"the parameters of {part.name!r} have {size:,} bytes; a file of ONNX holds at most {_LARGEST:,}")
    graph = Graph()
    graph.hold(part.parameters)
    for value in [*part.inputs, *(step.output for step in part.steps)]:
        graph.take(value.name)
    inputs = [_input(graph, value, uint8 if part.kind != "decoder" else None) for value in part.inputs]
    for step in part.steps:
        translate(graph, step)
    outputs = []
    for value in part.outputs:
        name = value.name
        if value in part.inputs:  # an output is no input in ONNX
            name = graph.node("Identity", [graph.named(value)], graph.take(f"{name}_output"))
        outputs.append(graph.described(name, value.shape))
    made = graph.made(part.name, inputs, outputs, _summary(part, uint8))
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="warploom",
        producer_version=__version__, doc_string=_summary(part, uint8),
    )  # fmt: skip
    said = {"name": part.name, "part": part.kind, "scaling": "pixel / 255", "layout": uint8 or "nchw"}
    said |= {"input_type": "uint8" if uint8 and part.kind != "decoder" else "float32"}
    said |= {"graph": config} if config else {}
    onnx.helper.set_model_props(model, {PREFIX + key: text for key, text in said.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _input(graph: Graph, value: Value, uint8: str | None) -> Any:
    """An input; where it is uint8, with the nodes that make the network's own of it."""
    if uint8 is None:
        return graph.described(value.name, value.shape, doc="float32; images are pixels / 255")
    h = graph.node("Cast", [value.name], graph.take(f"{value.name}/float"), to=1)
    factor = graph.take(f"{value.name}/scale")
    graph.constants[factor] = np.array(PIXEL)
    h = graph.node("Mul", [h, factor], graph.take(f"{value.name}/scaled"))
    shape = value.shape
    if uint8 == "nhwc" and len(shape) == 3:
        h = graph.node("Transpose", [h], graph.take(f"{value.name}/nchw"), perm=[0, 3, 1, 2])
        shape = (*shape[1:], shape[0])
    graph.feed(value, h)
    return graph.described(value.name, shape, np.uint8, f"uint8 pixels, {uint8.upper()}; the graph scales them by 1/255")


def _summary(part: Part, uint8: str | None) -> str:
    count = sum(array.size for array in part.parameters.values())
    pixels = f"uint8 {uint8.upper()}" if uint8 and part.kind != "decoder" else "float32 NCHW, images as pixels / 255"
    sizes = [f"{value.name} {'x'.join(map(str, value.shape))}" for value in part.inputs]
    ends = [f"{value.name} {'x'.join(map(str, value.shape))}" for value in part.outputs]
    return f"{part.name}: {', '.join(sizes)} -> {', '.join(ends)}; {count:,} numbers in parameters; inputs are {pixels}."
