"""Folders whose images belong together: the same file name (but for its ending) in sub-folders.

segmentation   images/  labels/                     labels: class numbers, grey or palette
composites     bg/  fg_bg/  depth/  mask/           depth: near is bright; mask: the foreground is bright
faces          src/  dst/  [src_mask/  dst_mask/]   the two people need not have the same number of images

Sub-folders train and test, each with those in it, are what they say; without them every tenth sample is for testing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warploom.data.bombs import opened_image
from warploom.data.folder import images_in, listed, no_bad, read_each, unreadable
from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.pictures import eight_bits

_TEST_EVERY = 10
_SHOWN = 3  # names in an error


@dataclass(frozen=True)
class Part:
    """One sub-folder: what its pixels are, and the one that has its partners."""

    name: str
    mode: str  # "rgb", "grey" or "labels"
    partner: str = ""
    optional: bool = False


LAYOUTS: dict[str, tuple[Part, ...]] = {
    "segmentation": (Part("images", "rgb"), Part("labels", "labels", "images")),
    "composites": (
        Part("bg", "rgb"),
        Part("fg_bg", "rgb", "bg"),
        Part("depth", "grey", "bg"),
        Part("mask", "grey", "bg"),
    ),
    "faces": (
        Part("src", "rgb"),
        Part("dst", "rgb"),
        Part("src_mask", "grey", "src", optional=True),
        Part("dst_mask", "grey", "dst", optional=True),
    ),
}


def load(
    kind: str, folder: Path, height: int, width: int, classes: int = 0, *, skip_bad: bool = False, notes: list[str] | None = None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """(training, test) arrays by the name of their sub-folder: uint8 [N, C, H, W]; labels int16 [N, H, W].

    skip_bad: samples of which a file cannot be used are left out, and named in `notes`; else one error names all such files.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        files = [_files(kind, folder / part) for part in ("train", "test")]
    else:
        every = _files(kind, folder)
        for part in LAYOUTS[kind]:
            if not part.partner and len(every[part.name]) < 2:
                raise DataError(
                    f"{folder / part.name} holds {len(every[part.name])} image; expected at least 2, one of them for testing"
                )
        files = [{}, {}]
        for name, paths in every.items():
            chosen = set(range(_TEST_EVERY - 1, len(paths), _TEST_EVERY)) or {len(paths) - 1}
            files[0][name] = [p for i, p in enumerate(paths) if i not in chosen]
            files[1][name] = [p for i, p in enumerate(paths) if i in chosen]
    training, testing = (_read_all(kind, part, height, width, classes, skip_bad, notes) for part in files)
    return training, testing


def _files(kind: str, folder: Path) -> dict[str, list[Path]]:
    """The files of every part, partners at the same places."""
    layout, found = LAYOUTS[kind], dict[str, dict[str, Path]]()
    missing = [p.name for p in layout if not p.optional and not (folder / p.name).is_dir()]
    if missing:
        wanted = ", ".join(f"{p.name}/" + (" (optional)" if p.optional else "") for p in layout)
        raise DataError(
            f"{folder} has no sub-folder {missing[0]}; data for {kind} have {wanted} (see docs/data.md, and `warploom make-data`)"
        )
    for part in layout:
        if part.optional and not (folder / part.name).is_dir():
            continue
        by_name: dict[str, Path] = {}
        for path in images_in(folder / part.name, "no images"):
            name = path.relative_to(folder / part.name).with_suffix("").as_posix()
            if name in by_name:
                raise DataError(f"{by_name[name]} and {path} have one name: rename one, so that partners can be told")
            by_name[name] = path
        found[part.name] = by_name
        if part.partner:
            _compare(folder, part, by_name, found[part.partner])
    return {name: [paths[key] for key in sorted(paths)] for name, paths in found.items()}


def _compare(folder: Path, part: Part, own: dict[str, Path], partners: dict[str, Path]) -> None:
    for have, lack, place in ((partners, own, part.name), (own, partners, part.partner)):
        without = sorted(set(have) - set(lack))
        if without:
            names = ", ".join(have[n].relative_to(folder).as_posix() for n in without[:_SHOWN])
            more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
            raise DataError(f"{folder / place} has no partner for {names}{more}: add files of the same names, or remove these")


