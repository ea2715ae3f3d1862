"""Images changed a little at random, differently in every epoch: flipped, shifted, with noise, with a square cut out.

The draws depend on the seed, the epoch and the sample's number alone (kernels/ops/augment_images), so they have the same bits on
every device, for every batch size and number of workers, and in a run that goes on. In fit() the device makes the pixels; where
else rows are asked for, the same operation does on the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom import _core
from warploom.errors import ArgumentError
from warploom.ground import arrays
from warploom.ground.array_types import Array, Shape
from warploom.ground.lazy import Head, Lazy


@dataclass(frozen=True)
class Changes:
    """What is done to an image."""

    flip: bool = False
    shift: int = 0
    noise: float = 0.0
    cutout: int = 0
    seed: int = 0

    @classmethod
    def checked(cls, shape: Shape, flip: bool, shift: int, noise: float, cutout: int, seed: int) -> "Changes":
        """ArgumentError where a number is wrong, or too large for images of that shape."""
        made = cls(
            bool(flip), arrays.positive(shift, "shift", minimum=0), arrays.number(noise, "noise", 0.0, _LOUDEST),
            arrays.positive(cutout, "cutout", minimum=0), arrays.seed(seed),
        )  # fmt: skip
        side = min(shape[-2:])
        if made.shift >= side or made.cutout > side:
            raise ArgumentError(
                f"the images have {side} pixels on their short side: shift must be less (it is {made.shift}), cutout at most "
                f"that (it is {made.cutout})"
            )
        return made

    def __bool__(self) -> bool:
        return bool(self.flip or self.shift or self.noise or self.cutout)

    def __str__(self) -> str:
        """As a sentence goes on: "inputs and targets flipped ..."."""
        both = ["flipped left to right in half of the cases"] * self.flip
        both += [f"shifted by up to {self.shift} pixels"] * bool(self.shift)
        inputs = [f"with noise of deviation {self.noise:g}"] * bool(self.noise)
        inputs += [f"with a square of {self.cutout} pixels cut out"] * bool(self.cutout)
        parts = [f"images {' and '.join(both)}"] * bool(both) + [f"inputs {' and '.join(inputs)}"] * bool(inputs)
        return ", ".join(parts) or "images as they are"

    def damages(self) -> bool:
        """Whether inputs differ from their targets."""
        return bool(self.noise or self.cutout)

    def attributes(self, *, damaged: bool = True) -> dict[str, Any]:
        """As the core takes them: the key as the signed number of the same 64 bits."""
        key = self.seed if self.seed < 1 << 63 else self.seed - (1 << 64)
        noise, cutout = (self.noise, self.cutout) if damaged else (0.0, 0)
        return {"flip": int(self.flip), "shift": self.shift, "noise": noise, "cutout": cutout, "seed": key}


_LOUDEST = 1e6  # deviations beyond it leave nothing of an image


class Augmented(Lazy):
    """Half of what augmented() gives: the network's input, or its target."""

    def __init__(self, images: Array, changes: Changes, *, damaged: bool) -> None:
        self.images, self.changes, self.damaged = images, changes, damaged
        self.shape, self.dtype = images.shape, images.dtype

    def sources(self) -> list[Array]:
        return [self.images]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        numbers = np.asarray(indices, dtype=np.int32).reshape(-1)
        chosen, bytes_ = np.ascontiguousarray(self.images[numbers]), self.dtype == np.uint8
        attributes = self.changes.attributes(damaged=self.damaged)
        if bytes_:
            attributes["noise"] = float(np.float32(attributes["noise"]) * np.float32(255))
        attributes |= dict(zip("NCHW", chosen.shape, strict=True))
        attributes |= {"images_count": len(chosen), "rows": len(chosen), "dtype": "u8" if bytes_ else "f32"}
        inputs = {
            "images": chosen, "order": np.arange(len(chosen), dtype=np.int32), "numbers": numbers,
            "cursor": np.zeros(1, np.int32), "epoch": np.array([self.epoch], np.int32),
        }  # fmt: skip
        made: Array = _core.call("cpu", "cpu", "augment_images", attributes, inputs, ["x"])["x"]
        return made.astype(self.dtype, copy=False).reshape(np.shape(indices) + self.shape[1:])


def on_device(inputs: Sequence[Array], targets: Sequence[Array]) -> tuple[Array, Changes] | None:
    """The images, and what the device is to make of them, where these are an input and its target out of one augmented().

    None where they are something else, or where the samples' numbers are not their places.
    """
    if len(inputs) != 1 or len(targets) != 1 or inputs[0].shape[0] != targets[0].shape[0]:
        return None
    x, y = (a.source if isinstance(a, Head) and a.start == 0 else a for a in (inputs[0], targets[0]))
    if not isinstance(x, Augmented) or not isinstance(y, Augmented) or x.images is not y.images or x.changes != y.changes:
        return None
    if x.changes.damages() and (not x.damaged or y.damaged):
        return None
    return x.images[: inputs[0].shape[0]], x.changes


def augmented(
    images: Any, *, flip: bool = False, shift: int = 0, noise: float = 0.0, cutout: int = 0, seed: int = 0
) -> tuple[Augmented, Augmented]:
    """(inputs, targets) for fit(): the same images, changed anew in every epoch by the device that trains.

    images: [N, C, H, W], uint8 or float32 on the host: of NumPy, a memory map, or a tensor of PyTorch. flip: left and right
    change places in half of them. shift: moved by up to so many pixels, mirrored at the edges, which is a crop of the
    mirrored image. These two are in inputs and targets. noise: Gaussian, its deviation with pixels from 0 to 1; uint8
    images stay whole numbers from 0 to 255. cutout: a square of that side is 0, at the edges a part of it
    (https://arxiv.org/abs/1708.04552). These two are in the inputs only: the network learns to remove them.
    """
    images = arrays.as_array(images, "images")
    if images.dtype.kind == "f" and images.dtype != np.float32 and not isinstance(images, np.memmap):
        images = images.astype(np.float32)
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise ArgumentError(
            f"augmented() takes images as an array [N, C, H, W] of uint8 or float32, not {images.dtype} of shape {images.shape}"
        )
    changes = Changes.checked(images.shape, flip, shift, noise, cutout, seed)
    arrays.require_finite(images, "images")
    return Augmented(images, changes, damaged=True), Augmented(images, changes, damaged=False)
