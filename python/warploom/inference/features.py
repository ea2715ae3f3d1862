"""Features of many images: streamed through the encoder into files, or to what reads them in blocks."""

import csv
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from warploom.errors import ArgumentError, DataError
from warploom.ground.array_types import Array, Shape
from warploom.ground.atomic import atomic_stream, expanded, write_atomically
from warploom.ground.optional import needed
from warploom.inference.images import Batch, Images
from warploom.inference.trained import Trained
from warploom.layers import Concat, Latent
from warploom.model import Model

ENDINGS = (".npy", ".npz", ".parquet")
DTYPES: dict[str, "np.dtype[Any]"] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
_HEADER = 192  # bytes of a .npy header: room for any number of rows
Report = Callable[[int], None]  # images done


def latents(
    trained: Trained, images: Images, *, fit: str = "crop", skipped: list[str] | None = None
) -> Iterator[tuple[Batch, Array]]:
    """Batches and their latents [n, ...]. ArgumentError where images of several sizes give latents of several shapes."""
    model, shape = trained.require_latent(), None
    for batch in images.batches(trained.batch_size, size=trained.size, fit=fit, skipped=skipped):
        made = model.encode(trained.prepare(batch.images))
        if shape is not None and made.shape[1:] != shape:
            raise ArgumentError(
                f"{batch.names[0]} gives a latent of {made.shape[1:]}, and those before it {shape}: features of one length need "
                "images of one size (--fit crop or stretch)"
            )
        shape = made.shape[1:]
        yield batch, made


def side_by_side(model: Model) -> list[int]:
    """How many features of the latent are of each of the networks that it joins (recipes.joined); none where it is of one."""
    tensor = model.latent
    while tensor is not None and tensor.call is not None and isinstance(tensor.call.layer, Latent):
        tensor = tensor.call.inputs[0]
    if tensor is None or tensor.call is None or not isinstance(tensor.call.layer, Concat):
        return []
    return [part.shape[0] for part in tensor.call.inputs if len(part.shape) == 1]


class EncodedSource:
    """The flat latents of images as a source of warploom.classify: encoded anew each time they are asked for."""

    def __init__(self, trained: Trained, images: Images, *, fit: str = "crop", report: Report | None = None) -> None:
        self._trained, self._images, self._fit, self._report = trained, images, fit, report
        first = next(latents(trained, images, fit=fit))[1]  # of a bad first file the error names all bad ones
        self.shape = (len(images), int(first[0].size))

    def blocks(self, rows: int) -> Iterator[Array]:
        waiting, count, done = list[Array](), 0, 0
        for batch, made in latents(self._trained, self._images, fit=self._fit):
            waiting.append(made.reshape(len(made), -1))
            count, done = count + len(batch), done + len(batch)
            if self._report is not None:
                self._report(done)
            if count + self._trained.batch_size > rows:
                yield np.concatenate(waiting)
                waiting, count = [], 0
        if waiting:
            yield np.concatenate(waiting)


class PixelSource:
    """Pixels in [0, 1] as features: the control that any others must beat."""

    def __init__(self, trained: Trained, images: Images, *, fit: str = "crop") -> None:
        self._images, self._size, self._fit = images, trained.size, fit
        first = next(images.batches(1, size=self._size, fit=fit)).images
        self.shape = (len(images), int(first[0].size))

    def blocks(self, rows: int) -> Iterator[Array]:
        for batch in self._images.batches(min(rows, 1024), size=self._size, fit=self._fit):
            unit = np.float32(255 if batch.images.dtype == np.uint8 else 1)
            yield batch.images.reshape(len(batch), -1).astype(np.float32) / unit


class NpyWriter:
    """Rows of one shape into a .npy file whose length is known at the end only."""

    def __init__(self, file: BinaryIO, dtype: "np.dtype[Any]") -> None:
        self._file, self._dtype, self.rows = file, dtype, 0
        self._shape: Shape = ()
        file.write(b"\0" * _HEADER)

    def add(self, rows: Array) -> None:
        self._shape = rows.shape[1:]
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        about = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._shape)}
        text = repr(about).encode()
        head = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text
        self._file.seek(0)
        self._file.write(head + b" " * (_HEADER - len(head) - 1) + b"\n")
        self._file.seek(0, io.SEEK_END)


