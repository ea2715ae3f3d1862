"""A fitted classifier: from features to classes, and in a file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.classify.rbf import Kernel, kernel_products
from warploom.classify.sources import as_source, float_blocks
from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats
from warploom.ground.atomic import read_tensors, write_tensors

_FORMAT = "warploom-classifier-2"
_READABLE = ("warploom-classifier-1", _FORMAT)  # 1 had no linear weights beside a kernel's


@dataclass
class Classifier:
    """Standardises features [d], takes their components and a kernel's values if it is an RBF one, and weighs them; a committee
    weighs both."""

    method: str  # one of METHODS (experiment.py)
    mean: Floats  # [d]
    scale: Floats  # [d]
    weights: Floats  # [d, k], of an RBF classifier or committee [landmarks, k]
    bias: Floats  # [k]
    directions: Floats | None = None  # [d, p]
    kernel: Kernel | None = None
    linear: Floats | None = None  # [d, k], of a committee
    classes: list[str] = field(default_factory=list)  # their names, where they have some
    about: dict[str, Any] = field(default_factory=dict)  # how it was chosen

    def decide(self, features: Floats) -> Floats:
        """Scores [n, k] of float32 features [n, d]: the largest is the class."""
        z = np.asarray((features - self.mean) * self.scale, np.float32)
        if self.kernel is None or self.directions is None:
            scores: Floats = z @ self.weights + self.bias
            return scores
        found: Floats = kernel_products(self.kernel, z @ self.directions, [self.weights])[0] + self.bias
        if self.linear is not None:
            found += z @ self.linear
        return found

    def decision_function(self, features: Any) -> Floats:
        """Scores [n, k] of what classify() takes for features."""
        source = as_source(features)
        if source.shape[1] != len(self.mean):
            raise ArgumentError(f"the classifier takes {len(self.mean)} features, not {source.shape[1]}")
        made = np.empty((source.shape[0], len(self.bias)), np.float32)
        for start, block in float_blocks(source):
            made[start : start + len(block)] = self.decide(block)
        return made

    def predict(self, features: Any) -> NDArray[np.int64]:
        """Class numbers [n]."""
        return np.asarray(self.decision_function(features).argmax(axis=1), np.int64)

    def save(self, path: str | Path) -> None:
        """A .safetensors file."""
        tensors: dict[str, Array] = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        metadata: dict[str, Any] = {"format": _FORMAT, "method": self.method, "classes": self.classes, "about": self.about}
        if self.kernel is not None and self.directions is not None:
            tensors.update(directions=self.directions, kernel_weights=self.kernel.weights, landmarks=self.kernel.landmarks)
            metadata["gamma"] = self.kernel.gamma
        if self.linear is not None:
            tensors["linear"] = self.linear
        write_tensors(path, tensors, metadata)

    @staticmethod
    def load(path: str | Path) -> "Classifier":
        """What save() wrote. DataError for other files."""
        tensors, metadata = read_tensors(path)
        if metadata.get("format") not in _READABLE:
            raise DataError(f"{path} is no classifier of warploom: expected a file that `warploom classify` wrote")
        try:
            kernel = None
            if "landmarks" in tensors:
                kernel = Kernel(tensors["kernel_weights"], tensors["landmarks"], float(metadata["gamma"]))
            made = Classifier(
                str(metadata["method"]), tensors["mean"], tensors["scale"], tensors["weights"], tensors["bias"],
                tensors.get("directions"), kernel, tensors.get("linear"), list(metadata["classes"]), dict(metadata["about"]),
            )  # fmt: skip
            made.decide(np.zeros((1, len(made.mean)), np.float32))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} does not hold a whole classifier ({error}): make it again") from error
        return made
