"""Detectors as ONNX files: from pixels to score, label, heat map and mask in one graph, by the formulas of detect.Steps."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from warploom.detect import maps
from warploom.detect.detector import Detector
from warploom.errors import ArgumentError, StateError
from warploom.export.onnx_file import begun, checked_place, finished
from warploom.export.onnx_graph import Graph
from warploom.export.part import Value, part_of
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.atomic import write_atomically

_TINY = float(np.finfo(np.float32).tiny)
OUTPUTS = ("score", "normalized", "abnormal", "map", "heat_map", "mask")


def write_detector(detector: Detector, path: str | Path, *, uint8: str | None = None) -> Path:
    """Writes a fitted detector to an ONNX file (opset 18) that takes images of the network's size, and returns its path.

    The input is the network's: float32 [batch, C, H, W] of pixels / 255, or with uint8="nchw" or "nhwc" the pixels themselves.
    Outputs: score [batch], float32; normalized [batch], score / (score + threshold); abnormal [batch], bool: above the threshold;
    map [batch, H, W]; heat_map, map / (map + pixel threshold); mask, bool: above the pixel threshold.

    StateError for a detector that is not fitted and without the package onnx; ArgumentError where it looks at images of that size
    in tiles; DataError where the file cannot be written.
    """
    path = checked_place(path, uint8)
    write_atomically(path, detector_message(detector, uint8).SerializeToString(deterministic=True))
    return path


def detector_message(detector: Detector, uint8: str | None = None) -> Any:
    """The detector as an ONNX model in memory, checked by onnx.checker."""
    if not detector.fitted:
        raise StateError("an export needs a fitted detector: call fit() with normal images first")
    model, steps = detector.model, detector.steps
    size = model.inputs[0].shape[1:]
    if not steps.network_size and 0 < steps.tile**2 < math.prod(size):
        raise ArgumentError(
            f"the detector looks at images of {size[0]}x{size[1]} in tiles of {steps.tile}, and a graph has no tiles: "
            "fit one whose tile is not smaller than the network's images"
        )
    part = part_of(model, "encoder" if steps.kinds == ("latent",) else "whole", scaling="images")
    graph, inputs = begun(part, uint8)
    made = _Maps(graph, model.inputs[0].shape)
    total = ""
    for found in steps.parts:
        if found.kind == "latent":
            number = model.lowered().values[id(model.require_latent())]
            values = [*part.inputs, *(step.output for step in part.steps)]
            map_ = made.distances(next(value for value in values if value.number == number), detector)
        else:
            pixels, output = made.unit(part.inputs[0], uint8), graph.named(part.outputs[0])
            map_ = made.squared_error(pixels, output) if found.kind == "mse" else made.dissimilarity(pixels, output, steps)
        if (found.weight, found.scale) != (1.0, 1.0):
            map_ = made("Mul", [map_, made.constant("weight", np.float32(found.weight / found.scale))])
        total = made("Add", [total, map_]) if total else map_
    made.finish(total, detector)
    doc = _summary(detector, uint8)
    return finished(graph.made(f"{model.name}-detector", inputs, made.described(), doc), _metadata(detector, uint8))


def _summary(detector: Detector, uint8: str | None) -> str:
    size = "x".join(map(str, detector.model.inputs[0].shape))
    takes = f"uint8 {uint8.upper()}" if uint8 else "float32 NCHW, pixels / 255"
    kinds = "+".join(detector.steps.kinds)
    return (
        f"Detector of abnormal images: {kinds} on {detector.model.name}. Takes images of {size}, {takes}. "
        f"Abnormal: a score above {detector.threshold_:.6g} ({detector.how})."
    )


def _metadata(detector: Detector, uint8: str | None) -> dict[str, str]:
    return {
        "name": detector.model.name,
        "part": "detector",
        "layout": uint8 or "nchw",
        "scaled": "inside" if uint8 else "outside",
        "threshold": repr(detector.threshold_),
        "pixel_threshold": repr(detector.pixel_threshold_),
        "steps": json.dumps(detector.steps.as_dict()),
        "how": detector.how,
    }


class _Maps:
    """Nodes after the network, each named after what it is. Maps are [batch, H, W]."""

    def __init__(self, graph: Graph, shape: Shape) -> None:
        self.graph, self.channels, self.size = graph, shape[0], shape[1:]
        self._names = {name: graph.take(name) for name in OUTPUTS}
        self._unit = ""
        self._count = 0

    def __call__(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        self._count += 1
        return self.graph.node(op, inputs, self.graph.take(name or f"detector/{op.lower()}_{self._count}"), **attributes)

    def unit(self, image: Value, uint8: str | None) -> str:
        """The image divided by 255, as the detector does it; the network's input is multiplied by the rounded 1 / 255."""
        if uint8 is None:
            return self.graph.named(image)
        if not self._unit:
            self._unit = self("Div", [f"{image.name}/float", self.constant("white", np.float32(255))], "detector/pixels")
        return self._unit

    def constant(self, name: str, value: Any) -> str:
        return self.graph.held(f"detector/{name}", np.asarray(value))

    def axes(self, *axes: int) -> str:
        return self.constant("axes", np.array(axes, np.int64))

    def squared_error(self, x: str, y: str) -> str:
        difference = self("Sub", [x, y])
        return self("ReduceMean", [self("Mul", [difference, difference]), self.axes(1)], "detector/mse", keepdims=0)

    def dissimilarity(self, x: str, y: str, steps: Any) -> str:
        taps = maps.gaussian(steps.window // 2, steps.sigma)

        def mean(a: str, b: str = "") -> str:
            return self.filtered(self("Mul", [a, b]) if b else a, taps, self.channels)

        def times(a: str, b: str) -> str:
            return self("Mul", [a, b])

        c1, c2, two = (self.constant(n, np.float32(v)) for n, v in (("c1", 0.01**2), ("c2", 0.03**2), ("two", 2)))
        mx, my = mean(x), mean(y)
        mxx, myy, mxy = times(mx, mx), times(my, my), times(mx, my)
        xx, yy = self("Sub", [mean(x, x), mxx]), self("Sub", [mean(y, y), myy])
        xy = self("Sub", [mean(x, y), mxy])
        upper = times(self("Add", [times(two, mxy), c1]), self("Add", [times(two, xy), c2]))
        lower = times(self("Add", [self("Add", [mxx, myy]), c1]), self("Add", [self("Add", [xx, yy]), c2]))
        similarity = self("ReduceMean", [self("Div", [upper, lower]), self.axes(1)], "detector/similarity", keepdims=0)
        half = self("Div", [self("Sub", [self.constant("one", np.float32(1)), similarity]), two])
        return self("Relu", [half], "detector/ssim")

    def distances(self, latent: Value, detector: Detector) -> str:
        """The mean distance of every place of the latent from its nearest vectors of the bank, enlarged to the image's size."""
        assert detector.bank is not None
        vectors = detector.bank.vectors
        z, count = self.graph.named(latent), min(detector.steps.neighbours, len(vectors))
        places: Shape = latent.shape[1:] if len(latent.shape) == 3 else (1, 1)
        length = latent.shape[0] if len(latent.shape) == 3 else math.prod(latent.shape)
        z = self("Reshape", [z, self.constant("flat", np.array([0, length, -1], np.int64))])
        z = self("Transpose", [z], perm=[0, 2, 1])  # [batch, places, K]
        moved = self("Sub", [z, self.constant("middle", detector.bank.middle)])
        squares = self("ReduceSum", [self("Mul", [moved, moved]), self.axes(2)], keepdims=1)
        bank = self.constant("bank", vectors)
        product = self("MatMul", [self("Add", [moved, moved]), self("Transpose", [bank], perm=[1, 0])])
        known = self.constant("squares", np.einsum("ij,ij->i", vectors, vectors))
        found = self("Sub", [self("Add", [squares, known]), product])
        nearest, which = self.graph.take("detector/nearest"), self.graph.take("detector/which")
        k = self.constant("neighbours", np.array([count], np.int64))
        self.graph.pair("TopK", [found, k], [nearest, which], axis=2, largest=0)
        # The product finds the nearest ones; their distances are those of differences, as it leaves few digits of a small one.
        apart = self("Sub", [self("Unsqueeze", [moved, self.axes(2)]), self("Gather", [bank, which], axis=0)])
        exact = self("ReduceSum", [self("Mul", [apart, apart]), self.axes(3)], keepdims=0)
        mean = self("ReduceMean", [self("Sqrt", [exact]), self.axes(2)], keepdims=0)
        if len(latent.shape) != 3:
            mean = self("Unsqueeze", [mean, self.axes(2)])
            return self("Expand", [mean, self.constant("size", np.array([1, *self.size], np.int64))], "detector/latent")
        mean = self("Reshape", [mean, self.constant("places", np.array([0, 1, *places], np.int64))])
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if all(whole % part == 0 for whole, part in zip(self.size, places, strict=True)):
            scales = [1, 1, self.size[0] // places[0], self.size[1] // places[1]]
            mean = self("Resize", [mean, "", self.constant("scales", np.array(scales, np.float32))], **how)
        else:
            mean = self("Resize", [mean, "", "", self.constant("size", np.array(self.size, np.int64))], axes=[2, 3], **how)
        return self("Squeeze", [mean, self.axes(1)], "detector/latent")

    def filtered(self, x: str, taps: Floats, channels: int) -> str:
        """Both sides under symmetric taps, the border mirrored, as detect.maps.filtered() has it; x is [batch, C, H, W]."""
        for axis, size in enumerate(self.size):
            radius, middle = min(len(taps) // 2, size - 1), len(taps) // 2
            if not radius:
                continue
            own = taps[middle : middle + radius + 1].astype(np.float64)
            own = (own / (own[0] + 2 * own[1:].sum())).astype(np.float32)
            pads = [0] * 8
            pads[2 + axis] = pads[6 + axis] = radius
            wide = self("Pad", [x, self.constant("border", np.array(pads, np.int64))], mode="reflect")
            whole = np.concatenate([own[:0:-1], own])
            weight = np.tile(whole.reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1)), (channels, 1, 1, 1))
            x = self("Conv", [wide, self.constant("taps", weight)], group=channels, kernel_shape=list(weight.shape[2:]))
        return x

    def finish(self, total: str, detector: Detector) -> None:
        """From the sum of the maps to the outputs."""
        steps, names = detector.steps, self._names
        if steps.blur > 0:
            one = self("Unsqueeze", [total, self.axes(1)])
            total = self("Squeeze", [self.filtered(one, maps.gaussian(math.ceil(3 * steps.blur), steps.blur), 1), self.axes(1)])
        self.graph.node("Identity", [total], names["map"])
        flat = self("Reshape", [total, self.constant("flat", np.array([0, -1], np.int64))])
        if steps.pooling == "max":
            self.graph.node("ReduceMax", [flat, self.axes(1)], names["score"], keepdims=0)
        else:
            if steps.pooling == "top":
                count = max(1, int(steps.share * self.size[0] * self.size[1]))
                top, which = self.graph.take("detector/top"), self.graph.take("detector/top_places")
                self.graph.pair("TopK", [flat, self.constant("count", np.array([count], np.int64))], [top, which], axis=1)
                flat = top
            self.graph.node("ReduceMean", [flat, self.axes(1)], names["score"], keepdims=0)
        # The detector compares a score as float64; a map, which is float32, with the rounded threshold.
        for value, share, above, threshold, limit in (
            ("score", "normalized", "abnormal", detector.threshold_, below(detector.threshold_)),
            ("map", "heat_map", "mask", detector.pixel_threshold_, np.float32(detector.pixel_threshold_)),
        ):
            added = self("Add", [names[value], self.constant(f"{value}_threshold", np.float32(max(threshold, _TINY)))])
            self.graph.node("Div", [names[value], added], names[share])
            self.graph.node("Greater", [names[value], self.constant(f"{above}_above", limit)], names[above])

    def described(self) -> list[Any]:
        kinds = {"abnormal": np.bool_, "mask": np.bool_}
        wide = ("map", "heat_map", "mask")
        return [
            self.graph.described(self._names[name], self.size if name in wide else (), kinds.get(name, np.float32))
            for name in OUTPUTS
        ]


def below(threshold: float) -> Array:
    """The largest float32 that is not above it: a float32 is above the one if and only if it is above the other."""
    near = np.float32(threshold)
    return np.array(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)), np.float32)
