"""State dicts from files of other programs: .safetensors, and what torch.save() wrote. PyTorch is not needed, no code is run.

A file of torch.save() is a zip archive: a pickle that says which tensors there are, and the bytes of each storage as they are.
The pickle is read by an unpickler that can build dictionaries, lists, numbers, texts and records of tensors, and nothing else.
Arrays are views of the file's bytes, so that a small file cannot ask for much memory.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from warploom.errors import DataError
from warploom.ground.array_types import Array
from warploom.ground.atomic import expanded, read_tensors
from warploom.ground.halves import widened
from warploom.ground.unpickling import Restricted

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl")
_WITHIN = ("state_dict", "model_state_dict", "model", "net", "network", "module")  # where checkpoints keep one
_COUNTER = "num_batches_tracked"
_STEPS = (
    "PROTO FRAME STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS MARK POP "
    "POP_MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
)
_TYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bf16", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_WORDS = 200  # characters of a reason that is passed on


class _Dict(dict[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        """A module's state dict carries the versions of its modules."""


class _Tensor:
    """A tensor as the pickle tells of it."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def view(self, storages: Mapping[Any, Array]) -> Array:
        """Its elements in the storage's memory; ValueError where they do not lie in it."""
        flat = storages[self.storage]
        sizes, steps = self.shape, self.strides
        numbers = [self.offset, *sizes, *steps]
        if any(type(n) is not int or n < 0 or n >= 1 << 48 for n in numbers) or len(sizes) != len(steps) or len(sizes) > 16:
            raise ValueError("a shape of numbers that are no sizes")
        if 0 in sizes:
            return np.empty(sizes, flat.dtype)
        count = 1
        for size in sizes:
            count *= size
        last = self.offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        if last >= flat.size or count > flat.size:
            raise ValueError(f"a tensor of shape {tuple(sizes)} that does not lie within its {flat.size:,} elements")
        strides = [step * flat.itemsize for step in steps]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], sizes, strides, writeable=False)


class _Unpickler(Restricted):
    file = "state dict"
    steps = _STEPS

    def __init__(self, content: bytes) -> None:
        self.storages: dict[str, tuple[str, int]] = {}  # type and number of elements, by key
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): lambda *given: _Dict(*given),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *given: _Tensor(*given),
            ("torch._utils", "_rebuild_tensor"): lambda *given: _Tensor(*given),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): lambda *given: tuple(*given),
            ("torch", "device"): lambda *_: None,
            **{("torch", name): name for name in _TYPES},
        }
        super().__init__(io.BytesIO(content), allowed, (_Dict,))

    def persistent_load(self, pid: Any) -> str:
        what, kind, key, _, count = pid
        if what != "storage" or kind not in _TYPES or type(key) is not str or type(count) is not int:
            raise ValueError("it tells of a storage that is none")
        self.storages[key] = (kind, count)
        return key


def read_state_dict(path: str | Path) -> dict[str, Array]:
    """The tensors of a .safetensors file or of what torch.save() wrote of a state dict, by their names.

    Whole checkpoints are taken too, if the state dict stands in them as state_dict, model_state_dict, model, net, network or
    module. float16 stays float16, bfloat16 becomes float32; batch norms' num_batches_tracked are left out.
    Model.load_state_dict() takes the result, and strips a prefix such as "module." that all names share.

    No code in the file is run and PyTorch is not needed. DataError in one sentence where it is no state dict, damaged, or holds
    other objects than tensors, numbers and texts.
    """
    path = expanded(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(4)
    found = _read_zip(path) if head == b"PK\x03\x04" else read_tensors(path)[0] if path.suffix == ".safetensors" else None
    if found is None:
        raise DataError(
            f"{path} is neither a .safetensors file nor a state dict as PyTorch 1.6 and later write it: save it again with "
            "torch.save(module.state_dict(), path)"
        )
    found = {name: value for name, value in found.items() if name.rpartition(".")[2] != _COUNTER}
    if not found:
        raise DataError(f"{path} holds no tensors")
    return found


def _read_zip(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive, path.stat().st_size)
            unpickler = _Unpickler(archive.read(f"{root}data.pkl"))
            tensors = _tensors(unpickler.load())
            big = f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder").strip() == b"big"
            wanted = {tensor.storage for tensor in tensors.values()}
            storages = {key: _storage(archive, f"{root}data/{key}", *unpickler.storages[key], big) for key in wanted}
            return {name: tensor.view(storages) for name, tensor in tensors.items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # damaged bytes can fail in any way, but only inside this function
        reason = (str(error) or type(error).__name__)[:_WORDS]
        raise DataError(
            f"{path} is damaged or no state dict ({reason}); save the state dict alone with torch.save(module.state_dict(), path)"
        ) from error


def _root(archive: zipfile.ZipFile, size: int) -> str:
    """The folder in the archive; its members must be stored as they are, side by side."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members) or sum(m.file_size for m in members) > size:
        raise ValueError("its members are packed or lie over each other, which torch.save() does not do")
    pickles = [member.filename for member in members if member.filename.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError("it has no data.pkl: is it a TorchScript module, or an archive of something else?")
    return pickles[0].removesuffix("data.pkl")


def _storage(archive: zipfile.ZipFile, name: str, kind: str, count: int, big: bool) -> Array:
    content = archive.read(name)
    code = _TYPES[kind]
    dtype = np.dtype("u2" if code == "bf16" else code).newbyteorder(">" if big else "<")
    if count < 0 or len(content) < count * dtype.itemsize:
        raise ValueError(f"{name} has {len(content):,} bytes for {count:,} elements")
    flat: Array = np.frombuffer(content, dtype, count)
    return widened(flat) if code == "bf16" else flat


def _tensors(value: Any) -> dict[str, _Tensor]:
    """The state dict: what was saved, or what a checkpoint holds under a usual name."""
    for _ in range(3):
        if isinstance(value, dict) and not any(isinstance(v, _Tensor) for v in value.values()):
            value = next((value[key] for key in _WITHIN if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict):
        raise DataError(f"it holds a {type(value).__name__.strip('_').lower()}, not a state dict: save module.state_dict()")
    if not all(isinstance(name, str) for name in value):
        raise DataError("its names are not texts")
    found = {name: tensor for name, tensor in value.items() if isinstance(tensor, _Tensor)}
    others = [name for name, tensor in value.items() if not isinstance(tensor, _Tensor)]
    if found and others:
        raise DataError(f"{others[0][:_WORDS]} is no tensor: save module.state_dict() alone")
    return found
