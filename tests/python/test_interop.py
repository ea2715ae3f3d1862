"""Arrays pass to and from other libraries without a copy: the same pointer, and a write on one side is seen on the other.

What lies on a device takes the same path whether that device is a GPU or emulated, so that most of it runs here; the tests with
real GPU arrays run where torch sees a GPU.
"""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import usable_gpus
from numpy.typing import NDArray
from warploom import _core
from warploom.classify.sources import as_source
from warploom.detect.detector import Detector
from warploom.inference.images import open_images

RNG = np.random.default_rng(3)
EMULATED = ["emulated", "emulated:checked"]
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not usable_gpus(), reason="needs a usable cuda device")]
DEVICES = [*EMULATED, pytest.param("cuda", marks=on_gpu)]


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape, dtype=np.float32)


def address(x: NDArray[Any]) -> int:
    return int(x.ctypes.data)


# ---- NumPy and PyTorch on the host ----


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "int64", "bool"])
def test_numpy_both_ways_without_a_copy(dtype: str) -> None:
    x = RNG.integers(0, 2, (3, 4)).astype(dtype)
    for array in (wl.asarray(x), wl.from_dlpack(x)):
        assert (array.shape, array.dtype, array.device, array.pointer) == ((3, 4), np.dtype(dtype), "cpu", address(x))
        for back in (np.asarray(array), np.from_dlpack(array), array.numpy(), np.asarray(memoryview(array))):
            assert back.dtype == x.dtype
            assert address(back) == address(x)
        before = bool(x[0, 0])
        array.numpy()[0, 0] = not before
        assert bool(x[0, 0]) != before


def test_torch_both_ways_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    t = torch.arange(6.0).reshape(2, 3)
    array = wl.from_dlpack(t)
    assert array.pointer == t.data_ptr() == wl.asarray(t).pointer
    back = torch.from_dlpack(array)
    assert back.data_ptr() == t.data_ptr()
    back[1, 1] = -5.0
    assert t[1, 1] == -5.0 == array.numpy()[1, 1]
    assert torch.asarray(np.asarray(array)).data_ptr() == t.data_ptr()
    assert tuple(torch.from_dlpack(array.reshape(3, -1)).shape) == (3, 2)


def test_memory_lives_as_long_as_anyone_uses_it() -> None:
    array = wl.from_dlpack(np.full(1 << 16, 7.0, np.float32))
    view = np.from_dlpack(array[16:])
    del array
    gc.collect()
    other = [np.zeros(1 << 16, np.float32) for _ in range(4)]
    assert (view == 7.0).all(), len(other)
    unused = wl.asarray(np.zeros(4)).__dlpack__()  # a capsule that nobody takes gives the memory back itself
    del unused
    gc.collect()


def test_read_only_stays_read_only() -> None:
    x = floats(4)
    x.flags.writeable = False
    array = wl.asarray(x)
    assert not array.writable
    assert not np.asarray(array).flags.writeable
    with pytest.raises(BufferError, match=r"DLPack 1\.0"):
        array.__dlpack__()
    with pytest.raises(ValueError, match="read-only"):
        array.assign(floats(4))
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":  # it does not know DLPack 1.0
        with pytest.raises(BufferError, match=r"DLPack 1\.0"):
            np.from_dlpack(array)
        return
    assert not np.from_dlpack(array).flags.writeable
    copy = np.from_dlpack(array, copy=True)
    assert address(copy) != address(x)
    assert copy.flags.writeable


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((4, 6), np.float32)[:, ::2], "not in C order"),
        (np.zeros((4, 6), np.complex64), "complex64|cannot be shared"),
        ([1.0, 2.0], "must offer DLPack"),
        ("text", "must offer DLPack"),
    ],
)
def test_what_cannot_be_shared_says_why(x: Any, words: str) -> None:
    with pytest.raises(wl.ArgumentError, match=words):
        wl.from_dlpack(x)


