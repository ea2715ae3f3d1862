"""An ONNX file against the engine: the same inputs through both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warploom.data.scaling import Intake, Scaling
from warploom.errors import DataError, StateError
from warploom.export.onnx_file import PIXEL
from warploom.export.part import part_of
from warploom.ground.array_types import Array
from warploom.model import Model


@dataclass(frozen=True)
class Difference:
    """Of one output."""

    output: str
    largest_difference: float  # max |ONNX Runtime - warploom|
    largest_value: float  # max |warploom|


def compare(
    model: Model, path: str | Path, *, part: str = "whole", skips: bool = False, uint8: str | None = None,
    scaling: str | Scaling | None = None, samples: int = 2, seed: int = 0,
) -> list[Difference]:  # fmt: skip
    """Runs a file that was exported with these arguments in ONNX Runtime, on random images, and tells how far each output is from
    the network's own, on the device that the model runs on.

    StateError without the package onnxruntime; DataError where it refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise StateError("a comparison needs the package onnxruntime: pip install onnxruntime") from None

    chosen = part_of(model, part, skips=skips, scaling=scaling)
    pixels = uint8 is not None and part != "decoder"
    rng = np.random.default_rng(seed)
    shapes = [(samples, *t.shape) for t in model.inputs]
    fed: list[Array] = [rng.integers(0, 256, s, np.uint8) if pixels else rng.random(s, np.float32) for s in shapes]
    names = [str(t.name) for t in model.inputs]
    intakes = chosen.intakes if pixels else {}
    given = [np.ascontiguousarray(intakes.get(n, Intake()).forward(a)) for n, a in zip(names, fed, strict=True)]
    numbers = model.lowered().values
    tensors = {numbers[id(t)]: t for call in model.calls for t in call.outputs}
    values: dict[int, Array] = {numbers[id(t)]: array for t, array in zip(model.inputs, fed, strict=True)}
    wanted = [v.number for v in dict.fromkeys([*chosen.inputs, *chosen.outputs]) if v.number not in values]
    values |= zip(wanted, model.engine.predict(given, [tensors[number] for number in wanted]), strict=True)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        turned = {v.number for v in chosen.inputs if uint8 == "nhwc" and pixels and len(v.shape) == 3}
        feed = {v.name: np.moveaxis(values[v.number], 1, 3) if v.number in turned else values[v.number] for v in chosen.inputs}
        found = session.run(None, feed)
    except Exception as error:  # its own errors have no common base
        raise DataError(f"ONNX Runtime does not run {path}: {str(error).splitlines()[0]}") from error
    for t, array in zip(model.inputs, given, strict=True):  # an output may be an input, as the network takes it
        values[numbers[id(t)]] = array * PIXEL if array.dtype == np.uint8 else array
    return [
        Difference(value.name, float(np.abs(made - values[value.number]).max()), float(np.abs(values[value.number]).max()))
        for value, made in zip(chosen.outputs, found, strict=True)
    ]
