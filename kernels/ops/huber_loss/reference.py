"""Huber's loss in float64."""

from typing import Any

import numpy as np

ENTRY = "huber_loss"
SIZES = (1, 2, 3, 5, 31, 64, 255, 1021, 4097, 65537)
CASES = [(ENTRY, f"huber_{count}", {"count": count, "delta": 1.0, "samples": 3, "weight": 1.0}) for count in SIZES] + [
    (ENTRY, "narrow", {"count": 77, "delta": 0.25, "samples": 7, "weight": 0.3}),
    (ENTRY, "wide", {"count": 77, "delta": 100.0, "samples": 7, "weight": 2.5}),
    (ENTRY, "nothing", {"count": 0, "delta": 1.0, "samples": 1, "weight": 1.0, "_refused": "count must be positive"}),
    (ENTRY, "no_delta", {"count": 5, "delta": 0.0, "samples": 1, "weight": 1.0, "_refused": "delta must be positive"}),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    prediction = rng.normal(0.0, 1.5, count).astype(np.float32).astype(np.float64)
    target = prediction + np.where(rng.random(count) < 0.1, 0.0, rng.normal(0.0, 1.0, count))  # some exactly equal
    return {"prediction": prediction, "target": target, "total": np.array([5.0, 2.0])}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    d, delta, samples = inputs["prediction"] - inputs["target"], attributes["delta"], attributes["samples"]
    value = np.mean(np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta)))
    loss = attributes["weight"] * value
    out = {"loss": np.array([loss]), "grad": attributes["weight"] * np.clip(d, -delta, delta) / d.size}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
