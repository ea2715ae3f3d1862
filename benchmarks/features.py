"""What a recipe's features are worth: from images without labels to the test accuracy, timed, one row of the table in
docs/features.md.

    python benchmarks/features.py whitened_dictionary --data-dir CIFAR [--set centres=800] [--seed 0] [--limit N]
        [--control random] [--method hinge] [--landmarks all] [--components N] [--validate] [--scratch FOLDER] [--out FILE]

Filters are learnt from the training images; features of training and test images are streamed through the engine; the classifier
(--method: by default the committee of `warploom classify`, all that it chooses chosen on a tenth of the training images) sees the
test images once. --validate: the last fifth of the training images stands in for the test images, which are not read: for
choosing a recipe's numbers.
--control random: the same network with the patches' own statistics but random filters; --control pixels: the images as
they are. Every step is kept in the scratch folder, so that a run that was stopped goes on; the times of its steps add up.
benchmarks/feature_tables.py makes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

LANDMARKS, COMPONENTS = 6000, 512  # of the RBF classifier
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]


def clock() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), used.ru_utime + used.ru_stime


class Steps:
    """Wall and CPU seconds of every step; what was there already costs what it cost then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "steps.json"
        self.done: dict[str, list[float]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def __call__(self, name: str, before: tuple[float, float]) -> None:
        now = clock()
        self.done[name] = [now[0] - before[0], now[1] - before[1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(self.done))
        temporary.replace(self.file)
        print(f"{name}: {self.done[name][0]:.0f} s, {self.done[name][1]:.0f} CPU-s", flush=True)


def randomised(model: Any, seed: int, sigma: float) -> None:
    """The learnt filters become random ones of the same lengths, in mirrored pairs as they were: the control. sigma: of a kernel
    network, whose projection follows its filters."""
    from warploom.features import mirrored
    from warploom.recipes.parts import inverse_root

    rng = np.random.default_rng(seed)
    state, channels = model.state_dict(), model.inputs[0].shape[0]
    for name, weight in list(state.items()):
        if not name.endswith(("dictionary.weight", "filters.weight")):
            continue
        further = 1 if name.endswith("dictionary.weight") else 0  # its last column belongs to the lengths
        rows = weight.reshape(len(weight), -1)
        width = rows.shape[1] - further
        if weight.shape[2] == 1:  # of patches, which another layer has cut
            side = round((width / channels) ** 0.5)
            shape: tuple[int, ...] = (channels, side, side)
        else:
            shape = weight.shape[1:] if weight.shape[1] == channels else (weight.shape[1] // 2, 2, *weight.shape[2:])
        own = rng.standard_normal((len(rows) // 2, width)).astype(np.float32)
        drawn = np.stack([own, mirrored(own, shape)], 1).reshape(len(rows), width)
        drawn = np.pad(drawn, ((0, 0), (0, further)))
        drawn *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
        state[name] = drawn.reshape(weight.shape)
        projection = name.replace(".filters.", ".projection.")
        if projection != name and projection in state:
            gram = np.exp((drawn @ drawn.T - 1.0) / sigma**2)
            state[projection] = inverse_root(gram, 1e-3)[:, :, None, None]
    model.load_state_dict(state)


def streamed(model: Any, images: Any, file: Path, steps: Steps, name: str) -> Any:
    """Features of the images in a file, 1,000 images at a time; goes on where it was stopped."""
    shape = (len(images), model.encode(images[:1]).size)
    mark = file.with_suffix(".rows")
    there = int(mark.read_text()) if mark.is_file() else 0
    features = np.lib.format.open_memmap(file, mode="r+" if there else "w+", dtype=np.float32, shape=shape)
    for start in range(there, len(images), 1000):
        before = clock()
        part = model.encode(images[start : start + 1000])
        features[start : start + len(part)] = part.reshape(len(part), -1)
        mark.write_text(str(start + len(part)))
        earlier = steps.done.get(name, [0.0, 0.0, 0.0])
        steps(name, (before[0] - earlier[0], before[1] - earlier[1]))
    features.flush()
    return file


def command(options: argparse.Namespace) -> str:
    """What a reader types; where the images lie is his."""
    words = [options.recipe, *(f"--set {s}" for s in options.set), f"--seed {options.seed}"]
    words += [f"--limit {options.limit}"] * bool(options.limit) + [f"--control {options.control}"] * bool(options.control)
    words += [f"--method {options.method}"] * (options.method != "committee")
    words += [f"--landmarks {options.landmarks}"] * (options.landmarks != LANDMARKS)
    words += [f"--components {options.components}"] * (options.components != COMPONENTS)
    return " ".join(["python benchmarks/features.py", *words, *["--validate"] * options.validate])


def named(options: argparse.Namespace, about: dict[str, Any]) -> str:
    if options.method == "hinge":
        return str(about["loss"])
    rbf = "kernel ridge" if options.landmarks == "all" else "rbf"
    return rbf if options.method == "rbf" else f"committee ({about['loss']}, {rbf})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data-dir")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="training images, a fifth as many for testing")
    parser.add_argument("--control", choices=("random", "pixels"))
    parser.add_argument("--method", choices=("hinge", "rbf", "committee"), default="committee")
    parser.add_argument("--landmarks", type=lambda text: text if text == "all" else int(text), default=LANDMARKS)
    parser.add_argument("--components", type=int, default=COMPONENTS)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--scratch", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/features.jsonl"))
    options = parser.parse_args()
    import machine
    import warploom as wl
    from warploom.classify import classify
    from warploom.ground import hardware
    from warploom.inference.features import side_by_side
    from warploom.runs.recipe import parse_arguments

    arguments = parse_arguments(options.set)
    label = "-".join([options.recipe, *options.set, str(options.seed), options.control or "", str(options.limit or "")])
    folder = Path(options.scratch or ROOT / "runs/features") / (label + ("-validate" if options.validate else ""))
    folder.mkdir(parents=True, exist_ok=True)
    steps = Steps(folder)
    data = wl.data.load("cifar10", data_dir=options.data_dir)
    assert data.train_labels is not None
    assert data.test_labels is not None
    train, labels, test, answers = data.train, np.asarray(data.train_labels), data.test, np.asarray(data.test_labels)
    if options.validate:
        cut = len(train) * 4 // 5
        train, labels, test, answers = train[:cut], labels[:cut], train[cut:], labels[cut:]
    if options.limit:
        train, labels, test, answers = (a[: options.limit // k] for a, k in ((train, 1), (labels, 1), (test, 5), (answers, 5)))

    before, widths = clock(), list[int]()
    if options.control == "pixels":
        rows, judged = (a.reshape(len(a), -1).astype(np.float32) / 255 for a in (train, test))
    else:
        file = folder / "model.safetensors"
        if not file.is_file():
            model = wl.recipes.learn(options.recipe, train, seed=options.seed, **arguments)
            if options.control == "random":
                randomised(model, options.seed, float(arguments.get("sigma", 0.6)))
            model.save(file)
            steps("filters", before)
        model = wl.load(file)
        model.batch_size, widths = 16, side_by_side(model)
        rows = streamed(model, train, folder / "train.npy", steps, "training features")
        judged = streamed(model, test, folder / "test.npy", steps, "test features")
    counts = [len(train), len(test)]
    del data, train, test  # `warploom classify` does not keep them in memory either
    before = clock()
    found = classify(
        rows, labels, judged, answers, methods=[options.method], landmarks=options.landmarks, components=options.components,
        side_by_side=widths, seed=options.seed,
    )[options.method]  # fmt: skip
    accuracy, about = found.accuracy, found.classifier.about
    steps("classifier", before)
    total = [sum(values[k] for values in steps.done.values()) for k in (0, 1)]
    record = {
        "benchmark": "features", "recipe": options.recipe, "arguments": arguments, "seed": options.seed,
        "control": options.control, "images": counts, "features": len(found.classifier.mean),
        "on": "validation" if options.validate else "test", "accuracy": accuracy,
        "interval": 1.96 * float(np.sqrt(accuracy * (1 - accuracy) / len(answers))),
        "classifier": named(options, about),
        "chosen": about, "tried": found.searched,
        "steps": {name: [round(v, 2) for v in values] for name, values in steps.done.items()},
        "seconds": round(total[0], 1), "cpu_seconds": round(total[1], 1),
        "memory_gib": round(max(values[2] for values in steps.done.values()), 2),
        "cpu": machine.cpu_name(), "threads": len(os.sched_getaffinity(0)),
        "instructions": hardware.instructions("cpu"), "load": os.getloadavg()[1],
        "note": options.note, "command": command(options), "commit": machine.about_run(ROOT)["commit"],
        "when": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    with open(options.out, "a") as out:
        out.write(json.dumps(record) + "\n")
    print(f"{accuracy:.4f} on {record['on']} images, {total[0]:.0f} s, {total[1]:.0f} CPU-s; {about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
