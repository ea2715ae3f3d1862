"""Fuzzing of everything that reads a file: only documented errors, and no more memory than the file is worth.

    python tests/reliability/fuzz.py [TARGET ...] [--seconds 60] [--seed 0]      all targets where none is named
    python tests/reliability/fuzz.py --coverage                                  says too how much of the parsers was reached
    python tests/reliability/fuzz.py --engine atheris TARGET --seconds 3600      guided by coverage; needs `pip install atheris`

The mutations begin from tests/reliability/corpus/TARGET and from small files that are made here. With atheris the package's
Python code is instrumented, and what reaches new lines is kept in --keep; without it the mutator of this file draws flips,
cuts, copies, splices, numbers at their limits and pieces of JSON. An input that ends in another error, takes more than 10
seconds or more than ten times its size and 200 MB is written to --keep (fuzz-found) and told; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import gzip
import io
import json
import pickle
import random
import resource
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import typer
import warploom as wl
from PIL import Image
from reached import Reached
from warploom.cli.app import app
from warploom.data import arrays, cifar, folder, paired
from warploom.data.pickles import load_batch
from warploom.errors import USER_ERRORS
from warploom.export.onnx_file import message
from warploom.export.onnx_reader import read_onnx
from warploom.export.part import part_of
from warploom.export.state_files import read_state_dict
from warploom.ground.atomic import read_tensors, write_tensors
from warploom.optim.schedules import PlateauLR
from warploom.runs.run import RunFolder

CORPUS = Path(__file__).resolve().parent / "corpus"
_SECONDS, _TIMES, _FREE = 10.0, 10, 200_000_000
_NUMBERS = [
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF,
    0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip
_WORDS = [
    b"[" * 2000, b"{}", b"null", b"-1", b"1e999", b"NaN", b"9" * 400,
    b'"', b"\x00", b"\xff" * 8, b"true", b"[[]]", b"\\u0000",
]  # fmt: skip
_SHAPE = (3, 8, 8)


class Places:
    """Files that the targets write their input to, made once."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warploom-fuzz-")
        self.root = Path(self._folder.name)
        x = wl.Input(_SHAPE, name="image")
        self.model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv")(x), name="small")
        self.model.compile(wl.optim.Adam(0.01), batch_size=4, device="cpu")
        self.model.fit(np.zeros((4, *_SHAPE), np.float32), epochs=1, verbose=False)

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def file(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        return path


def _images(rng: np.random.Generator, count: int = 4) -> Any:
    return rng.integers(0, 256, (count, *_SHAPE), dtype=np.uint8)


def _picture(mode: str, ending: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 3, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, format=ending)
    return buffer.getvalue()


def _archive() -> bytes:
    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            content = cifar.to_bytes(rng.integers(0, 3, (2, 3072), dtype=np.uint8), rng.integers(0, 10, 2))
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _saved(write: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


class Target:
    """A parser, and files to begin with. parts, wrap: what is inside a file whose lengths or checksums stop most mutations, and
    how a file is made of it: every second input is such a part, mutated and wrapped."""

    def __init__(
        self, read: Callable[[Places, bytes], Any], seeds: Callable[[Places], list[bytes]],
        parts: Callable[[Places], list[bytes]] | None = None, wrap: Callable[[bytes], bytes] | None = None,
    ) -> None:  # fmt: skip
        self.read, self.seeds, self.parts, self.wrap = read, seeds, parts, wrap


def _checkpoint(places: Places, content: bytes) -> None:
    files = RunFolder(places.root)
    files.checkpoint_path.write_bytes(content)
    files.restore(places.model, PlateauLR())


def _checkpoint_seeds(places: Places) -> list[bytes]:
    files = RunFolder(places.root)
    files.write_checkpoint(places.model, PlateauLR())
    whole = files.checkpoint_path.read_bytes()
    tensors, metadata = read_tensors(files.checkpoint_path)
    write_tensors(files.checkpoint_path, tensors, {**metadata, "format": "warploom-checkpoint-1"})
    header = files.checkpoint_path.read_bytes()
    return [whole, header, _unsigned(header)]


def _unsigned(content: bytes) -> bytes:
    """Without its checksum, so that mutations reach what stands behind it."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    said = json.loads(header["__metadata__"]["warploom"])
    said.pop("checksum", None)
    said["format"] = said["format"].replace("-2", "-1")
    header["__metadata__"]["warploom"] = json.dumps(said)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _model_seeds(places: Places) -> list[bytes]:
    places.model.save(places.root / "seed.safetensors")
    whole = (places.root / "seed.safetensors").read_bytes()
    return [whole, _unsigned(whole)]


@functools.cache
def _detector() -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """(a detector's file, its tensors, what it says)."""
    x = wl.Input(_SHAPE, name="image")
    z = wl.layers.Latent()(wl.layers.Conv2d(2, 3, padding=1, name="in")(x))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="out")(z), name="small")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.safetensors"
        wl.detect.Detector(model, "mse+latent", bank=20).fit(np.arange(576, dtype=np.uint8).reshape(3, *_SHAPE)).save(path)
        return path.read_bytes(), *read_tensors(path)


def _signed(said: bytes) -> bytes:
    """A detector's file that says that, under a right checksum, so that mutations reach what stands behind it."""
    try:
        told = json.loads(said)
        with tempfile.TemporaryDirectory() as folder:
            write_tensors(Path(folder) / "d.safetensors", _detector()[1], {**told, "format": "warploom-detector-1"})
            return (Path(folder) / "d.safetensors").read_bytes()
    except (ValueError, TypeError, RecursionError):
        return _framed(said)


def _config(places: Places, content: bytes) -> None:
    files = RunFolder(places.root)
    files.config_path.write_bytes(content)
    config = files.read_config().resolve()
    config.make_schedule()


def _config_seeds(places: Places) -> list[bytes]:
    said = {"model": "cifar10_autoencoder", "arguments": {}, "data": "auto", "epochs": 2, "batch_size": 4, "lr": 0.1, "seed": 1}
    return [json.dumps(said).encode(), json.dumps({**said, "schedule": "plateau:factor=0.5", "limit": 3}).encode()]


_UsageError: Any = typer.BadParameter.__base__  # of the click that typer has


@functools.cache
def _train() -> Any:
    return typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]


