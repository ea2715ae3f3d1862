"""Dice loss in float64."""

from typing import Any

import numpy as np

ENTRY = "dice_loss"
CASES = [
    (ENTRY, f"n{count}", {"count": count, "smooth": 1e-6, "samples": 3, "weight": 1.0})
    for count in (1, 2, 3, 5, 31, 64, 255, 1021, 4097, 65537)
] + [
    (ENTRY, "smooth", {"count": 77, "smooth": 1.0, "samples": 7, "weight": 0.3}),
    (ENTRY, "empty_masks", {"count": 33, "smooth": 1.0, "samples": 1, "weight": 1.0}),
    (ENTRY, "nothing", {"count": 0, "smooth": 1.0, "samples": 1, "weight": 1.0, "_refused": "count must be positive"}),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    prediction, target = rng.random(count), (rng.random(count) < 0.4).astype(np.float64)
    if count == 33:
        prediction, target = np.zeros(count), np.zeros(count)
    return {"prediction": prediction, "target": target, "total": np.array([5.0, 2.0])}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    p, t, weight, samples = inputs["prediction"], inputs["target"], attributes["weight"], attributes["samples"]
    smooth = attributes["smooth"]
    numerator, denominator = 2.0 * np.sum(p * t) + smooth, np.sum(p) + np.sum(t) + smooth
    loss = weight * (1.0 - numerator / denominator)
    out = {"loss": np.array([loss]), "grad": -weight * (2.0 * t * denominator - numerator) / denominator**2}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
