"""Makes the picture of docs/detect.md and prints the numbers that stand there: from drawing the images to the detector, by the
commands of the page.

python docs/make_detection.py                     trains a small network on tiles: some minutes on two cores
python docs/make_detection.py --work FOLDER       keeps images, tiles, network, detector and results there, and goes on with them
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import warploom as wl
from PIL import Image
from warploom.cli import main as warploom
from warploom.layers import Conv2d, Flatten, Latent, Linear, MaxPool2d, ReLU, Reshape, Upsample

PICTURE = Path(__file__).resolve().parent / "images" / "detection.png"
SIDE, LATENT, TILES, EPOCHS = 32, 24, 6000, 12


def network() -> wl.Model:
    """Grey tiles through 24 numbers, so that only what tiles have in common comes back."""
    x = h = wl.Input((1, SIDE, SIDE), name="x")
    for i, width in enumerate((16, 32)):
        h = MaxPool2d(2)(ReLU()(Conv2d(width, 3, padding=1, name=f"conv{i + 1}")(h)))
    h = ReLU()(Conv2d(48, 3, padding=1, name="conv3")(h))
    z = Latent()(Linear(LATENT, name="latent_in")(Flatten()(h)))
    h = Reshape((48, SIDE // 4, SIDE // 4))(ReLU()(Linear(48 * SIDE * SIDE // 16, name="latent_out")(z)))
    for i, width in enumerate((32, 16)):
        h = ReLU()(Conv2d(width, 3, padding=1, name=f"deconv{3 - i}")(Upsample(2)(h)))
    return wl.Model(x, Conv2d(1, 3, padding=1, name="deconv1")(h), name="tile_autoencoder")


def run(*arguments: str) -> None:
    print("warploom", *arguments, flush=True)
    if code := warploom([*arguments]):
        sys.exit(code)


def make(work: Path) -> None:
    cloth, tiles, model, detector = work / "cloth", work / "tiles.npy", work / "cloth.safetensors", work / "detector.safetensors"
    if not cloth.exists():
        run("detect", "sample", str(cloth))
    if not tiles.exists():
        run("detect", "tiles", str(cloth), "--grey", "--size", str(SIDE), "--count", str(TILES), "--out", str(tiles))
    if not model.exists():
        made = network()
        made.compile(optimizer=wl.optim.Adam(2e-3), loss="mse", device="cpu", batch_size=64, seed=0)
        made.fit(np.load(tiles), epochs=EPOCHS)
        made.save(model)
    for scores in ("mse", "latent"):
        out = work / f"results-{scores}"
        if not out.exists():
            run("detect", "fit", str(model), str(cloth), "--own-size", "--scores", scores, "--out", str(detector))
            run("detect", "run", str(detector), str(cloth), "--out", str(out))
    with Image.open(work / "results-mse" / "overview.png") as drawn:  # a quarter of the bytes
        drawn.convert("RGB").resize((1400, 1400 * drawn.height // drawn.width)).quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where to keep everything")
    given = parser.parse_args()
    if given.work is not None:
        make(given.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