def write_features(
    path: str | Path, trained: Trained, images: Images, *, fit: str = "crop", dtype: str = "fp32", keep_shape: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Writes the latents of all images as .npy, .npz or .parquet, a batch at a time; beside a .npy file a .csv with the name
    and label of each row. Rows are flat unless keep_shape. Nothing is there before all is. Returns what was written."""
    path = expanded(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ArgumentError(f"{path}: expected a file that ends with {', '.join(ENDINGS)}")
    if dtype not in DTYPES:
        raise ArgumentError(f"unknown type {dtype!r}; expected one of {', '.join(DTYPES)}")
    parquet = needed("pyarrow.parquet", "pyarrow", "a .parquet file") if ending == ".parquet" else None
    skipped, names, labels = list[str](), list[str](), list[int]()
    shape: Shape = ()

    def rows() -> Iterator[tuple[Batch, Array]]:
        nonlocal shape
        for batch, made in latents(trained, images, fit=fit, skipped=skipped):
            names.extend(batch.names)
            labels.extend([] if batch.labels is None else batch.labels.tolist())
            made = made if keep_shape else made.reshape(len(made), -1)
            shape = made.shape[1:]
            yield batch, made.astype(DTYPES[dtype], copy=False)
            if report is not None:
                report(len(names))

    with atomic_stream(path) as file:
        if parquet is not None:
            _write_parquet(parquet, file, rows(), images.classes, keep_shape)
        elif ending == ".npy":
            _write_npy(file, rows(), DTYPES[dtype])
        else:
            with tempfile.TemporaryFile(dir=path.resolve().parent) as loose:  # an entry of an archive is written in one go
                _write_npy(loose, rows(), DTYPES[dtype])
                _write_npz(file, loose, names, labels, images.classes)
    files = [str(path)]
    if ending == ".npy":
        files.append(str(path.with_suffix(".csv")))
        write_atomically(path.with_suffix(".csv"), _index(names, labels, images.classes).encode())
    return {
        "files": files, "rows": len(names), "shape": list(shape), "dtype": dtype, "labels": bool(labels), "skipped": skipped,
    }  # fmt: skip


def _write_npy(file: BinaryIO, rows: Iterator[tuple[Batch, Array]], dtype: "np.dtype[Any]") -> None:
    writer = NpyWriter(file, dtype)
    for _, made in rows:
        writer.add(made)
    writer.close()


def _write_npz(file: BinaryIO, loose: BinaryIO, names: list[str], labels: list[int], classes: list[str]) -> None:
    beside: dict[str, Array] = {"names": np.array(names)}
    if labels:
        beside["labels"] = np.array(labels, np.int64)
    if classes:
        beside["classes"] = np.array(classes)
    with zipfile.ZipFile(file, "w") as archive:
        loose.seek(0)
        with archive.open("features.npy", "w", force_zip64=True) as entry:
            shutil.copyfileobj(loose, entry, 1 << 22)
        for name, array in beside.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_parquet(
    parquet: Any, file: BinaryIO, rows: Iterator[tuple[Batch, Array]], classes: list[str], keep_shape: bool
) -> None:
    arrow, writer = needed("pyarrow", "pyarrow", "a .parquet file"), None
    for batch, made in rows:
        flat = made.reshape(len(made), -1)
        values = arrow.FixedSizeListArray.from_arrays(arrow.array(flat.reshape(-1)), flat.shape[1])
        columns = {"name": arrow.array(batch.names), "features": values}
        if batch.labels is not None:
            columns["label"] = arrow.array(batch.labels)
            if classes:
                columns["class"] = arrow.array([classes[i] for i in batch.labels])
        block = arrow.table(columns)
        if writer is None:
            about = {"shape": json.dumps(list(made.shape[1:]))} if keep_shape else {}
            writer = parquet.ParquetWriter(file, block.schema.with_metadata(about), compression="zstd")
        writer.write_table(block.replace_schema_metadata(writer.schema.metadata))
    if writer is None:
        raise DataError("there is no image to encode")
    writer.close()


def _index(names: list[str], labels: list[int], classes: list[str]) -> str:
    """The .csv beside a .npy file."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["row", "name", *(["label"] if labels else []), *(["class"] if labels and classes else [])])
    for i, name in enumerate(names):
        out.writerow([i, name, *([labels[i]] if labels else []), *([classes[labels[i]]] if labels and classes else [])])
    return text.getvalue()
