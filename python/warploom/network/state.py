"""State dicts: a model's parameters and buffers as arrays under PyTorch's names and shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from warploom.errors import ArgumentError, DTypeError
from warploom.ground import arrays
from warploom.ground.array_types import Floats
from warploom.ground.parameters import Parameter

_IGNORED = "num_batches_tracked"  # PyTorch's batch norms count their calls; nothing here depends on it


def checked(parameters: Mapping[str, Parameter], state: Mapping[str, Any], model: str) -> dict[str, Floats]:
    """The arrays of a state dict as float32, in the model's order; an error where one lacks, is unknown or does not fit."""
    given = {name for name in state if name.rpartition(".")[2] != _IGNORED}
    missing, extra = sorted(set(parameters) - given), sorted(given - set(parameters))
    if missing or extra:
        parts = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"it has unknown {', '.join(extra)}"] * bool(extra)
        raise ArgumentError(f"the state dict does not fit model {model!r}: {'; '.join(parts)}")
    values: dict[str, Floats] = {}
    for name, parameter in parameters.items():
        array = arrays.as_array(state[name], name)
        if array.dtype.kind != "f":
            raise DTypeError(f"{name} has dtype {array.dtype}; expected floating point numbers")
        if array.shape != parameter.spec.shape:
            raise ArgumentError(f"{name} has shape {array.shape}, but model {model!r} has {parameter.spec.shape}")
        arrays.require_finite(np.atleast_1d(array), name)
        values[name] = np.array(array, dtype=np.float32, order="C")
    return values
