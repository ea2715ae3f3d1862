"""What a network takes of pixels: (value in [0, 1] - mean) / deviation per channel, and in which order the channels."""

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
        scale, shift = self.of(255.0 if images.dtype == np.uint8 else 1.0)
        values: Floats = images.astype(np.float32) * scale[:, None, None] - shift[:, None, None]
        return values

    def of(self, white: float) -> tuple[Floats, Floats]:
        """(scale, shift) per channel: values from 0 to `white` become value * scale - shift."""
        scale: Floats = (1.0 / (white * np.array(self.deviation))).astype(np.float32)
        shift: Floats = (np.array(self.mean) / np.array(self.deviation)).astype(np.float32)
        return scale, shift

    def back(self, values: Floats) -> Floats:
        """What forward() was given, of floats."""
        deviation, mean = (np.array(a, np.float32)[:, None, None] for a in (self.deviation, self.mean))
        pixels: Floats = values * deviation + mean
        return pixels


@dataclass(frozen=True)
class Intake:
    """What an RGB image goes through before an input of a network takes it."""

    scaling: Scaling | None = None  # None: values in [0, 1]
    bgr: bool = False  # the channels in reverse order

    def forward(self, images: Array) -> Array:
        """[..., C, H, W], uint8 or floats in [0, 1]; without a scaling uint8 stays uint8, which the engine scales by 1/255."""
        values = images[..., ::-1, :, :] if self.bgr else images
        return values if self.scaling is None else self.scaling.forward(values)

    def told(self) -> str:
        """In a few words."""
        text = "pixels / 255"
        if self.scaling is not None:
            mean, deviation = (
                str(v[0]) if len(set(v)) == 1 else f"({', '.join(map(str, v))})"
                for v in (tuple(round(n, 6) for n in group) for group in (self.scaling.mean, self.scaling.deviation))
            )
            text = f"({text} - {mean}) / {deviation}"
        return f"{text}, channels BGR" if self.bgr else text
