"""Arrays in a device's memory, passed to and from NumPy, PyTorch, CuPy and PyCUDA without a copy.

    a = wl.from_dlpack(tensor)          a torch tensor, CuPy array or NumPy array, where it lies: the same memory
    a = wl.asarray(x, device="cuda:0")  anything; copied only if it lies elsewhere
    t = torch.from_dlpack(a)            and back; on a GPU also cupy.asarray(a) and pycuda.gpuarray, by __cuda_array_interface__

An Array is dense and in C order. Its memory is complete when Python holds it: whoever fills it waits. Work that another library
has queued on a stream is waited for when the array comes in; who goes on writing to memory that is shared synchronises first.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from warploom import _core
from warploom._core import DeviceArray as Array
from warploom.errors import ArgumentError, DeviceError, DTypeError, StateError
from warploom.ground import hardware

__all__ = ["Array", "asarray", "from_dlpack", "to_torch"]

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13  # DLPack's device types
_LEGACY_STREAM = 1


def from_dlpack(x: object, what: str = "x") -> Array:
    """The array behind an object with __dlpack__ and __dlpack_device__: the same memory, on the same device."""
    if isinstance(x, Array):
        return x
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise DTypeError(f"{what} must offer DLPack (__dlpack__ and __dlpack_device__); {type(x).__name__} does not")
    device = _dlpack_device(x, what)
    options: dict[str, Any] = {"stream": _core.stream_of(device)} if device.startswith("cuda") else {}
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0), **options)
        except TypeError:  # a producer from before DLPack 1.0
            capsule = x.__dlpack__(**options)
    except (BufferError, ValueError, RuntimeError, TypeError) as error:
        raise ArgumentError(f"{what} cannot be shared: {error}") from error
    return _taken(lambda: _core.array_from_dlpack(capsule, device), what)


def _taken(take: Any, what: str) -> Array:
    try:
        array: Array = take()
    except TypeError as error:
        raise DTypeError(f"{what}: {error}") from None
    except ValueError as error:
        raise ArgumentError(f"{what}: {error}") from None
    return array


def _kind_of_device(x: Any, what: str) -> tuple[int, int]:
    """DLPack's number of the kind of device, and which one."""
    try:
        kind, index = x.__dlpack_device__()
    except (BufferError, ValueError, RuntimeError, TypeError) as error:  # a tensor of PyTorch's "meta" device has no memory
        raise DTypeError(f"{what} of type {type(x).__name__} gives no array ({error})") from None
    return int(kind), int(index)


def _dlpack_device(x: Any, what: str) -> str:
    kind, index = _kind_of_device(x, what)
    if kind in (_CPU, _CUDA_HOST):
        return "cpu"
    if kind in (_CUDA, _CUDA_MANAGED):
        return f"cuda:{index}"
    raise DeviceError(f"{what} lies on a device of DLPack's kind {kind}; warploom shares memory of the host and of CUDA GPUs")


def _from_cuda_interface(x: Any, what: str) -> Array:
    """The array behind __cuda_array_interface__ (version 2 or 3)."""
    said = x.__cuda_array_interface__
    if not isinstance(said, Mapping) or not {"shape", "typestr", "data", "version"} <= said.keys():
        raise ArgumentError(f"{what}: its __cuda_array_interface__ lacks one of shape, typestr, data and version")
    if int(said["version"]) < 2:
        raise ArgumentError(f"{what}: its __cuda_array_interface__ has version {said['version']}; warploom takes 2 and 3")
    if said.get("mask") is not None:
        raise ArgumentError(f"{what} is masked; warploom takes whole arrays")
    shape = tuple(int(s) for s in said["shape"])
    dtype = np.dtype(said["typestr"])
    pointer, read_only = int(said["data"][0]), bool(said["data"][1])
    strides = said.get("strides")
    if strides is not None and not _dense(shape, tuple(int(s) for s in strides), dtype.itemsize):
        raise ArgumentError(
            f"{what} of shape {shape} has strides {tuple(strides)} and is not in C order: pass a contiguous copy "
            "(x.contiguous() in PyTorch, cupy.ascontiguousarray elsewhere)"
        )
    stream = said.get("stream")
    if stream == 0:
        raise ArgumentError(f"{what}: its __cuda_array_interface__ names the stream 0, which has no meaning; 1 is the default")
    empty = 0 in shape
    device = "cuda:0" if empty and not pointer else _core.device_of(pointer)
    if not device:
        raise DeviceError(f"{what}: its pointer {pointer:#x} is no memory of a CUDA device that warploom can use here")
    array = _taken(lambda: _core.array_borrowed(device, pointer, shape, dtype, not read_only, x), what)
    if not empty:  # version 2 knows no streams: what the default stream was given is waited for
        waits = stream if stream is not None else (_LEGACY_STREAM if int(said["version"]) < 3 else None)
        if waits is not None:
            _core.wait_for(device, int(waits))
    return array


