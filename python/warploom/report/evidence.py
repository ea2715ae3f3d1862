"""What a report shows of a run: its files read, its network run on images, everything in memory before a page is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.data.tasks import TaskData
from warploom.errors import ArgumentError, DataError, GraphError
from warploom.ground.array_types import Array, Floats
from warploom.ground.atomic import expanded
from warploom.inference.images import Images, open_images
from warploom.inference.trained import Trained, open_trained
from warploom.model import Model
from warploom.report.pixels import floats
from warploom.runs.pictures import Rows, rows_of
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder
from warploom.runs.scores import judge

MOST_IMAGES = 400  # that are reconstructed and encoded for the page
_FEWEST_IMAGES = 32
_PIXELS = 4 << 20  # so many pixels at most: 64 images of 256x256
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass
class Looked:
    """Images and what the network made of them; all pixels in [0, 1] or uint8."""

    title: str  # of the data
    images: Array  # [N, C, H, W]
    names: list[str]
    labels: NDArray[np.int64] | None
    classes: list[str]
    outputs: Floats | None = None  # reconstructions [N, C, H, W]
    latents: Floats | None = None  # [N, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def errors(self) -> Floats | None:
        """Mean squared error of each image."""
        if self.outputs is None:
            return None
        result: Floats = ((self.outputs - floats(self.images)) ** 2).mean((1, 2, 3))
        return result

    def said(self, i: int) -> str:
        """Image i in words: its name and class."""
        return " · ".join(part for part in (self.names[i], self.label(i)) if part)

    def label(self, i: int) -> str:
        if self.labels is None:
            return ""
        number = int(self.labels[i])
        return self.classes[number] if number < len(self.classes) else f"class {number}"


@dataclass
class Evidence:
    """All that a page is made of. What could not be had stands in `missing`, a sentence each."""

    path: Path  # as given
    title: str
    model: Model
    trained: Trained | None = None  # None: no weights yet
    config: RunConfig | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    result_folders: list[Path] = field(default_factory=list)  # where classify and detect may have written
    looked: Looked | None = None
    predictions: Rows = field(default_factory=list)  # where the target is not the input: labelled rows of images
    scores: dict[str, float] = field(default_factory=dict)  # computed for this page, where the run tells of none
    missing: dict[str, str] = field(default_factory=dict)  # by the section's name

    @property
    def decoder(self) -> Model | None:
        """From the latent to the output; None where there is no latent, or where something else leads past it."""
        try:
            return self.model.decoder
        except GraphError:
            return None


def gather(
    run: str | Path, *, data: str | None = None, version: str = "auto", device: str = "auto", with_images: bool = True,
    skip_bad: bool = False, results: Sequence[str | Path] = (),
) -> Evidence:  # fmt: skip
    """Reads the folder of a run, or a model's file, and looks at images with it.

    data: other images than the run's test images, anything that open_images() takes. with_images=False: none (quick).
    results: folders besides the run's into which `warploom classify` or `warploom detect` has written.
    DataError where the run cannot be read, or `data` cannot.
    """
    found = _opened(expanded(run), version, device)
    for folder in map(expanded, results):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder} with results: expected one that classify or detect has written")
        found.result_folders.append(folder)
    if with_images and found.trained is not None:
        try:
            _look(found, found.trained, data, skip_bad)
        except (DataError, ArgumentError) as error:
            if data is not None:
                raise
            found.missing["images"] = f"The images of this run cannot be read: {error}. Name others with --data."
    return found


def _opened(path: Path, version: str, device: str) -> Evidence:
    folder = RunFolder(path)
    if path.is_dir() and not any(p.is_file() for p in (folder.model_path, folder.checkpoint_path)):
        if not folder.config_path.is_file():
            raise DataError(f"{path} holds no run: expected the folder of a `warploom train` run, or a .safetensors file")
        config = folder.read_config()
        found = Evidence(path, path.resolve().name, config.make_model(), None, config, folder.read_metrics(), [path])
        found.missing["images"] = "No epoch has ended yet: there are no weights to look at."
        return found
    trained = open_trained(path, version=version, device=device)
    where = [trained.path.parent] if path.is_dir() else []
    return Evidence(path, trained.title, trained.model, trained, trained.config, trained.rows, where)


def _look(found: Evidence, trained: Trained, data: str | None, skip_bad: bool) -> None:
    if trained.kind != "images" and data is None:
        _predict(found, trained, trained.data())
        return
    if not trained.reconstructs and trained.model.latent is None:
        raise ArgumentError(f"{found.title} neither reconstructs images nor has a latent")
    source = _source(trained, data, skip_bad)
    looked = _read(source, trained) if isinstance(source, Images) else _taken(source, trained)
    inputs = trained.prepare(looked.images)
    decoder = found.decoder if trained.reconstructs else None
    if trained.model.latent is not None:
        looked.latents = trained.model.encode(inputs)
    if trained.reconstructs:
        made = None
        if decoder is not None and looked.latents is not None and np.isfinite(looked.latents).all():
            made = decoder.predict(looked.latents)
        looked.outputs = trained.pixels(trained.model.predict(inputs) if made is None else made)
    found.looked = looked


def _source(trained: Trained, data: str | None, skip_bad: bool) -> Images | TaskData:
    """The images to look at: those named, else the run's own test images."""
    if data is not None:
        return trained.images(data, part="auto", skip_bad=skip_bad)
    config = trained.config
    if config is None:
        raise DataError("; ".join(trained.notes) or f"what {trained.path.name} was trained on stands in no file beside it")
    if config.data == "auto" and trained.shape != (3, 32, 32):
        return trained.data()  # crops of photographs, made anew
    return open_images(
        config.data, channels=trained.shape[0], part="test", data_dir=config.data_dir, skip_bad=skip_bad or config.skip_bad,
        limit=config.limit if config.limit_test is None else config.limit_test,
    )  # fmt: skip


def _count(trained: Trained) -> int:
    return int(min(MOST_IMAGES, max(_FEWEST_IMAGES, _PIXELS // (trained.size[0] * trained.size[1]))))


def _spread(total: int, count: int) -> NDArray[np.int64]:
    """`count` places of `total`, as far apart as they can be: of a folder sorted by class, some of each."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _read(source: Images, trained: Trained) -> Looked:
    chosen = source.select(_spread(len(source), _count(trained)))
    parts = list(chosen.batches(64, size=trained.size))
    labels = [part.labels for part in parts if part.labels is not None]
    classes = source.classes or (_CIFAR10 if source.title == "cifar10" else [])
    images = np.concatenate([part.images for part in parts])
    names = [name for part in parts for name in part.names]
    return Looked(source.title, images, names, np.concatenate(labels) if labels else None, classes, notes=source.notes)


def _taken(source: TaskData, trained: Trained) -> Looked:
    places = _spread(len(source.test), _count(trained))
    images: Array = source.test.x[0][places]
    return Looked(source.name, images, [f"{source.name} {i}" for i in places], None, [], notes=source.notes)


def _predict(found: Evidence, trained: Trained, data: TaskData) -> None:
    """Of data whose target is not the input."""
    found.predictions = rows_of(found.model, data)
    if not found.rows:
        found.scores = judge(found.model, data)
    if found.model.latent is not None and len(found.model.inputs) == 1:
        places = _spread(len(data.test), _count(trained))
        inputs: Array = np.asarray(data.test.x[0][places])
        names = [f"{data.name} {i}" for i in places]
        found.looked = Looked(data.name, trained.pixels(floats(inputs)), names, None, [], latents=found.model.encode(inputs))
