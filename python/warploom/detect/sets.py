"""What a detector is fitted on and tried on: which images of a source are normal, which are not, and where their masks lie.

train/good  test/good  test/<defect>  ground_truth/<defect>/<name>_mask.png     MVTec AD
normal  abnormal  mask                                                          anomalib's "Folder"
images in one folder, a .npy file, one image                                    nothing is known of them
CIFAR-10, class folders, .npz files with labels                                 with the normal classes by name or number
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warploom.data import cifar, folder
from warploom.errors import ArgumentError, DataError
from warploom.ground.atomic import expanded
from warploom.inference.images import Images, Size, open_images

GOOD = ("good", "normal", "ok")  # names of folders, in any case
BAD = ("abnormal", "anomalous", "anomaly", "bad", "defect", "defective")
MASKS = ("ground_truth", "mask", "masks")


@dataclass
class Examined:
    """Images, and what is known of them."""

    images: Images
    truth: NDArray[np.bool_] | None = None  # True: abnormal
    kinds: list[str] = field(default_factory=list)  # of each image: the name of its folder or class; empty where there are none
    masks: list[Path | None] | None = None  # of each image; None: no masks at all
    notes: list[str] = field(default_factory=list)


def examined(
    source: Any, *, channels: int, part: str = "test", normal: Sequence[str] = (), masks: str | Path | None = None,
    data_dir: str | Path | None = None, skip_bad: bool = False, limit: int | None = None,
) -> Examined:  # fmt: skip
    """The source, with its labels and masks where its folders or classes tell them.

    part: "train" or "test", of sources that have both. normal: names or numbers of the classes that are normal. masks: the folder
    of the masks; None: one of MASKS beside or in the source. limit: of each kind the first so many, of all where none is known.
    """
    root = _folder(source)
    if root is None:
        images = open_images(source, channels=channels, part=_part_of(source, part), data_dir=data_dir, skip_bad=skip_bad)
        kinds, names = _classes(images), images.classes
    else:
        divided = (root / "train").is_dir() and (root / "test").is_dir()
        images = open_images(root, channels=channels, part=part if divided else "all", data_dir=data_dir, skip_bad=skip_bad)
        kinds = [_kind(Path(name)) for name in images.names]
        kept = [i for i, name in enumerate(images.names) if not {p.lower() for p in Path(name).parts[:-1]} & {*MASKS}]
        if len(kept) < len(kinds):
            images, kinds = images.select(kept), [kinds[i] for i in kept]
        if not kept:
            raise DataError(f"{root} holds masks only: expected images")
        names = sorted(set(kinds) - {""})
    truth = _truth(kinds, names, normal, images.title)
    found = Examined(images, truth, kinds if any(kinds) else [], None, list(images.notes))
    if limit is not None:
        found = chosen(found, _first_of_each(kinds, limit))
    mask_root = expanded(masks) if masks is not None else _masks_of(root)
    if mask_root is not None and root is not None:
        found.masks = _masks(found, root, mask_root, named=masks is not None)
    elif masks is not None:
        raise DataError(f"masks belong to a folder of images; {images.title} is none")
    return found


def chosen(found: Examined, places: Any) -> Examined:
    """Some of them, by number."""
    rows = np.asarray(places, np.int64)
    return Examined(
        found.images.select(rows), None if found.truth is None else found.truth[rows],
        [found.kinds[i] for i in rows] if found.kinds else [],
        None if found.masks is None else [found.masks[i] for i in rows], found.notes,
    )  # fmt: skip


def normal_ones(found: Examined) -> Examined:
    """The normal ones, all where nothing is known; what was left out is noted."""
    if found.truth is None:
        return found
    if found.truth.all():
        raise DataError(f"{found.images.title} holds no normal image: {len(found.truth):,} of other kinds")
    kept = chosen(found, np.flatnonzero(~found.truth))
    out = int(found.truth.sum())
    kept.notes = [*found.notes, f"{out:,} images of other kinds left out"] if out else found.notes
    return kept


def abnormal_ones(found: Examined) -> Examined:
    """The abnormal ones, all where nothing is known."""
    if found.truth is None or found.truth.all():
        return found
    if not found.truth.any():
        raise DataError(f"{found.images.title} holds normal images only")
    return chosen(found, np.flatnonzero(found.truth))


def read_mask(path: Path, size: Size | None = None) -> NDArray[np.bool_]:
    """[H, W]: True where the defect is: above half of the file's largest value. size: that of the image."""
    pixels, _ = folder.read_image(path, 1, None)
    if size is not None and pixels.shape[1:] != size:
        raise DataError(
            f"{path} has {pixels.shape[1]}x{pixels.shape[2]} pixels, but its image {size[0]}x{size[1]}: they must have one size"
        )
    mask: NDArray[np.bool_] = pixels[0] > pixels.max() / 2
    return mask


