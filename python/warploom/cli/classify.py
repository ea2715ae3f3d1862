"""`warploom classify`: how well a network's features tell classes, and classes for images without labels."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom import recipes
from warploom.classify.classifier import Classifier
from warploom.classify.experiment import METHODS
from warploom.classify.gram import linalg
from warploom.classify.kernel_ridge import Landmarks, every_row_fits
from warploom.classify.scores import score
from warploom.classify.trained import FEATURES, Experiment, classify_trained, predictions_csv
from warploom.cli.app import SEED, BatchOption, DeviceOption, JsonOption, PrecisionOption, VersionOption, app, say, table
from warploom.cli.learn import learnt
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.using import (
    DataArgument,
    DataDirOption,
    LimitOption,
    SkipBadOption,
    counted,
    fit_option,
    images_of,
    opened,
    say_skipped,
)
from warploom.cli.words import USE, complete_from, whole
from warploom.errors import ArgumentError, DataError
from warploom.ground.atomic import can_write, expanded, write_atomically
from warploom.ground.tables import Column
from warploom.inference.features import EncodedSource
from warploom.inference.trained import Trained
from warploom.models.saving import is_saved
from warploom.recipes.registry import DEFAULT
from warploom.runs.recipe import RunConfig, absolute, parse_arguments
from warploom.runs.run import RECIPE
from warploom.train.progress import took

_EXACT_FROM = 10_000  # images, from which kernel ridge regression of them all is more right than a committee


@app.command(rich_help_panel=USE)
def classify(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", show_default=False,
            help="A trained network: the folder of a run, or a .safetensors file; or the name of a recipe (`warploom recipes`), "
            f"by which features are learnt first. Default: {DEFAULT}.",
        ),
    ] = None,
    data: DataArgument = None,
    test: Annotated[
        str | None,
        typer.Option(
            "--test", metavar="DATA", show_default=False, help="Other images to test on. Default: the test part of DATA."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", show_default=False, help="An argument of the recipe; again for more."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", metavar="NAMES", autocompletion=complete_from(METHODS), show_default=False,
            help="linear (ridge), hinge (squared hinge, in memory), rbf, committee (of the two before); by commas. "
            "Default: linear,rbf; a recipe's: rbf with --landmarks all, of 10,000 images or fewer: committee.",
        ),
    ] = None,
    controls: Annotated[
        bool | None,
        typer.Option(
            "--controls/--no-controls", show_default=False,
            help="Also classify by pixels and by the untrained network. Default: both; of a recipe: pixels.",
        ),
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(
            "--landmarks", metavar="N|all", show_default=False,
            help="Of the RBF classifier: memory grows with N squared. all: each training image. Default: 6000.",
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            "--components", metavar="N", callback=whole(1, 8_192), show_default=False,
            help="Of the features, for the RBF classifier. Default: 512, with --landmarks all 1000.",
        ),
    ] = None,
    using: Annotated[
        Path | None,
        typer.Option(
            "--using", metavar="FILE", help="Only predict DATA, labelled or not, with a classifier that was written before."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", show_default=False, help="Where to write. Default: classify in the run's folder."
        ),
    ] = None,
    fit: str = fit_option("crop"),
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    limit_test: Annotated[
        int | None,
        typer.Option("--limit-test", metavar="N", callback=whole(), show_default=False, help="Only the first N test images."),
    ] = None,
    skip_bad: SkipBadOption = False,
    seed: Annotated[int, typer.Option("--seed", **SEED, help="Of the rows held out and of landmarks.")] = 0,
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Classes from features: accuracy, per class, confusion matrix, beside pixels and the untrained network."""
    chosen = [] if methods is None else [name.strip() for name in methods.split(",") if name.strip()]
    for name in chosen:
        if name not in METHODS:
            raise ArgumentError(f"--methods {name}: expected some of {', '.join(METHODS)}, joined by commas")
    many = None if landmarks is None else _landmarks(landmarks)
    if fit == "own":
        raise ArgumentError("classify needs features of one length: --fit crop or stretch")
    if out is not None:
        can_write(expanded(out) / "report.json")  # before minutes of learning
    fresh = False
    if run is None or (run in recipes.BY_NAME and not is_saved(run)):
        if using is not None:
            raise ArgumentError("--using goes with the network whose features its classifier knows: name its run")
        run, data = _learnt(run or DEFAULT, settings, data, data_dir, limit, skip_bad, seed, as_json), None
        fresh = True
    elif settings:
        raise ArgumentError(f"--set is of a recipe that is learnt first, but {run} is a network already: leave it out")
    trained = opened(run, version, device, precision, batch_size)
    trained.require_latent()
    of_recipe = (trained.path.parent / RECIPE).is_file()
    if controls is None:
        features: Sequence[str] = [name for name in FEATURES if not of_recipe or name != "untrained"]
    else:
        features = FEATURES if controls else FEATURES[:1]
    folder = expanded(out) if out is not None else trained.path.parent / "classify"
    can_write(folder / "report.json")
    common: dict[str, Any] = {"quiet": as_json, "data_dir": data_dir, "skip_bad": skip_bad}
    skipped = list[str]()
    if using is not None:
        _predict(trained, Classifier.load(expanded(using)), data, folder, fit, as_json, skipped, limit=limit, **common)
        return
    part = "train" if test is None else "all"
    if fresh:  # what the images are has been said by what learnt from them
        training = trained.images(data, part=part, limit=limit, data_dir=data_dir, skip_bad=skip_bad)
    else:
        training = images_of(trained, data, part=part, limit=limit, **common)
    if not chosen and of_recipe:
        exact = many in (None, "all") and len(training) > _EXACT_FROM and every_row_fits(len(training))
        chosen, many = (["rbf"], "all") if exact else (["committee"], many)
    many = 6_000 if many is None else many
    own = {"source": data, "part": "test", "data_dir": data_dir} if test is None else {"source": test, "part": "all"}
    testing = trained.images(limit=limit_test, skip_bad=skip_bad, **own)
    if skip_bad:
        training, testing = training.readable(skipped), testing.readable(skipped)
    if test is not None and testing.classes != training.classes:
        raise DataError(f"the classes of the test images ({', '.join(testing.classes)}) are not those of the training images")
    with Progress() as progress:
        made = classify_trained(
            trained, training, testing, folder, methods=chosen or ["linear", "rbf"], features=features, fit=fit, landmarks=many,
            components=components or (1000 if many == "all" else 512), seed=seed, tell=progress,
        )  # fmt: skip
    files = made.write(folder, trained.title)
    if as_json:
        print(json.dumps({**made.as_dict(), "files": [str(folder / name) for name in files], "skipped": skipped}))
        return
    _show(made, trained, len(training))
    say(f"in {took(progress.seconds)}; written to {visible(str(folder))}: {', '.join(files)}")
    say_skipped(skipped)


