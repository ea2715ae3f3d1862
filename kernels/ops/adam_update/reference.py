"""One step of Adam and AdamW in float64."""

from typing import Any

import numpy as np

ENTRY = "adam_update"
CASES = [
    (ENTRY, f"{'adamw' if decoupled else 'adam'}_{count}", {"count": count, "decoupled": decoupled})
    for decoupled in (0, 1)
    for count in (0, 1, 2, 3, 5, 31, 64, 1021, 4097)
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    first = count in (1, 31)  # the first step starts from zeros
    given = {
        "hyper": np.array([1e-3, 0.9, 0.999, 1e-8, 0.01 if count % 2 else 0.0]),
        "step": np.array([1 if first else 17], np.int32),
        "g": rng.normal(0.0, 1.0, count),
        "w": rng.normal(0.0, 0.1, count),
        "m": np.zeros(count) if first else rng.normal(0.0, 0.1, count),
        "v": np.zeros(count) if first else rng.random(count),
    }
    if count in (5, 64):
        given["scale"] = np.array([0.25])
    return given


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    lr, beta1, beta2, eps, weight_decay = inputs["hyper"].reshape(-1)
    step, w = int(inputs["step"].reshape(-1)[0]), inputs["w"]
    g = inputs["g"] * (inputs["scale"].reshape(-1)[0] if "scale" in inputs else 1.0)
    if attributes["decoupled"]:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    m = beta1 * inputs["m"] + (1.0 - beta1) * g
    v = beta2 * inputs["v"] + (1.0 - beta2) * g**2
    w = w - lr / (1.0 - beta1**step) * m / (np.sqrt(v / (1.0 - beta2**step)) + eps)
    return {"w": w, "m": m, "v": v}


GRADIENTS: dict[str, Any] = {}
