"""What a detector computes, as plain values: read it to write the same in another program, such as an ONNX graph."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warploom.detect.maps import POOLINGS
from warploom.errors import ArgumentError
from warploom.ground.arrays import number, positive

KINDS = ("mse", "ssim", "latent")


@dataclass(frozen=True)
class Part:
    """One kind of score. Its map is multiplied by weight / scale."""

    kind: str
    weight: float = 1.0
    scale: float = 1.0  # the mean of this kind's map over normal images; 1 where it is the only kind


@dataclass(frozen=True)
class Steps:
    """From an image x [C, H, W] in [0, 1] to a map, a score and a label:

    1. y, z = the network's reconstruction of x and its latent (with network_size x is brought to the network's size before).
    2. A map for each part. mse: mean over C of (x - y)^2. ssim: (1 - SSIM(x, y)) / 2 with a Gaussian window, mean over C. latent:
       for every place of z [K, h, w] the mean of its `neighbours` smallest distances to the bank's vectors, enlarged by the
       stride bilinearly (half-pixel middles, borders clamped); for z [K] one distance for all pixels.
    3. map = sum of weight / scale * map of the part, then a Gaussian of deviation `blur`, the border mirrored.
    4. score = the largest value of the map ("max"), its mean ("mean"), or the mean of the largest int(share * H * W) ("top").
    5. abnormal = score > threshold. In [0, 1), with 0.5 at the threshold: score / (score + threshold), map / (map + pixel
       threshold). mask = map > pixel threshold.
    """

    parts: tuple[Part, ...] = (Part("mse"),)
    blur: float = 0.0  # deviation in pixels
    pooling: str = "top"
    share: float = 0.001
    window: int = 11  # of SSIM
    sigma: float = 1.5
    neighbours: int = 3
    network_size: bool = True  # images are stretched to the network's size; else they keep theirs
    tile: int = 0  # of images that keep their size: the side of the square that is looked at as a whole; 0: the network's size

    def __post_init__(self) -> None:
        names = [part.kind for part in self.parts]
        wrong = [name for name in names if name not in KINDS]
        if wrong:
            raise ArgumentError(
                f"unknown score {wrong[0]!r}; expected one or more of {', '.join(KINDS)}, such as mse+ssim or mse:2+latent"
            )
        if not names or len(names) != len(set(names)):
            raise ArgumentError(
                f"the scores are different ones of {', '.join(KINDS)}, at least one; not {'+'.join(names) or 'none'}"
            )
        for part in self.parts:
            number(part.weight, f"the weight of {part.kind}", 1e-6, 1e6)
            number(part.scale, f"the scale of {part.kind}", 1e-30, 1e30)
        if self.pooling not in POOLINGS:
            raise ArgumentError(f"unknown pooling {self.pooling!r}; expected one of {', '.join(POOLINGS)}")
        number(self.blur, "blur", 0.0, 1000.0)
        number(self.share, "share", 1e-9, 1.0)
        number(self.sigma, "sigma", 1e-3, 1000.0)
        if positive(self.window, "window", maximum=999) % 2 == 0:
            raise ArgumentError(f"window must be odd, not {self.window}: its middle is a pixel")
        positive(self.neighbours, "neighbours", maximum=1000)
        positive(self.tile, "tile", minimum=0, maximum=1 << 20)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(part.kind for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Steps":
        """Of as_dict(); raises what wrong values lead to."""
        return cls(**{**values, "parts": tuple(Part(**part) for part in values["parts"])})


def parts_of(scores: str | Sequence[str]) -> tuple[Part, ...]:
    """ "mse+ssim", "mse:2+latent" (a weight after the colon), or a list of such words."""
    words = scores.split("+") if isinstance(scores, str) else list(scores)
    parts = []
    for word in words:
        kind, colon, weight = str(word).strip().partition(":")
        try:
            parts.append(Part(kind, float(weight) if colon else 1.0))
        except ValueError:
            raise ArgumentError(f"{word!r} is no score with a weight, such as mse:2") from None
    return tuple(parts)
