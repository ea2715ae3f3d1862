"""What learns filters without a label: patches, whitening, k-means. NumPy in and out."""

from warploom.features.clusters import kmeans, silhouette, spherical_kmeans
from warploom.features.patches import centred, contrast_normalised, mirrored, sample_patches
from warploom.features.whitening import Whitening, fit_whitening

__all__ = [
    "Whitening",
    "centred",
    "contrast_normalised",
    "fit_whitening",
    "kmeans",
    "mirrored",
    "sample_patches",
    "silhouette",
    "spherical_kmeans",
]
