"""One step of RMSprop in float64, with the draws of learning-rate dropout."""

from typing import Any

import numpy as np

ENTRY = "rmsprop_update"
CASES = [(ENTRY, f"n{count}", {"count": count}) for count in (0, 1, 2, 3, 5, 31, 63, 64, 255, 1021, 4096, 4097)]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = attributes["count"]
    keep = {5: 0.3, 64: 0.0, 255: 0.7, 4097: 0.3}.get(count, 1.0)
    given = {
        "hyper": np.array([1e-3, 0.99, 1e-8, 0.9 if count % 2 else 0.0, 0.01 if count % 3 else 0.0, keep]),
        "step": np.array([1 + count], np.int32),
        "g": rng.normal(0.0, 1.0, count),
        "w": rng.normal(0.0, 0.1, count),
        "square": np.zeros(count) if count == 31 else rng.random(count),
    }
    if count % 2:
        given["velocity"] = rng.normal(0.0, 1.0, count)
    if count in (5, 1021):
        given["scale"] = np.array([0.25])
    return given


def kept(count: int, step: int, probability: float) -> Any:
    """Learning-rate dropout: Philox 4x32-10 on the counter (element / 4, step) draws one 32-bit word per element."""
    if not probability < 1.0:
        return np.ones(count)
    low = np.uint64(0xFFFFFFFF)
    group = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [group & low, group >> np.uint64(32), np.full_like(group, step), np.zeros_like(group)]
    key = [0x77617270, 0x6C6F6F6D]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]), a & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    words = np.stack(c, axis=1).reshape(-1)[:count]
    return (words < np.uint64(int(max(probability, 0.0) * 2.0**32))).astype(np.float64)


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    lr, alpha, eps, momentum, weight_decay, keep = inputs["hyper"].reshape(-1)
    step, w = int(inputs["step"].reshape(-1)[0]), inputs["w"]
    g = inputs["g"] * (inputs["scale"].reshape(-1)[0] if "scale" in inputs else 1.0) + weight_decay * w
    square = alpha * inputs["square"] + (1.0 - alpha) * g**2
    direction = g / (np.sqrt(square) + eps)
    out = {"square": square}
    if "velocity" in inputs:
        direction = out["velocity"] = momentum * inputs["velocity"] + direction
    return out | {"w": w - lr * kept(w.size, step, keep).reshape(w.shape) * direction}


GRADIENTS: dict[str, Any] = {}
