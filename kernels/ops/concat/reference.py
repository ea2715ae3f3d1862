"""Concatenation of columns and the way back in float64; cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Attributes = dict[str, Any]

SHAPES: dict[str, tuple[int, tuple[int, ...]]] = {
    "one": (1, (1,)), "two": (3, (4, 8)), "nhwc": (35, (3, 5)), "nhwc_aligned": (129, (16, 32)), "unequal": (2, (1025, 3, 64)),
    "nchw": (2, (4 * 256, 2 * 256)), "odd": (5, (7, 1, 13)), "eight": (6, (1, 2, 3, 4, 5, 6, 7, 8)), "empty_part": (4, (3, 0, 2)),
    "nothing": (0, (3, 2)), "single": (7, (12,)), "many_rows": (4099, (1, 2)), "long_rows": (1, (20_003, 8191)),
    "misaligned": (3, (4, 5, 7)),
}  # fmt: skip


def _attributes(rows: int, cols: tuple[int, ...]) -> Attributes:
    return {"rows": rows, "count": len(cols)} | {f"cols{k}": n for k, n in enumerate(cols)}


CASES = [(entry, name, _attributes(*shape)) for entry in ("concat_forward", "concat_backward") for name, shape in SHAPES.items()]
CASES += [("concat_forward", f"{n}_tensors", {"rows": 2, "count": n, "_refused": "1 to 8 tensors"}) for n in (0, 9)]


def _cols(a: Attributes) -> list[int]:
    return [a[f"cols{k}"] for k in range(a["count"])]


def inputs(entry: str, attributes: Attributes, rng: np.random.Generator) -> Tensors:
    if entry == "concat_backward":
        return {"dy": rng.standard_normal((attributes["rows"], sum(_cols(attributes))))}
    return {f"x{k}": rng.standard_normal((attributes["rows"], n)) for k, n in enumerate(_cols(attributes))}


def reference(entry: str, attributes: Attributes, inputs: Tensors) -> Tensors:
    rows, cols = attributes["rows"], _cols(attributes)
    if entry == "concat_forward":
        return {"y": np.hstack([inputs[f"x{k}"].reshape(rows, n) for k, n in enumerate(cols)])}
    parts = np.split(inputs["dy"].reshape(rows, sum(cols)), np.cumsum(cols)[:-1], axis=1)
    return {f"dx{k}": part for k, part in enumerate(parts) if part.size}


def tolerance(entry: str, attributes: Attributes) -> float:
    return 0.0  # moves bits


def _scalar(attributes: Attributes, inputs: Tensors) -> tuple[Callable[[Tensors], float], dict[str, str]]:
    rows, cols = attributes["rows"], _cols(attributes)
    for k, n in enumerate(cols):
        inputs[f"x{k}"] = np.zeros((rows, n))
    return lambda t: float((reference("concat_forward", attributes, t)["y"] * t["dy"].reshape(rows, -1)).sum()), {
        f"dx{k}": f"x{k}" for k in range(len(cols))
    }


GRADIENTS = {"concat_backward": _scalar}
