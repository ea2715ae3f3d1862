"""A detector as one .safetensors file: the network, its parameters, the bank, the steps and the thresholds, under a checksum."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warploom.detect.neighbours import Bank
from warploom.detect.probe import check_takes_images
from warploom.detect.steps import Steps
from warploom.errors import ArgumentError, DataError, GraphError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import number, positive
from warploom.ground.atomic import expanded, read_tensors, write_tensors
from warploom.model import Model

FORMAT = "warploom-detector-1"
FORMATS = (FORMAT,)  # that are read
_NETWORK, _VECTORS, _MIDDLE, _SCORES = "network/", "bank/vectors", "bank/middle", "decision_scores"


@dataclass
class Fitted:
    """All that a detector knows."""

    model: Model
    steps: Steps
    bank: Bank | None
    threshold: float
    pixel_threshold: float
    decision_scores: Floats  # [n], of the normal images
    contamination: float
    how: str  # the threshold came about
    normal_classes: list[str]
    options: dict[str, int]  # of fit(): bank, seed


def write(path: str | Path, state: Fitted) -> None:
    path = expanded(path)
    if path.suffix != ".safetensors":
        raise ArgumentError(f"a detector is saved as a .safetensors file, not {path.suffix or 'one without an ending'} ({path})")
    tensors: dict[str, Array] = {f"{_NETWORK}{name}": value for name, value in state.model.state_dict().items()}
    tensors[_SCORES] = state.decision_scores
    if state.bank is not None:
        tensors |= {_VECTORS: state.bank.vectors, _MIDDLE: state.bank.middle}
    said = {
        "format": FORMAT,
        "graph": state.model.config(),
        "batch_size": state.model.batch_size,
        "steps": state.steps.as_dict(),
        "threshold": state.threshold,
        "pixel_threshold": state.pixel_threshold,
        "contamination": state.contamination,
        "how": state.how,
        "normal_classes": state.normal_classes,
        "options": state.options,
    }
    write_tensors(path, tensors, said)


def read(path: str | Path) -> Fitted:
    """What write() wrote. DataError in one sentence for any other file."""
    path = expanded(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected the file of a detector, which `warploom detect fit` makes of a run")
    tensors, said = read_tensors(path)
    found = said.get("format")
    if isinstance(found, str) and found.startswith("warploom-detector-") and found not in FORMATS:
        raise DataError(f"{path} has the format {found}, written by another version of warploom; this one reads {FORMAT}")
    if found not in FORMATS:
        what = (
            "a network and no detector: `warploom detect fit` makes one of it" if "graph" in said else "no detector of warploom"
        )
        raise DataError(f"{path} holds {what}")
    try:
        return _fitted(tensors, said)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, GraphError) as error:
        detail = str(error) if isinstance(error, (ArgumentError, GraphError)) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} does not describe a detector that can be used: {detail}") from error


def _fitted(tensors: dict[str, Array], said: dict[str, Any]) -> Fitted:
    model = Model.from_config(said["graph"])
    model.load_state_dict({k.removeprefix(_NETWORK): v for k, v in tensors.items() if k.startswith(_NETWORK)})
    check_takes_images(model)
    model.batch_size = positive(said["batch_size"], "batch_size", maximum=1 << 20)
    steps = Steps.from_dict(said["steps"])
    names = said["normal_classes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in [*names, said["how"]]):
        raise ArgumentError("normal_classes must be a list of names, and how a text")
    return Fitted(
        model,
        steps,
        _bank(tensors, model) if "latent" in steps.kinds else None,
        number(said["threshold"], "threshold", 0.0),
        number(said["pixel_threshold"], "pixel_threshold", 0.0),
        _floats(tensors, _SCORES, 1),
        number(said["contamination"], "contamination", 0.0, 0.5),
        said["how"],
        names,
        {name: positive(said["options"][name], name, minimum=least) for name, least in (("bank", 1), ("seed", 0))},
    )


def _bank(tensors: dict[str, Array], model: Model) -> Bank:
    bank = Bank(_floats(tensors, _VECTORS, 2), _floats(tensors, _MIDDLE, 1))
    shape = model.require_latent().shape
    length = shape[0] if len(shape) == 3 else math.prod(shape)
    if not len(bank.vectors) or bank.vectors.shape[1] != length or bank.middle.shape != (length,):
        raise ArgumentError(
            f"its bank has the shape {bank.vectors.shape}, but the network's latent {shape} has vectors of {length} numbers"
        )
    return bank


def _floats(tensors: dict[str, Array], name: str, rank: int) -> Floats:
    if name not in tensors:
        raise ArgumentError(f"the tensor {name} is missing")
    value = tensors[name]
    if value.dtype != np.float32 or value.ndim != rank or not np.isfinite(value).all():
        raise ArgumentError(f"the tensor {name} must be finite float32 of rank {rank}")
    return value
