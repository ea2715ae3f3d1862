"""Autoencoders as scikit-learn estimators, for pipelines, grid searches and cross-validation: AutoencoderTransformer, and
AutoencoderDetector for outliers.

Needs scikit-learn: pip install "warploom[sklearn]".
"""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError("warploom.sklearn needs scikit-learn: pip install scikit-learn") from None

from warploom.sklearn.detector import AutoencoderDetector
from warploom.sklearn.transformer import AutoencoderTransformer

__all__ = ["AutoencoderDetector", "AutoencoderTransformer"]