def test_torch_errors_are_passed_on() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(wl.ArgumentError, match=r"x cannot be shared: .*gradient"):
        wl.from_dlpack(torch.zeros(2, requires_grad=True))
    with pytest.raises(wl.ArgumentError, match=r"contiguous\(\)"):
        wl.from_dlpack(torch.zeros(3, 4).t())
    with pytest.raises(wl.DTypeError, match="bfloat16"):
        wl.from_dlpack(torch.zeros(3, dtype=torch.bfloat16))


def test_copies_are_made_only_where_they_are_allowed() -> None:
    x = floats(4, 6)
    assert wl.asarray(x, copy=False).pointer == address(x)
    assert wl.asarray(x, copy=True).pointer != address(x)
    assert (wl.asarray(x[:, ::2]).numpy() == x[:, ::2]).all()
    with pytest.raises(wl.ArgumentError, match="copy=False"):
        wl.asarray(x[:, ::2], copy=False)
    with pytest.raises(wl.ArgumentError, match="copy=False"):
        wl.asarray(x, device="emulated", copy=False)
    assert wl.asarray([[1, 2], [3, 4]]).shape == (2, 2)
    with pytest.raises(wl.DTypeError, match="no memory to share"):
        wl.asarray([1, 2], copy=False)


def test_rows_and_shapes() -> None:
    x = floats(5, 4)
    array = wl.asarray(x)
    assert address(np.asarray(array[1:3])) == address(x[1:3])
    assert (np.asarray(array[-1]) == x[-1]).all()
    assert array.reshape((2, -1)).shape == (2, 10)
    assert len(array) == 5
    assert float(array[0].reshape(4)[2]) == x[0, 2]
    for wrong, error in ((slice(None, None, 2), IndexError), (9, IndexError), ((0, 1), TypeError)):
        with pytest.raises(error):
            array[wrong]  # type: ignore[index]
    with pytest.raises(ValueError, match="cannot take the shape"):
        array.reshape(3, 3)


# ---- Arrays of a CUDA device, as far as that can be seen without one ----


class Foreign:
    def __init__(self, **said: Any) -> None:
        self.__cuda_array_interface__ = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3} | said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"version": 1}, "version 1; warploom takes 2 and 3"),
        ({"mask": Foreign}, "masked"),
        ({"strides": (4, 8)}, "not in C order"),
        ({"stream": 0}, "stream 0"),
        ({"data": (64, False)}, "no memory of a CUDA device"),
        ({"data": (64, False), "strides": (12, 4), "stream": 7}, "no memory of a CUDA device"),  # dense strides are fine
    ],
)
def test_a_cuda_array_interface_is_checked(said: dict[str, Any], words: str) -> None:
    for use in (wl.asarray, wl.ops.relu):
        with pytest.raises((wl.ArgumentError, wl.DeviceError), match=words):
            use(Foreign(**said))
    incomplete = Foreign()
    del incomplete.__cuda_array_interface__["typestr"]
    with pytest.raises(wl.ArgumentError, match="lacks"):
        wl.asarray(incomplete)


@pytest.mark.skipif(bool(usable_gpus()), reason="says what a machine without a GPU says")
def test_a_gpu_tensor_needs_a_usable_gpu() -> None:
    class OnGpu:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError("must not be asked before the device is known to be usable")

    with pytest.raises(wl.DeviceError, match="cuda:0"):
        wl.from_dlpack(OnGpu())


def test_host_arrays_have_no_cuda_array_interface() -> None:
    assert not hasattr(wl.asarray(floats(2)), "__cuda_array_interface__")


def test_other_kinds_of_devices_are_refused() -> None:
    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 10, 0

        def __dlpack__(self, **_: Any) -> Any: ...

    with pytest.raises(wl.DeviceError, match="kind 10"):
        wl.from_dlpack(Elsewhere())


# ---- Operations and models on arrays that lie on a device ----


def everything(version: str, device: str) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """(operation, arguments, options) that reach every conversion of layouts."""
    x, w, b = floats(2, 3, 5, 6), floats(4, 3, 3, 3), floats(4)
    run = {"version": version, "device": device}
    y, index = wl.ops.max_pool2d(x, 2, **run)
    mean, var = floats(3), np.abs(floats(3))
    return [
        ("conv2d", (x, w, b), {"padding": 1}),
        ("conv2d_backward", (floats(2, 4, 5, 6), x, w), {"padding": 1}),
        ("conv_transpose2d", (floats(2, 4, 3, 3), floats(4, 2, 3, 3), floats(2)), {"stride": 2}),
        ("linear", (floats(3, 5), floats(4, 5), floats(4)), {}),
        ("linear_backward", (floats(3, 4), floats(3, 5), floats(4, 5)), {}),
        ("max_pool2d", (x, 2), {}),
        ("max_pool2d_backward", (floats(*y.shape), index, x.shape), {"kernel_size": 2}),
        ("avg_pool2d", (x, 2), {}),
        ("upsample", (x, 2), {}),
        ("leaky_relu", (x, 0.1), {}),
        ("add", (x, floats(*x.shape)), {}),
        ("concat", ([x, x + 1],), {"axis": 1}),
        ("batch_norm", (x, floats(3), floats(3), mean, var), {"training": True}),
        ("batch_norm_backward", (floats(*x.shape), x, floats(3), mean, var), {"training": True}),
        ("rms_norm", (x,), {}),
        ("mse_loss", (x, floats(*x.shape)), {}),
        ("bce_with_logits_loss", (x, np.abs(np.sin(x))), {}),
        ("depth_to_space", (floats(1, 8, 2, 3), 2), {}),
    ]


def moved(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [moved(v, device) for v in value]
    return wl.asarray(value.copy(), device=device) if isinstance(value, np.ndarray) else value


def host(value: Any) -> list[Any]:
    values = value if isinstance(value, tuple) else (value,)
    return [v.numpy() if isinstance(v, wl.Array) else v for v in values]


@pytest.mark.parametrize("version", ["v1", "v3"])
@pytest.mark.parametrize("device", DEVICES)
def test_operations_on_device_arrays_give_what_host_arrays_give(device: str, version: str) -> None:
    for name, arguments, options in everything(version, device):
        operation = getattr(wl.ops, name)
        expected = operation(
            *[a.copy() if isinstance(a, np.ndarray) else a for a in arguments], version=version, device=device, **options
        )
        there = [moved(a, device) for a in arguments]
        got = operation(*there, version=version, **options)  # the device is that of the arrays
        where = wl.asarray(floats(1), device=device).device
        arrays = [v for v in (got if isinstance(got, tuple) else (got,)) if not isinstance(v, float)]
        assert all(isinstance(v, wl.Array) and v.device == where for v in arrays), name
        for g, e in zip(host(got), host(expected), strict=True):
            np.testing.assert_allclose(g, e, rtol=2e-6, atol=2e-6, err_msg=name)
        if name == "batch_norm":  # its running statistics moved where they lie
            assert not np.array_equal(there[3].numpy(), arguments[3])


def test_operations_share_host_arrays() -> None:
    x = floats(2, 3, 4, 4)
    y = wl.ops.relu(wl.asarray(x))
    assert isinstance(y, wl.Array)
    assert y.device == "cpu"
    assert (y.numpy() == np.maximum(x, 0)).all()
    assert isinstance(wl.ops.relu(x), np.ndarray)
    torch = pytest.importorskip("torch")
    assert isinstance(wl.ops.relu(torch.asarray(x)), np.ndarray)


def test_the_host_kernels_read_and_write_in_place() -> None:
    x = floats(1 << 12)
    before = x.copy()
    y = _core.call("cpu", "cpu", "activation_forward", {"count": x.size, "kind": "relu"}, {"x": x[1:].base}, ["y"])["y"]
    assert (y == np.maximum(x, 0)).all()
    assert (x == before).all()
    odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32)  # at an odd address
    again = _core.call("cpu", "cpu", "activation_forward", {"count": x.size, "kind": "relu"}, {"x": odd}, ["y"])["y"]
    assert (again == y).all()


