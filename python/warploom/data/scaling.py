"""What a network takes of pixels: (value in [0, 1] - mean) / deviation, per channel."""

from dataclasses import dataclass

import numpy as np

from warploom.ground.array_types import Array, Floats


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of pixels in [0, 1]: one for all channels, or one each."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def forward(self, images: Array) -> Floats:
        """uint8, or floats in [0, 1], [..., C, H, W], as the network takes them: the bits of ground.lazy.Normalized."""
        unit = 255.0 if images.dtype == np.uint8 else 1.0
        scale = (1.0 / (unit * np.array(self.deviation))).astype(np.float32)
        shift = (np.array(self.mean) / np.array(self.deviation)).astype(np.float32)
        values: Floats = images.astype(np.float32) * scale[:, None, None] - shift[:, None, None]
        return values

    def back(self, values: Floats) -> Floats:
        """What forward() was given, of floats."""
        deviation, mean = (np.array(a, np.float32)[:, None, None] for a in (self.deviation, self.mean))
        pixels: Floats = values * deviation + mean
        return pixels
