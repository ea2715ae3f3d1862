"""Makes the README's pictures of both recipes of the CIFAR-10 autoencoder, and prints a caption for each.

python docs/make_pictures.py --data-dir DIR                     trains by --preset sharp (minutes) and draws docs/images/sharp.png
python docs/make_pictures.py --sharp RUN --specification RUN    draws from the folders of runs that are there already
python docs/make_pictures.py --specification train              trains by the specification: 20 epochs, an hour or two

A picture is drawn from the run's model and its own test images; times and metrics of the captions are those of its metrics.jsonl.
Both runs must have been trained on all of CIFAR-10. What no option names stays as it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import warploom as wl
from warploom import metrics
from warploom.cli import main as warploom
from warploom.runs.plots import plot_reconstructions
from warploom.runs.recipe import RunConfig
from warploom.runs.run import RunFolder
from warploom.train.progress import duration

IMAGES = Path(__file__).resolve().parent / "images"
FILES = {"specification": "reconstructions.png", "sharp": "sharp.png"}
COUNT = 10  # images in a picture


def recipe(config: RunConfig) -> str:
    """The run's optimizer and epochs in words."""
    epochs = f"{config.epochs} epoch{'s' if config.epochs != 1 else ''}"
    name = {"sgd": "plain SGD"}.get(str(config.optimizer), str(config.optimizer).capitalize())
    return f"{name} at {config.lr:g}, batches of {config.batch_size}, {epochs}"


def caption(config: RunConfig, rows: list[dict[str, Any]]) -> str:
    """What stands under the picture."""
    last = rows[-1]
    own = f"--preset {config.preset}" if config.preset else "the specification's recipe"
    shown = metrics.text(last, "test_") or f"PSNR {metrics.decibels(last['test_loss']):.2f} dB"
    took = f"{duration(sum(row['seconds'] for row in rows))} of training with version {last['version']} on {last['device']}"
    return f"{own} ({recipe(config)}): {shown} on the test images; {took}"


def draw(name: str, folder: RunFolder, out: Path, data_dir: str | None) -> str:
    """Writes the picture of a finished run; its caption."""
    config, rows = folder.read_config(), folder.read_metrics()
    if config.model != "cifar10_autoencoder" or (config.preset or "specification") != name:
        raise SystemExit(f"{folder.path} is a run of {config.model}, recipe {config.preset or 'specification'}, not of {name}")
    if not rows or rows[-1]["epoch"] != config.epochs:
        raise SystemExit(f"{folder.path} has not finished its {config.epochs} epochs: go on with it by --resume")
    if data_dir is not None:
        config.data_dir = data_dir
    model = wl.load(folder.model_path)
    data = config.load_data(model)
    if data.fingerprint() != config.fingerprint:
        raise SystemExit(f"the data are not those of {folder.path}: pass its --data-dir")
    images = np.ascontiguousarray(data.test.x[0][:COUNT])
    text = caption(config, rows)
    plot_reconstructions(out / FILES[name], images, model.predict(images), text.split(":")[0])
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in FILES:
        parser.add_argument(f"--{name}", metavar="RUN", help="folder of a finished run, or 'train'")
    parser.add_argument("--data-dir", help="folder with CIFAR-10; default: the run's")
    parser.add_argument("--out", type=Path, default=IMAGES, help="where the pictures go")
    given = parser.parse_args(arguments)
    chosen = {name: getattr(given, name) for name in FILES if getattr(given, name) is not None} or {"sharp": "train"}
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, run in chosen.items():
            if run == "train":
                run = f"{place}/{name}"
                options = ["--data", "cifar10", "--out", run, *(["--preset", name] if name != "specification" else [])]
                code = warploom(["train", *options, *(["--data-dir", given.data_dir] if given.data_dir else [])])
                if code:
                    return code
            print(f"{given.out / FILES[name]}: {draw(name, RunFolder(run), given.out, given.data_dir)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
