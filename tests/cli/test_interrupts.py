"""Ctrl-C in the middle of a command that uses a network: one sentence, exit code 130, every file whole, none left behind.

A signal that arrives while a system call runs takes effect as soon as the call returns. So it is here: the interruption comes
right after a file was made, or was given its name, or while the command computes.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.cli import main
from warploom.cli.progress import Progress
from warploom.detect.detector import Detector

MOMENTS = ("computing", "made", "named")
OLD = b"what was there before"
COMMANDS = {
    "evaluate": ("evaluate NET PHOTOS --scores OUT/scores.csv", ["scores.csv"]),
    "reconstruct": ("reconstruct NET PHOTOS --count 3 --out OUT/picture.png", ["picture.png"]),
    "reconstruct a folder": ("reconstruct NET PHOTOS --out OUT/made", ["made/dark/0.png", "made/bright/3.png"]),
    "encode": ("encode NET PHOTOS --out OUT/features.npy", ["features.npy", "features.csv"]),
    "encode .npz": ("encode NET PHOTOS --out OUT/features.npz", ["features.npz"]),
    "classify": ("classify NET PHOTOS --methods linear --out OUT/classes", ["classes/report.json", "classes/confusion.png"]),
    "detect fit": ("detect fit NET PHOTOS --out OUT/detector.safetensors", ["detector.safetensors"]),
    "detect run": ("detect run DETECTOR PHOTOS --limit 3 --out OUT/found", []),
    "detect tiles": ("detect tiles PHOTOS --size 8 --count 50 --out OUT/tiles.npy", ["tiles.npy"]),
    "detect sample": ("detect sample OUT/cloth --count 5", []),
    "export": ("export NET --out OUT/net.onnx", ["net.onnx"]),
    "export --to torch": ("export NET --to torch --out OUT/net.safetensors", ["net.safetensors", "net.py"]),
    "export --to safetensors": ("export NET --to safetensors --dtype fp16 --out OUT/half.safetensors", ["half.safetensors"]),
    "report": ("report NET --data PHOTOS --out OUT/page.html", ["page.html"]),
    "search": ("search NET PHOTOS/dark/0.png --in PHOTOS --count 2 --out OUT/found.png", ["found.png"]),
    "cluster": ("cluster NET PHOTOS --clusters 2 --out OUT/sorted.csv", ["sorted.csv", "sorted.png"]),
    "bench": ("bench NET --seconds 0.01", []),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.safetensors, detector.safetensors, photos of two classes."""
    root = tmp_path_factory.mktemp("interrupts")
    x = wl.Input((3, 16, 16), name="image")
    h = wl.layers.Latent()(wl.layers.Conv2d(4, 3, stride=2, padding=1)(x))
    wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(wl.layers.Upsample(2)(h)), name="small").save(root / "net.safetensors")
    rng = np.random.default_rng(0)
    for name, shade in (("dark", 60), ("bright", 180)):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(rng.normal(shade, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{i}.png")
    detector = Detector(root / "net.safetensors", device="cpu")
    detector.fit(np.stack([rng.random((3, 16, 16), np.float32) for _ in range(8)])).save(root / "detector.safetensors")
    return root


class Interrupts:
    """Raises KeyboardInterrupt at the moment of that number: after a call that has made a file in the folder, or given
    one its name, or while something is computed. number 0: never, the moments are counted."""

    def __init__(self, folder: Path, moment: str = "", number: int = 0) -> None:
        self.folder, self.moment, self.number = str(folder), moment, number
        self.counts = dict.fromkeys(MOMENTS, 0)
        self._counting = threading.Lock()  # pictures are written by several threads
        self._of_thread = threading.local()

    def audit(self, event: str, told: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(told[0], str):
            writing = bool((told[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            self._of_thread.opened = told[0].startswith(self.folder) and writing

    def after(self, call: Any, moment: str) -> Any:
        def called(*given: Any, **named: Any) -> Any:
            self._of_thread.opened = False
            result = call(*given, **named)
            if moment == "named" or self._of_thread.opened:
                self.now(moment)
            return result

        return called

    def now(self, moment: str) -> None:
        with self._counting:
            self.counts[moment] += 1
            number = self.counts[moment]
        if moment == self.moment and number == self.number:
            raise KeyboardInterrupt


_watching: list[Interrupts] = []
sys.addaudithook(lambda event, told: _watching[0].audit(event, told) if _watching else None)  # there for good, and idle


def run(
    words: str, place: Path, out: Path, monkeypatch: pytest.MonkeyPatch, moment: str = "", number: int = 0
) -> tuple[int, Any]:
    for name, file in (("NET", "net.safetensors"), ("DETECTOR", "detector.safetensors"), ("PHOTOS", "photos")):
        words = words.replace(name, str(place / file))
    interrupts = Interrupts(out, moment, number)
    with monkeypatch.context() as patch:
        shown = Progress.__call__
        patch.setattr(Progress, "__call__", lambda *told: (interrupts.now("computing"), shown(*told)))
        for owner, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "replace"), (os, "link")):
            patch.setattr(owner, name, interrupts.after(getattr(owner, name), "made" if name == "open" else "named"))
        _watching.append(interrupts)
        try:
            code = main(words.replace("OUT", str(out)).split())
        finally:
            _watching.clear()
    return code, interrupts.counts


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_whole(name: str, content: bytes, good: bytes) -> None:
    """As without an interruption; what `detect run` writes of the images that it came to, and what tells a time, can be read."""
    if content == good:
        return
    if name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".png"):
        Image.open(io.BytesIO(content)).load()
    else:
        assert name.endswith((".html", ".csv")), name
        assert content.endswith(good[-8:] if name.endswith(".html") else b"\n"), name


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file object that was lost with its call
@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_is_whole_and_none_is_left(
    command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, outputs = COMMANDS[command]
    if words.endswith(".onnx"):
        pytest.importorskip("onnx")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))

    def folder(name: str) -> Path:
        for output in outputs:
            (tmp_path / name / output).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / output).write_bytes(OLD)
        return tmp_path / name

    code, counts = run(words, place, folder("good"), monkeypatch)
    assert code == 0, capsys.readouterr().err
    good = files(tmp_path / "good")
    assert OLD not in good.values()
    moments = {(moment, number) for moment in MOMENTS for number in (1, counts[moment]) if counts[moment]}
    assert not good or {("made", 1), ("named", 1)} <= moments
    for moment, number in sorted(moments):
        out = folder(f"{moment}{number}")
        capsys.readouterr()
        code, _ = run(words, place, out, monkeypatch, moment, number)
        said = capsys.readouterr().err
        assert (code, said.splitlines()[-1:]) == (130, ["warploom: interrupted"]), (moment, number, said)
        assert "Traceback" not in said
        left = files(out)
        assert set(left) <= set(good), (moment, number)
        for name, content in left.items():
            if name not in outputs or content != OLD:
                check_whole(name, content, good[name])
        assert not files(tmp_path / "scratch"), (moment, number)