def _options(places: Places, content: bytes) -> None:
    """As `warploom train --config` reads them, up to where it would begin to train."""
    name = "run.json" if content[:1] in (b"{", b"[") else "run.yaml" if content[:3] == b"---" else "run.toml"
    try:
        _train().make_context("train", ["--config", str(places.file(name, content))])
    except _UsageError as error:  # told in one line
        raise wl.ArgumentError(error.format_message()) from None


_OPTIONS = b"""model = "autoencoder"
lr = 1e-3
skip_bad = true
[arguments]
size = 48
widths = "16,32"
"""


def _options_seeds(places: Places) -> list[bytes]:
    _options(places, _OPTIONS)  # the first time takes a second
    return [_OPTIONS, b"---\nmodel: autoencoder\nepochs: 2\narguments: {size: 48}\n", *_config_seeds(places)]


def _metrics(places: Places, content: bytes) -> None:
    files = RunFolder(places.root)
    files.metrics_path.write_bytes(content)
    files.read_metrics()


_ROW = b'{"epoch": 1, "train_loss": 0.5, "test_loss": 0.25, "version": "cpu", "device": "cpu", "test_losses": {"a": 1.0}}\n'


def _headers(seeds: Callable[[Places], list[bytes]]) -> Callable[[Places], list[bytes]]:
    """The JSON text of .safetensors files."""
    return lambda places: [content[8 : 8 + int.from_bytes(content[:8], "little")] for content in seeds(places)]


def _framed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(4096)


def _rejoined(header: bytes) -> bytes:
    """With as many bytes behind it as its tensors say, so that it gets past the check of the lengths."""
    try:
        ends = [about["data_offsets"][1] for name, about in json.loads(header).items() if name != "__metadata__"]
        size = max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        size = 0
    return len(header).to_bytes(8, "little") + header + bytes(size if isinstance(size, int) and 0 <= size < 100_000 else 0)


def _zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images.npy", content)
    return buffer.getvalue()


def _npy(_: Places) -> list[bytes]:
    made = _images(np.random.default_rng(0))
    return [_saved(lambda f: np.save(f, made)), _saved(lambda f: np.save(f, np.zeros((3, 8, 8, 3), np.float32)))]


def _npz(_: Places) -> list[bytes]:
    made = _images(np.random.default_rng(0))
    return [_saved(lambda f: np.savez(f, train=made, test=made)), _saved(lambda f: np.savez_compressed(f, images=made))]


