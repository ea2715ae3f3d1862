"""PyTorch modules: every layer and every network of the zoo, loaded strictly, with the same numbers; and half types."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path
from typing import Any

import export_cases as cases
import numpy as np
import pytest
import warploom as wl
from warploom.export import torch_ops
from warploom.export.torch_file import module_name
from warploom.export.torch_source import RESERVED, class_name

torch = pytest.importorskip("torch", reason="torch is not installed")
import safetensors.torch  # noqa: E402

FLOAT32 = 1e-5  # relative to the largest value
LAYER_CASES = [pytest.param(make, id=f"{name}-{i}") for name, made in cases.LAYERS.items() for i, make in enumerate(made)]
NETWORK_CASES = [pytest.param(name, a, id=f"{name}-{i}") for name, made in cases.NETWORKS.items() for i, a in enumerate(made)]


def loaded(state: Path, code: Path) -> Any:
    """An object of the module that was written, with its state dict, as the docstring says to do it."""
    spec = importlib.util.spec_from_file_location("exported", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (kind,) = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == "exported"]
    net = kind()
    found = safetensors.torch.load_file(state) if state.suffix == ".safetensors" else torch.load(state, weights_only=True)
    assert not net.load_state_dict(found, strict=True).missing_keys
    return net


def outputs(net: Any, x: list[Any]) -> list[Any]:
    with torch.no_grad():
        made = net(*[torch.tensor(a) for a in x])
    return [a.numpy() for a in (made if isinstance(made, tuple) else (made,))]


def check(model: wl.Model, path: Path) -> Any:
    cases.randomised(model)
    state, code = wl.export.torch(model, path)
    assert (state, code) == (path, path.with_suffix(".py"))
    net = loaded(state, code).eval()
    counters = {name for name in net.state_dict() if name.endswith("num_batches_tracked")}
    assert net.state_dict().keys() - counters == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name].numpy(), value)
    for samples in (1, 3):
        x = cases.given(model, samples)
        for name, got, right in zip(model.output_names, outputs(net, x), cases.results(model, x), strict=True):
            assert cases.far(got, right) < FLOAT32, name
    return net


@pytest.mark.parametrize("make", LAYER_CASES)
def test_every_layer(make: Any, tmp_path: Path) -> None:
    check(make(), tmp_path / "layer.safetensors")


@pytest.mark.parametrize(("name", "arguments"), NETWORK_CASES)
def test_every_network(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    check(cases.network(name, arguments), tmp_path / "net.pt")


def test_a_wrong_translation_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(torch_ops.KINDS, "leaky_relu", "F.leaky_relu({x})")
    with pytest.raises(AssertionError):
        check(cases.LAYERS["LeakyReLU"][1](), tmp_path / "net.pt")


def test_it_trains_as_the_network_does(tmp_path: Path) -> None:
    """Batch statistics, running ones by the momentum, eps, gradients; and dropout falls only in training."""
    x = wl.Input((3, 8, 8), name="x")
    h = wl.layers.BatchNorm2d(1e-2, 0.3, name="bn")(wl.layers.Conv2d(4, 3, padding=1, name="conv")(x))
    h = wl.layers.GroupNorm(2, 1e-2, name="gn")(wl.layers.GELU("tanh")(h))
    model = wl.Model(x, wl.layers.Conv2d(3, 1, name="last")(wl.layers.Dropout(0.0)(h)), name="net")
    model.compile(wl.optim.SGD(0.1), "mse", batch_size=5, device="cpu", precision="fp32-exact")
    net = loaded(*wl.export.torch(cases.randomised(model), tmp_path / "a.pt")).train()
    (data,) = cases.given(model, 5)
    torch.nn.functional.mse_loss(net(torch.tensor(data)), torch.tensor(data)).backward()
    for name, gradient in model.gradients(data).items():
        assert cases.far(net.get_parameter(name).grad.numpy(), gradient) < 1e-4 or np.abs(gradient).max() < 1e-6, name
    model.train_step(data)
    for name in ("bn.running_mean", "bn.running_var"):
        assert cases.far(net.state_dict()[name].numpy(), model.state_dict()[name]) < FLOAT32
    dropping = loaded(*wl.export.torch(cases.LAYERS["Dropout2d"][0](), tmp_path / "d.pt"))
    ones = torch.ones(4, 6, 8, 10)
    assert (dropping.train()(ones) == 0).any()
    assert (dropping.eval()(ones) == 1).all()


def test_the_gradient_of_a_root_at_zero_is_zero(tmp_path: Path) -> None:
    """As it is here; PyTorch's own would be NaN."""
    net = loaded(*wl.export.torch(cases.LAYERS["SignedSqrt"][0](), tmp_path / "r.pt"))
    x = torch.zeros(1, 6, 8, 10)
    x[0, 0, 0, 0] = 4.0
    x.requires_grad_()
    net(x).sum().backward()
    assert x.grad[0, 0, 0, 0] == pytest.approx(0.25)
    assert x.grad.abs().sum() == pytest.approx(0.25)


