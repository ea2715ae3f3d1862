"""Small files that ask for much memory: refused, with at most ten times their size and 100 MB, in about a second."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.data import arrays, cifar, folder, paired
from warploom.data.pickles import load_batch
from warploom.ground.atomic import read_tensors

_SECONDS = 10.0  # of the processor; about one is meant, but machines differ


def cost(load: Callable[[], Any]) -> tuple[str, int, float]:
    """(what the error said, bytes taken at the most, seconds) of a call in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            started, said = time.process_time(), "no error"
            try:
                load()
            except wl.DataError as error:
                said = f"DataError: {error}"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            os.write(writing, json.dumps([said[:2000], most, time.process_time() - started]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    said, most, seconds = json.loads(text)
    return said, most, seconds


def expect_refusal(load: Callable[[], Any], size: int) -> None:
    if not sys.platform.startswith("linux"):
        with pytest.raises(wl.DataError):
            load()
        return
    said, most, seconds = cost(load)
    assert said.startswith("DataError: "), said
    assert most <= 10 * size + 100_000_000, f"{most / 1e6:.0f} MB for {size:,} bytes"
    assert seconds < _SECONDS
    assert len(said) < 1000


def _array_pickle(raw: bytes) -> bytes:
    """A batch whose pixels are what `raw` pushes."""
    pixels = (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR\x89" + raw + b"tb"
    )
    return b"\x80\x02}(X\x04\x00\x00\x00data" + pixels + b"X\x06\x00\x00\x00labels](K\x01eu."


PICKLES = {
    "a memo of 2^28 entries": b"\x80\x02Nr\x00\x00\x00\x10.",
    "a memo of 2^32 entries": b"\x80\x02Nr\xff\xff\xff\xff.",
    "bytes(3,000,000,000)": _array_pickle(b"J\x00\x5e\xd0\xb2"),
    "a frame of 2^62 bytes": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40N.",
    "a text of 2^62 bytes": b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x40N.",
    "a bytearray of 2^40 bytes": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
    "one text encoded again and again": b"\x80\x02(X\x00\x00\x10\x00"
    + b"x" * 1_048_576
    + b"q\x00"
    + b"c_codecs\nencode\nq\x01"
    + b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R" * 2000
    + b"t.",
    "nine million empty lists": b"\x80\x02(" + b"]" * 9_000_000 + b"t.",
    "rows of the same rows": b"\x80\x02]("
    + b"K\x01" * 1000
    + b"eq\x00]("
    + b"h\x00" * 5000
    + b"eq\x01]("
    + b"h\x01" * 5000
    + b"e.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a tuple in tuples, deep": b"\x80\x02)" + b"\x85" * 500_000 + b".",
}


@pytest.mark.parametrize("name", list(PICKLES))
def test_pickles(name: str) -> None:
    content = PICKLES[name]
    expect_refusal(lambda: load_batch(content, "data_batch_1"), len(content))


def test_nothing_of_a_pickle_stays_for_the_next() -> None:
    """BUILD gives a state to an object; given to a function it would change its defaults."""
    good = pickle.dumps({b"data": np.full((2, 3072), 200, np.uint8), b"labels": [1, 2]}, protocol=2)
    expected = load_batch(good, "good")
    for target in (b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"):
        for state in (
            b"}X\x0c\x00\x00\x00__defaults__)s",
            b"N}X\x0c\x00\x00\x00__defaults__)s\x86",
            b"}X\x04\x00\x00\x00codeK\x01s",
        ):
            with pytest.raises(wl.DataError):
                load_batch(b"\x80\x02" + target + state + b"b.", "evil")
            found = load_batch(good, "good")
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def _png(width: int, height: int) -> bytes:
    """A black picture of that size, without ever having its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, row = zlib.compressobj(9), b"\0" * (width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(_png(13_000, 13_000))
    size = path.stat().st_size
    expect_refusal(lambda: folder.read_image(path, 3, (32, 32)), size)
    for mode in ("rgb", "grey", "labels"):
        expect_refusal(lambda mode=mode: paired._read(path, mode, 32, 32, 3), size)  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_large_label_map_is_decoded_once(mode: str, tmp_path: Path) -> None:
    """60 million pixels, a byte each in memory: no copy of them, turned upright or not."""
    path = tmp_path / "x.tif"
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.new(mode, (6000, 10_000)).save(path, exif=exif)
    said, taken, _ = cost(lambda: paired._read(path, "labels", 32, 32, 3))
    assert said == "no error"
    assert taken < 100e6


def test_photographs_of_48_megapixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (378, 504, 3), dtype=np.uint8)).resize((8064, 6048)).save(path, quality=90)
    assert folder.read_image(path, 3, (32, 32))[0].shape == (3, 32, 32)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((76_000, 3, 32, 32), np.uint8))
    expect_refusal(lambda: arrays.load(path, (3, 32, 32)), path.stat().st_size)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 3, 32, 32)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
    expect_refusal(lambda: arrays.load(path, (3, 32, 32)), path.stat().st_size)


def test_npy_with_more_elements_than_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    for shape in ((1 << 60, 3, 32, 32), (1 << 20, 3, 32, 32), (1 << 62, 1 << 62)):
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            file.write(bytes(100))
        expect_refusal(lambda: arrays.load(path, (3, 32, 32)), path.stat().st_size)


@pytest.mark.parametrize("large", ["members", "padding"])
def test_archives(large: str, tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        if large == "padding":
            packed.writelines(bytes(1 << 20) for _ in range(300))
        else:
            with tarfile.open(fileobj=packed, mode="w|") as archive:
                for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
                    member = tarfile.TarInfo(name)
                    member.size = 10_000 * 3073
                    archive.addfile(member, io.BytesIO(bytes(member.size)))
    expect_refusal(lambda: cifar.find(path), path.stat().st_size)


TENSORS = {
    "a header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "a tensor of 2^60 elements": b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}',
    "shapes whose product wraps": b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
    "overlap": b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    "deep metadata": b'{"__metadata__":{"warploom":"' + b"[" * 100_000 + b'"}}',
    "a deep header": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "an integer of a million digits": b'{"__metadata__":{"warploom":"' + b"9" * 1_000_000 + b'"}}',
}


@pytest.mark.parametrize("name", list(TENSORS))
def test_tensor_files(name: str, tmp_path: Path) -> None:
    path, text = tmp_path / "x.safetensors", TENSORS[name]
    path.write_bytes(text if text[:1] != b"{" else len(text).to_bytes(8, "little") + text + bytes(4 if name == "overlap" else 0))
    expect_refusal(lambda: read_tensors(path), path.stat().st_size)
    expect_refusal(lambda: wl.load(path), path.stat().st_size)