def helpers() -> dict[str, Any]:
    """What takes arrays beside Model and wl.ops, on images [N, 3, 16, 16]."""

    def model() -> wl.Model:
        x = wl.Input((3, 16, 16))
        made = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(wl.layers.Latent()(wl.layers.Conv2d(2, 3, padding=1)(x))))
        made.compile("sgd", device="cpu", batch_size=4, seed=1)
        return made

    return {
        "augmented": lambda x: wl.data.augmented(x, flip=True, shift=2, noise=0.1)[0].rows(np.arange(len(x))),
        "fit(augmented)": lambda x: model().fit(*wl.data.augmented(x, flip=True), epochs=1, verbose=False)["loss"],
        "open_images": lambda x: np.stack([open_images(x).read(i) for i in range(len(x))]),
        "Detector": lambda x: Detector(model(), device="cpu").fit(x).decision_function(x),
        "ssim": lambda x: wl.metrics.ssim(x, x),
        "as_source": lambda x: next(iter(as_source(x).blocks(100))),
    }


HELPERS = ["augmented", "fit(augmented)", "open_images", "Detector", "ssim", "as_source"]


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_take_what_fit_takes(name: str, tmp_path: Path) -> None:
    """Memory maps, warploom's arrays, tensors of PyTorch: what a NumPy array gives. What they cannot take is one sentence."""
    helper, x = helpers()[name], RNG.integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    expected = helper(x)
    np.save(tmp_path / "x.npy", x)
    given = [np.load(tmp_path / "x.npy", mmap_mode="r"), wl.asarray(x, device="cpu")]
    if importlib.util.find_spec("torch") is not None:
        import torch

        given.append(torch.from_numpy(x))
        for bad, words in (
            (torch.zeros(8, 3, 16, 16, requires_grad=True), "detach"),
            (torch.zeros(8, 3, 16, 16, device="meta"), "gives no array"),
            (torch.zeros(8, 3, 16, 16).to_sparse(), "gives no array"),
        ):
            with pytest.raises(wl.DTypeError, match=words):
                helper(bad)
    for array in given:
        np.testing.assert_array_equal(helper(array), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", HELPERS)
def test_helpers_on_the_host_say_where_arrays_must_lie(name: str, device: str) -> None:
    helper, x = helpers()[name], RNG.random((8, 3, 16, 16), np.float32)
    there = wl.asarray(x, device=device)
    if there.on_host:  # an emulated device's memory is the host's
        np.testing.assert_array_equal(helper(there), helper(x))
        return
    with pytest.raises(wl.DeviceError, match=r"is needed on the host here: copy it with .numpy"):
        helper(there)


def test_arrays_need_no_loading() -> None:
    for x in (floats(4, 3, 8, 8), wl.asarray(floats(4, 3, 8, 8)), [floats(3, 8, 8)]):
        with pytest.raises(wl.DTypeError, match=r"load.. takes a name or a path, not .*arrays are passed to fit"):
            wl.data.load(x)  # type: ignore[arg-type]


def test_arrays_on_two_devices_are_refused() -> None:
    here, there = wl.asarray(floats(2, 2)), wl.asarray(floats(2, 2), device="emulated")
    with pytest.raises(wl.DeviceError, match="a lies on cpu, b on emulated"):
        wl.ops.add(here, there)
    with pytest.raises(wl.DeviceError, match="x lies on emulated, but device='cpu'"):
        wl.ops.relu(there, device="cpu")
    with pytest.raises(wl.DTypeError, match="must be float32, not float64"):
        wl.ops.relu(wl.asarray(np.zeros(3), device="emulated"))


def small_model(device: str, version: str = "v1") -> wl.Model:
    x = wl.Input((2, 4, 4))
    h = wl.layers.Latent()(wl.layers.MaxPool2d(2)(wl.layers.ReLU()(wl.layers.Conv2d(3, 3, padding=1, name="a")(x))))
    model = wl.Model(x, wl.layers.Conv2d(2, 3, padding=1, name="b")(wl.layers.Upsample(2)(h)))
    model.compile(optimizer=wl.optim.SGD(lr=0.1), version=version, device=device, batch_size=3, seed=1)
    return model


@pytest.mark.parametrize("device", ["cpu", *DEVICES])
def test_models_read_device_arrays_in_place(device: str) -> None:
    version = "cpu" if device == "cpu" else "v1"
    x = floats(7, 2, 4, 4)
    expected, model = small_model(device, version), small_model(device, version)
    there = wl.asarray(x, device=device)
    for rows in (slice(0, 3), slice(3, 6)):  # the second starts in the middle of the memory
        assert model.train_step(there[rows]) == expected.train_step(x[rows])
    for name, g in expected.gradients(x[:3]).items():
        assert (model.gradients(there[:3])[name] == g).all()
    got, latent = model.predict(there), model.encode(there)
    assert (np.asarray(got.numpy() if isinstance(got, wl.Array) else got) == expected.predict(x)).all()
    assert (np.asarray(latent.numpy() if isinstance(latent, wl.Array) else latent) == expected.encode(x)).all()
    assert isinstance(got, wl.Array) == (device != "cpu")
    assert model.fit(there, epochs=2, verbose=False)["loss"] == expected.fit(x, epochs=2, verbose=False)["loss"]
    assert model.evaluate(there) == expected.evaluate(x)


def test_models_say_where_arrays_must_lie() -> None:
    model = small_model("cpu", "cpu")
    with pytest.raises(wl.DeviceError, match=r"lies on emulated, but the model runs on cpu; move it with \.to\('cpu'\)"):
        model.train_step(wl.asarray(floats(3, 2, 4, 4), device="emulated"))
    on_device = small_model("emulated")
    x = wl.asarray(floats(3, 2, 4, 4), device="emulated")
    with pytest.raises(wl.ArgumentError, match="pass arrays on the host"):
        on_device.fit(x, wl.asarray(floats(3, 2, 4, 4), device="emulated"), epochs=1)
    assert set(on_device.train_step(x, x)) == {"loss"}


# ---- Real GPU arrays ----


@pytest.mark.gpu
@pytest.mark.skipif(not usable_gpus(), reason="needs a usable cuda device")
def test_torch_on_the_gpu_both_ways_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch sees no GPU")
    t = torch.arange(24.0, device="cuda").reshape(2, 3, 4)
    array = wl.from_dlpack(t)
    assert (array.pointer, array.device) == (t.data_ptr(), "cuda:0")
    back = torch.from_dlpack(array)
    back[0, 0, 0] = 9.0
    assert back.data_ptr() == t.data_ptr()
    torch.cuda.synchronize()
    assert array.numpy()[0, 0, 0] == 9.0
    by_interface = torch.as_tensor(array, device="cuda")  # __cuda_array_interface__
    assert by_interface.data_ptr() == t.data_ptr()

    class OnlyInterface:
        __cuda_array_interface__ = t.__cuda_array_interface__

    assert wl.asarray(OnlyInterface()).pointer == t.data_ptr()
    busy = torch.ones(4096, 4096, device="cuda")
    for _ in range(20):  # queued, not done, when the array is handed over
        busy = busy @ busy * (1.0 / 4096)
    assert float(torch.from_dlpack(wl.ops.relu(busy)).sum()) == pytest.approx(4096**2)
    x = torch.rand(2, 3, 9, 7, device="cuda")
    w = torch.rand(4, 3, 3, 3, device="cuda")
    exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1).float()
    for version in (v["name"] for v in wl.versions() if "cuda:0" in v["devices"]):
        y = torch.from_dlpack(wl.ops.conv2d(x, w, padding=1, version=version))
        torch.testing.assert_close(y, exact, rtol=2e-2 if version > "v4" else 1e-5, atol=1e-4)
