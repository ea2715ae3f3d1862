"""Softmax cross-entropy in float64."""

from typing import Any

import numpy as np

ENTRY = "cross_entropy_loss"


def _case(name: str, outer: int, C: int, inner: int, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return ENTRY, name, {"outer": outer, "C": C, "inner": inner, "ignore_index": -100, "samples": 2, "weight": 1.0} | more


CASES = [
    _case("one", 1, 1, 1),
    _case("one_class", 5, 1, 3),
    _case("rows_2", 33, 2, 1),
    _case("rows_3", 257, 3, 1),
    _case("rows_17", 67, 17, 1),
    _case("rows_33", 9, 33, 1),
    _case("rows_1000", 7, 1000, 1),
    _case("few_positions", 3, 50, 4),
    _case("planes_2", 2, 2, 35),
    _case("planes_5", 3, 5, 1025),
    _case("planes_21", 2, 21, 49),
    _case("planes_300", 1, 300, 33),
    _case("ignored", 4, 5, 37, ignore_index=2),
    _case("ignored_rows", 70, 5, 1, ignore_index=-1, weight=0.3),
    _case("all_ignored", 1, 4, 36, ignore_index=7),
    _case("nothing", 0, 4, 36, _refused="must be positive"),
    _case("uncountable", 1, 1 << 25, 1, _refused="16777216 classes at most"),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    outer, C, inner, ignore = (attributes[k] for k in ("outer", "C", "inner", "ignore_index"))
    logits = rng.normal(0.0, 3.0, (outer, C, inner))
    logits[:, 0] += 60.0 * (rng.random((outer, inner)) < 0.1)  # some sure of themselves
    labels = rng.integers(0, C, (outer, inner)).astype(np.float64)
    if ignore != -100:
        labels[rng.random((outer, inner)) < 0.3] = ignore
    if ignore == 7:
        labels[:] = ignore
    given = {"prediction": logits, "target": labels, "total": np.array([5.0, 2.0])}
    if C in (5, 17):
        given["class_weight"] = rng.random(C) + 0.1
    return given


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    outer, C, inner = (attributes[k] for k in ("outer", "C", "inner"))
    weight, samples = attributes["weight"], attributes["samples"]
    p, labels = inputs["prediction"].reshape(outer, C, inner), inputs["target"].reshape(outer, 1, inner)
    classes = np.arange(C).reshape(1, C, 1)
    ignored = labels == attributes["ignore_index"]
    onehot = ((classes == labels) & ~ignored).astype(np.float64)
    w = (onehot * inputs.get("class_weight", np.ones(C)).reshape(1, C, 1)).sum(axis=1, keepdims=True)
    w[~ignored & (onehot.sum(axis=1, keepdims=True) == 0)] = np.nan  # neither a class nor ignored
    shifted = p - p.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if w.sum() == 0.0:  # every label is ignored: no loss, and nothing in the mean of the epoch
        nothing = {"loss": np.zeros(1), "grad": np.zeros(p.shape)}
        return nothing | ({"total": inputs["total"]} if "total" in inputs else {})
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(ignored, 0.0, -(onehot * log_softmax).sum(axis=1, keepdims=True) * w)
        loss = weight * np.float64(terms.sum()) / np.float64(w.sum())
        grad = np.where(ignored, 0.0, weight * w * (np.exp(log_softmax) - onehot) / np.float64(w.sum()))
    out = {"loss": np.array([loss]), "grad": grad}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
