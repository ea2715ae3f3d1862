"""`warploom detect`: fit, run, tiles, sample."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom.anysize.running import MEMORY
from warploom.cli.app import SEED, DeviceOption, JsonOption, VersionOption, group, say, table
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.words import USE, complete_from, whole
from warploom.data import textures
from warploom.data.folder import listed
from warploom.detect.cutting import cut_tiles, write_tiles
from warploom.detect.detector import Detector
from warploom.detect.maps import POOLINGS
from warploom.detect.sets import Examined, abnormal_ones, examined, normal_ones
from warploom.detect.trial import HEAT_MAPS, Trial, tried
from warploom.errors import ArgumentError, DataError
from warploom.ground.atomic import can_write, expanded
from warploom.ground.tables import Column
from warploom.train.progress import took

_NAMED, _SHOWN = "detections", 12

detect = group("detect", USE, "Find abnormal images with a network that was trained on normal ones: scores, heat maps, masks.")

Source = (
    "A folder (train/good, test/..., ground_truth/... and normal, abnormal, mask are known), an image, .npy, .npz, or cifar10"
)
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Where CIFAR-10 is; default: the cache.")
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and name them.")]
NormalOption = Annotated[
    str | None,
    typer.Option(
        "--normal", metavar="A,B", help="The classes that are normal, by name or number, where the images have classes."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", callback=whole(), help="Of each class or folder the first N images.")
]


@detect.command("fit")
def fit(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="The folder of a run, or its .safetensors file.")],
    images: Annotated[str, typer.Argument(metavar="IMAGES", help=f"Normal images. {Source}.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The detector's file.")
    ] = Path("detector.safetensors"),
    scores: Annotated[
        str, typer.Option("--scores", metavar="NAMES", help="mse, ssim, latent, or several, as in mse+latent:0.5 (a weight).")
    ] = "mse",
    contamination: Annotated[
        float, typer.Option("--contamination", metavar="SHARE", help="Of the normal images, the share above the threshold.")
    ] = 0.01,
    abnormal: Annotated[
        str | None,
        typer.Option("--abnormal", metavar="IMAGES", help="Abnormal images: the threshold is then the one with the best F1."),
    ] = None,
    normal: NormalOption = None,
    own_size: Annotated[
        bool, typer.Option("--own-size", help="Images keep their size, large ones in tiles; else the network's size is theirs.")
    ] = False,
    tile: Annotated[
        int | None, typer.Option("--tile", metavar="N", callback=whole(), help="--own-size: a tile's side; default: by --memory.")
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MIB", callback=whole(1, 1 << 30), help="--own-size: for a tile's activations.")
    ] = MEMORY >> 20,
    blur: Annotated[
        float | None, typer.Option("--blur", metavar="PIXELS", help="The maps' Gaussian; default: side / 64, 1 or more.")
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(
            "--pooling", metavar="NAME", autocompletion=complete_from(POOLINGS),
            help="An image's score: the top values of its map (mean of the largest --share), the max, or the mean.",
        ),
    ] = "top",
    share: Annotated[float, typer.Option("--share", metavar="SHARE", help="--pooling top: of the pixels.")] = 0.001,
    neighbours: Annotated[
        int, typer.Option("--neighbours", metavar="N", callback=whole(), help="latent: distances that are averaged.")
    ] = 3,
    bank: Annotated[
        int, typer.Option("--bank", metavar="N", callback=whole(), help="latent: vectors that are kept, 64 MiB at most.")
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="latent: which vectors are kept.")] = 0,
    limit: LimitOption = None,
    data_dir: DataDirOption = None,
    skip_bad: SkipBadOption = False,
    device: DeviceOption = "auto",
    version: VersionOption = "auto",
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Make a detector: scores and threshold from normal images, with a trained network."""
    path = expanded(out)
    if path.suffix != ".safetensors":
        raise ArgumentError(f"--out {out}: a detector is a .safetensors file")
    can_write(path)
    detector = Detector(
        network, scores, contamination=contamination, own_size=own_size, blur=blur, pooling=pooling, share=share,
        neighbours=neighbours, bank=bank, tile=tile, memory=memory << 20, seed=seed, device=device, version=version,
    )  # fmt: skip
    options: dict[str, Any] = {
        "channels": detector.model.inputs[0].shape[0], "normal": _words(normal), "skip_bad": skip_bad, "limit": limit,
    }  # fmt: skip
    good = normal_ones(examined(images, part="train", data_dir=data_dir, **options))
    bad = None if abnormal is None else abnormal_ones(examined(abnormal, part="test", data_dir=data_dir, **options))
    _tell(good.notes, as_json)
    with Progress(quiet=as_json) as progress:
        detector.fit(good.images, None if bad is None else bad.images, skip_bad=skip_bad, say=progress)
    detector.normal_classes = sorted(set(good.kinds)) if normal else []
    _tell(detector.notes, as_json)
    detector.save(path)
    found = {
        "file": str(path), "network": str(network), "images": len(detector.decision_scores_), "threshold": detector.threshold_,
        "pixel_threshold": detector.pixel_threshold_, "threshold_from": detector.how, "steps": detector.steps.as_dict(),
        "normal_classes": detector.normal_classes,
    }  # fmt: skip
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    say(f"threshold {detector.threshold_:.6g}: {detector.how}")
    say(f"written: {visible(str(path))}; next: warploom detect run {visible(str(path))} IMAGES")
    return 0


@detect.command("run")
def run(
    file: Annotated[Path, typer.Argument(metavar="DETECTOR", help="The file that `warploom detect fit` wrote.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES", help=f"{Source}; or several images.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help=f"Where to write; new, or empty. Default: a new one in {_NAMED}."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="SCORE", help="Another threshold than the detector's own.")
    ] = None,
    normal: NormalOption = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="FOLDER", help="True masks; default: ground_truth, mask or masks, if there.")
    ] = None,
    heat_maps: Annotated[
        str,
        typer.Option(
            "--heat-maps", metavar="KIND", autocompletion=complete_from(HEAT_MAPS),
            help="overlay (over the image), plain (colours only) or none.",
        ),
    ] = "overlay",
    no_masks: Annotated[bool, typer.Option("--no-masks", help="Write no masks of what was found.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 if an image is abnormal.")] = False,
    limit: LimitOption = None,
    data_dir: DataDirOption = None,
    skip_bad: SkipBadOption = False,
    device: DeviceOption = "auto",
    version: VersionOption = "auto",
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Look at images: scores.csv, heat maps, masks; curves where the truth is known.

    Exit code 0: done; with --exit-code 1: at least one image is abnormal; 2: an error; 130: stopped by Ctrl-C, what was found
    until then is written.
    """
    detector = Detector.load(file, device=device, version=version)
    if threshold is not None:
        if not 0 <= threshold < float("inf"):
            raise ArgumentError(f"--threshold {threshold:g}: a score is a number from 0 on")
        detector.threshold_, detector.how = threshold, "--threshold"
    source: Any = images[0] if len(images) == 1 else images
    if len(images) > 1 and masks is not None:
        raise ArgumentError("--masks belongs to a folder of images, not to single ones")
    found = examined(
        source, channels=detector.model.inputs[0].shape[0], normal=_words(normal) or _known(detector, source), masks=masks,
        data_dir=data_dir, skip_bad=skip_bad, limit=limit,
    )  # fmt: skip
    _tell(found.notes, as_json)
    folder = _folder(out, found)
    with Progress(quiet=as_json) as progress:
        trial = tried(detector, found, folder, heat_maps=heat_maps, masks=not no_masks, skip_bad=skip_bad, say=progress)
    if trial.skipped:
        _tell([f"{len(trial.skipped)} files that cannot be read left out: {listed(trial.skipped)}"], as_json)
    if as_json:
        print(json.dumps({**trial.summary, "folder": str(folder), "rows": trial.rows}, indent=2))
    else:
        _report(trial, folder, progress.seconds)
    if trial.interrupted:
        raise KeyboardInterrupt
    return 1 if exit_code and trial.summary["abnormal"] else 0


@detect.command("tiles")
def tiles(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help=f"Normal images. {Source}.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .npy file, for `warploom train --data`.")] = Path(
        "tiles.npy"
    ),
    size: Annotated[int, typer.Option("--size", metavar="N", callback=whole(4, 4096), help="Side of a tile, in pixels.")] = 32,
    count: Annotated[int, typer.Option("--count", metavar="N", callback=whole(), help="How many tiles.")] = 20_000,
    grey: Annotated[bool, typer.Option("--grey", help="One channel.")] = False,
    normal: NormalOption = None,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Same seed, same tiles.")] = 0,
    skip_bad: SkipBadOption = False,
) -> int:
    """Cut tiles from normal images at random, to train a network for --own-size on."""
    if expanded(out).suffix != ".npy":
        raise ArgumentError(f"--out {out}: tiles are written as a .npy file")
    found = normal_ones(examined(images, channels=1 if grey else 3, part="train", normal=_words(normal), skip_bad=skip_bad))
    _tell(found.notes, False)
    with Progress() as progress:
        made = cut_tiles(found.images, size, count, seed=seed, say=progress)
    write_tiles(expanded(out), made)
    say(f"{len(made):,} tiles of {size}x{size}: {visible(str(out))}; train with: warploom train --data {visible(str(out))} ...")
    return 0


@detect.command("sample")
def sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; new, or empty.")],
    count: Annotated[
        int,
        typer.Option(
            "--count", metavar="N", callback=whole(), help="Good images for training; for testing a fifth of each kind."
        ),
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Same seed, same images.")] = 0,
) -> int:
    """Draw pieces of cloth of mixed sizes, good ones and ones with scratches, spots and missing threads, to try a detector on."""
    made = textures.make_textures(expanded(folder), count, seed)
    say(f"{visible(str(folder))}: {', '.join(made)}, and masks in ground_truth")
    return 0


def _words(text: str | None) -> list[str]:
    words = [word.strip() for word in (text or "").split(",")]
    if text is not None and not all(words):
        raise ArgumentError(f"--normal {text!r}: expected names or numbers of classes, such as 0,5 or airplane,ship")
    return words if text is not None else []


def _known(detector: Detector, source: Any) -> list[str]:
    """The normal classes that the detector was fitted on, where the source has classes by those names."""
    if not detector.normal_classes or isinstance(source, list):
        return []
    return detector.normal_classes


def _folder(out: Path | None, found: Examined) -> Path:
    if out is not None:
        folder = expanded(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is there already and not an empty folder: choose another place")
        return folder
    title = "".join(c if c.isalnum() or c in "-_." else "-" for c in found.images.title) or "images"
    names = (f"{title}{'' if i == 1 else f'-{i}'}" for i in range(1, 1 << 30))
    return next(Path(_NAMED) / name for name in names if not (Path(_NAMED) / name).exists())


def _tell(notes: Sequence[str], as_json: bool) -> None:
    for note in notes:
        if as_json:
            print(f"warploom: {visible(note)}", file=sys.stderr)
        else:
            say(visible(note))


def _report(trial: Trial, folder: Path, seconds: float) -> None:
    summary = trial.summary
    rows = sorted(trial.rows, key=lambda row: -row["score"])
    extra = ["truth"] if rows and "truth" in rows[0] else []
    table(
        f"the highest scores, of {len(rows):,}" if len(rows) > _SHOWN else "scores",
        [Column("image", wrap=True), "score", "of 1", "label", *extra],
        [
            [visible(r["name"]), f"{r['score']:.5g}", f"{r['normalized']:.2f}", r["label"], *(r[e] for e in extra)]
            for r in rows[:_SHOWN]
        ],
        right=1,
    )
    say(
        f"{summary['abnormal']:,} of {summary['images']:,} images abnormal: above {summary['threshold']:.6g} "
        f"({summary['threshold_from']}); {took(seconds)}"
    )
    for what in ("image", "pixel"):
        if "auroc" in summary.get(what, {}):
            q = summary[what]
            own = f", F1 {q['f1']:.3f} at the threshold" if "f1" in q else ""
            say(
                f"{what}s: AUROC {q['auroc']:.4f}, average precision {q['average_precision']:.4f}{own}, "
                f"best F1 {q['best_f1']:.3f} at {q['best_f1_threshold']:.5g}"
            )
    for kind, q in summary.get("kinds", {}).items():
        area = f", AUROC {q['auroc']:.4f}" if "auroc" in q else ""
        say(f"  {visible(kind)}: {q['abnormal']:,} of {q['images']:,} above the threshold{area}")
    say(f"written to {visible(str(folder))}: {', '.join(_listed(trial.files))}")


def _listed(files: Sequence[str]) -> list[str]:
    folders = dict.fromkeys(f"{name.split('/')[0]}/" for name in files if "/" in name)
    return [*(name for name in files if "/" not in name), *folders]
