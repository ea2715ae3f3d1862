"""The recipes by name: the decorator that a recipe's function carries is the only place that lists it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom.errors import ArgumentError
from warploom.ground import arrays
from warploom.ground.array_types import Array
from warploom.model import Model

Progress = Callable[[str, float], None]  # told what is done now, and which share of it is
Learn = Callable[..., Model]
DEFAULT = "kernel_network"
BY_NAME: dict[str, "Recipe"] = {}


@dataclass(frozen=True)
class Recipe:
    """learn(images, seed=, progress=, **arguments) gives a model whose latent holds the features."""

    name: str
    about: str  # a few words for people
    function: Learn
    source: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What may be chosen, and its defaults."""
        own = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in own if p.name not in ("images", "seed", "progress")}

    def learn(self, images: Array, *, seed: int = 0, progress: Progress | None = None, **arguments: Any) -> Model:
        for key in arguments:
            if key not in self.arguments:
                raise ArgumentError(f"recipe {self.name} has no argument {key!r}; it has {', '.join(self.arguments)}")
        if images.ndim != 4 or len(images) < 2:
            raise ArgumentError(f"recipe {self.name} expects images of shape (N, C, H, W), N at least 2, not {images.shape}")
        arguments = {key: _of_kind(key, value, self.arguments[key]) for key, value in arguments.items()}
        model = self.function(images, seed=arrays.seed(seed), progress=progress or (lambda what, share: None), **arguments)
        model.batch_size = 16  # maps of many channels: more images at once would only leave the caches
        return model


def _of_kind(key: str, value: Any, default: Any) -> Any:
    """The value, where it is of the default's kind: a truth value, a number, whole numbers (of which one may stand alone)."""
    if isinstance(default, tuple):
        values = value if isinstance(value, (list, tuple)) else (value,)
        if values and all(_whole(v) and v > 0 for v in values):
            return tuple(values)
        raise ArgumentError(f"{key} must be whole numbers above 0, such as {'x'.join(map(str, default))}, not {value!r}")
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ArgumentError(f"{key} must be true or false, not {value!r}")
    if isinstance(default, float) and not (_whole(value) or isinstance(value, float)):
        raise ArgumentError(f"{key} must be a number, such as {default}, not {value!r}")
    if isinstance(default, int) and not isinstance(default, bool) and not _whole(value):
        raise ArgumentError(f"{key} must be a whole number, such as {default}, not {value!r}")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def recipe(about: str, source: str) -> Callable[[Learn], Learn]:
    """Decorator: registers a recipe under its function's name."""

    def registered(function: Learn) -> Learn:
        BY_NAME[function.__name__] = Recipe(function.__name__, about, function, source)
        return function

    return registered


def get(name: str) -> Recipe:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown recipe {name!r}; expected one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def learn(name: str, images: Array, *, seed: int = 0, progress: Progress | None = None, **arguments: Any) -> Model:
    """A network of this recipe, learnt from images [N, C, H, W] (uint8, or float32 in [0, 1]); labels are not needed."""
    return get(name).learn(images, seed=seed, progress=progress, **arguments)
