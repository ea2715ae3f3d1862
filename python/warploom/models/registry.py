"""The networks by name: the decorator that a network's function carries is the only place that lists it."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from warploom.errors import ArgumentError
from warploom.model import Model
from warploom.models.objective import Objective, Preset

_Build = TypeVar("_Build", bound=Callable[..., Model])

BY_NAME: dict[str, Callable[..., Model]] = {}
_OBJECTIVES: dict[str, Callable[..., Objective]] = {}
_PRESETS: dict[str, dict[str, Preset]] = {}


def network(objective: Callable[..., Objective], **presets: Preset) -> Callable[[_Build], _Build]:
    """Decorator: registers a network under its function's name, with the function that says how it is trained.

    The objective's arguments are those of the network that change what it is trained for, under the same names. presets: other
    recipes, by name.
    """

    def registered(build: _Build) -> _Build:
        BY_NAME[build.__name__] = build
        _OBJECTIVES[build.__name__] = objective
        _PRESETS[build.__name__] = presets
        return build

    return registered


def presets(name: str) -> dict[str, Preset]:
    """The recipes beside the specification's, by name."""
    return dict(_PRESETS[_known(name)])


def _preset(name: str, preset: str | None) -> Preset:
    found = _PRESETS[_known(name)]
    if preset is None:
        return Preset("the specification's", {})
    if preset not in found:
        known = f"expected one of {', '.join(found)}" if found else "it has none"
        raise ArgumentError(f"model {name} has no preset {preset!r}; {known}")
    return found[preset]


def get(name: str, /, *, preset: str | None = None, **arguments: Any) -> Model:
    """A fresh model by its name; the arguments are those of its function, and go before the preset's."""
    arguments = {**_preset(name, preset).arguments, **_as_named_now(arguments)}
    function = BY_NAME[_known(name)]
    known = list(inspect.signature(function).parameters)
    for key in arguments:
        if key not in known:
            raise ArgumentError(f"model {name} has no argument {key!r}; it has {', '.join(known) or 'none'}")
    return function(**arguments)


def objective(name: str, /, *, preset: str | None = None, **arguments: Any) -> Objective:
    """How the specification, or a preset, trains the model of that name; of the model's arguments those count that change it."""
    chosen = _preset(name, preset)
    arguments = {**chosen.arguments, **arguments}
    function = _OBJECTIVES[_known(name)]
    read, arguments = inspect.signature(function).parameters, _as_named_now(arguments)
    return replace(function(**{key: value for key, value in arguments.items() if key in read}), **chosen.changes)


def _as_named_now(arguments: dict[str, Any]) -> dict[str, Any]:
    """The side of the images is called size everywhere; runs of earlier versions may say resolution."""
    return {"size" if key == "resolution" else key: value for key, value in arguments.items()}


def _known(name: str) -> str:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown model {name!r}; expected one of {', '.join(BY_NAME)}")
    return name
