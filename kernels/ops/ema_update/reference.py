"""One step of the moving average of the weights in float64."""

from typing import Any

import numpy as np

ENTRY = "ema_update"
SIZES = (0, 1, 2, 3, 5, 31, 64, 1021, 4097)
CASES = [(ENTRY, f"ema_{count}", {"count": count, "_step": 5000}) for count in SIZES] + [
    (ENTRY, f"ema_step_{step}", {"count": 77, "_step": step}) for step in (1, 2, 10, 889, 891)
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    return {
        "hyper": np.array([0.99]),
        "step": np.array([attributes["_step"]], np.int32),
        "w": rng.normal(0.0, 0.1, count),
        "average": rng.normal(0.0, 0.1, count),
    }


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    step, decay = int(inputs["step"].reshape(-1)[0]), float(inputs["hyper"].reshape(-1)[0])
    kept = 0.0 if step == 1 else min(decay, step / (step + 9))
    return {"average": kept * inputs["average"] + (1.0 - kept) * inputs["w"]}


GRADIENTS: dict[str, Any] = {}
