"""The global norm of the gradients and the clipping factor in float64."""

from typing import Any

import numpy as np

ENTRY = "gradient_norm"
CASES = [(ENTRY, f"n{count}", {"count": count}) for count in (0, 1, 2, 3, 5, 31, 64, 255, 1021, 4097, 65537)]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    limit = 1.0 if count % 2 else 1e4  # clips, or does not
    return {"max_norm": np.array([limit]), "g": rng.normal(0.0, 3.0, count)}


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    norm = np.sqrt(np.sum(inputs["g"] ** 2))
    return {"out": np.array([norm, np.minimum(1.0, inputs["max_norm"].reshape(-1)[0] / (norm + 1e-6))])}


GRADIENTS: dict[str, Any] = {}
