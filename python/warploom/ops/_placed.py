"""Operations take arrays where they lie: on the host, or on a GPU without a copy (PyTorch, CuPy, PyCUDA, warploom.Array)."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from warploom import _core
from warploom.errors import DeviceError
from warploom.ground import hardware
from warploom.interop import Array, common_device, device_array

P = ParamSpec("P")
R = TypeVar("R")


def placed(operation: Callable[P, R]) -> Callable[P, R]:
    """The operation, on the device where its arrays lie; what it returns is then a warploom.Array on that device.

    Arrays on the host (NumPy, PyTorch on the CPU) pass as they are and give NumPy arrays."""
    parameters = list(inspect.signature(operation).parameters)

    @functools.wraps(operation)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        named: dict[str, Any] = dict(zip(parameters, args, strict=False)) | kwargs
        found: list[tuple[str, Array]] = []

        def look(value: object, what: str) -> object:
            array = device_array(value, what)
            if array is not None:
                found.append((what, array))
            return value if array is None else array

        for name, value in named.items():
            several = isinstance(value, (list, tuple)) and not all(isinstance(v, int) for v in value)
            named[name] = [look(v, f"{name}[{i}]") for i, v in enumerate(value)] if several else look(value, name)
        if not found or len(args) > len(parameters):  # too many arguments: the operation itself says so
            return operation(*args, **kwargs)
        where = common_device(found)
        asked = named.get("device", "auto")
        if asked != "auto" and hardware.resolve(named.get("version", "auto"), asked, kernels_first=True).device != where:
            raise DeviceError(f"{found[0][0]} lies on {where}, but device={asked!r} was asked for: move it with .to({asked!r})")
        named["device"] = where
        if where == "cpu":
            named = {name: _each(value, _view) for name, value in named.items()}
            result: R = _each(operation(**named), _shared)  # type: ignore[call-arg]
            return result
        return operation(**named)  # type: ignore[call-arg]

    return call


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(change(v) for v in value)
    return change(value)


def _view(value: Any) -> Any:
    return value.numpy() if isinstance(value, Array) else value


def _shared(value: Any) -> Any:
    return _core.array_on_host(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
