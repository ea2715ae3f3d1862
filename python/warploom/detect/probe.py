"""A network asked what the steps of a detector need, of images of any size: one map per image, unsmoothed."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from warploom.anysize.resizing import Size, Sizes
from warploom.anysize.running import bytes_of_a_pixel
from warploom.anysize.tiles import ramp, starts
from warploom.detect import maps
from warploom.detect.steps import Steps
from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Floats
from warploom.model import Model

_SCORING = 14  # float32 copies of an image's channels that the maps take at once, SSIM the most

Reading = dict[str, Floats]  # "mse", "ssim": maps [n, H, W]; "latent": vectors [n, h, w, K] or [n, K]
# Of a reading, the images' or windows' size, and for each the number of the image that it is (part) of: maps [n, H, W].
Combine = Callable[[Reading, Size, NDArray[np.int64]], Floats]


class Probe:
    """One network with two answers: the reconstruction, the latent, or both from one pass."""

    def __init__(self, model: Model, kinds: Sequence[str]) -> None:
        self.model = model
        self.errors = [kind for kind in kinds if kind != "latent"]
        wanted = [model.outputs[0]] if self.errors else []
        if "latent" in kinds:
            wanted.append(model.require_latent())
        if wanted == [model.outputs[0]]:
            self.network = model
        elif self.errors:
            self.network = Model(model.inputs, wanted, name=f"{model.name}-probe")
            self.network.run_with(model)
            self.network.batch_size = model.batch_size
        else:
            self.network = model.encoder
        self.latent = "latent" in kinds
        self.own: Size = (model.inputs[0].shape[1], model.inputs[0].shape[2])
        self.steps = Sizes(self.network).steps  # None: it takes its own size only

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels for a place of the latent map, down and across."""
        shape = self.model.require_latent().shape
        return (self.own[0] / shape[1], self.own[1] / shape[2]) if len(shape) == 3 else (float(self.own[0]), float(self.own[1]))

    def side(self, memory: int) -> int:
        """Of the square that is looked at as a whole within so many bytes of activations; 0: the network's own size."""
        if self.steps is None:
            return 0
        pixel = bytes_of_a_pixel(self.network, self.network.engine) + 4 * _SCORING * self.model.inputs[0].shape[0]
        return self.whole_steps(max(int((memory / pixel) ** 0.5), *self.own))

    def whole_steps(self, side: int) -> int:
        """The side or a little more: a multiple of the strides, so that every tile meets the network's grid alike."""
        return side if self.steps is None else -(-side // math.lcm(*self.steps)) * math.lcm(*self.steps)

    def window(self, size: Size, tile: int) -> Size:
        """What of an image of that size is looked at as a whole."""
        if self.steps is None or not tile:
            return self.own
        tile = self.whole_steps(tile)
        return size if size[0] * size[1] <= tile * tile else (min(tile, size[0]), min(tile, size[1]))

    def read(self, images: Array, steps: Steps) -> Reading:
        """Of images [n, C, H, W] of a size that the network takes (a smaller one is mirrored up to it)."""
        height, width = images.shape[2:]
        given = images
        if self.steps is None and (height, width) != self.own:
            more = [(0, own - size) for own, size in zip(self.own, (height, width), strict=True)]
            given = np.pad(images, ((0, 0), (0, 0), *more), mode="reflect")
        made = self.network.predict(np.ascontiguousarray(given))
        made = made if isinstance(made, list) else [made]
        if not all(np.isfinite(m).all() for m in made):
            raise DataError(f"network {self.model.name!r} gives NaN or infinity for an image: its training has failed")
        reading: Reading = {}
        if self.errors:
            x, y = maps.unit(images), made[0][:, :, :height, :width]
            if "mse" in self.errors:
                reading["mse"] = maps.squared_error(x, y)
            if "ssim" in self.errors:
                reading["ssim"] = maps.dissimilarity(x, y, steps.window, steps.sigma)
        if self.latent:
            z = made[-1]
            reading["latent"] = np.ascontiguousarray(z.transpose(0, 2, 3, 1)) if z.ndim == 4 else z.reshape(len(z), -1)
        return reading

    def batch(self, size: Size, tile: int) -> int:
        """How many windows of images of that size run at once: no more pixels than a tile has, or a batch of the network."""
        height, width = self.window(size, tile)
        limit = max(tile * tile, self.own[0] * self.own[1] * self.model.batch_size)
        return max(1, min(self.model.batch_size, limit // (height * width)))

    def in_windows(self, size: Size, tile: int) -> bool:
        """Whether an image of that size is larger than what is looked at as a whole."""
        window = self.window(size, tile)
        return window[0] < size[0] or window[1] < size[1]

    def scan(self, images: Array, steps: Steps, combine: Combine) -> Floats:
        """Maps [n, H, W] of images [n, C, H, W] of any size: as a whole where the window is that large, else of windows that
        overlap by a quarter at least, blended."""
        size: Size = (images.shape[2], images.shape[3])
        window, batch = self.window(size, steps.tile), self.batch(size, steps.tile)
        if self.in_windows(size, steps.tile):
            return np.stack([self._blended(image, i, window, batch, steps, combine) for i, image in enumerate(images)])
        made = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            made.append(combine(self.read(part, steps), size, np.arange(start, start + len(part))))
        return np.concatenate(made)

    def _blended(self, image: Array, number: int, window: Size, batch: int, steps: Steps, combine: Combine) -> Floats:
        size: Size = (image.shape[1], image.shape[2])
        tall, wide = min(window[0], size[0]), min(window[1], size[1])
        steps_of_grid = self.steps or (1, 1)
        down, across = (_begins(s, w, step) for s, w, step in zip(size, (tall, wide), steps_of_grid, strict=True))
        more = [(0, begins[-1] + w - s) for s, w, begins in zip(size, (tall, wide), (down, across), strict=True)]
        image = np.pad(image, [(0, 0), *more], mode="reflect") if more != [(0, 0), (0, 0)] else image
        rows, columns = ramp(tall, 1)[:, 0], ramp(1, wide)[0]
        weights = np.outer(rows, columns)
        total = np.zeros(image.shape[1:], np.float32)
        places = [(top, left) for top in down for left in across]
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            cut = np.stack([image[:, top : top + tall, left : left + wide] for top, left in some])
            made = combine(self.read(cut, steps), (tall, wide), np.full(len(some), number))
            for (top, left), part in zip(some, made, strict=True):
                total[top : top + tall, left : left + wide] += weights * part
        total /= _shares(down, rows)[:, None]  # the windows are a grid: the sum of their weights is a product
        total /= _shares(across, columns)
        return total[: size[0], : size[1]]

    def vectors(self, images: Array, steps: Steps) -> list[Floats]:
        """The latent's vectors [m, K] of each image: those of all its places, in all its windows."""
        found: list[list[Floats]] = [[] for _ in images]

        def take(reading: Reading, size: Size, numbers: NDArray[np.int64]) -> Floats:
            for vectors, number in zip(reading["latent"], numbers, strict=True):
                found[number].append(vectors.reshape(-1, vectors.shape[-1]))
            return np.zeros((len(numbers), *size), np.float32)

        self.scan(images, steps, take)
        return [np.concatenate(vectors) for vectors in found]


def _begins(length: int, window: int, step: int) -> list[int]:
    """Where windows begin that overlap by a quarter or more: at multiples of the step; the last one may reach beyond the end."""
    if step == 1:
        return starts(length, window)
    last = -(-(length - window) // step) * step
    return [*range(0, last, max(step, (window - window // 4) // step * step)), last]


def _shares(begins: Sequence[int], weights: Floats) -> Floats:
    shares = np.zeros(begins[-1] + len(weights), np.float32)
    for begin in begins:
        shares[begin : begin + len(weights)] += weights
    return shares


def check_takes_images(model: Model) -> None:
    """ArgumentError where the network does not reconstruct one image (C, H, W)."""
    shapes = [t.shape for t in model.inputs], [t.shape for t in model.outputs]
    if len(shapes[0]) != 1 or len(shapes[1]) != 1 or shapes[0] != shapes[1] or len(shapes[0][0]) != 3:
        raise ArgumentError(
            f"network {model.name!r} does not reconstruct images: {', '.join(map(str, shapes[0]))} becomes "
            f"{', '.join(map(str, shapes[1]))}; a detector needs an autoencoder of images (C, H, W)"
        )
