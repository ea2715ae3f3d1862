"""Files written so that a crash never leaves half of one, and .safetensors files with our metadata."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from warploom.errors import DataError
from warploom.ground.array_types import Array

_KEY = "warploom"  # one entry of metadata holds everything: the order of several would differ from file to file


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user replaced by their home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no such home folder") from None


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes beside the target and renames: readers see the old file or the new one, never a part.

    A link keeps pointing where it points. What is there and no plain file (/dev/stdout, a pipe) is written to, not replaced."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir() and (not path.is_file() or path.parent == Path("/dev")):
            path.write_bytes(content)
            return
        path = path.resolve()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide the file from others
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_tensors(path: str | Path, tensors: Mapping[str, Array], metadata: dict[str, Any]) -> None:
    from safetensors.numpy import save

    text = json.dumps(metadata, separators=(",", ":"))
    write_atomically(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {_KEY: text}))


def read_tensors(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """(tensors, our metadata: {} in files of others) of a .safetensors file; DataError in one sentence where that fails."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, metadata if isinstance(metadata, dict) else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged or no .safetensors file ({error}); restore it from a copy or train again") from error
