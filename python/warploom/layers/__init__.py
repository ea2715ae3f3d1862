"""Layers: made once, called on tensors, as in Keras; argument and parameter names are PyTorch's."""

from warploom.layers.activations import ELU, GELU, ExpKernel, InverseSqrt, SignedSqrt, SiLU, Tanh
from warploom.layers.basic import AvgPool2d, Identity, Latent, LeakyReLU, MaxPool2d, ReLU, Sigmoid, Upsample
from warploom.layers.convolution import Conv2d, ConvTranspose2d, Linear
from warploom.layers.dropout import Dropout, Dropout2d, WinnerTakeAll
from warploom.layers.merging import Add, Concat, Multiply
from warploom.layers.normalization import BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from warploom.layers.sampling import Sampling
from warploom.layers.shaping import DepthToSpace, Flatten, Reshape
from warploom.network.graph import Layer

__all__ = [
    "ELU",
    "GELU",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "DepthToSpace",
    "Dropout",
    "Dropout2d",
    "ExpKernel",
    "Flatten",
    "GroupNorm",
    "Identity",
    "InverseSqrt",
    "Latent",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Multiply",
    "RMSNorm",
    "ReLU",
    "Reshape",
    "Sampling",
    "SiLU",
    "Sigmoid",
    "SignedSqrt",
    "Tanh",
    "Upsample",
    "WinnerTakeAll",
]