def _pickles(_: Places) -> list[bytes]:
    """Of the state dicts that PyTorch wrote into the corpus."""
    found = []
    for path in sorted((CORPUS / "state_dict").glob("*.pt")):
        with zipfile.ZipFile(path) as archive:
            found += [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    return found


def _as_torch_saves(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in (("data.pkl", content), ("byteorder", b"little"), ("data/0", bytes(400)), ("data/1", bytes(400))):
            archive.writestr(f"archive/{name}", member)
    return buffer.getvalue()


@functools.cache
def _whole() -> Places:
    return Places()


def _onnx_file(places: Places, graph: str | None = None) -> bytes:
    chosen = part_of(places.model)
    content: bytes = message(chosen, config=json.dumps(places.model.config()) if graph is None else graph).SerializeToString()
    return content


_PICTURES = [("RGB", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("L", "BMP"), ("RGB", "GIF"), ("RGB", "TIFF"), ("RGB", "WEBP")]

TARGETS: dict[str, Target] = {
    "cifar_binary": Target(
        lambda places, content: cifar._parse_binary(content, "x"),
        lambda _: [cifar.to_bytes(np.zeros((2, 3072), np.uint8), np.array([1, 2]))],
    ),
    "cifar_python": Target(
        lambda places, content: load_batch(content, "x"),
        lambda _: [
            pickle.dumps({key("data"): np.zeros((2, 3072), np.uint8), key("labels"): [1, 2]}, protocol=protocol)
            for protocol in (0, 2, 4) for key in (str, str.encode)
        ],
    ),
    "archive": Target(
        lambda places, content: cifar.find(places.file("cifar-10-binary.tar.gz", content)),
        lambda _: [_archive()], lambda _: [gzip.decompress(_archive())], lambda content: gzip.compress(content, 1),
    ),
    "tensors": Target(
        lambda places, content: read_tensors(places.file("x.safetensors", content)),
        _model_seeds, _headers(_model_seeds), _framed,
    ),
    "model": Target(
        lambda places, content: wl.load(places.file("x.safetensors", content)),
        _model_seeds, _headers(_model_seeds), _rejoined,
    ),
    "detector": Target(
        lambda places, content: wl.detect.load(places.file("x.safetensors", content), device="cpu"),
        lambda _: [_detector()[0]], lambda _: [json.dumps(_detector()[2]).encode()], _signed,
    ),
    "checkpoint": Target(_checkpoint, _checkpoint_seeds, _headers(_checkpoint_seeds), _rejoined),
    "config": Target(_config, _config_seeds),
    "options": Target(_options, _options_seeds),
    "metrics": Target(_metrics, lambda _: [_ROW, _ROW * 3]),
    "npy": Target(lambda places, content: arrays.load(places.file("x.npy", content), _SHAPE), _npy),
    "npz": Target(lambda places, content: arrays.load(places.file("x.npz", content), _SHAPE), _npz, _npy, _zipped),
    "images": Target(
        lambda places, content: folder.read_image(places.file("x.png", content), 3, (8, 8)),
        lambda _: [_picture(mode, kind) for mode, kind in _PICTURES],
    ),
    "labels": Target(
        lambda places, content: paired._read(places.file("x.png", content), "labels", 8, 8, 3),
        lambda _: [_picture("L", "PNG"), _picture("P", "PNG"), _picture("1", "PNG"), _picture("L", "TIFF")],
    ),
    "state_dict": Target(
        lambda places, content: places.model.load_state_dict(read_state_dict(places.file("x.pt", content))),
        lambda _: [_as_torch_saves(content) for content in _pickles(_)], _pickles, _as_torch_saves,
    ),
}  # fmt: skip
if find_spec("onnx"):
    TARGETS["onnx"] = Target(
        lambda places, content: read_onnx(places.file("x.onnx", content)),
        lambda places: [_onnx_file(places)],
        lambda places: [json.dumps(places.model.config()).encode()],
        lambda content: _onnx_file(_whole(), content.decode("utf-8", "replace")),
    )


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with one to eight changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        kind = rng.randrange(9)
        at = rng.randrange((len(data) if rng.random() < 0.5 else min(len(data), 400)) + 1)
        end = min(len(data), at + rng.choice((1, 2, 4, 8, 64, 1000)))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        elif kind == 3:
            size = rng.choice((1, 2, 4, 8))
            data[at : at + size] = (rng.choice(_NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
        elif kind == 4:
            data[at:end] = rng.choice(_WORDS)
        elif kind == 5:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at:end] = other[start : start + rng.choice((1, 8, 100))]
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            data[at:end] = rng.randbytes(end - at)
        elif digits := [i for i, byte in enumerate(data) if 48 <= byte < 58]:
            place = rng.choice(digits)
            data[place : place + 1] = str(rng.choice(_NUMBERS)).encode()
    return bytes(data)


def peak(begin: bool = False) -> int:
    """The most memory (bytes) that this process held since it last began to count; where Linux does not tell, ever."""
    if not Path("/proc/self/clear_refs").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if begin:
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # memory that the allocator keeps would serve the next block: no growth
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    return int(Path("/proc/self/status").read_bytes().partition(b"VmHWM:")[2].split()[0]) * 1024


def attempt(target: Target, places: Places, content: bytes) -> tuple[str, bool]:
    """(what is wrong, "" where nothing is; whether it was read without an error)."""
    before, started, read = peak(begin=True), time.process_time(), False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(places, content)
        read = True
    except USER_ERRORS as error:
        if not str(error) or not str(error).isprintable() or len(str(error)) > 2000:
            return f"an error that is no sentence: {str(error)[:300]!r}", False
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}", False
    if time.process_time() - started > _SECONDS:
        return f"{time.process_time() - started:.1f} s", read
    if peak() - before > _TIMES * len(content) + _FREE:
        return f"{(peak() - before) / 1e6:.0f} MB for {len(content):,} bytes", read
    return "", read


def seeds_of(name: str, places: Places) -> list[bytes]:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))] if (CORPUS / name).is_dir() else []
    return TARGETS[name].seeds(places) + kept