def check_masks(found: Examined) -> None:
    """One error that names all masks that cannot be read."""
    paths = [path for path in found.masks or [] if path is not None]
    results = folder.read_each(paths, lambda path: read_mask(path).any())
    folder.no_bad([r for r in results if isinstance(r, DataError)], skippable=False)


def _folder(source: Any) -> Path | None:
    if not isinstance(source, (str, Path)) or str(source) in ("auto", "cifar10", "patches"):
        return None
    path = expanded(source)
    return path if path.is_dir() and cifar.find(path) is None else None


def _part_of(source: Any, part: str) -> str:
    """Arrays and lists of files are not divided; CIFAR-10 and .npz files are."""
    if isinstance(source, (str, Path)):
        path = expanded(source)
        if str(source) in ("auto", "cifar10", "patches") or path.is_dir() or path.name in cifar.ARCHIVES:
            return part
        if path.suffix == ".npz":
            return part if _has_parts(path) else "all"
    return "all"


def _has_parts(path: Path) -> bool:
    names = open_images(path).names if path.is_file() else []
    return bool(names) and names[0].startswith("train/") and names[-1].startswith("test/")


def _kind(name: Path) -> str:
    """The first folder of a path, train and test left out."""
    inner = [part for part in name.parts[:-1] if part not in ("train", "test")]
    return inner[0] if inner else ""


def _classes(images: Images) -> list[str]:
    if images.labels is None:
        return [""] * len(images)
    return [images.classes[i] if i < len(images.classes) else str(i) for i in images.labels.tolist()]


def _truth(kinds: list[str], names: Sequence[str], normal: Sequence[str], title: str) -> NDArray[np.bool_] | None:
    there = set(kinds)
    if normal:
        wanted = {
            names[int(word)] if word.isdigit() and word not in there and int(word) < len(names) else word for word in normal
        }
        missing = sorted(wanted - {*there, *names})
        if missing or there == {""}:
            has = f"has the classes {', '.join(sorted(there))}" if there != {""} else "has no classes"
            raise ArgumentError(f"{title} {has}; there is no {', '.join(missing or sorted(wanted))}")
        return np.array([kind not in wanted for kind in kinds])
    lower = [kind.lower() for kind in kinds]
    if {*lower} & {*GOOD}:
        return np.array([kind not in GOOD and kind != "" for kind in lower])
    if {*lower} <= {*BAD}:
        return np.ones(len(kinds), bool)
    return None


def _first_of_each(kinds: list[str], limit: int) -> list[int]:
    seen: dict[str, int] = {}
    places = []
    for i, kind in enumerate(kinds):
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= limit:
            places.append(i)
    return places


def _masks_of(root: Path | None) -> Path | None:
    """Beside the images' folders, or beside their folder's own."""
    if root is None:
        return None
    return next((place / name for place in (root, root.resolve().parent) for name in MASKS if (place / name).is_dir()), None)


def _masks(found: Examined, root: Path, masks: Path, *, named: bool) -> list[Path | None] | None:
    """The mask of each image: <kind>/<name>_mask, <kind>/<name>, <name>_mask or <name>, with any ending."""
    if not masks.is_dir():
        raise DataError(f"there is no folder of masks {masks}")
    files = {path.relative_to(masks).with_suffix("").as_posix(): path for path in folder.images_in(masks, "no masks")}
    result: list[Path | None] = []
    for i, name in enumerate(found.images.names):
        inner = [part for part in Path(name).with_suffix("").parts if part not in ("train", "test")]
        places = ["/".join(inner), inner[-1]] if len(inner) > 1 else ["/".join([root.resolve().name, inner[0]]), inner[0]]
        file = next((files[f"{p}{e}"] for p in places for e in ("_mask", "") if f"{p}{e}" in files), None)
        result.append(file if found.truth is None or found.truth[i] else None)
    if not any(result):
        if named:
            raise DataError(f"{masks} holds no mask of these images: a mask has its image's name, or that and _mask")
        return None
    if found.truth is not None:
        lacking = sum(1 for file, bad in zip(result, found.truth, strict=True) if bad and file is None)
        if lacking:
            found.notes.append(f"{lacking:,} abnormal images have no mask: they do not count for the pixels")
    return result