def test_the_module_reads_well(tmp_path: Path) -> None:
    model = cases.network("gray_autoencoder", {"size": 32, "width": 4})
    _, code = wl.export.torch(model, tmp_path / "gray.pt")
    text = code.read_text()
    assert max(map(len, text.splitlines())) <= 110
    for line in (
        "    from gray import GrayAutoencoder",
        "    net.load_state_dict(torch.load('gray.pt', weights_only=True))",
        "        self.enc1.conv = nn.Conv2d(1, 4, 4, stride=2, padding=1, bias=False)",
        "        h = F.leaky_relu(self.enc1.bn(self.enc1.conv(image)), 0.2)",
        "        return h",
    ):
        assert line in text.splitlines(), line
    assert len(text.splitlines()) < 60


def test_what_modules_have_already_is_no_name_of_a_layer() -> None:
    kinds = [torch.nn.Module, torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear, torch.nn.BatchNorm1d]
    kinds += [torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.GroupNorm]
    made = [torch.nn.Module(), torch.nn.Conv2d(1, 1, 1), torch.nn.Linear(1, 1), torch.nn.BatchNorm2d(1), torch.nn.GroupNorm(1, 1)]
    taken = {name for kind in kinds for name in dir(kind)} | {name for module in made for name in dir(module)}
    assert {name for name in taken if not name.startswith("_")} <= RESERVED


NAMES = {
    "cifar10_autoencoder": "Cifar10Autoencoder",
    "my-net.v2": "MyNetV2",
    "none": "Network",
    "\u00e9": "Network",
    "f": "Network",
}


def test_names_of_classes() -> None:
    assert {name: class_name(name) for name in NAMES} == NAMES


def test_names_of_modules() -> None:
    assert [module_name(n) for n in ("a-b", "2net", "a.b", "\u00e9")] == ["a_b", "net_2net", "a_b", "_"]


def test_what_no_module_holds_is_refused(tmp_path: Path) -> None:
    class Renamed(wl.layers.Conv2d):
        def parameters_for(self, shapes: Any) -> Any:
            first, *rest = super().parameters_for(shapes)
            return [type(first)("kernel", first.shape, first.init), *rest]

    x = wl.Input((3, 4, 4), name="x")
    model = wl.Model(x, Renamed(2, 1, name="odd")(x), name="odd")
    try:
        with pytest.raises(wl.UnsupportedError, match=r"'odd' cannot be exported to PyTorch: no module .*odd\.kernel"):
            wl.export.torch(model, tmp_path / "odd.pt")
        assert not list(tmp_path.iterdir())
    finally:
        del wl.layers.Layer.registry["Renamed"]
    with pytest.raises(wl.ArgumentError, match=r"does not end in one of \.safetensors, \.pt, \.pth"):
        wl.export.torch(model, tmp_path / "odd.onnx")


def test_without_pytorch_there_is_a_safetensors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cases.network("cifar10_autoencoder", {"size": 8})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(wl.StateError, match="pip install torch"):
        wl.export.torch(model, tmp_path / "a.pt")
    wl.export.torch(model, tmp_path / "a.safetensors")
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "a.py"}


