"""`warploom train --recipe NAME`: filters learnt without a label, into a run's folder; and `warploom recipes`, which
lists them."""

import json
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

from warploom import data, errors, recipes
from warploom.cli.app import JsonOption, app, say, table, warn_loudly
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.words import TRAIN
from warploom.data.dataset import Dataset
from warploom.ground.atomic import write_atomically
from warploom.inference.images import require_labels
from warploom.model import Model
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RECIPE, RunFolder
from warploom.train.progress import took

TAKES = frozenset({"recipe", "size", "settings", "data", "data_dir", "limit", "skip_bad", "seed", "out"})


def learn(name: str, config: RunConfig, out: str | None, given: list[str]) -> int:
    """What `warploom train` does with --recipe."""
    recipes.get(name)
    wrong = sorted(f"--{option.replace('_', '-')}" for option in given if option not in TAKES)
    if wrong:
        raise errors.ArgumentError(
            f"{', '.join(wrong)} has no meaning with --recipe {name}, whose numbers are given by --set: leave it out"
        )
    learnt(name, config, out)
    return 0


def learnt(
    name: str, config: RunConfig, out: str | None = None, *, with_labels: bool = False, tell: Callable[[str], None] = say
) -> RunFolder:
    """The run's folder, with what the recipe has learnt of the data that config names. with_labels: for a classifier, so that
    data without labels are a DataError before anything is learnt."""
    recipe = recipes.get(name)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.arguments.items()}
    size = arguments.pop("size", None)
    unknown = [key for key in arguments if key not in recipe.arguments]
    if unknown:
        raise errors.ArgumentError(f"recipe {name} has no argument {unknown[0]!r}; it has {', '.join(recipe.arguments)}")
    folder = RunFolder.fresh(out, name)
    samples = data.load(
        config.data, data_dir=config.data_dir, size=size, seed=config.seed, skip_bad=config.skip_bad, sizing="--size for another"
    ).limited(config.limit)
    if with_labels:
        require_labels(samples.train_labels, f"images of {samples.name}")
    for note in samples.notes:
        (warn_loudly if note.startswith("training on patches instead") else tell)(visible(note))
    with folder.held():
        tell(f"{name}: {len(samples.train):,} images; run folder {visible(str(folder.path))}")
        start = time.monotonic()
        with Progress() as progress:
            model = recipe.learn(samples.train, seed=config.seed, progress=progress, **arguments)
        seconds = time.monotonic() - start
        _write(folder, name, recipe.arguments | arguments, config, samples, model, seconds)
    features = 1
    for side in model.outputs[0].shape:
        features *= side
    written = f"written to {visible(str(folder.path))}: {RECIPE}, model.safetensors"
    tell(f"learnt in {took(seconds)}: {features:,} features of an image; {written}")
    return folder


def _write(
    folder: RunFolder, name: str, arguments: Mapping[str, Any], config: RunConfig, samples: Dataset, model: Model, seconds: float
) -> None:
    about = {
        "recipe": name, "arguments": arguments, "seed": config.seed, "data": data.taken(config.data, samples.name),
        "data_dir": config.data_dir, "images": len(samples.train), "fingerprint": samples.fingerprint(),
        "seconds": round(seconds, 2), "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip
    folder.require_present()
    model.save(folder.model_path)
    write_atomically(folder.path / RECIPE, (json.dumps(about, indent=2) + "\n").encode(), parents=False)


@app.command("recipes", rich_help_panel=TRAIN)
def show(as_json: JsonOption = False) -> None:
    """The recipes that learn features without a label, and their arguments."""
    if as_json:
        rows = [
            {"name": r.name, "about": r.about, "source": r.source, "arguments": r.arguments, "default": r.name == recipes.DEFAULT}
            for r in recipes.BY_NAME.values()
        ]
        print(json.dumps(rows, indent=2))
        return
    cells = [
        [r.name, r.about, r.source, " ".join(f"{key}={_text(value)}" for key, value in r.arguments.items())]
        for r in recipes.BY_NAME.values()
    ]
    table("recipes", ["name", "what it is", "after", "arguments (--set)"], cells)


def _text(value: Any) -> str:
    return (
        "x".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )
