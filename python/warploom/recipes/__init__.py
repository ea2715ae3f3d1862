"""Recipes: networks of this engine whose filters are learnt from images without a label, and how.

model = wl.recipes.learn("kernel_network", images)   # a Model; encode() gives the features
"""

from warploom.recipes import joined as joined
from warploom.recipes import kernel_network as kernel_network
from warploom.recipes import patch_autoencoder as patch_autoencoder
from warploom.recipes import plain as plain
from warploom.recipes import whitened_dictionary as whitened_dictionary
from warploom.recipes import wide_filters as wide_filters
from warploom.recipes.registry import BY_NAME, DEFAULT, Progress, Recipe, get, learn

__all__ = ["BY_NAME", "DEFAULT", "Progress", "Recipe", "get", "learn"]
