"""Ready networks, one file per specification, by name. Names of layers and parameters are stable: state dicts move to PyTorch
modules with the same names. objective(name) is how the specification trains one: losses, optimizer, batch size, data."""

from warploom.models.autoencoder import autoencoder
from warploom.models.cifar10 import cifar10_autoencoder
from warploom.models.ds_resnet import dsresnet
from warploom.models.gray import gray_autoencoder
from warploom.models.liae import liae_swap, liae_ud
from warploom.models.objective import Objective, Preset
from warploom.models.registry import BY_NAME, get, objective, presets
from warploom.models.sampling import sample
from warploom.models.unet import unet_large, unet_small

NAMES = tuple(BY_NAME)

__all__ = [
    "BY_NAME",
    "NAMES",
    "Objective",
    "Preset",
    "autoencoder",
    "cifar10_autoencoder",
    "dsresnet",
    "get",
    "gray_autoencoder",
    "liae_swap",
    "liae_ud",
    "objective",
    "presets",
    "sample",
    "unet_large",
    "unet_small",
]
