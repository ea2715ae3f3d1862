"""One step of Lion in float64."""

from typing import Any

import numpy as np

ENTRY = "lion_update"
CASES = [(ENTRY, f"lion_{count}", {"count": count}) for count in (0, 1, 2, 3, 5, 31, 64, 1021, 4097)]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    first = count in (1, 31)  # the first step starts from zeros
    given = {
        "hyper": np.array([1e-2, 0.9, 0.99, 0.1 if count % 2 else 0.0]),
        "g": np.where(np.arange(count) % 7 == 6, 0.0, rng.normal(0.0, 1.0, count)),
        "w": rng.normal(0.0, 0.1, count),
        "m": np.where(np.arange(count) % 14 == 6, 0.0, np.zeros(count) if first else rng.normal(0.0, 0.1, count)),
    }
    if count in (5, 64):
        given["scale"] = np.array([0.25])
    return given


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    lr, beta1, beta2, weight_decay = inputs["hyper"].reshape(-1)
    g = inputs["g"] * (inputs["scale"].reshape(-1)[0] if "scale" in inputs else 1.0)
    sign = np.sign(beta1 * inputs["m"] + (1.0 - beta1) * g)
    w = inputs["w"] - lr * (sign + weight_decay * inputs["w"])
    return {"w": w, "m": beta2 * inputs["m"] + (1.0 - beta2) * g}


GRADIENTS: dict[str, Any] = {}
