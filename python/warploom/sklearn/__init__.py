"""Autoencoders as scikit-learn estimators: AutoencoderTransformer, for pipelines, grid searches and cross-validation.

Needs scikit-learn: pip install "warploom[sklearn]".
"""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError("warploom.sklearn needs scikit-learn: pip install scikit-learn") from None

from warploom.sklearn.transformer import AutoencoderTransformer

__all__ = ["AutoencoderTransformer"]
