"""Ready networks, one file per document, by name. Names of layers and parameters are stable: state dicts move to PyTorch modules
with the same names. objective(name) is what the document says about training: losses, optimizer, batch size, data."""

import inspect
from collections.abc import Callable
from typing import Any

from warploom.errors import ArgumentError
from warploom.model import Model
from warploom.models import cifar10 as _cifar10
from warploom.models import ds_resnet as _dsresnet
from warploom.models import gray as _gray
from warploom.models import liae as _liae
from warploom.models import unet as _unet
from warploom.models.objective import Objective

cifar10_autoencoder = _cifar10.cifar10_autoencoder
liae_ud, liae_swap = _liae.liae_ud, _liae.liae_swap
unet_small, unet_large = _unet.unet_small, _unet.unet_large
gray_autoencoder = _gray.gray_autoencoder
dsresnet = _dsresnet.dsresnet

BY_NAME: dict[str, Callable[..., Model]] = {
    "cifar10_autoencoder": cifar10_autoencoder,
    "liae_ud": liae_ud,
    "unet_small": unet_small,
    "unet_large": unet_large,
    "gray_autoencoder": gray_autoencoder,
    "dsresnet": dsresnet,
}
NAMES = tuple(BY_NAME)

_OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "cifar10_autoencoder": _cifar10.objective,
    "liae_ud": _liae.objective,
    "unet_small": _unet.objective,
    "unet_large": _unet.objective,
    "gray_autoencoder": _gray.objective,
    "dsresnet": _dsresnet.objective,
}

__all__ = ["BY_NAME", "NAMES", "Objective", "get", "liae_swap", "objective", *NAMES]


def get(name: str, /, **arguments: Any) -> Model:
    """A fresh model by its name; the arguments are those of its function."""
    function = BY_NAME[_known(name)]
    known = list(inspect.signature(function).parameters)
    for key in arguments:
        if key not in known:
            raise ArgumentError(f"model {name} has no argument {key!r}; it has {', '.join(known) or 'none'}")
    return function(**arguments)


def objective(name: str, **arguments: Any) -> Objective:
    """How the document trains the model of that name. Arguments: of liae_ud its resolution and mask."""
    return _OBJECTIVES[_known(name)](**arguments)


def _known(name: str) -> str:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown model {name!r}; expected one of {', '.join(BY_NAME)}")
    return name
