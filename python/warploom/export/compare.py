"""An ONNX file against the engine: the same inputs through both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warploom.data.scaling import Intake, Scaling
from warploom.detect.detector import Detector
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
    turned = {v.number for v in chosen.inputs if uint8 == "nhwc" and pixels and len(v.shape) == 3}
    feed = {v.name: np.moveaxis(values[v.number], 1, 3) if v.number in turned else values[v.number] for v in chosen.inputs}
    found = _run(path, feed)
    for t, array in zip(model.inputs, given, strict=True):  # an output may be an input, as the network takes it
        values[numbers[id(t)]] = array * PIXEL if array.dtype == np.uint8 else array
    return [_difference(v.name, made, values[v.number]) for v, made in zip(chosen.outputs, found.values(), strict=True)]


def compare_detector(
    detector: Detector, path: str | Path, *, uint8: str | None = None, samples: int = 4, seed: int = 0
) -> list[Difference]:
    """The same of a detector: score, map and heat map of random images. StateError and DataError as in compare()."""
    (image,) = detector.model.inputs
    rng = np.random.default_rng(seed)
    shape = (samples, *image.shape)
    given: Array = rng.integers(0, 256, shape, np.uint8) if uint8 else rng.random(shape, np.float32)
    found = _run(path, {str(image.name): np.moveaxis(given, 1, 3) if uint8 == "nhwc" else given})
    own = list(detector.examine(given))
    right = {"score": [f.score for f in own], "map": [f.map for f in own], "heat_map": [f.heat_map for f in own]}
    return [_difference(name, found[name], np.array(values, np.float32)) for name, values in right.items()]


def _run(path: str | Path, feed: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a file in ONNX Runtime, by name."""
    try:
        import onnxruntime
    except ImportError:
        raise StateError("a comparison needs the package onnxruntime: pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
    except Exception as error:  # its own errors have no common base
        raise DataError(f"ONNX Runtime does not run {path}: {str(error).splitlines()[0]}") from error


def _difference(name: str, made: Array, own: Array) -> Difference:
    return Difference(name, float(np.abs(made - own).max()), float(np.abs(own).max()))
