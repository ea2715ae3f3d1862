"""Layers: made once, called on tensors, as in Keras; argument and parameter names are PyTorch's."""

from warploom.layers.basic import AvgPool2d, Identity, Latent, LeakyReLU, MaxPool2d, ReLU, Sigmoid, Upsample
from warploom.layers.convolution import Conv2d, ConvTranspose2d, Linear
from warploom.layers.merging import Add, Concat, Multiply
from warploom.layers.normalization import BatchNorm2d, RMSNorm
from warploom.layers.shaping import DepthToSpace, Flatten, Reshape
from warploom.network.graph import Layer

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "DepthToSpace",
    "Flatten",
    "Identity",
    "Latent",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Multiply",
    "RMSNorm",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Upsample",
]
