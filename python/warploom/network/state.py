"""State dicts: a model's parameters and buffers as arrays under PyTorch's names and shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from warploom.errors import ArgumentError, DataError, DTypeError
from warploom.ground import arrays
from warploom.ground.array_types import Array, Floats
from warploom.ground.parameters import Parameter

_IGNORED = "num_batches_tracked"  # PyTorch's batch norms count their calls; nothing here depends on it

_SHOWN, _LETTERS = 8, 100


def checked(parameters: Mapping[str, Parameter], state: Mapping[str, Any], model: str) -> dict[str, Floats]:
    """The arrays of a state dict as float32, in the model's order; an error where one lacks, is unknown or does not fit.

    A prefix that all names share, such as "module.", is left out."""
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise DTypeError("a state dict must be a dictionary of arrays by their names")
    given = {name for name in state if name.rpartition(".")[2] != _IGNORED}
    prefix = _prefix(set(parameters), given)
    given = {name.removeprefix(prefix) for name in given}
    missing, extra = sorted(set(parameters) - given), sorted(given - set(parameters))
    if missing or extra:
        parts = [f"it lacks {_some(missing)}"] * bool(missing) + [f"it has unknown {_some(extra)}"] * bool(extra)
        raise ArgumentError(f"the state dict does not fit model {model!r}: {'; '.join(parts)}")
    values: dict[str, Floats] = {}
    for name, parameter in parameters.items():
        value = state[prefix + name]
        if getattr(value, "requires_grad", False) and hasattr(value, "detach"):  # a parameter of PyTorch: its numbers
            value = value.detach()
        array = arrays.as_array(value, name)
        if array.dtype.kind != "f":
            raise DTypeError(f"{name} has dtype {array.dtype}; expected floating point numbers")
        if array.shape != parameter.spec.shape:
            raise ArgumentError(f"{name} has shape {array.shape}, but model {model!r} has {parameter.spec.shape}")
        arrays.require_finite(np.atleast_1d(array), name)
        with np.errstate(over="ignore"):
            values[name] = np.array(array, dtype=np.float32, order="C")
        if array.dtype.itemsize > 4 and not np.isfinite(values[name]).all():
            raise DataError(f"{name} holds {_largest(array):g}, which float32 cannot hold; its largest number is about 3.4e38")
    return values


def _prefix(wanted: set[str], given: set[str]) -> str:
    """What stands before every name: "module." of DataParallel, "_orig_mod." of torch.compile, the name of a whole's part."""
    if wanted and given != wanted:
        first = min(wanted)
        for name in given:
            prefix = name.removesuffix(first)
            if prefix.endswith(".") and {prefix + other for other in wanted} == given:
                return prefix
    return ""


def _some(names: list[str]) -> str:
    """Names that read well in a sentence: a network has hundreds."""
    shown = ", ".join(name[:_LETTERS] for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def _largest(array: Array) -> float:
    return float(array.flat[int(np.abs(array).argmax())])
