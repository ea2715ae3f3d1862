"""Networks as ONNX files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from warploom import __version__
from warploom.data.scaling import Intake, Scaling
from warploom.errors import ArgumentError, DataError
from warploom.export.onnx_graph import IR, OPSET, Graph, need_onnx
from warploom.export.onnx_ops import translate
from warploom.export.part import Part, Value, part_of
from warploom.ground.atomic import expanded, write_atomically
from warploom.model import Model

LAYOUTS = ("nchw", "nhwc")
PREFIX = "warploom."  # of our entries among a file's metadata
PIXEL = np.float32(1 / 255)  # what the engine multiplies uint8 by
_LARGEST = 2_000_000_000  # bytes: a message of ONNX holds less than 2^31


def write_onnx(
    model: Model,
    path: str | Path,
    *,
    part: str = "whole",
    skips: bool = False,
    uint8: str | None = None,
    scaling: str | Scaling | None = None,
) -> Path:
    """Writes a network, its encoder or its decoder to an ONNX file (opset 18), and returns the file's path.

    Inputs and outputs are float32 [batch, C, H, W] (or as the network has them), of any batch size, under the network's names;
    layers and parameters keep theirs. Dropout is the identity, batch normalisation uses its running statistics.

    part: "whole", "encoder" (up to the latent) or "decoder" (what follows it). skips: encoder and decoder pass on what goes
    around the latent, too.

    uint8: "nchw" or "nhwc" makes the inputs uint8 images of that layout, channels RGB, and the graph scales them as in training.
    scaling: how that was: a kind of data ("images", "segmentation", "composites", "faces") or a warploom.data.scaling.Scaling;
    None: as networks of this name are trained, else "images", pixels / 255.

    StateError without the package onnx; GraphError where the network has no such part; UnsupportedError where a layer of your own
    uses an operation that has no translation; DataError where the file cannot be written.
    """
    path = checked_place(path, uint8)
    chosen = part_of(model, part, skips=skips, scaling=scaling)
    kept = model if part == "whole" else model.encoder if part == "encoder" and not skips else None
    made = message(chosen, uint8, json.dumps(kept.config()) if kept is not None else "")
    write_atomically(path, made.SerializeToString(deterministic=True))
    return path


def checked_place(path: str | Path, uint8: str | None) -> Path:
    """Where to write; ArgumentError where the ending or the layout is none of ours."""
    if uint8 is not None and uint8 not in LAYOUTS:
        raise ArgumentError(f"unknown layout {uint8!r} of uint8 images; expected one of {', '.join(LAYOUTS)}")
    path = expanded(path)
    if path.suffix.lower() != ".onnx":
        raise ArgumentError(f"{path} does not end in .onnx: name it {path.stem or 'model'}.onnx")
    return path


def message(part: Part, uint8: str | None = None, config: str = "") -> Any:
    """The part as an ONNX model in memory, checked by onnx.checker with all its types and shapes.

    config: the network as JSON, from which read_onnx() builds it again."""
    graph, inputs = begun(part, uint8)
    outputs = []
    for value in part.outputs:
        name = value.name
        if value in part.inputs:  # an output is no input in ONNX
            name = graph.node("Identity", [graph.named(value)], graph.take(f"{name}_output"))
        outputs.append(graph.described(name, value.shape))
    return finished(graph.made(part.name, inputs, outputs, _summary(part, uint8)), _metadata(part, uint8, config))


def begun(part: Part, uint8: str | None) -> tuple[Graph, list[Any]]:
    """A graph with the part's steps in it, and its inputs."""
    size = sum(array.nbytes for array in part.parameters.values())
    if size > _LARGEST:
        raise DataError(f"the parameters of {part.name!r} have {size:,} bytes; a file of ONNX holds at most {_LARGEST:,}")
    graph = Graph()
    graph.hold(part.parameters)
    for value in [*part.inputs, *(step.output for step in part.steps)]:
        graph.take(value.name)
    inputs = [_input(graph, value, part.intakes.get(value.name), uint8) for value in part.inputs]
    for step in part.steps:
        translate(graph, step)
    return graph, inputs


def finished(graph: Any, metadata: dict[str, str]) -> Any:
    """The model of a graph, checked by onnx.checker with all its types and shapes."""
    onnx = need_onnx()
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="warploom",
        producer_version=__version__, doc_string=graph.doc_string,
    )  # fmt: skip
    onnx.helper.set_model_props(model, {PREFIX + key: text for key, text in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _input(graph: Graph, value: Value, intake: Intake | None, uint8: str | None) -> Any:
    """An input; where it is uint8, with the nodes that make the network's own of it."""
    if intake is None or uint8 is None:
        doc = f"float32: {intake.told()}" if intake is not None else "as the encoder gives it"
        return graph.described(value.name, value.shape, doc=doc)
    h, shape = value.name, value.shape
    if uint8 == "nhwc" and len(shape) == 3:
        h = graph.node("Transpose", [h], graph.take(f"{value.name}/nchw"), perm=[0, 3, 1, 2])
        shape = (*shape[1:], shape[0])
    h = graph.node("Cast", [h], graph.take(f"{value.name}/float"), to=1)
    if intake.bgr:
        order = graph.held(f"{value.name}/order", np.arange(value.shape[0] - 1, -1, -1))
        h = graph.node("Gather", [h, order], graph.take(f"{value.name}/bgr"), axis=1)
    if intake.scaling is None:
        h = graph.node("Mul", [h, graph.held(f"{value.name}/scale", np.array(PIXEL))], graph.take(f"{value.name}/scaled"))
    else:
        scale, shift = (a[:, None, None] for a in intake.scaling.of(255.0))
        h = graph.node("Mul", [h, graph.held(f"{value.name}/scale", scale)], graph.take(f"{value.name}/scaled"))
        h = graph.node("Sub", [h, graph.held(f"{value.name}/shift", shift)], graph.take(f"{value.name}/shifted"))
    graph.feed(value, h)
    return graph.described(value.name, shape, np.uint8, f"uint8 RGB, {uint8.upper()}; the graph makes {intake.told()} of it")


def _metadata(part: Part, uint8: str | None, config: str) -> dict[str, str]:
    """What programs may read: scaling has mean and deviation of pixels in [0, 1] and the order of channels, by input."""
    scaling = {}
    for name, intake in part.intakes.items():
        found = intake.scaling or Scaling((0.0,), (1.0,))
        scaling[name] = {"mean": found.mean, "deviation": found.deviation, "channels": "BGR" if intake.bgr else "RGB"}
    said = {"name": part.name, "part": part.kind, "layout": uint8 or "nchw", "scaling": json.dumps(scaling)}
    said |= {"scaled": "inside" if uint8 else "outside"} if scaling else {}
    return said | ({"graph": config} if config else {})


def _summary(part: Part, uint8: str | None) -> str:
    count = sum(array.size for array in part.parameters.values())
    takes, gives = (", ".join(f"{v.name} {'x'.join(map(str, v.shape))}" for v in vs) for vs in (part.inputs, part.outputs))
    told = {f"{name} is {intake.told()}" for name, intake in part.intakes.items()}
    pixels = f" Takes uint8 {uint8.upper()}." if uint8 and told else f" {'; '.join(sorted(told))}." if told else ""
    return f"{part.name}: {takes} -> {gives}; {count:,} numbers in parameters.{pixels}"