def _dense(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != expected and 0 not in shape:
            return False
        expected *= length
    return True


def device_array(x: object, what: str = "x") -> Array | None:
    """The Array that x is, or can be seen as because it lies on a GPU; None for what lies on the host (or is no array)."""
    if isinstance(x, Array):
        return x
    if x is None or isinstance(x, (np.ndarray, np.generic, int, float, str, list, tuple, dict)):
        return None
    if hasattr(x, "__dlpack_device__") and hasattr(x, "__dlpack__"):
        return from_dlpack(x, what) if _kind_of_device(x, what)[0] in (_CUDA, _CUDA_MANAGED) else None
    return _from_cuda_interface(x, what) if hasattr(x, "__cuda_array_interface__") else None


def asarray(x: object, *, device: str | None = None, copy: bool | None = None) -> Array:
    """x as an Array. device: where it shall lie; None: where it lies. copy: None copies if needed, False never, True always.

    x: an Array; an array of NumPy, PyTorch, CuPy, PyCUDA or Numba; or numbers in lists.
    """
    array = device_array(x)
    if array is None:
        array = _from_host(x, may_copy=copy is not False)
    if device is not None:
        target = _named(device)
        if target != array.device:
            if copy is False:
                raise ArgumentError(f"x lies on {array.device}, not on {target}: that takes a copy, and copy=False forbids it")
            return array.to(target)
    return array.copy() if copy else array


def _from_host(x: object, may_copy: bool) -> Array:
    if isinstance(x, np.ndarray):
        host = x
    elif hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        return from_dlpack(x)
    elif may_copy or hasattr(x, "__array_interface__") or hasattr(x, "__array__"):
        host = np.asarray(x)
    else:
        raise DTypeError(f"x of type {type(x).__name__} has no memory to share, and copy=False forbids a copy")
    if not host.flags.c_contiguous:
        if not may_copy:
            raise ArgumentError("x is not in C order: it must be copied, and copy=False forbids that")
        host = np.ascontiguousarray(host)
    return _taken(lambda: _core.array_on_host(host), "x")


def _named(device: str) -> str:
    return hardware.resolve("auto", device).device


def on_host(x: Array, what: str) -> np.ndarray[Any, np.dtype[Any]]:
    """A view as a NumPy array; an error for an array on a GPU, which is not copied behind the user's back."""
    if not x.on_host:
        raise DeviceError(f"{what} lies on {x.device} and is needed on the host here: copy it with .numpy() (.cpu() in PyTorch)")
    return x.numpy()


def to_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict as PyTorch's modules load it: module.load_state_dict(warploom.interop.to_torch(model.state_dict())).

    The other way needs no help: model.load_state_dict(module.state_dict())."""
    try:
        import torch
    except ImportError:
        raise StateError("to_torch() needs PyTorch: pip install torch") from None
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def torch_file(state: Mapping[str, Any], dtype: str = "fp32") -> bytes:
    """What torch.save writes of a state dict. dtype: "fp32", "fp16" or "bf16"."""
    tensors = to_torch(state)
    import torch

    content = io.BytesIO()
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    torch.save({name: tensor.to(kinds[dtype]) for name, tensor in tensors.items()}, content)
    return content.getvalue()


def common_device(arrays: Sequence[tuple[str, Array]]) -> str:
    """The one device of all the named arrays; DeviceError where there are two."""
    first, where = arrays[0][0], arrays[0][1].device
    for what, array in arrays[1:]:
        if array.device != where:
            raise DeviceError(
                f"{first} lies on {where}, {what} on {array.device}; move one with warploom.asarray(..., device=...)"
            )
    return where