def fuzz(
    name: str, seconds: float, seed: int, keep: Path | None = None, reached: Reached | None = None
) -> tuple[int, int, list[str]]:
    """(inputs tried, inputs that were read, what was wrong) with the mutator of this file."""
    with Places() as places:
        seeds, target = seeds_of(name, places), TARGETS[name]
        parts = target.parts(places) if target.parts is not None else []
        with reached or contextlib.nullcontext():
            return _fuzz(name, places, seeds, parts, seconds, seed, keep)


def _fuzz(
    name: str, places: Places, seeds: list[bytes], parts: list[bytes], seconds: float, seed: int, keep: Path | None
) -> tuple[int, int, list[str]]:
    rng, target, wrong, tried, good = random.Random(seed), TARGETS[name], [], 0, 0
    end = time.process_time() + seconds
    while time.process_time() < end:
        if tried < len(seeds):
            content = seeds[tried]
        elif target.wrap is not None and rng.random() < 0.5:
            content = target.wrap(mutate(rng, parts))
        else:
            content = mutate(rng, seeds)
        said, read = attempt(target, places, content)
        tried, good = tried + 1, good + read
        if said:
            wrong.append(said)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{tried}").write_bytes(content)
    return tried, good, wrong


def guided(name: str, seconds: int, keep: Path) -> None:
    """The same with atheris, in this process; it ends the process itself."""
    import atheris

    for function in [f for f in gc.get_objects() if isinstance(f, FunctionType)]:  # in place, those of classes too
        if (function.__module__ or "").split(".")[0] in ("warploom", "pickle", "tarfile", "gzip", "zipfile"):
            atheris.instrument_func(function)
    places, found = Places(), keep / name
    found.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(seeds_of(name, places)):
        (found / f"seed-{i}").write_bytes(content)

    def one(content: bytes) -> None:
        assert not (said := attempt(TARGETS[name], places, content)[0]), said

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", f"-artifact_prefix={keep}/", "-rss_limit_mb=4096", str(found)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    parser.add_argument("--coverage", action="store_true", help="how many statements of the functions entered were reached")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        sys.exit(f"unknown target {unknown[0]}; there are {', '.join(TARGETS)}")
    if options.engine == "atheris":
        guided((options.targets or list(TARGETS))[0], int(options.seconds), options.keep)
    bad = 0
    for each in options.targets or list(TARGETS):
        reached = Reached() if options.coverage else None
        count, fine, errors = fuzz(each, options.seconds, options.seed, options.keep, reached)
        bad += len(errors)
        said = f"{each}: {count:,} inputs, {fine:,} read, {len(errors)} wrong" + (f", {reached}" if reached else "")
        print(said, *sorted(set(errors))[:20], sep="\n  ", flush=True)
    sys.exit(1 if bad else 0)
