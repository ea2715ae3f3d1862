"""Mean absolute error and binary cross-entropy of logits in float64."""

from typing import Any

import numpy as np

ENTRY = "pointwise_loss"
SIZES = (1, 2, 3, 5, 31, 64, 255, 1021, 4097, 65537)
CASES = [
    (ENTRY, f"{kind}_{count}", {"count": count, "kind": kind, "samples": 3, "weight": 1.0})
    for kind in ("l1", "bce_with_logits")
    for count in SIZES
] + [
    (ENTRY, "l1_weight", {"count": 77, "kind": "l1", "samples": 7, "weight": 0.3}),
    (ENTRY, "bce_weight", {"count": 77, "kind": "bce_with_logits", "samples": 7, "weight": 2.5}),
    (ENTRY, "nothing", {"count": 0, "kind": "l1", "samples": 1, "weight": 1.0, "_refused": "count must be positive"}),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    prediction = rng.normal(0.0, 4.0, count).astype(np.float32).astype(np.float64)
    if attributes["kind"] == "l1":
        target = prediction + np.where(rng.random(count) < 0.1, 0.0, rng.normal(0.0, 1.0, count))  # some exactly equal
    else:
        prediction[:: max(count // 3, 1)] *= 30.0  # where an exponential alone would overflow
        target = rng.random(count)
    return {"prediction": prediction, "target": target, "total": np.array([5.0, 2.0])}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    p, t, weight, samples = inputs["prediction"], inputs["target"], attributes["weight"], attributes["samples"]
    if attributes["kind"] == "l1":
        value, slope = np.mean(np.abs(p - t)), np.sign(p - t)
    else:
        value, slope = np.mean(np.logaddexp(0.0, p) - p * t), np.exp(-np.logaddexp(0.0, -p)) - t
    loss = weight * value
    out = {"loss": np.array([loss]), "grad": weight * slope / p.size}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