def _landmarks(given: str) -> Landmarks:
    if given == "all":
        return "all"
    if not given.isdecimal() or not 2 <= int(given) <= 30_000:
        raise ArgumentError(f"--landmarks {given}: expected a whole number from 2 to 30,000, or all")
    return int(given)


def _learnt(
    name: str, settings: list[str] | None, data: str | None, data_dir: str | None, limit: int | None, skip_bad: bool, seed: int,
    as_json: bool,
) -> str:  # fmt: skip
    """The run's folder, with what the recipe has learnt of the data's training part."""
    linalg()  # where it is missing, that is said before anything is learnt
    source = "cifar10" if data is None else data
    asked = RunConfig(
        data=source if source in ("cifar10", "patches") else absolute(source, "DATA"), limit=limit, skip_bad=skip_bad, seed=seed,
        data_dir=None if data_dir is None else absolute(data_dir, "--data-dir"), arguments=parse_arguments(settings or []),
    )  # fmt: skip
    tell = (lambda line: print(line, file=sys.stderr)) if as_json else say
    return str(learnt(name, asked, with_labels=True, tell=tell).path)


def _show(made: Experiment, trained: Trained, rows: int) -> None:
    lines = []
    for name, found in made.results.items():
        for method, result in found.items():
            low, high = result.interval
            about = result.classifier.about
            best = f"C {about['C']:g}" + (f", gamma {about['gamma']:g}" if "gamma" in about else "")
            lines.append([
                name, method, f"{len(result.classifier.mean):,}", f"{result.accuracy:.2%}", f"{low:.2%} - {high:.2%}", best,
            ])  # fmt: skip
    table(
        f"{visible(trained.title)}: {rows:,} training images, {len(made.test):,} for testing",
        ["features", "classifier", Column("values", right=True), Column("right", right=True), "95 %", "chosen"], lines,
    )  # fmt: skip
    kept = made.best
    each = [
        [visible(c.name), f"{c.precision:.1%}", f"{c.recall:.1%}", f"{c.f1:.1%}", f"{c.count:,}"] for c in kept.scores.classes
    ]
    table(f"{kept.method}, by class", [Column("class", wrap=True), "precision", "recall", "F1", "images"], each, 1)


def _predict(
    trained: Trained, classifier: Classifier, data: str | None, folder: Path, fit: str, as_json: bool,
    skipped: list[str], *, limit: int | None, quiet: bool, data_dir: str | None, skip_bad: bool,
) -> None:  # fmt: skip
    images = images_of(trained, data, part="all", limit=limit, quiet=quiet, data_dir=data_dir, skip_bad=skip_bad)
    images = images.readable(skipped) if skip_bad else images
    with Progress() as progress:
        predicted = classifier.predict(EncodedSource(trained, images, fit=fit, report=progress.counting("encoding", len(images))))
    names = classifier.classes or [str(i) for i in range(len(classifier.bias))]
    path = folder / "predictions.csv"
    known = images.labels is not None and images.classes == classifier.classes
    write_atomically(path, predictions_csv(images if known else images.without_labels(), predicted, names).encode())
    found: dict[str, Any] = {"images": len(images), "file": str(path), "skipped": skipped}
    if known:
        scores = score(images.labels, predicted, classifier.classes, len(names))  # type: ignore[arg-type]
        found |= {"accuracy": scores.accuracy, "interval_95": list(scores.interval)}
    if as_json:
        print(json.dumps(found))
        return
    right = ""
    if known:
        low, high = found["interval_95"]
        right = f", {found['accuracy']:.2%} right (95 %: {low:.2%} - {high:.2%})"
    say(f"{counted(len(images), 'image')}{right}: written to {visible(str(path))}")
    say_skipped(skipped)
