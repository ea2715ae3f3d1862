"""Data in the form that a model is trained on: lists of inputs and targets, from folders, files or synthetic samples.

"images": the target is the input. "segmentation": images in [-1, 1) and label maps. "composites": background and composite,
normalised as the specification does; depth and mask in [0, 1]. "faces": BGR images of two people in [0, 1], warped for training;
targets unwarped, masks, and the weight of each face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from warploom import data
from warploom.data import masks, paired, synthetic
from warploom.data.dataset import Dataset, fingerprint
from warploom.data.photos import TEST, TRAIN
from warploom.data.scaling import Intake, Scaling
from warploom.data.warp import Warped, face_weights
from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Shape
from warploom.ground.atomic import expanded
from warploom.ground.lazy import Cycled, Head, Lazy, Normalized

KINDS = ("images", *paired.LAYOUTS)
SYNTHETIC = 400  # training samples made where no data are given
_SIZING = "--size trains at another size, such as --size 128"
_HALF = (128 / 255,)  # mean and deviation that take [0, 255] to [-1, 1)
SCALINGS = {"segmentation": Scaling(_HALF, _HALF)}  # what networks with one input take of pixels, by kind; else those in [0, 1]
_STATISTICS = {  # of the specifications' data: mean and deviation per channel
    "bg": ((0.40086, 0.46599, 0.53281), (0.25451, 0.24249, 0.23615)),
    "fg_bg": ((0.41221, 0.47368, 0.53431), (0.25699, 0.24577, 0.24217)),
}


def intake(kind: str, number: int = 0) -> Intake:
    """What input `number` of a network takes of images, by the kind of its data."""
    if kind == "composites":
        return Intake(Scaling(*list(_STATISTICS.values())[number % len(_STATISTICS)]))
    return Intake(SCALINGS.get(kind), bgr=kind == "faces")


@dataclass
class Samples:
    """Inputs and targets; no targets: the inputs are the targets."""

    x: list[Array]
    y: list[Array] | None

    def __len__(self) -> int:
        return len(self.x[0])

    def head(self, count: int) -> "Samples":
        def cut(array: Array) -> Array:
            return cast(Array, Head(array, count)) if isinstance(array, Lazy) else array[:count]

        return Samples([cut(a) for a in self.x], None if self.y is None else [cut(a) for a in self.y])


@dataclass
class TaskData:
    """What a model is trained and tested on."""

    name: str
    kind: str
    train: Samples
    test: Samples
    notes: list[str] = field(default_factory=list)  # sentences a user should read

    def limited(self, limit: int | None, test_limit: int | None = None) -> "TaskData":
        """The first `limit` samples for training and the first `test_limit` for testing (None: as many as for training)."""
        test = limit if test_limit is None else test_limit
        train = self.train if limit is None else self.train.head(limit)
        return TaskData(self.name, self.kind, train, self.test if test is None else self.test.head(test), self.notes)

    def fingerprint(self) -> str:
        return fingerprint([*self.train.x, *(self.train.y or [])])


def of_images(dataset: Dataset) -> TaskData:
    return TaskData(dataset.name, "images", Samples([dataset.train], None), Samples([dataset.test], None), dataset.notes)


def load(
    kind: str,
    source: str,
    shape: Shape,
    *,
    targets: Sequence[str] = (),
    classes: int = 0,
    data_dir: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    warp: bool = True,
    test_limit: int | None = None,
    skip_bad: bool = False,
) -> TaskData:
    """Data of that kind for a model whose inputs have that shape. source: "auto", or what data.load() takes, or a folder.

    targets: the names of the target arrays of "faces", in order. classes: of "segmentation". warp: the training inputs
    of "faces". limit, test_limit: as TaskData.limited() takes them. skip_bad: leaves out files that cannot be read.
    """
    if kind not in KINDS:
        raise ArgumentError(f"unknown kind of data {kind!r}; expected one of {', '.join(KINDS)}")
    if kind == "images" and (source not in ("auto", "patches") or tuple(shape) == (3, 32, 32)):
        loaded = data.load(source, data_dir=data_dir, shape=shape, seed=seed, skip_bad=skip_bad, sizing=_SIZING)
        return of_images(loaded).limited(limit, test_limit)
    if data_dir is not None:
        raise DataError(
            f"--data-dir is where CIFAR-10 is, but this model takes {kind} of {'x'.join(map(str, shape))}: use --data"
        )
    notes: list[str]
    if kind == "images" or source == "auto":
        if kind == "segmentation" and classes <= len(synthetic.SHAPES):
            raise ArgumentError(
                f"the model has {classes} classes, but synthetic samples have {len(synthetic.SHAPES) + 1}: use --data"
            )
        training, testing = _synthetic(kind, shape, min(limit or SYNTHETIC, SYNTHETIC), seed)
        photos = synthetic.source(kind)
        made = {"images": "crops of photographs"}.get(kind, f"synthetic {kind} made from photographs")
        made += f" that installed packages ship ({', '.join(photos.names)})"
        if kind in synthetic.DRAWN:
            made = f"synthetic {kind} {synthetic.origin(kind, photos)}"
        why = "no --data given" if source == "auto" else f"--data {source}"
        notes = [f"{why}: {made}; see docs/data.md for your own"]
        name = "photographs" if kind == "images" else f"synthetic {kind}"
    else:
        folder = expanded(source)
        if not folder.is_dir():
            known = ", ".join(f"{p.name}/" for p in paired.LAYOUTS[kind])
            raise DataError(f"there is no folder {source!r}; this model takes auto, or a folder with {known} (see docs/data.md)")
        notes = []
        training, testing = paired.load(kind, folder, shape[1], shape[2], classes, skip_bad=skip_bad, notes=notes)
        name = folder.resolve().name
        count = len(next(iter(training.values()))), len(next(iter(testing.values())))
        notes.insert(0, f"{folder}: {count[0]:,} samples for training, {count[1]:,} for testing")
    if kind == "segmentation":
        notes += masks.read_as_meant(training, testing, classes, paired.IGNORED)
    if kind == "segmentation" and classes <= paired.IGNORED:
        for arrays in (training, testing):
            arrays["labels"] = np.where(arrays["labels"] == paired.IGNORED, np.int16(-100), arrays["labels"])
    parts = [_samples(kind, arrays, targets, seed, bent) for arrays, bent in ((training, warp), (testing, False))]
    return TaskData(name, kind, parts[0], parts[1], notes).limited(limit, test_limit)


def _synthetic(kind: str, shape: Shape, count: int, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"synthetic data have 1 or 3 channels, but the model takes {channels}; use a .npy file")
    photos = synthetic.source(kind)
    parts = []
    for part, wanted in ((TRAIN, count), (TEST, synthetic.testing_count(count))):
        made = synthetic.make(kind, photos, wanted, height, width, seed, part)
        parts.append({name: _planes(name, pixels, channels) for name, pixels in made.items()})
    return parts[0], parts[1]


def _planes(name: str, pixels: list[Array], channels: int) -> Array:
    """[N, C, H, W], or label maps [N, H, W]."""
    stacked = np.stack(pixels)
    if name == "labels":
        return stacked.astype(np.int16)
    if stacked.ndim == 3:
        return stacked[:, None]
    if channels == 1:  # Rec. 601, as Pillow's conversion to grey
        grey: Array = np.rint(stacked @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        return grey[:, None]
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _samples(kind: str, arrays: Mapping[str, Array], targets: Sequence[str], seed: int, warp: bool) -> Samples:
    if kind == "images":
        return Samples([arrays["images"]], None)
    if kind == "segmentation":
        return Samples([cast(Array, Normalized(arrays["images"], _HALF, _HALF))], [arrays["labels"]])
    if kind == "composites":
        inputs = [cast(Array, Normalized(arrays[name], *_STATISTICS[name])) for name in ("bg", "fg_bg")]
        return Samples(inputs, [arrays["depth"], arrays["mask"]])
    return _faces(arrays, targets, seed, warp)


def _faces(arrays: Mapping[str, Array], targets: Sequence[str], seed: int, warp: bool) -> Samples:
    """People with different numbers of images: those of the one with fewer come again."""
    count = max(len(arrays["src"]), len(arrays["dst"]))
    found: dict[str, Array] = {}
    inputs: list[Array] = []
    for number, person in enumerate(("src", "dst")):
        images = np.ascontiguousarray(arrays[person][:, ::-1])  # BGR
        mask = arrays.get(f"{person}_mask")
        if mask is None:
            mask = np.full((len(images), 1, *images.shape[2:]), 255, np.uint8)
        parts = {"image": images, "mask": mask, "weight": face_weights(mask)}
        for name, array in parts.items():
            found[f"{person}_{name}"] = array if len(array) == count else cast(Array, Cycled(array, count))
        inputs.append(cast(Array, Warped(images, 2 * seed + number, count)) if warp else found[f"{person}_image"])
    unknown = [t for t in targets if t not in found]
    if unknown:
        raise ArgumentError(f"unknown target {unknown[0]!r}; data of two people have {', '.join(found)}")
    return Samples(inputs, [found[name] for name in targets])
