"""Images that a network finds alike: a gallery of features, its nearest images to another one, and its clusters.

gallery = Gallery.of(open_trained("runs/..."), open_images("photos"))
places, likeness = gallery.nearest(gallery.features(one_image), 5)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.errors import ArgumentError, DataError
from warploom.features.clusters import silhouette, spherical_kmeans
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import positive
from warploom.inference.images import Images
from warploom.inference.trained import Trained

Progress = Callable[[float], None]  # told the share that is done


@dataclass
class Gallery:
    """Images and their features: each feature minus its mean, over its deviation; each image's then of length one."""

    trained: Trained
    images: Images
    places: NDArray[np.int64]  # of the images that could be read, in the source
    rows: Floats  # [n, D]
    mean: Floats  # [D]
    scale: Floats  # [D]
    skipped: list[str]

    @staticmethod
    def of(trained: Trained, images: Images, progress: Progress | None = None) -> "Gallery":
        """Runs all images through the network up to its latent. DataError where there are fewer than two."""
        trained.require_latent()
        skipped, places, found = list[str](), list[Any](), list[Floats]()
        for batch in images.batches(trained.batch_size, size=trained.size, skipped=skipped):
            codes = trained.model.encode(trained.prepare(batch.images))
            found.append(codes.reshape(len(codes), -1))
            places.append(batch.indices)
            if progress is not None:
                progress((int(batch.indices[-1]) + 1) / len(images))
        if sum(map(len, found)) < 2:
            raise DataError(f"{images.title} holds {sum(map(len, found))} images that can be read; at least two are needed")
        rows = np.concatenate(found)
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-30), 1.0 / np.maximum(deviation, 1e-30), 0.0)
        made = Gallery(trained, images, np.concatenate(places), rows, mean, scale.astype(np.float32), skipped)
        made.rows = made.standardised(rows)
        return made

    def __len__(self) -> int:
        return len(self.rows)

    def standardised(self, features: Floats) -> Floats:
        rows: Floats = (features - self.mean) * self.scale
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows

    def features(self, images: Array) -> Floats:
        """Of images [N, C, H, W] of the network's size, as the gallery has them."""
        codes = self.trained.model.encode(self.trained.prepare(images))
        return self.standardised(codes.reshape(len(codes), -1))

    def nearest(self, features: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
        """Places in the source [N, count] and likeness [N, count] in [-1, 1] (the cosine), the most alike first."""
        count = min(positive(count, "count"), len(self))
        likeness = features @ self.rows.T
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
        return self.places[order], np.take_along_axis(likeness, order, axis=1)

    def clusters(self, count: int, *, seed: int = 0, starts: int = 4) -> "Clusters":
        """Spherical k-means on the features, the best of some starts by the silhouette."""
        if not 2 <= positive(count, "clusters") <= len(self):
            raise ArgumentError(f"clusters must be between 2 and the {len(self)} images, not {count}")
        best: Clusters | None = None
        for start in range(starts):
            centres = spherical_kmeans(self.rows, count, iterations=25, seed=seed + start)
            likeness = self.rows @ centres.T
            labels = likeness.argmax(axis=1)
            if len(np.unique(labels)) < 2:
                continue
            value = silhouette(self.rows, labels, seed=seed)
            if best is None or value > best.silhouette:
                best = Clusters(self, labels, likeness[np.arange(len(labels)), labels], value)
        if best is None:
            raise DataError("all images fall into one cluster: they are too much alike")
        return best


@dataclass
class Clusters:
    """A cluster's number and the likeness to its centre, for every image of a gallery."""

    gallery: Gallery
    labels: NDArray[np.int64]
    likeness: Floats
    silhouette: float

    def members(self, cluster: int) -> NDArray[np.int64]:
        """Rows of the gallery, the most typical first."""
        rows = np.flatnonzero(self.labels == cluster)
        return np.asarray(rows[np.argsort(-self.likeness[rows], kind="stable")], np.int64)

    def by_size(self) -> list[int]:
        """The clusters that have members, the largest first."""
        names, counts = np.unique(self.labels, return_counts=True)
        return [int(name) for name in names[np.argsort(-counts, kind="stable")]]

    def purity(self) -> float | None:
        """The share of images whose class is their cluster's most frequent one; None where classes are not known."""
        labels = self.gallery.images.labels
        if labels is None:
            return None
        own = labels[self.gallery.places]
        return sum(int(np.bincount(own[self.labels == k]).max()) for k in self.by_size()) / len(own)
