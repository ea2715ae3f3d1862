"""NCCL between GPUs: its library is looked for at run time, in the nvidia-nccl-cu13 wheel or the system.

Only what is needed is called: point-to-point in groups (the tree's order of additions stays ours) and the all-reduce of
`--reduce fast`. Everything is put on a stream of its own, beside that of the device's kernels; no call waits.
WARPLOOM_NCCL=FILE names the library, and has it used on any device, which is for tests; WARPLOOM_NCCL=off has it never used.
https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html
"""

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warploom import _core
from warploom.distributed.groups import Group
from warploom.errors import DeviceError
from warploom.interop import Array

VARIABLE = "WARPLOOM_NCCL"
SYMBOLS = (
    "ncclGetVersion", "ncclGetUniqueId", "ncclGetErrorString", "ncclGetLastError", "ncclCommInitRank", "ncclCommDestroy",
    "ncclGroupStart", "ncclGroupEnd", "ncclSend", "ncclRecv", "ncclAllReduce",
)  # fmt: skip
_FLOAT32, _SUM = 7, 0  # of ncclDataType_t and ncclRedOp_t


class UniqueId(ctypes.Structure):
    """ncclUniqueId: passed by value."""

    _fields_ = (("internal", ctypes.c_byte * 128),)


def _places() -> list[str]:
    """Where the library may be, the first that loads is taken."""
    told = os.environ.get(VARIABLE, "")
    if told:
        return [told]
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("nvidia.nccl")
        folders = list(spec.submodule_search_locations or []) if spec else []
        found = [str(path) for folder in folders for path in Path(folder).glob("lib/libnccl.so.2")]
        return [*found, "libnccl.so.2"]
    return ["libnccl.so.2"]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library, or why there is none."""
    if os.environ.get(VARIABLE) == "off":
        return None, f"{VARIABLE}=off"
    why = ""
    for place in _places():
        try:
            library = ctypes.CDLL(place)
        except OSError as error:
            why = why or str(error).splitlines()[0]
            continue
        missing = [name for name in SYMBOLS if not hasattr(library, name)]
        if missing:
            return None, f"{place} is no NCCL that can be used: it lacks {missing[0]}"
        _declare(library)
        return library, ""
    return None, f"no libnccl.so.2 loads ({why}): pip install nvidia-nccl-cu13"


def _declare(library: ctypes.CDLL) -> None:
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.ncclGetErrorString.restype = library.ncclGetLastError.restype = ctypes.c_char_p
    library.ncclGetErrorString.argtypes, library.ncclGetLastError.argtypes = [number], [pointer]
    library.ncclCommInitRank.argtypes = [ctypes.POINTER(pointer), number, UniqueId, number]
    library.ncclCommDestroy.argtypes = [pointer]
    library.ncclSend.argtypes = library.ncclRecv.argtypes = [pointer, size, number, number, pointer, pointer]
    library.ncclAllReduce.argtypes = [pointer, pointer, size, number, number, pointer, pointer]


def why_not() -> str:
    """Why NCCL cannot be loaded here, in a sentence; "" where it can. Needs no GPU."""
    return _load()[1]


def version() -> str:
    """As "2.28.3"; "" where it cannot be loaded."""
    library, _ = _load()
    number = ctypes.c_int()
    if library is None or library.ncclGetVersion(ctypes.byref(number)):
        return ""
    return f"{number.value // 10000}.{number.value // 100 % 100}.{number.value % 100}"


def wanted(device: str) -> bool:
    """Whether it is for this device."""
    return device.startswith("cuda") or os.environ.get(VARIABLE, "off") != "off"


@functools.cache
def _own_stream(device: str) -> int:
    """Beside the one of the device's kernels; the same one where it has no other. Kept until the process ends."""
    kernels = _core.stream_of(device)  # which makes the device the thread's current one
    if not device.startswith("cuda"):
        return kernels
    own, beside_all = ctypes.c_void_p(), 1  # CU_STREAM_NON_BLOCKING
    code = ctypes.CDLL("libcuda.so.1").cuStreamCreate(ctypes.byref(own), beside_all)
    if code or own.value is None:
        raise DeviceError(f"the driver makes no second stream on {device} (error {code}); {VARIABLE}=off does without NCCL")
    return own.value


class Nccl:
    """All workers of a group, each with a GPU of its own. Arrays are float32 on the device, one-dimensional."""

    def __init__(self, group: Group, device: str) -> None:
        """Every worker must come here."""
        library, why = _load()
        if library is None:
            raise DeviceError(f"NCCL cannot be used: {why}")
        self.stream, self._kernels = _own_stream(device), _core.stream_of(device)
        self._library, self._group, self._device = library, group, device
        self._communicator = ctypes.c_void_p()
        own = UniqueId()
        wrong = ""
        if group.rank == 0:
            try:
                self._call("ncclGetUniqueId", ctypes.byref(own))
            except DeviceError as error:
                wrong = str(error)
        said, name = group.exchange((wrong, bytes(own)))[0]  # the others are told why rank 0 does not come
        if said:
            raise DeviceError(said)
        shared = UniqueId.from_buffer_copy(name)
        self._call("ncclCommInitRank", ctypes.byref(self._communicator), group.size, shared, group.rank)
        atexit.register(self.close)

    def close(self) -> None:
        """Not after a fault: it would wait for the others."""
        if self._communicator and not self._group.failed:
            self._library.ncclCommDestroy(self._communicator)
        self._communicator = ctypes.c_void_p()
        atexit.unregister(self.close)

    def after_kernels(self) -> None:
        """What comes on the own stream begins when the device's kernels so far are done."""
        if self.stream != self._kernels:
            _core.wait_for(self._device, self._kernels, self.stream)

    def before_kernels(self) -> None:
        """The device's next kernels begin when what was put on the own stream is done."""
        if self.stream != self._kernels:
            _core.wait_for(self._device, self.stream)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = (self._library.ncclGetErrorString(code) or b"").decode(errors="replace")
            last = (self._library.ncclGetLastError(self._communicator) or b"").decode(errors="replace").strip()
            about = f"{text}{f'; {last.splitlines()[-1]}' if last else ''}"
            rank = self._group.rank
            raise DeviceError(f"{name} failed on rank {rank} with error {code} ({about}); {VARIABLE}=off does without NCCL")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Sends and receives in here are one operation: none waits for another."""
        self._call("ncclGroupStart")
        try:
            yield
        except BaseException:
            self._library.ncclGroupEnd()  # NCCL's count of open groups; what went wrong is said already
            raise
        self._call("ncclGroupEnd")

    def send(self, array: Array, to: int) -> None:
        if array.size:
            self._call("ncclSend", array.pointer, array.size, _FLOAT32, to, self._communicator, self.stream)

    def receive(self, array: Array, origin: int) -> None:
        if array.size:
            self._call("ncclRecv", array.pointer, array.size, _FLOAT32, origin, self._communicator, self.stream)

    def sum(self, array: Array, to: Array) -> None:
        """Over all workers, in NCCL's own order."""
        if array.size:
            self._call("ncclAllReduce", array.pointer, to.pointer, array.size, _FLOAT32, _SUM, self._communicator, self.stream)
