"""An autoencoder as an outlier detector: fit, score_samples, decision_function, predict, offset_."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from warploom.detect.maps import dissimilarity
from warploom.detect.neighbours import Bank, bank_of
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import number, positive
from warploom.model import Model
from warploom.sklearn.base import AutoencoderBase

METHODS = ("mse", "ssim", "latent")
_BANK = 2000  # latents that are kept
_WINDOW, _SIGMA = 11, 1.5  # of SSIM


class AutoencoderDetector(OutlierMixin, AutoencoderBase):  # type: ignore[misc]
    """Samples that an autoencoder, trained on X by fit(), gives back badly are outliers.

    make_pipeline(StandardScaler(), AutoencoderDetector(n_components=4, contamination=0.05)).fit(X).predict(new)   # -1: outliers

    contamination: the share of X that are outliers, at most 0.5. method: "mse", the mean squared error of the reconstruction in
    the scaled units; "ssim", for images, (1 - SSIM) / 2; "latent", the mean distance to the n_neighbors nearest latents of X
    (of 2,000 of them at most). The other parameters: AutoencoderBase.

    Learned: offset_: score_samples() below it are outliers; those of AutoencoderBase. For heat maps, masks and files:
    warploom.detect.Detector.
    """

    def __init__(
        self,
        model: Model | str | Path | Callable[[Shape], Model] | None = None,
        *,
        contamination: float = 0.1,
        method: str = "mse",
        n_neighbors: int = 3,
        image_shape: Shape | None = None,
        n_components: int | None = None,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: Any = "adam",
        loss: Any = "mse",
        device: str = "auto",
        version: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            model, image_shape=image_shape, n_components=n_components, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
            loss=loss, device=device, version=version, random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.contamination = contamination
        self.method = method
        self.n_neighbors = n_neighbors

    def fit(self, X: Any, y: Any = None) -> "AutoencoderDetector":
        """Trains the network on X and sets offset_; y is not looked at."""
        share = number(self.contamination, "contamination", 0.0, 0.5)
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; expected one of {', '.join(METHODS)}")
        positive(self.n_neighbors, "n_neighbors")
        self._fit(X)
        self.bank_: Bank | None = None
        if self.method == "latent":
            self.model_.require_latent()
            latents = self._latents(X)
            if len(latents) < 2:
                raise ValueError(f"method='latent' compares samples with each other: n_samples={len(latents)}, but 2 are needed")
            rng = np.random.default_rng(0)
            self.bank_, owners = bank_of(latents, np.arange(len(latents)), _BANK, rng)
            distances = self.bank_.distances(latents, self.n_neighbors, owners, np.arange(len(latents)))
            self._training_scores = -distances.astype(np.float64)
        else:
            self._training_scores = self.score_samples(X)
        self.offset_ = float(np.percentile(self._training_scores, 100.0 * share))
        return self

    def fit_predict(self, X: Any, y: Any = None, **_: Any) -> NDArray[np.int64]:
        """1 for inliers of X, -1 for outliers; with method="latent" a sample is no neighbour of itself."""
        self.fit(X, y)
        return np.where(self._training_scores < self.offset_, -1, 1)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """[n]: minus the error of each sample, or minus its distance: lower for more abnormal ones."""
        if self.method == "latent":
            assert self.bank_ is not None
            return -self.bank_.distances(self._latents(X), self.n_neighbors).astype(np.float64)
        given, outputs = self._errors(X)
        if self.method == "ssim":
            if given.ndim != 4:
                raise ValueError(f"method='ssim' is for images, but X has {given.shape[1]} features: set image_shape")
            scores = dissimilarity(given.astype(np.float32), outputs, _WINDOW, _SIGMA).mean(axis=(1, 2), dtype=np.float64)
        else:
            scores = np.mean((given - outputs) ** 2, axis=tuple(range(1, given.ndim)), dtype=np.float64)
        return np.asarray(-scores, np.float64)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """[n]: score_samples(X) - offset_: negative for outliers."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """[n]: 1 for inliers, -1 for outliers."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _latents(self, X: Any) -> Floats:
        latent: Array = self._ready().encode(self._scaled(self._checked(X, reset=False)[0]))
        return latent.reshape(len(latent), -1)
