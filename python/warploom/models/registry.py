"""The networks by name: the decorator that a network's function carries is the only place that lists it."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from warploom.errors import ArgumentError
from warploom.model import Model
from warploom.models.objective import Objective

_Build = TypeVar("_Build", bound=Callable[..., Model])

BY_NAME: dict[str, Callable[..., Model]] = {}
_OBJECTIVES: dict[str, Callable[..., Objective]] = {}


def network(objective: Callable[..., Objective]) -> Callable[[_Build], _Build]:
    """Decorator: registers a network under its function's name, with the function that says how it is trained.

    The objective's arguments are those of the network that change what it is trained for, under the same names.
    """

    def registered(build: _Build) -> _Build:
        BY_NAME[build.__name__] = build
        _OBJECTIVES[build.__name__] = objective
        return build

    return registered


def get(name: str, /, **arguments: Any) -> Model:
    """A fresh model by its name; the arguments are those of its function."""
    function, arguments = BY_NAME[_known(name)], _as_named_now(arguments)
    known = list(inspect.signature(function).parameters)
    for key in arguments:
        if key not in known:
            raise ArgumentError(f"model {name} has no argument {key!r}; it has {', '.join(known) or 'none'}")
    return function(**arguments)


def objective(name: str, /, **arguments: Any) -> Objective:
    """How the specification trains the model of that name; of the model's arguments those count that change it."""
    function = _OBJECTIVES[_known(name)]
    read, arguments = inspect.signature(function).parameters, _as_named_now(arguments)
    return function(**{key: value for key, value in arguments.items() if key in read})


def _as_named_now(arguments: dict[str, Any]) -> dict[str, Any]:
    """The side of the images is called size everywhere; runs of earlier versions may say resolution."""
    return {"size" if key == "resolution" else key: value for key, value in arguments.items()}


def _known(name: str) -> str:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown model {name!r}; expected one of {', '.join(BY_NAME)}")
    return name
