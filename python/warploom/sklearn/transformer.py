"""The encoder as a transformer: fit, transform to the latent, and back."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array

from warploom.ground.array_types import Floats
from warploom.sklearn.base import AutoencoderBase


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, AutoencoderBase):  # type: ignore[misc]
    """X to the latent of an autoencoder that fit() trains on it, and back.

    make_pipeline(AutoencoderTransformer(image_shape=(1, 8, 8), n_components=16), StandardScaler(), LogisticRegression())

    Parameters and attributes: AutoencoderBase.
    """

    def fit(self, X: Any, y: Any = None) -> "AutoencoderTransformer":
        """Trains the network on X; y is not looked at."""
        self._fit(X)
        self.model_.require_latent()
        return self

    @property
    def _n_features_out(self) -> int:
        return int(np.prod(self.model_.require_latent().shape))

    def transform(self, X: Any) -> Floats:
        """The latent of X, float32 (n, k)."""
        network = self._ready()
        latent: Floats = network.encode(self._scaled(self._checked(X, reset=False)[0]))
        return latent.reshape(len(latent), -1)

    def inverse_transform(self, Z: Any) -> Floats:
        """What the decoder makes of latents (n, k): in the shape and the units of the X that fit() was given, float32."""
        network = self._ready()
        Z = check_array(Z, dtype=np.float32)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {Z.shape[1]} features, but the latent has {self._n_features_out}")
        return self._unscaled(network.decode(np.ascontiguousarray(Z)), self._layout)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
