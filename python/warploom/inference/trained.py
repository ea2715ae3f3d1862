"""A trained network opened for use: the folder of a run, or a .safetensors file, as one object.

trained = open_trained("runs/…")       # or model.safetensors, best.safetensors, checkpoint.safetensors
for batch in trained.images("photos").batches(trained.batch_size, size=trained.size):
    features = trained.model.encode(trained.prepare(batch.images))
"""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warploom import models
from warploom.data.scaling import Scaling
from warploom.data.tasks import SCALINGS, TaskData
from warploom.errors import ArgumentError, DataError, Error
from warploom.ground.array_types import Array, Floats, Shape
from warploom.ground.arrays import as_array
from warploom.ground.atomic import expanded, read_tensors, read_whole
from warploom.inference.images import Images, open_images
from warploom.model import Model
from warploom.models.saving import load_model
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder

_CHECKPOINT = "checkpoint.safetensors"
_OF_A_RUN = ("model.safetensors", "best.safetensors", _CHECKPOINT)
_BATCH, _BATCH_PIXELS = 64, 64 * 64 * 64  # images in a batch, and of large ones their pixels


@dataclass
class Trained:
    """A network, how it was trained where that is known, and what its inputs are."""

    model: Model
    path: Path  # the file of the weights; of a network by name, its name
    kind: str  # of its data: images, segmentation, composites, faces (models.Objective)
    scaling: Scaling | None  # what it takes of pixels in [0, 1]; None: those
    config: RunConfig | None = None  # of its run
    rows: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    notes: list[str] = field(default_factory=list)  # sentences a user should read

    @property
    def title(self) -> str:
        """For people: the run's name, or the file's."""
        return self.path.resolve().parent.name if self.path.name == "model.safetensors" else self.path.stem

    def __repr__(self) -> str:
        return f"<Trained {self.title!r}: {self.model.name}, {self.kind}, {'x'.join(map(str, self.shape))}>"

    @property
    def shape(self) -> Shape:
        """(C, H, W) of its input."""
        return self.single().inputs[0].shape

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that it was trained at."""
        return self.shape[1], self.shape[2]

    @property
    def batch_size(self) -> int:
        return self.model.batch_size

    @property
    def reconstructs(self) -> bool:
        """Whether it has one input and one output, of one shape, that hold the same kind of thing."""
        inputs, outputs = self.model.inputs, self.model.outputs
        return self.kind == "images" and len(inputs) == len(outputs) == 1 and inputs[0].shape == outputs[0].shape

    def single(self) -> Model:
        """The model; ArgumentError where it does not take one image (C, H, W)."""
        inputs = self.model.inputs
        if len(inputs) != 1 or len(inputs[0].shape) != 3:
            names = ", ".join(f"{t.name} {t.shape}" for t in inputs)
            raise ArgumentError(f"{self.title} does not take one image, but {names}: use it from Python (warploom.load, predict)")
        return self.model

    def require_latent(self) -> Model:
        """The model; GraphError where nothing is marked as its latent."""
        self.single().require_latent()
        return self.model

    def require_reconstruction(self) -> Model:
        """The model; ArgumentError where its output is no image of its input."""
        self.single()
        if not self.reconstructs:
            raise ArgumentError(
                f"{self.title} does not reconstruct its input: {self.model.inputs[0].shape} becomes "
                f"{', '.join(str(t.shape) for t in self.model.outputs)} ({self.kind})"
            )
        return self.model

    def images(self, source: Any = None, **options: Any) -> Images:
        """open_images() with the channels of this network. None: what it was trained on; DataError where that is not known.
        part="auto" of that is its test part, however it was divided."""
        if options.get("part") == "auto" and (source is None or self._trained_on(source)):
            options = {**options, "part": "test"}
        if source is None:
            own = self._own_data()
            source = own[0]
            options = {**options, "data_dir": options.get("data_dir") or own[1], "seed": own[2]}
        return open_images(source, channels=self.shape[0], **options)

    def _trained_on(self, source: Any) -> bool:
        if self.config is None or not isinstance(source, (str, Path)):
            return False
        return expanded(source).absolute() == expanded(self.config.data).absolute()

    def _own_data(self) -> tuple[str, str | None, int]:
        """(source, folder of CIFAR-10, seed) of its run, or of the recipe that it was learnt by."""
        if self.config is not None:
            return self.config.data, self.config.data_dir, self.config.seed
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(read_whole(self.path.parent / "recipe.json"))
            return str(about["data"]), about.get("data_dir"), int(about["seed"])
        raise DataError(f"{self.path}: what it was trained on stands in no file beside it: name the data")

    def prepare(self, images: Any) -> Array:
        """Pixels (uint8, or floats in [0, 1]) as the network takes them, scaled as in training."""
        array = as_array(images, "images")
        return array if self.scaling is None else self.scaling.forward(array)

    def pixels(self, outputs: Floats) -> Floats:
        """A reconstruction [..., C, H, W] as pixels in [0, 1], not cut off."""
        return outputs if self.scaling is None else self.scaling.back(outputs)

    def data(self) -> TaskData:
        """The data of its run, as it was trained and tested; DataError where they are not known or not there any more."""
        if self.config is None:
            raise DataError(f"{self.path}: what it was trained on stands in no file beside it: name the data")
        return self.config.load_data(self.model)

    def untrained(self, seed: int = 0) -> "Trained":
        """The same network with fresh weights, on the same device: the control that a trained one is compared with."""
        fresh = Model.from_config(self.model.config())
        fresh.batch_size, fresh.seed = self.model.batch_size, seed
        fresh.run_with(self.model)
        return Trained(fresh, self.path, self.kind, self.scaling)


def open_trained(
    path: str | Path, *, version: str = "auto", device: str = "auto", precision: str = "fp32", batch_size: int | None = None
) -> Trained:
    """A trained network: a run's folder (its model.safetensors, else its checkpoint), or a .safetensors file of one or of
    Model.save(). It runs on the device, for inference. DataError says what is wrong with the files."""
    given = expanded(path)
    file = _weights_in(given) if given.is_dir() else given
    if not file.is_file():
        known = f": {path} is a network by name, which has no weights yet" if str(path) in models.BY_NAME else ""
        raise DataError(f"there is no {path}; expected the folder of a run, or a .safetensors file{known}")
    notes = list[str]()
    config = _config_beside(file, notes)
    model = _checkpointed(file, config) if file.name == _CHECKPOINT else load_model(file)
    kind = _kind_of(model, config)
    rows = RunFolder(file.parent).read_metrics() if config is not None else []
    model.place(version, device, precision)
    height, width = model.inputs[0].shape[-2:] if len(model.inputs[0].shape) > 2 else (1, 1)
    model.batch_size = max(1, min(_BATCH, _BATCH_PIXELS // (height * width))) if batch_size is None else batch_size
    return Trained(model, file, kind, SCALINGS.get(kind), config, rows, notes)


def _weights_in(folder: Path) -> Path:
    for name in ("model.safetensors", _CHECKPOINT):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} holds no trained network: expected the folder of a run, with model.safetensors in it")


def _config_beside(file: Path, notes: list[str]) -> RunConfig | None:
    """The run's, where the file is one of a run; a config.json of another program is left alone."""
    folder = RunFolder(file.parent)
    if file.name not in _OF_A_RUN or not folder.config_path.is_file():
        return None
    try:
        return folder.read_config()
    except DataError as error:
        if file.name == _CHECKPOINT:
            raise
        notes.append(f"what the network was trained on is not known: {error}")
        return None


def _checkpointed(file: Path, config: RunConfig | None) -> Model:
    """A checkpoint has the weights only; the network stands in its run's config.json."""
    if config is None:
        raise DataError(f"{file} is a checkpoint, whose network stands in a config.json beside it: there is none")
    tensors, metadata = read_tensors(file)
    if not str(metadata.get("format", "")).startswith("warploom-checkpoint-"):
        raise DataError(f"{file} is no checkpoint of a run")
    model = config.make_model()
    model.load_state_dict({name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")})
    return model


def _kind_of(model: Model, config: RunConfig | None) -> str:
    """Of its data: by its run, else as networks of its name are trained, else images."""
    if config is not None:
        with contextlib.suppress(Error):  # it went on from a network whose file is gone
            return config.objective.data
    return models.objective(model.name).data if model.name in models.BY_NAME else "images"
