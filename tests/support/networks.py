"""The CIFAR-10 autoencoder with fewer channels, twice: for the package, and in float64 NumPy on the oracle's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from numpy.typing import NDArray

Array = NDArray[Any]
STAGES = ("pool", "pool", "up", "up", "")  # what follows each of the five convolutions; all but the last have a ReLU
PAD = (1, 1, 1, 1)


def small_autoencoder(wl: Any, channels: tuple[int, int] = (8, 4), image: tuple[int, int, int] = (3, 16, 16)) -> Any:
    """conv ReLU pool, conv ReLU pool, conv ReLU up, conv ReLU up, conv: layers and names of wl.models.cifar10_autoencoder()."""
    outer, inner = channels
    x = h = wl.Input(image, name="image")
    for i, (width, stage) in enumerate(zip((outer, inner, inner, outer, image[0]), STAGES, strict=True)):
        h = wl.layers.Conv2d(width, 3, padding=1, name=f"conv{i + 1}")(h)
        if stage:
            h = wl.layers.ReLU()(h)
            h = wl.layers.MaxPool2d(2)(h) if stage == "pool" else wl.layers.Upsample(2)(h)
    return wl.Model(x, h, name="small-autoencoder")


class NumpyAutoencoder:
    """The same network and plain or momentum SGD, in float64."""

    def __init__(
        self, state: dict[str, Array], lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ):
        self.w = {k: v.astype(np.float64) for k, v in state.items()}
        self.velocity = {k: np.zeros_like(v) for k, v in self.w.items()} if momentum else None
        self.hyper = (lr, momentum, weight_decay, nesterov)

    def forward(self, x: Array) -> tuple[Array, list[dict[str, Any]]]:
        h, kept = x.astype(np.float64), []
        for i, stage in enumerate(STAGES):
            step: dict[str, Any] = {"x": h}
            h = oracle.conv2d(h, self.w[f"conv{i + 1}.weight"], self.w[f"conv{i + 1}.bias"], pad=PAD)
            if stage:
                h = step["y"] = oracle.activation(h, "relu")
            if stage == "pool":
                h, step["index"] = oracle.max_pool2d(h, (2, 2), (2, 2))
            elif stage == "up":
                h = oracle.upsample(h, (2, 2))
            kept.append(step)
        return h, kept

    def gradients(self, x: Array, target: Array) -> tuple[float, dict[str, Array]]:
        prediction, kept = self.forward(x)
        loss, dy = oracle.mse_loss(prediction, target)
        gradients = {}
        for i in reversed(range(len(STAGES))):
            step = kept[i]
            if STAGES[i] == "pool":
                dy = oracle.max_pool2d_backward(dy, step["index"], step["y"].shape)
            elif STAGES[i] == "up":
                dy = oracle.upsample_backward(dy, (2, 2))
            if STAGES[i]:
                dy = oracle.activation_backward(dy, step["y"], "relu")
            name = f"conv{i + 1}"
            dy, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = oracle.conv2d_backward(
                dy, step["x"], self.w[f"{name}.weight"], pad=PAD
            )
        return loss, gradients

    def train_step(self, x: Array, target: Array | None = None) -> float:
        loss, gradients = self.gradients(x, x if target is None else target)
        for name, g in gradients.items():
            velocity = self.velocity[name] if self.velocity else None
            self.w[name], velocity = oracle.sgd_update(self.w[name], g, velocity, *self.hyper)
            if self.velocity:
                self.velocity[name] = velocity
        return loss


def smooth_images(count: int, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> Array:
    """uint8 pictures of a few waves each: no two neighbours equal by design, so a maximum is seldom tied."""
    rng = np.random.default_rng(seed)
    c, height, width = shape
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.zeros((count, c, height, width))
    for _ in range(4):
        fy, fx, phase, size = (rng.uniform(low, high, (count, c, 1, 1)) for low, high in ((0, 4), (0, 4), (0, 6.3), (0.3, 1)))
        waves += size * np.sin(6.283 * (fy * rows + fx * columns) + phase)
    waves += rng.normal(0, 0.1, waves.shape)
    low, high = waves.min((1, 2, 3), keepdims=True), waves.max((1, 2, 3), keepdims=True)
    return ((waves - low) / (high - low) * 255).astype(np.uint8)


def as_floats(images: Array) -> Array:
    return images.astype(np.float32) * np.float32(1 / 255)