# Half types


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_half_types_are_those_of_pytorch(dtype: str, ending: str, tmp_path: Path) -> None:
    model = cases.randomised(cases.network("unet_small", {"size": 16}))
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    path, _ = wl.export.torch(model, tmp_path / f"h{ending}", dtype=dtype)
    found = safetensors.torch.load_file(path) if ending == ".safetensors" else torch.load(path, weights_only=True)
    assert found.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert found[name].dtype == kind
        assert torch.equal(found[name], torch.tensor(value).to(kind)), name
    again = cases.network("unet_small", {"size": 16})
    again.load_state_dict(wl.export.read_state_dict(path))
    for name, value in again.state_dict().items():
        np.testing.assert_array_equal(value, found[name].float().numpy())


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_models_own_file_in_half_the_bytes(dtype: str, tmp_path: Path) -> None:
    model = cases.randomised(cases.network("unet_small", {"size": 16}))
    model.save(tmp_path / "whole.safetensors")
    model.save(tmp_path / "half.safetensors", dtype=dtype)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    again = wl.load(tmp_path / "half.safetensors")
    for name, value in model.state_dict().items():
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
        np.testing.assert_array_equal(again.state_dict()[name], torch.tensor(value).to(kind).float().numpy())
    again.save(tmp_path / "again.safetensors", dtype=dtype)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def test_every_bfloat16_is_rounded_as_pytorch_rounds(tmp_path: Path) -> None:
    """Ties, subnormals, the largest numbers; all of the upper half with a few lower ones."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    bits = np.concatenate([upper | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).astype(np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers) & (np.abs(numbers) < 3.38e38)]
    for dtype, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        fit = numbers if dtype == "bf16" else numbers[np.abs(numbers) < 65504]
        found = wl.ground.halves.rounded(fit, dtype, "x")
        np.testing.assert_array_equal(found, torch.tensor(fit).to(kind).float().numpy())


@pytest.mark.parametrize(
    ("dtype", "value", "text"), [("fp16", 65520.0, "65,504; use bf16 or fp32"), ("bf16", 3.4e38, "use fp32")]
)
@pytest.mark.parametrize("how", ["save", "pt", "safetensors"])
def test_a_number_that_would_become_infinite_is_refused(dtype: str, value: float, text: str, how: str, tmp_path: Path) -> None:
    """The kind of shared fault c06."""
    model = cases.network("cifar10_autoencoder", {"size": 8})
    state = model.state_dict()
    state["conv3.bias"][5] = -value
    model.load_state_dict(state)
    call = partial(wl.Model.save if how == "save" else wl.export.torch, model)
    with pytest.raises(wl.DataError, match=f"conv3.bias holds .*, which {dtype} cannot hold; .*{text}"):
        call(tmp_path / ("x.safetensors" if how == "save" else f"x.{how}"), dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_damaged_half_file_is_noticed_and_a_converted_one_is_not(tmp_path: Path) -> None:
    """Our own half files carry a checksum; what another program has converted has another type than they say."""
    model = cases.network("cifar10_autoencoder", {"size": 8})
    path = tmp_path / "m.safetensors"
    for dtype, others in (("bf16", torch.float16), ("fp16", torch.float32), ("fp16", torch.bfloat16), ("fp32", torch.bfloat16)):
        model.save(path, dtype=dtype)
        good = path.read_bytes()
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        converted = {name: tensor.to(others) for name, tensor in safetensors.torch.load_file(path).items()}
        safetensors.torch.save_file(converted, tmp_path / "c.safetensors", metadata)
        wl.load(tmp_path / "c.safetensors")
        path.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
        with pytest.raises(wl.DataError, match="is damaged"):
            wl.load(path)


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    model = cases.network("cifar10_autoencoder", {"size": 8})
    with pytest.raises(wl.ArgumentError, match="unknown dtype 'int8'; expected one of fp32, fp16, bf16"):
        model.save(tmp_path / "x.safetensors", dtype="int8")
    with pytest.raises(wl.ArgumentError, match="unknown dtype 'half'"):
        wl.export.torch(model, tmp_path / "x.pt", dtype="half")
