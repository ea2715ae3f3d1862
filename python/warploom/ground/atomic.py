"""Files written so that a crash never leaves half of one, and .safetensors files with our metadata and a checksum.

What is promised after a crash, a full disk or a loss of power at any point: the file is the old one or the new one, whole. The
new bytes go into a file without a name, which is gone if its process is killed. Synchronised, it gets the target's name; where an
older file has it, a hidden name first (".NAME.xxxxxxxx.tmp"), which is renamed over the target; then the folder is synchronised:
a name is an entry of it. On a file system without nameless files the hidden name is there from the start. What a killed process
leaves of those, sweep() removes.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from warploom.errors import DataError
from warploom.ground import halves
from warploom.ground.array_types import Array

_KEY = "warploom"  # one entry of metadata holds everything: the order of several would differ from file to file
_UNSIGNED = ("warploom-model-1", "warploom-checkpoint-1")  # formats from before there was a checksum
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4",
    "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_FLOATS = {"F64", "F32", "F16", "BF16"}
_LONGEST = 100_000_000  # bytes of a header, by the format
_TRIES = 100  # of a call that a signal interrupts
_LEFTOVER = re.compile(
    r"\..+\.(csv|html|json|jsonl|md|npy|npz|onnx|parquet|png|pth?|py|safetensors|svg|txt)\.[a-z0-9_]{8}(\.tmp)?"
)

R = TypeVar("R")


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user replaced by their home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no such home folder") from None


def write_atomically(path: str | Path, content: bytes, *, parents: bool = True) -> None:
    """Writes beside the target and renames: readers see the old file or the new one, never a part.

    A link keeps pointing where it points. What is there and no plain file (/dev/stdout, a pipe) is written to, not replaced.
    parents: makes the folder where it is missing."""
    path = Path(path)
    try:
        if parents:
            insist(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        if path.exists() and not path.is_dir() and (not path.is_file() or path.parent == Path("/dev")):
            path.write_bytes(content)
            return
        _replace(path.resolve(), content)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space") from error


@contextlib.contextmanager
def _taking_the_place_of(target: Path) -> Iterator[Path]:
    """A path beside the target: the file that is written there gets the target's name at the end. Where that is not reached, it
    is removed, also if Ctrl-C arrives in the very call that makes it."""
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
        insist(lambda: os.replace(temporary, target))
    except BaseException:
        with contextlib.suppress(OSError):
            insist(lambda: os.unlink(temporary))
        raise
    sync_folder(target.parent)


_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[int]:
    """The descriptor of a new file, to write to and to read from, that gets the target's name at the end."""
    nameless = _nameless(target.parent)
    if nameless is None:
        with _taking_the_place_of(target) as temporary, _closing(os.open(temporary, _NEW, 0o666)) as descriptor:
            yield descriptor
            os.fsync(descriptor)
        return
    try:
        yield nameless
        os.fsync(nameless)
        _give_name(nameless, target)
    finally:
        with contextlib.suppress(OSError):  # all that closing could still tell, fsync has told
            os.close(nameless)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        with contextlib.suppress(InterruptedError):  # it is closed all the same
            os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    with _replacing(path) as descriptor:
        rest = memoryview(content)
        while rest:
            written = os.write(descriptor, rest)  # may write less than it was given
            if not written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest = rest[written:]


