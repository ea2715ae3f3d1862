"""What the estimators share: parameters, vectors or images in scikit-learn's shapes, scaling, and the training of a network."""

import copy
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import positive
from warploom.ground.layouts import from_nchw, layout_of, to_nchw
from warploom.inference.trained import open_trained
from warploom.model import Model
from warploom.models.registry import BY_NAME, get
from warploom.sklearn.networks import network_for


class AutoencoderBase(BaseEstimator):  # type: ignore[misc]
    """An autoencoder by scikit-learn's rules: constructor arguments stay as they are, what fit() learns ends with _.

    X: vectors (n, features); images (n, C, H, W), (n, H, W, C) or (n, H, W); or images as rows of a table, with image_shape.

    model: None makes a network for the shape of X with n_components latent values; else a network's name ("cifar10_autoencoder"),
    a run's folder or .safetensors file to go on from, a Model, or a function of the shape that makes one. image_shape: (C, H, W),
    (H, W, C) or (H, W) of the rows of X. optimizer, loss, device, version: as Model.compile() takes them. epochs=0 with a trained
    network leaves it as it is.

    Learned: model_; history_, the loss of every epoch; low_ and range_: x is trained on as (x - low_) / range_, that is uint8 by
    255, images within [0, 1] as they are, other images by their lowest and highest value, vectors by each feature's mean and
    deviation.
    """

    def __init__(
        self,
        model: Model | str | Path | Callable[[Shape], Model] | None = None,
        *,
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
        self.model = model
        self.image_shape = image_shape
        self.n_components = n_components
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.loss = loss
        self.device = device
        self.version = version
        self.random_state = random_state
        self.verbose = verbose

    # Data
    def _checked(self, X: Any, *, reset: bool) -> tuple[Array, str]:
        """([N, features] or [N, C, H, W], the layout of X: "" of vectors, "rows " and theirs of images as rows)."""
        X = X if hasattr(X, "shape") else np.asarray(X)
        table = len(X.shape) < 3  # one axis is refused in scikit-learn's own words
        X = validate_data(self, X, reset=reset, dtype="numeric", ensure_2d=table, allow_nd=True)
        if X.ndim == 2 and self.image_shape is None:
            array, layout = X, ""
        else:
            array, layout = self._rows(X) if X.ndim == 2 else self._images(X)
        if not reset and array.shape[1:] != self.model_.inputs[0].shape:
            raise ValueError(f"X has images of {array.shape[1:]}, but {type(self).__name__} was fitted on {self._shape}")
        return array, layout

    def _rows(self, X: Array) -> tuple[Array, str]:
        shape = self.image_shape
        layout = _layout(tuple(shape), "") if isinstance(shape, (tuple, list)) else ""
        if not layout or shape is None:
            raise ValueError(f"image_shape must be (C, H, W), (H, W, C) or (H, W), not {shape!r}")
        if X.shape[1] != math.prod(shape):
            raise ValueError(f"image_shape={tuple(shape)} has {math.prod(shape)} values, but X has {X.shape[1]} features")
        return to_nchw(X.reshape(len(X), *shape), f"N{layout}"), f"rows N{layout}"

    def _images(self, X: Array) -> tuple[Array, str]:
        layout = _layout(X.shape, "N")
        if not layout:
            raise ValueError(f"X has shape {X.shape}; expected (n, features), (n, C, H, W), (n, H, W, C) or (n, H, W)")
        return to_nchw(X, layout), layout

    @property
    def _shape(self) -> Shape:
        return self.model_.inputs[0].shape

    def _learn_scale(self, array: Array) -> None:
        if array.ndim == 2:
            deviation = array.std(axis=0, dtype=np.float64)
            self.low_: Any = array.mean(axis=0, dtype=np.float64)
            self.range_: Any = np.where(deviation > 0, deviation, 1.0)
            return
        low, high = (0.0, 255.0) if array.dtype == np.uint8 else (float(array.min()), float(array.max()))
        if low >= 0.0 and high <= 1.0:
            low, high = 0.0, 1.0
        self.low_, self.range_ = low, (high - low) or 1.0

    def _scaled(self, array: Array) -> Array:
        """What the network takes: float32, or uint8 that it scales itself."""
        if array.dtype == np.uint8 and np.ndim(self.range_) == 0 and (self.low_, self.range_) == (0.0, 255.0):
            return np.ascontiguousarray(array)
        return np.ascontiguousarray((array - self.low_) / self.range_, dtype=np.float32)

    def _unscaled(self, outputs: Floats, layout: str) -> Floats:
        """Outputs of the network in the units and the layout of X."""
        values: Floats = (outputs * self.range_ + self.low_).astype(np.float32)
        if values.ndim == 4:
            values = from_nchw(values, layout.removeprefix("rows "))
        return values.reshape(len(values), -1) if layout.startswith("rows") else values

    # The network
    def _fit(self, X: Any) -> None:
        """Learns the scale and trains a network on X."""
        array, self._layout = self._checked(X, reset=True)
        self._learn_scale(array)
        epochs = positive(self.epochs, "epochs", minimum=0)
        network = self._made(array.shape[1:])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        network.compile(
            copy.deepcopy(self.optimizer), copy.deepcopy(self.loss), self.version, self.device,
            min(positive(self.batch_size, "batch_size"), len(array)), seed,
        )  # fmt: skip
        history = network.fit(self._scaled(array), epochs=epochs, verbose=bool(self.verbose)) if epochs else None
        self.model_, self.history_ = network, [] if history is None else list(history["loss"])
        network.place(self.version, self.device)  # the training plan's memory is free

    def _made(self, shape: Shape) -> Model:
        """A network of its own for that shape."""
        if self.model is not None and self.n_components is not None:
            raise ValueError("n_components is for the network that is made where model is None: leave it out")
        if self.model is None:
            return network_for(shape, self.n_components)
        if isinstance(self.model, Model):
            network = copy.deepcopy(self.model)
        elif isinstance(self.model, (str, Path)):
            network = _named(str(self.model), shape)
        else:
            network = self.model(shape)
        if len(shape) == 3 and len(network.inputs) == 1 and network.inputs[0].shape[:1] == shape[:1]:
            network = network if network.inputs[0].shape == shape else network.resized(*shape[1:])
        if len(network.inputs) != 1 or network.inputs[0].shape != shape or [t.shape for t in network.outputs] != [shape]:
            shapes = [t.shape for t in network.inputs], [t.shape for t in network.outputs]
            raise ValueError(f"model takes {shapes[0]} and gives {shapes[1]}; X needs an autoencoder of {shape}")
        return network

    def _ready(self) -> Model:
        """The fitted network on its device; a copy or one that was unpickled is brought there."""
        check_is_fitted(self)
        if not self.model_.bound:
            self.model_.place(self.version, self.device)
        network: Model = self.model_
        return network

    def _errors(self, X: Any) -> tuple[Floats, Floats]:
        """(what the network was given, what it gave), scaled, [N, ...]."""
        network = self._ready()
        given = self._scaled(self._checked(X, reset=False)[0])
        outputs: Floats = network.predict(given)
        return (given / np.float32(255) if given.dtype == np.uint8 else given), outputs

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean squared error of the reconstruction in the scaled units: larger is better, as searches want it."""
        given, outputs = self._errors(X)
        return -float(np.mean((given - outputs) ** 2, dtype=np.float64))


def _layout(shape: Shape, first: str) -> str:
    """Of images whose channels are not known: 3, 1 or 4 of them, first or last."""
    found = (layout_of(shape, channels) for channels in (3, 1, 4))
    return next((f for f in found if f.startswith("N") == bool(first) and f), "")


def _named(name: str, shape: Shape) -> Model:
    if name not in BY_NAME:
        return open_trained(name).model
    known = inspect.signature(BY_NAME[name]).parameters
    arguments: dict[str, Any] = {"size": shape[1:]} if "size" in known and len(shape) == 3 else {}
    if "in_channels" in known:
        arguments["in_channels"] = shape[0]
    return get(name, **arguments)