Read = tuple[Array, tuple[int, int]]  # pixels, and the file's own (width, height)


def _read_all(
    kind: str, files: dict[str, list[Path]], height: int, width: int, classes: int, skip_bad: bool, notes: list[str] | None
) -> dict[str, Array]:
    found: dict[str, list[Read | DataError]] = {}
    for part in LAYOUTS[kind]:
        if part.name not in files:
            continue

        def read(path: Path, mode: str = part.mode) -> Read:
            return _read(path, mode, height, width, classes)

        found[part.name] = read_each(files[part.name], read)
        if part.partner:
            found[part.name] = _of_one_size(part, files, found[part.name], found[part.partner])
    errors = [r for results in found.values() for r in results if isinstance(r, DataError)]
    if errors and not skip_bad:
        no_bad(errors)
    arrays: dict[str, Array] = {}
    for names in _partners(kind, files):
        good = [all(not isinstance(r, DataError) for r in group) for group in zip(*(found[n] for n in names), strict=True)]
        if not any(good):
            no_bad(errors, skippable=False)
        bad = [files[names[0]][i].stem for i, fine in enumerate(good) if not fine]
        if bad and notes is not None:
            notes.append(f"{len(bad)} sample{'s' if len(bad) > 1 else ''} of {names[0]} left out: {listed(bad)} cannot be used")
        for name in names:
            kept = [r for r, fine in zip(found[name], good, strict=True) if fine]
            arrays[name] = np.stack([r[0] for r in kept if not isinstance(r, DataError)])
    return arrays


def _partners(kind: str, files: dict[str, list[Path]]) -> list[list[str]]:
    """The parts that belong together, sample by sample, each group's own first."""
    groups: dict[str, list[str]] = {}
    for part in LAYOUTS[kind]:
        if part.name in files:
            groups.setdefault(part.partner or part.name, []).append(part.name)
    return list(groups.values())


def _of_one_size(
    part: Part, files: dict[str, list[Path]], own: Sequence[Read | DataError], partners: Sequence[Read | DataError]
) -> list[Read | DataError]:
    """The same, with an error in place of what has other sides than its partner."""
    checked: list[Read | DataError] = []
    for path, other, a, b in zip(files[part.name], files[part.partner], own, partners, strict=True):
        if not isinstance(a, DataError) and not isinstance(b, DataError) and a[1] != b[1]:
            a = DataError(f"{path} has {a[1][0]}x{a[1][1]} pixels, but its partner {other} has {b[1][0]}x{b[1][1]}")
        checked.append(a)
    return checked


def _read(path: Path, mode: str, height: int, width: int, classes: int) -> tuple[Array, tuple[int, int]]:
    """The pixels, cut to the middle that has the model's proportions and resized, and the file's own size."""
    from PIL import Image, ImageOps

    try:
        with opened_image(path) as opened:
            ImageOps.exif_transpose(opened, in_place=True)  # without a copy of all pixels
            size = opened.size
            if mode == "labels":
                found = opened.mode
                fitted = opened
                if found in ("1", *_LABEL_MODES):  # fitted before anything else: at its full size no copy is made
                    fitted = ImageOps.fit(opened, (width, height), Image.Resampling.NEAREST)
                if found == "1":
                    fitted, found = fitted.convert("L").point(lambda v: v // 255), "L"
            else:
                image = eight_bits(opened).convert("RGB" if mode == "rgb" else "L")
                fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(fitted)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(unreadable(path, error)) from error
    if mode == "labels":
        if found not in _LABEL_MODES:
            raise DataError(f"{path} is an image of mode {found}; a label map holds one class number a pixel: grey or palette")
        _check_labels(path, pixels, classes)
        return pixels.astype(np.int16), size
    return (pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))), size


_LABEL_MODES = ("L", "P", "I", "I;16")
IGNORED = 255  # the label that counts for nothing, as in many data sets


def _check_labels(path: Path, pixels: Array, classes: int) -> None:
    wrong = (pixels < 0) | ((pixels >= classes) & (pixels != IGNORED))
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        raise DataError(
            f"{path} holds the label {pixels[y, x]} at row {y}, column {x}; the model has the classes 0 to {classes - 1} "
            f"(and {IGNORED} is ignored)"
        )
