"""Writes the files of this folder for the formats that the package writes now; those of older formats stay as they are.

    python tests/data/formats/make_files.py

Run it only where a format gets a new number: the files of a number never change. Each is a network of a few weights, trained
for two epochs on eight small images (images.npy) and, in run-N, stopped with its checkpoint; expected-N.npz holds its
predictions.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import warploom as wl
from warploom.data import tasks
from warploom.detect.saving import FORMAT as DETECTOR
from warploom.network.config import FORMAT
from warploom.optim.schedules import PlateauLR
from warploom.runs.recipe import RunConfig
from warploom.runs.run import Recorder, RunFolder, prepare

HERE = Path(__file__).resolve().parent


def network() -> wl.Model:
    """Shared layers, a transposed convolution, a norm with buffers, a skip: what a description of a network can hold."""
    x = wl.Input((3, 8, 8), name="image")
    shared = wl.layers.Conv2d(3, 3, padding=1, name="shared")
    h = wl.layers.ReLU(name="relu")(wl.layers.BatchNorm2d(name="bn")(shared(shared(x))))
    h = wl.layers.Latent(name="latent")(wl.layers.MaxPool2d(2, name="pool")(h))
    h = wl.layers.ConvTranspose2d(3, 2, stride=2, name="up")(h)
    return wl.Model(x, wl.layers.Conv2d(3, 1, name="out")(wl.layers.Concat(name="cat")([h, x])), name="small")


def data() -> tasks.TaskData:
    images = np.load(HERE / "images.npy")
    return tasks.TaskData("images", "images", tasks.Samples([images], None), tasks.Samples([images[:4]], None))


def config(epochs: int) -> RunConfig:
    return RunConfig(
        data="images.npy", epochs=epochs, batch_size=4, lr=0.05, optimizer="adam", momentum=0.0, weight_decay=0.0, clip_norm=0.0,
        schedule="plateau:patience=0", device="cpu", version="cpu",
    )  # fmt: skip


def compiled(model: wl.Model) -> PlateauLR:
    model.compile(wl.optim.Adam(0.05), "mse", "cpu", "cpu", batch_size=4)
    return PlateauLR(patience=0)


def train(folder: Path, epochs: int, model: wl.Model, *, resume: bool) -> None:
    schedule, files = compiled(model), RunFolder(folder)
    with files.held():
        start = prepare(files, files.read_config() if resume else config(epochs), data(), model, schedule, resume=resume)
        samples = data().train.x
        model.fit(samples, epochs=epochs, callbacks=[schedule, Recorder(files, schedule)], verbose=False, start=start)


def detector() -> wl.detect.Detector:
    """Every kind of score, so that the file has everything a detector's can have."""
    model = network()
    model.place("cpu", "cpu")
    return wl.detect.Detector(model, "mse:2+ssim+latent", contamination=0.1).fit(np.load(HERE / "images.npy"))


def write_detector() -> None:
    made = detector()
    made.save(HERE / f"detector-{DETECTOR.rpartition('-')[2]}.safetensors")
    scores = made.decision_function(np.load(HERE / "images.npy"))
    np.savez(HERE / f"expected-detector-{DETECTOR.rpartition('-')[2]}.npz", scores=scores)


if __name__ == "__main__":
    if not (HERE / "images.npy").exists():
        np.save(HERE / "images.npy", np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8), dtype=np.uint8))
    number = FORMAT.rpartition("-")[2]
    run = HERE / f"run-{number}"
    shutil.rmtree(run, ignore_errors=True)
    made = network()
    train(run, 2, made, resume=False)
    (run / "model.safetensors").rename(HERE / f"model-{number}.safetensors")
    np.savez(HERE / f"expected-{number}.npz", prediction=made.predict(np.load(HERE / "images.npy")))
    write_detector()
