"""The divergence from the standard normal distribution in float64."""

from typing import Any

import numpy as np

ENTRY = "kl_loss"
SHAPES = {
    "one": (1, 1), "vector": (3, 17), "prime": (7, 131), "aligned": (5, 512), "pixels": (1025, 8), "long": (2, 40_001),
}  # fmt: skip
CASES = [
    (ENTRY, name, {"rows": rows, "cols": cols, "samples": 3 if rows % 3 == 0 else 1, "weight": 0.3})
    for name, (rows, cols) in SHAPES.items()
] + [
    (ENTRY, "nothing", {"rows": 0, "cols": 4, "samples": 1, "weight": 1.0, "_refused": "must be positive"}),
    (ENTRY, "no_samples", {"rows": 3, "cols": 4, "samples": 0, "weight": 1.0, "_refused": "must be positive"}),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"prediction": rng.normal(0.0, 1.5, (attributes["rows"], 2, attributes["cols"])), "total": np.array([5.0, 2.0])}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    given = inputs["prediction"].reshape(attributes["rows"], 2, attributes["cols"])
    mean, log_variance, samples = given[:, 0], given[:, 1], attributes["samples"]
    scale = attributes["weight"] / samples
    loss = scale * 0.5 * np.sum(mean**2 + np.exp(log_variance) - 1.0 - log_variance)
    grad = scale * np.stack([mean, 0.5 * (np.exp(log_variance) - 1.0)], axis=1)
    out = {"loss": np.array([loss]), "grad": grad.reshape(-1)}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
