"""Layers against PyTorch's in float64, inside a small network on every device and version: outputs and all gradients."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target
from numpy.typing import NDArray

Array = NDArray[Any]
torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn
L = wl.layers


class Formula(nn.Module):  # type: ignore[misc]
    """What PyTorch has no layer for."""

    def __init__(self, formula: Callable[[Any], Any]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Any) -> Any:
        return self.formula(x)


EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in kernel_targets()]
LAYERS: dict[str, tuple[Callable[[], L.Layer], Callable[[], Any]]] = {
    "tanh": (L.Tanh, nn.Tanh),
    "silu": (L.SiLU, nn.SiLU),
    "elu": (lambda: L.ELU(0.7), lambda: nn.ELU(0.7)),
    "gelu": (L.GELU, nn.GELU),
    "gelu_tanh": (lambda: L.GELU("tanh"), lambda: nn.GELU(approximate="tanh")),
    "exp_kernel": (lambda: L.ExpKernel(1.5), lambda: Formula(lambda x: torch.exp((x - 1) / 2.25))),
    "signed_sqrt": (L.SignedSqrt, lambda: Formula(lambda x: torch.sign(x) * torch.sqrt(torch.abs(x)))),
    "inverse_sqrt": (lambda: L.InverseSqrt(0.2), lambda: Formula(lambda x: torch.rsqrt(torch.clamp(x, min=0) + 0.2))),
    "group_norm": (lambda: L.GroupNorm(3, eps=1e-3), lambda: nn.GroupNorm(3, 6, eps=1e-3)),
    "group_norm_plain": (lambda: L.GroupNorm(2, affine=False), lambda: nn.GroupNorm(2, 6, affine=False)),
    "layer_norm": (lambda: L.LayerNorm(1e-4), lambda: nn.GroupNorm(1, 6, eps=1e-4)),
    "layer_norm_plain": (lambda: L.LayerNorm(affine=False), lambda: nn.LayerNorm((6, 7, 5), elementwise_affine=False)),
    "dropout": (lambda: L.Dropout(0.0), nn.Identity),  # drawn ones are compared in test_dropout.py
}


def network(middle: L.Layer) -> wl.Model:
    """The layer between two convolutions, its input read once more: nothing may overwrite it."""
    x = wl.Input((3, 7, 5), name="x")
    h = L.Conv2d(6, 3, padding=1, name="first")(x)
    y = L.Add()([middle(h), h])
    return wl.Model(x, L.Conv2d(2, 1, name="last")(middle(y)), name="between")


def randomised(model: wl.Model) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    state = {k: v + 0.3 * rng.standard_normal(v.shape).astype(np.float32) for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return state


class Twin(nn.Module):  # type: ignore[misc]
    def __init__(self, middle: Any, state: dict[str, Array], name: str) -> None:
        super().__init__()
        self.first, self.last, self.middle = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1), middle
        self.load_state_dict({k.replace(f"{name}.", "middle."): torch.tensor(v) for k, v in state.items()})
        self.double()

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        return self.last(self.middle(self.middle(h) + h))


def relative(got: Array, expected: Any) -> float:
    right = expected.detach().numpy()
    return float(np.abs(got - right).max() / max(np.abs(right).max(), 1e-6))


@pytest.mark.parametrize("target", EACH)
@pytest.mark.parametrize("name", LAYERS)
def test_against_torch(name: str, target: Target) -> None:
    make, make_torch = LAYERS[name]
    layer = make()
    model = network(layer)
    model.compile("sgd", "mse", version=target.version, device=target.device, batch_size=3, seed=2)
    state = randomised(model)
    twin = Twin(make_torch(), state, str(layer.name))
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((3, c, 7, 5)).astype(np.float32) for c in (3, 2))
    prediction = twin(torch.tensor(x).double())
    assert relative(model.predict(x), prediction) < 2e-5
    nn.functional.mse_loss(prediction, torch.tensor(y).double()).backward()
    gradients = model.gradients(x, y)
    names = {f"{layer.name}.{k.split('.', 1)[1]}" if k.startswith("middle.") else k: p for k, p in twin.named_parameters()}
    assert set(gradients) == set(names)
    bound = 5e-4 if name == "signed_sqrt" else 5e-5  # its slope grows without end towards 0, and so does what rounding becomes
    for key, parameter in names.items():
        assert relative(gradients[key], parameter.grad) < bound, key


@pytest.mark.parametrize("target", EACH)
def test_layer_norm_of_vectors(target: Target) -> None:
    """Of vectors it is PyTorch's LayerNorm, gain and offset included."""
    x = wl.Input((12,), name="x")
    model = wl.Model(x, L.Linear(4, name="out")(L.LayerNorm(name="norm")(x)), name="vectors")
    model.compile("sgd", "mse", version=target.version, device=target.device, batch_size=5)
    state = randomised(model)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((5, 12)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    norm = nn.LayerNorm(12).double()
    with torch.no_grad():
        norm.load_state_dict({k: torch.tensor(state[f"norm.{k}"]) for k in ("weight", "bias")})
    w, c = torch.tensor(state["out.weight"]).double(), torch.tensor(state["out.bias"]).double()
    prediction = norm(torch.tensor(a).double()) @ w.T + c
    assert relative(model.predict(a), prediction) < 1e-5
    nn.functional.mse_loss(prediction, torch.tensor(b).double()).backward()
    gradients = model.gradients(a, b)
    assert relative(gradients["norm.weight"], norm.weight.grad) < 2e-5
    assert relative(gradients["norm.bias"], norm.bias.grad) < 2e-5


EVERY = {
    **{name: make for name, (make, _) in LAYERS.items()},
    "dropout": lambda: L.Dropout(0.25),
    "dropout2d": lambda: L.Dropout2d(0.25),
    "winner_take_all": lambda: L.WinnerTakeAll(0.25),
}


@pytest.mark.parametrize("name", EVERY)
def test_saved_loaded_copied_and_pickled(name: str, tmp_path: Path) -> None:
    model = network(EVERY[name]())
    randomised(model)
    x = np.random.default_rng(0).random((2, 3, 7, 5), np.float32)
    expected = model.predict(x)
    model.save(tmp_path / "model.safetensors")
    for other in (wl.load(tmp_path / "model.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(x), expected)
        assert [repr(layer) for layer in other.layers] == [repr(layer) for layer in model.layers]
        assert [layer.config() for layer in other.layers] == [layer.config() for layer in model.layers]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: L.ELU(-1.0), "ELU: alpha must be finite and at least 0"),
        (lambda: L.ExpKernel(0.0), "ExpKernel: sigma must be finite and at least 0.001"),
        (lambda: L.InverseSqrt(0.0), "InverseSqrt: eps must"),
        (lambda: L.GELU("erf"), "GELU: unknown approximate 'erf'; expected none or tanh"),
        (lambda: L.Dropout(1.5), "Dropout: p must"),
        (lambda: L.Dropout2d(-0.1), "Dropout2d: p must"),
        (lambda: L.WinnerTakeAll(1.5), "WinnerTakeAll: share must be finite and between 0 and 1"),
        (lambda: L.WinnerTakeAll(0.0), "WinnerTakeAll: share must be above 0"),
        (lambda: L.GroupNorm(0), "GroupNorm: num_groups must be at least 1"),
        (lambda: L.LayerNorm(-1.0), "LayerNorm: eps must"),
        (lambda: L.GroupNorm(4)(wl.Input((6, 2, 2))), "groups=4 must divide the 6 channels"),
        (lambda: L.Dropout2d()(wl.Input((6,))), "needs an input of shape C x H x W to drop whole channels"),
        (lambda: wl.losses.Huber(delta=0.0), "Huber: delta must"),
        (lambda: wl.optim.Lion(betas=(0.9, 1.0)), "Lion: betas must be less than 1"),
    ],
)
def test_arguments_that_are_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_an_activation_of_its_input_is_a_step_of_its_own_in_training() -> None:
    """silu and gelu need their input back; at inference the host folds them in, and the CUDA versions say why they do not."""
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, L.Conv2d(2, 3, padding=1)(L.GELU(name="gelu")(L.Conv2d(4, 3, padding=1, name="conv")(x))))
    model.compile(device="cpu", batch_size=2)
    session = model.engine.session

    def steps(training: bool) -> list[str]:
        return [s["entry"] for s in session.explain(2, training) if s["node"] in ("gelu", "conv")]

    assert steps(False) == ["conv2d_forward"]
    assert {"activation_forward", "activation_backward"} <= set(steps(True))
    assert "the gradient of gelu needs its input" in session.refusals(2, True)[0]
    model.compile(device="emulated", version="v3", batch_size=2)
    assert "activation_forward" in [s["entry"] for s in model.engine.session.explain(2, False)]
    assert "epilogues hold relu, leaky_relu and sigmoid" in model.engine.session.refusals(2, False)[0]


def test_huber_against_torch() -> None:
    x = wl.Input((3, 6, 6), name="x")
    model = wl.Model(x, L.Conv2d(2, 3, padding=1, name="last")(x))
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 3, 6, 6)).astype(np.float32), 2 * rng.standard_normal((4, 2, 6, 6)).astype(np.float32)
    for delta in (0.3, 1.0, 5.0):
        model.compile("sgd", wl.losses.Huber(delta=delta), device="cpu", batch_size=4, seed=1)
        state = model.state_dict()
        w, bias = (torch.tensor(state[f"last.{k}"]).double().requires_grad_() for k in ("weight", "bias"))
        loss = nn.functional.huber_loss(
            nn.functional.conv2d(torch.tensor(a).double(), w, bias, padding=1), torch.tensor(b).double(), delta=delta
        )
        loss.backward()
        assert model.evaluate(a, b)["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert relative(model.gradients(a, b)["last.weight"], w.grad) < 1e-5
    assert wl.losses.get("huber", 1)[0].config()["delta"] == 1.0
