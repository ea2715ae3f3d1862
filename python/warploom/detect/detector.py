"""Detector: a trained autoencoder that tells abnormal images from normal ones, having seen normal ones only.

    detector = wl.detect.Detector("runs/...").fit("normal")   # a folder, CIFAR-10, .npy, an array
    detector.decision_function("new")                         # a score for each image; above detector.threshold_ it is abnormal
    for finding in detector.examine("new"):                   # streamed: name, score, label, heat map
        finding.heat_map, finding.mask
    detector.save("detector.safetensors")

Names are PyOD's where it has them: decision_scores_, labels_, threshold_, predict_proba, contamination.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.anysize.running import MEMORY
from warploom.data.folder import shrinking
from warploom.detect import maps
from warploom.detect.curves import curve
from warploom.detect.neighbours import Bank, bank_of
from warploom.detect.probe import Probe, Reading, check_takes_images
from warploom.detect.saving import Fitted, read, write
from warploom.detect.steps import Steps, parts_of
from warploom.errors import ArgumentError, DataError, DTypeError, StateError
from warploom.ground.array_types import Array, Floats
from warploom.ground.arrays import number, positive
from warploom.inference.images import Batch, Images, open_images
from warploom.inference.trained import Trained, open_trained
from warploom.model import Model

_SCALE_IMAGES, _BANK_IMAGES = 256, 2048  # of the normal ones, spread evenly, from which scales and bank are made
_CANDIDATES = 20_000  # vectors from which those of the bank are chosen
_BANK_BYTES = 64 << 20
_TINY = float(np.finfo(np.float32).tiny)

Say = Callable[[str, int, int], None]  # what is done, how many images of how many


@dataclass
class Finding:
    """What a detector says of one image."""

    index: int  # in the source
    name: str
    score: float
    normalized: float  # score / (score + threshold): 0.5 at the threshold
    abnormal: bool
    map: Floats  # [H, W] of the image's own size, from 0 on
    pixel_threshold: float

    @property
    def heat_map(self) -> Floats:
        """[H, W] in [0, 1): map / (map + pixel threshold). A value means the same on every image; 0.5 is the threshold."""
        return np.asarray(normalized(self.map, np.float32(self.pixel_threshold)), np.float32)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[H, W]: where the map is above the pixel threshold."""
        return np.asarray(self.map > self.pixel_threshold)


def normalized(values: Any, threshold: float) -> Any:
    """value / (value + threshold), in [0, 1): 0.5 at the threshold."""
    return values / (values + max(threshold, _TINY))


