"""Layers: made once, called on tensors, as in Keras; argument and parameter names are PyTorch's."""

from warploom.layers.base import Layer
from warploom.layers.basic import Identity, Latent, LeakyReLU, MaxPool2d, ReLU, Sigmoid, Upsample
from warploom.layers.convolution import Conv2d

__all__ = ["Conv2d", "Identity", "Latent", "Layer", "LeakyReLU", "MaxPool2d", "ReLU", "Sigmoid", "Upsample"]