@contextlib.contextmanager
def atomic_stream(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write to and read from, for what is too large to hold: whole under its name at the end, or not there."""
    path = expanded(path)
    try:
        insist(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _replacing(path.resolve()) as descriptor, open(descriptor, "w+b", closefd=False) as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space") from error


_DESCRIPTORS = Path("/proc/self/fd")


def _nameless(folder: Path) -> int | None:
    """A file in the folder without a name, which is gone if its process dies; None where the system has no such files."""
    if not hasattr(os, "O_TMPFILE") or not _DESCRIPTORS.is_dir():
        return None
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o666)  # the umask takes its part
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EISDIR, errno.ENOENT):
            return None
        raise


def _give_name(descriptor: int, target: Path) -> None:
    """At once where the name is free; a name that is taken can only be replaced, by a file that has one."""
    if _linked(descriptor, target):
        sync_folder(target.parent)
        return
    with _taking_the_place_of(target) as temporary:
        if not _linked(descriptor, temporary):  # forbidden here: hours of work are not lost for that
            with _closing(os.open(temporary, _NEW, 0o666)) as copy, open(copy, "wb", closefd=False) as into:
                os.lseek(descriptor, 0, os.SEEK_SET)
                with open(descriptor, "rb", closefd=False) as source:
                    shutil.copyfileobj(source, into, 1 << 20)
                into.flush()
                os.fsync(copy)


def _linked(descriptor: int, path: Path) -> bool:
    try:  # src_dir_fd means nothing here, but with it alone does Python call linkat(), which follows the link in /proc
        insist(lambda: os.link(_DESCRIPTORS / str(descriptor), path, src_dir_fd=descriptor))
    except OSError:
        return False
    return True


def can_write(path: str | Path) -> None:
    """DataError where a file could not be written at that path: before the work whose result it would be, not after."""
    path = expanded(path)
    try:
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            return  # /dev/stdout, a pipe
        with tempfile.TemporaryFile(dir=next(folder for folder in path.resolve().parents if folder.exists())):
            pass
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space") from error


def insist(call: Callable[[], R]) -> R:
    """The call's result; one that a signal interrupts is made again, as Python does for reads and writes but not for these."""
    for _ in range(_TRIES):
        with contextlib.suppress(InterruptedError):
            return call()
    return call()


def read_whole(path: Path) -> bytes:
    """The file's bytes; OSError where it cannot be read. A signal in the very call that closes it does not matter."""
    return insist(path.read_bytes)


def sync_folder(folder: Path) -> None:
    """Waits until the entries of a folder are on the disk; not where the file system or the permissions do not allow it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Removes what killed processes left of files they were writing. Only for a folder that nobody else writes into now."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Array], metadata: dict[str, Any], *, parents: bool = True, dtype: str = "fp32"
) -> None:
    """A .safetensors file; its metadata hold ours and a checksum of all.

    dtype: "fp16" and "bf16" round float32 tensors to that type; DataError where it cannot hold one of their numbers."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    floats = {name for name, array in arrays.items() if array.dtype == np.float32}
    if halves.check_dtype(dtype) != "fp32":
        metadata = {**metadata, "dtype": dtype}
        arrays |= {name: halves.narrowed(arrays[name], dtype, name) for name in floats}
    read = {name: halves.widened(a) if dtype == "bf16" and name in floats else a for name, a in arrays.items()}
    text = json.dumps({**metadata, "checksum": _checksums(metadata, read)}, separators=(",", ":"))
    content = save(arrays, {_KEY: text})
    write_atomically(path, _called_bfloat16(content, floats) if dtype == "bf16" else content, parents=parents)


def _called_bfloat16(content: bytes, names: set[str]) -> bytes:
    """A .safetensors file in which those tensors, written as their bits, have their true type: NumPy has none for it."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name in names:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def read_tensors(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """(tensors, our metadata: {} in files of others) of a .safetensors file; DataError in one sentence where that fails.

    bfloat16 comes as float32, which holds the same numbers. In our files the checksum must fit; that of the tensors is not asked
    where another program has converted them to another type.
    """
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        content = read_whole(path)
        tensors, types = {}, set()
        for name, found in deserialize(content):  # type: ignore[no-untyped-call]
            types.add(found["dtype"])
            tensors[name] = _array(name, found)
        metadata = json.loads(_own_metadata(content))
        metadata = metadata if isinstance(metadata, dict) else {}
        given = metadata.pop("checksum", None)
        if given is None and (metadata.get("format", "warploom-model-1") not in _UNSIGNED):
            raise ValueError("its checksum is missing")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged or no .safetensors file ({error}); restore it from a copy or train again") from error
    if given is not None:
        expected = _checksums(metadata, tensors)
        own = halves.STORED.get(str(metadata.get("dtype")), "F32")
        if isinstance(given, dict) and types & _FLOATS - {own}:  # another program has converted them
            expected["tensors"] = given.get("tensors", "")
        if given != expected:
            raise DataError(
                f"{path} is damaged: what it holds does not have the checksum that it had when it was written; restore it from a "
                "copy or train again (where another program has changed it on purpose, take its tensors with "
                "safetensors.numpy.load_file and model.load_state_dict)"
            )
    return tensors, metadata


def metadata_of(path: str | Path) -> dict[str, Any]:
    """Our metadata of a .safetensors file, its tensors not looked at; {} of any other: read_tensors() says what is wrong."""

    def header() -> str:
        with Path(path).open("rb") as file:
            start = file.read(8)
            return _own_metadata(start + file.read(min(int.from_bytes(start, "little"), _LONGEST)))

    try:
        said = json.loads(insist(header))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _own_metadata(content: bytes) -> str:
    """The text of our entry; the header has been checked."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return str(header.get("__metadata__", {}).get(_KEY, "{}"))


def _array(name: str, found: Mapping[str, Any]) -> Array:
    shape, data, kind = found["shape"], found["data"], found["dtype"]
    if kind == "BF16":  # the upper half of a float32
        floats: Array = halves.widened(np.frombuffer(data, "<u2")).reshape(shape)
        return floats
    if kind not in _TYPES:
        raise DataError(f"tensor {name!r} has the type {kind}, which is not supported; convert it to F32, F16 or BF16 first")
    array: Array = np.frombuffer(data, np.dtype(_TYPES[kind])).reshape(shape)
    return array


def _checksums(metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> dict[str, str]:
    """Of what a file says and of what it holds, in an order that does not depend on the file's."""
    plain = json.loads(json.dumps(metadata))  # as it is read again: keys are text
    said = hashlib.blake2b(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode(), digest_size=16)
    held = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        held.update(f"{name}\0{array.dtype.str}\0{tensors[name].shape}\0".encode())
        held.update(array.reshape(-1).view(np.uint8).data)
    return {"metadata": said.hexdigest(), "tensors": held.hexdigest()}