class Detector:
    """network: a trained autoencoder: a Model, a run's folder, or its .safetensors file; it is not trained further.

    scores: "mse", "ssim", "latent" (nearest neighbours among the latents of normal images), or several, as in "mse+latent:0.5"
    (a weight after the colon). contamination: the share of the images given to fit() that may lie above the threshold.
    own_size: images keep their size, and large ones are looked at in tiles; else each is stretched to the network's size.
    blur: deviation in pixels of the Gaussian over the map; None: a 64th of the network's shorter side, at least 1.
    pooling: the score of an image is the "max" of its map, the "mean", or the mean of the "top" `share` of it.
    neighbours: of the nearest ones, how many distances are averaged; bank: at most so many vectors are kept (and 64 MiB).
    tile: with own_size, the side of what is looked at as a whole; None: what `memory` bytes of activations allow.
    seed: of what is chosen for the bank. device, version: of a network that is given by its path.
    """

    def __init__(
        self,
        network: Model | Trained | str | Path,
        scores: str | Sequence[str] = "mse",
        *,
        contamination: float = 0.01,
        own_size: bool = False,
        blur: float | None = None,
        pooling: str = "top",
        share: float = 0.001,
        neighbours: int = 3,
        bank: int = 2000,
        tile: int | None = None,
        memory: int = MEMORY,
        seed: int = 0,
        device: str = "auto",
        version: str = "auto",
    ) -> None:
        if isinstance(network, (str, Path)):
            network = open_trained(network, version=version, device=device)
        if isinstance(network, Trained):
            network = network.require_reconstruction()
        elif not isinstance(network, Model):
            raise DTypeError(f"network must be a Model, a run's folder or a .safetensors file, not {type(network).__name__}")
        check_takes_images(network)
        self.model = network
        self.contamination = number(contamination, "contamination", 0.0, 0.5)
        self.bank_size, self.seed = positive(bank, "bank"), positive(seed, "seed", minimum=0)
        parts = parts_of(scores)
        side = min(network.inputs[0].shape[1:])
        steps = Steps(
            parts, blur=max(1.0, side / 64) if blur is None else blur, pooling=pooling, share=share, neighbours=neighbours,
            network_size=not own_size, tile=0,
        )  # fmt: skip
        self._probe = Probe(network, steps.kinds)
        if own_size:
            chosen = self._probe.side(positive(memory, "memory", maximum=1 << 62)) if tile is None else positive(tile, "tile")
            if self._probe.steps is None and tile is not None and (tile, tile) != self._probe.own:
                raise ArgumentError(f"network {network.name!r} takes images of {self._probe.own} only: leave tile out")
            steps = replace(steps, tile=self._probe.whole_steps(chosen))
        elif tile is not None:
            raise ArgumentError("tile is for own_size=True: else every image is stretched to the network's size")
        self.steps = steps
        self.bank: Bank | None = None
        self.threshold_ = self.pixel_threshold_ = float("nan")
        self.decision_scores_: Floats = np.empty(0, np.float32)
        self.how = ""  # the threshold came about
        self.notes: list[str] = []  # sentences about the last fit() that a user should read
        self.normal_classes: list[str] = []  # that fit() was given, by name

    def save(self, path: str | Path) -> None:
        """Writes all of the detector to one .safetensors file, which load() reads without further code."""
        self._require_fit("save()")
        state = Fitted(
            self.model, self.steps, self.bank, self.threshold_, self.pixel_threshold_, self.decision_scores_, self.contamination,
            self.how, self.normal_classes, {"bank": self.bank_size, "seed": self.seed},
        )  # fmt: skip
        write(path, state)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto", version: str = "auto") -> "Detector":
        """The detector of a file of save(), on that device. On the device and version it had it gives the same bits."""
        state = read(path)
        made = cls.__new__(cls)
        made.model, made.steps, made.bank = state.model, state.steps, state.bank
        made.threshold_, made.pixel_threshold_ = state.threshold, state.pixel_threshold
        made.decision_scores_, made.contamination, made.how = state.decision_scores, state.contamination, state.how
        made.notes = []
        made.normal_classes, made.bank_size, made.seed = state.normal_classes, state.options["bank"], state.options["seed"]
        made.model.place(version, device)
        made._probe = Probe(state.model, state.steps.kinds)
        return made

    def _require_fit(self, what: str) -> None:
        if not self.fitted:
            raise StateError(f"{what} needs a fitted detector: call fit() with normal images first")

    def __repr__(self) -> str:
        state = f"threshold {self.threshold_:.6g}" if self.fitted else "not fitted"
        return f"<Detector {'+'.join(self.steps.kinds)} on {self.model.name!r}: {state}>"

    @property
    def fitted(self) -> bool:
        return bool(np.isfinite(self.threshold_))

    @property
    def labels_(self) -> NDArray[np.int64]:
        """Of the images given to fit(): 1 where one lies above the threshold."""
        return (self.decision_scores_ > self.threshold_).astype(np.int64)

    def open(self, source: Any, **options: Any) -> Images:
        """The source with the network's channels: whatever inference.images.open_images() takes, or its result."""
        return source if isinstance(source, Images) else open_images(source, channels=self.model.inputs[0].shape[0], **options)

    # Fitting
    def fit(self, normal: Any, abnormal: Any = None, *, skip_bad: bool = False, say: Say | None = None) -> "Detector":
        """Makes the bank, the scales and the thresholds from normal images; the network stays as it is.

        Without abnormal images the threshold is the 1 - contamination quantile of the normal scores, and the pixel threshold that
        of the largest values of their maps. With abnormal ones both are the thresholds with the best F1 between the two kinds.
        """
        images = self.open(normal, skip_bad=skip_bad)
        self.notes = []
        others = None if abnormal is None else self.open(abnormal, skip_bad=skip_bad)
        if "latent" in self.steps.kinds and len(images) < 2:
            raise DataError("the latent score compares normal images with each other: at least two are needed")
        self.bank, owners = self._make_bank(images, say) if "latent" in self.steps.kinds else (None, None)
        self.steps = replace(self.steps, parts=tuple(replace(part, scale=1.0) for part in self.steps.parts))
        if len(self.steps.parts) > 1:
            self.steps = replace(self.steps, parts=self._scaled_parts(images, owners, say))
        scores, peaks = self._scores_and_peaks(images, owners, "normal images", say)
        self.decision_scores_ = scores
        if others is None:
            quantile = 1.0 - self.contamination
            self.threshold_, self.pixel_threshold_ = (float(np.quantile(v.astype(np.float64), quantile)) for v in (scores, peaks))
            self.how = f"the {quantile:g} quantile of {len(scores):,} normal images"
            return self
        more, more_peaks = self._scores_and_peaks(others, None, "abnormal images", say)
        labels = np.repeat([0, 1], [len(scores), len(more)])
        found, f1 = curve(labels, np.concatenate([scores, more])).best_f1()
        self.threshold_ = max(found, 0.0)
        self.pixel_threshold_ = max(curve(labels, np.concatenate([peaks, more_peaks])).best_f1()[0], 0.0)
        self.how = f"the best F1 ({f1:.3f}) between {len(scores):,} normal and {len(more):,} abnormal images"
        return self

    def _batches(self, images: Images) -> Iterator[Batch]:
        return images.batches(self.model.batch_size, size=self._probe.own if self.steps.network_size else None, fit="stretch")

    def _make_bank(self, images: Images, say: Say | None) -> tuple[Bank, NDArray[np.int64]]:
        """The bank, and which image each of its vectors is of."""
        rng = np.random.default_rng(self.seed)
        places = _spread(len(images), _BANK_IMAGES)
        some = images.select(places)
        each = -(-_CANDIDATES // len(some))
        encoder = Probe(self.model, ["latent"])
        found, owners, done = list[Floats](), list[NDArray[np.int64]](), 0
        for batch in self._batches(some):
            for vectors, index in zip(encoder.vectors(batch.images, self.steps), batch.indices, strict=True):
                kept = vectors if len(vectors) <= each else vectors[rng.choice(len(vectors), each, replace=False)]
                found.append(kept)
                owners.append(np.full(len(kept), places[index]))
            done += len(batch)
            if say is not None:
                say("memory bank", done, len(some))
        candidates = np.concatenate(found)
        count = max(1, min(self.bank_size, _BANK_BYTES // (4 * candidates.shape[1])))
        return bank_of(candidates, np.concatenate(owners), count, rng)

    def _scaled_parts(self, images: Images, owners: NDArray[np.int64] | None, say: Say | None) -> Any:
        """The parts, each with the mean of its map over normal images as its scale."""
        places = _spread(len(images), _SCALE_IMAGES)
        some = images.select(places)
        sums, done = dict.fromkeys(self.steps.kinds, 0.0), 0
        for batch in self._batches(some):
            for kind in self.steps.kinds:
                whole = self._maps(batch.images, owners, places[batch.indices], only=kind)
                sums[kind] += float(whole.mean(axis=(1, 2), dtype=np.float64).sum())
            done += len(batch)
            if say is not None:
                say("scales", done, len(some))
        return tuple(replace(part, scale=max(sums[part.kind] / done, 1e-12)) for part in self.steps.parts)

    def _scores_and_peaks(
        self, images: Images, owners: NDArray[np.int64] | None, what: str, say: Say | None
    ) -> tuple[Floats, Floats]:
        scores, peaks, sizes, done = list[Floats](), list[Floats](), list[tuple[int, int]](), 0
        for batch in self._batches(images):
            smoothed = self._smoothed(batch.images, owners, batch.indices)
            scores.append(maps.pooled(smoothed, self.steps.pooling, self.steps.share))
            peaks.append(smoothed.reshape(len(smoothed), -1).max(axis=1))
            sizes += batch.sizes
            done += len(batch)
            if say is not None:
                say(what, done, len(images))
        if self.steps.network_size:
            way = "small defects may get lost: own_size=True (--own-size) looks at them as they are"
            self.notes += filter(None, [shrinking(sizes, self.model.inputs[0].shape, way)])
        return np.concatenate(scores), np.concatenate(peaks)

    # Maps
    def _smoothed(self, images: Array, owners: NDArray[np.int64] | None = None, own: NDArray[np.int64] | None = None) -> Floats:
        return maps.smooth(self._maps(images, owners, own), self.steps.blur)

    def _maps(
        self, images: Array, owners: NDArray[np.int64] | None = None, own: NDArray[np.int64] | None = None, only: str = ""
    ) -> Floats:
        """The parts' maps, combined (only: one of them, unweighted). owners, own: which image each of the bank's vectors and each
        of these images is: an image's own vectors do not count."""

        def combine(reading: Reading, size: tuple[int, int], numbers: NDArray[np.int64]) -> Floats:
            total: Floats | None = None
            for part in self.steps.parts:
                if only not in ("", part.kind):
                    continue
                if part.kind == "latent":
                    found = self._distances(reading["latent"], size, owners, None if own is None else own[numbers])
                else:
                    found = reading[part.kind]
                if not only and (part.weight, part.scale) != (1.0, 1.0):
                    found = found * np.float32(part.weight / part.scale)
                total = found if total is None else total + found
            assert total is not None
            return total

        return self._probe.scan(images, self.steps, combine)

    def _distances(
        self, vectors: Floats, size: tuple[int, int], owners: NDArray[np.int64] | None, own: NDArray[np.int64] | None
    ) -> Floats:
        assert self.bank is not None
        flat = vectors.reshape(-1, vectors.shape[-1])
        whose = None if own is None else np.repeat(own, len(flat) // len(vectors))
        found = self.bank.distances(flat, self.steps.neighbours, owners, whose).reshape(vectors.shape[:-1])
        if found.ndim == 1:  # a latent without places
            return np.array(np.broadcast_to(found[:, None, None], (len(found), *size)), np.float32)
        return maps.enlarged(found, size, self._probe.stride)

    # Use
    def examine(self, source: Any, *, skip_bad: bool = False, skipped: list[str] | None = None) -> Iterator[Finding]:
        """Every image of the source, in its order, streamed. skipped: takes the names of files that skip_bad leaves out."""
        for index, name, size, score, found in self._scored(source, skip_bad, skipped):
            whole = found if found.shape == size else maps.enlarged(found[None], size)[0]
            above = score > self.threshold_
            yield Finding(
                index, name, score, float(normalized(score, self.threshold_)), above, whole, self.pixel_threshold_
            )  # fmt: skip

    def _scored(self, source: Any, skip_bad: bool, skipped: list[str] | None) -> Iterator[Any]:
        """(index, name, size, score, map of the size that was looked at) of every image."""
        self._require_fit("a score")
        images = self.open(source, skip_bad=skip_bad)
        own = self._probe.own if self.steps.network_size else None
        for batch in images.batches(self.model.batch_size, size=own, fit="stretch", skipped=skipped):
            smoothed = self._smoothed(batch.images)
            scores = maps.pooled(smoothed, self.steps.pooling, self.steps.share)
            for row in range(len(batch)):
                yield int(batch.indices[row]), batch.names[row], batch.sizes[row], float(scores[row]), smoothed[row]

    def decision_function(self, source: Any, *, skip_bad: bool = False) -> Floats:
        """[N]: the score of each image, higher for more abnormal ones."""
        return np.array([row[3] for row in self._scored(source, skip_bad, None)], np.float32)

    score = decision_function

    def predict(self, source: Any, *, skip_bad: bool = False) -> NDArray[np.int64]:
        """[N]: 1 for abnormal images, 0 for normal ones."""
        return (self.decision_function(source, skip_bad=skip_bad) > self.threshold_).astype(np.int64)

    def predict_proba(self, source: Any, *, skip_bad: bool = False) -> Floats:
        """[N, 2]: score / (score + threshold) in the second column, 1 minus it in the first. 0.5 at the threshold, so that it
        agrees with predict(); no calibrated probability."""
        second = normalized(self.decision_function(source, skip_bad=skip_bad), self.threshold_)
        return np.asarray(np.stack([1 - second, second], axis=1), np.float32)

    def heat_maps(self, source: Any) -> list[Floats]:
        """Of each image [H, W] in [0, 1), of the image's size. examine() streams them."""
        return [finding.heat_map for finding in self.examine(source)]


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of so many places, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
