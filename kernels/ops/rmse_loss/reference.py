"""Root mean square error in float64."""

from typing import Any

import numpy as np

ENTRY = "rmse_loss"
CASES = [
    (ENTRY, f"n{count}", {"count": count, "eps": 0.0, "samples": 3, "weight": 1.0})
    for count in (1, 2, 3, 5, 31, 64, 255, 1021, 4097, 65537)
] + [
    (ENTRY, "eps", {"count": 77, "eps": 1e-2, "samples": 7, "weight": 0.3}),
    (ENTRY, "equal", {"count": 33, "eps": 0.0, "samples": 1, "weight": 1.0}),
    (ENTRY, "equal_eps", {"count": 34, "eps": 1e-6, "samples": 1, "weight": 1.0}),
    (ENTRY, "nothing", {"count": 0, "eps": 0.0, "samples": 1, "weight": 1.0, "_refused": "count must be positive"}),
    (ENTRY, "negative_eps", {"count": 3, "eps": -1.0, "samples": 1, "weight": 1.0, "_refused": "must not be negative"}),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    prediction = rng.normal(0.0, 1.0, count)
    equal = count in (33, 34)
    target = prediction.copy() if equal else rng.normal(0.0, 1.0, count)
    return {"prediction": prediction, "target": target, "total": np.array([5.0, 2.0])}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    p, t, weight, samples = inputs["prediction"], inputs["target"], attributes["weight"], attributes["samples"]
    value = np.sqrt(np.mean((p - t) ** 2) + attributes["eps"])
    out = {"loss": np.array([weight * value])}
    out["grad"] = np.zeros(p.shape) if value == 0.0 else weight * (p - t) / (p.size * value)
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([weight * value * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        # At 0 the root has no derivative; the gradient is 0 by agreement.
        (lambda changed: 0.0)
        if attributes["count"] == 33
        else (lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0])),
        {"grad": "prediction"},
    )
}
