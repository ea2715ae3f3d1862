"""A trained network's features to classes, with the controls that show what they are worth."""

import contextlib
import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from warploom.classify.experiment import Result, classify
from warploom.classify.gram import linalg
from warploom.classify.kernel_ridge import Landmarks, check_landmarks
from warploom.classify.pictures import draw_confusion
from warploom.classify.sources import Source
from warploom.ground.array_types import Floats
from warploom.ground.atomic import write_atomically
from warploom.inference.features import EncodedSource, PixelSource, side_by_side
from warploom.inference.images import Images, require_labels
from warploom.inference.trained import Trained

Tell = Callable[[str, int, int], None]  # what is done, how much, of how much
FEATURES = ("trained", "untrained", "pixels")


@dataclass(frozen=True)
class Experiment:
    """Results by the features they are from (trained, and the controls untrained and pixels) and by method."""

    results: dict[str, dict[str, Result]]
    test: Images

    @property
    def best(self) -> Result:
        """Of the trained network's features."""
        return max(self.results[FEATURES[0]].values(), key=lambda r: r.accuracy)

    def as_dict(self) -> dict[str, Any]:
        return {name: {m: r.as_dict() for m, r in found.items()} for name, found in self.results.items()}

    def write(self, folder: Path, title: str) -> list[str]:
        """report.json, predictions.csv and confusion.png of the best, and a classifier-METHOD.safetensors for each method."""
        best, files = self.best, []

        def wrote(name: str) -> Path:
            files.append(name)
            return folder / name

        for method, result in self.results[FEATURES[0]].items():
            result.classifier.save(wrote(f"classifier-{method}.safetensors"))
        names = [c.name for c in best.scores.classes]
        write_atomically(wrote("predictions.csv"), predictions_csv(self.test, best.predictions, names).encode())
        low, high = best.interval
        about = f"{title}: {best.accuracy:.1%} right (95 %: {low:.1%} to {high:.1%}), {best.method}"
        draw_confusion(wrote("confusion.png"), best.scores.confusion, names, about)
        write_atomically(wrote("report.json"), (json.dumps(self.as_dict(), indent=2) + "\n").encode())
        return files


def predictions_csv(images: Images, predicted: Sequence[int] | Any, names: list[str]) -> str:
    """name, predicted, and where it is known the label, of every image."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["name", "predicted", *(["label"] if images.labels is not None else [])])
    for i, name in enumerate(images.names):
        label = [] if images.labels is None else [names[int(images.labels[i])]]
        out.writerow([name, names[int(predicted[i])], *label])
    return text.getvalue()


def classify_trained(
    trained: Trained, train: Images, test: Images, folder: Path, *, methods: Sequence[str] = ("linear", "rbf"),
    features: Sequence[str] = FEATURES, fit: str = "crop", validation: float = 0.1, landmarks: Landmarks = 6_000,
    components: int = 512, seed: int = 0, tell: Tell | None = None,
) -> Experiment:  # fmt: skip
    """Encodes the images, fits classifiers to their latents and scores them on the test images; the same for the controls.

    features: "trained"; "untrained", the same network with fresh weights; "pixels". folder: where features are kept while they
    are read more than once, in a file without a name, 4 bytes a value. The other arguments are those of classify().
    """
    linalg()  # where it is missing, that is said before the images are encoded
    check_landmarks(landmarks, len(train))
    said = tell or (lambda what, done, of: None)
    for images, what in ((train, "training"), (test, "test")):
        require_labels(images.labels, f"{what} images of {images.title}")
    y, test_y = train.labels, test.labels
    networks = {"trained": trained, "untrained": trained.untrained(seed)}
    results = {}
    for name in features:

        def source(images: Images, what: str, name: str = name) -> Source:
            if name == "pixels":
                return PixelSource(trained, images, fit=fit)
            report = lambda done: said(f"{name} network, encoding {what} images", done, len(images))  # noqa: E731
            return EncodedSource(networks[name], images, fit=fit, report=report)

        def told(what: str, done: int, of: int, name: str = name) -> None:
            if what not in ("reading features", "testing"):  # the encoder tells of these
                said(f"{name}: {what}", done, of)

        with contextlib.ExitStack() as stack:
            given = source(train, "training")
            if name != "pixels" and tuple(methods) != ("linear",):
                given = stack.enter_context(_stored(given, folder))
            results[name] = classify(
                given, y, source(test, "test"), test_y, methods=methods, classes=train.classes, validation=validation,
                landmarks=landmarks, components=components, seed=seed, report=told,
                side_by_side=[] if name == "pixels" else side_by_side(trained.model),
            )  # fmt: skip
    return Experiment(results, test)


class _Stored:
    """Features [n, d] in an open file."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int]) -> None:
        self._file, self.shape = file, shape

    def blocks(self, rows: int) -> Iterator[Floats]:
        self._file.seek(0)
        for start in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - start)
            yield np.fromfile(self._file, np.float32, count * self.shape[1]).reshape(count, -1)


@contextlib.contextmanager
def _stored(source: Source, folder: Path) -> Iterator[Source]:
    """What takes long to compute, kept in a file while it is read more than once; it has no name, so a kill leaves nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in source.blocks(1024):
            file.write(np.ascontiguousarray(block, np.float32).data)
        file.flush()
        yield _Stored(file, source.shape)
