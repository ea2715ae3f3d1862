"""The same network, the same weights, the same steps in PyTorch (float64 there: the truth; float32 for the size of an error)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target
from networks import STAGES, as_floats, small_autoencoder, smooth_images
from numpy.typing import NDArray

Array = NDArray[Any]
torch = pytest.importorskip("torch", reason="torch is not installed: the oracle's float64 NumPy stands in for it")

TARGETS: list[Target] = kernel_targets()
EACH = [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in TARGETS]
FULL = [p for p in EACH if p.values[0].device != "emulated:checked"]  # a full-size image is a GFLOP: too much to check


class TorchAutoencoder(torch.nn.Module):
    """Written with the package's parameter names, so that a state dict moves over as it is."""

    def __init__(self, state: dict[str, Array]) -> None:
        super().__init__()
        for i in range(len(STAGES)):
            c_out, c_in = state[f"conv{i + 1}.weight"].shape[:2]
            setattr(self, f"conv{i + 1}", torch.nn.Conv2d(c_in, c_out, 3, padding=1))
        self.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        self.double()

    def forward(self, x: Any) -> Any:
        for i, stage in enumerate(STAGES):
            x = getattr(self, f"conv{i + 1}")(x)
            if stage:
                x = torch.relu(x)
                x = (
                    torch.nn.functional.max_pool2d(x, 2)
                    if stage == "pool"
                    else torch.nn.functional.interpolate(x, scale_factor=2.0)
                )
        return x


def compiled(model: Any, target: Target, optimizer: Any) -> Any:
    model.compile(optimizer=optimizer, loss="mse", version=target.version, device=target.device, batch_size=8, seed=1)
    return model


def error(got: Array, expected: Any) -> float:
    """Relative L2 error."""
    right = expected.detach().numpy()
    assert got.shape == right.shape
    return float(np.linalg.norm(got - right) / np.linalg.norm(right))


@pytest.mark.parametrize("target", FULL)
def test_full_network_outputs_and_gradients(target: Target) -> None:
    model = compiled(wl.models.cifar10_autoencoder(), target, wl.optim.SGD(lr=0.0))
    state = model.state_dict()
    assert sum(v.size for v in state.values()) == 751_875
    reference = TorchAutoencoder(state)
    images = as_floats(smooth_images(2, (3, 32, 32)))[: 2 if target.device == "cpu" else 1]
    prediction = reference(torch.tensor(images).double())
    assert not error(model.predict(images), prediction) > 2e-6
    torch.nn.functional.mse_loss(prediction, torch.tensor(images).double()).backward()
    gradients = model.gradients(images)
    for name, parameter in reference.named_parameters():
        measured = error(gradients[name], parameter.grad)
        assert measured <= 5e-6, f"{name}: relative error {measured:.2e}"


SGDS = {
    "plain": {"lr": 0.05},
    "momentum": {"lr": 0.02, "momentum": 0.9},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"lr": 0.05, "weight_decay": 0.01},
    "all": {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.01, "nesterov": True},
}


@pytest.mark.parametrize("kind", SGDS)
@pytest.mark.parametrize("target", EACH)
def test_ten_optimizer_steps(target: Target, kind: str) -> None:
    if target.device == "emulated:checked" and kind not in ("plain", "all"):
        pytest.skip("two kinds are enough under checks: the fast emulator runs all")
    if target.falls_to and kind != "all":
        pytest.skip("its optimizers are another version's: one kind is enough")
    model = compiled(small_autoencoder(wl), target, wl.optim.SGD(**SGDS[kind]))
    reference = TorchAutoencoder(model.state_dict())
    optimizer = torch.optim.SGD(reference.parameters(), **SGDS[kind])
    images, other = as_floats(smooth_images(40)), as_floats(smooth_images(40, seed=1))
    for step in range(10):
        rows = slice(4 * step, 4 * step + 4)
        loss = model.train_step(images[rows], other[rows])["loss"]
        optimizer.zero_grad()
        expected = torch.nn.functional.mse_loss(
            reference(torch.tensor(images[rows]).double()), torch.tensor(other[rows]).double()
        )
        expected.backward()
        optimizer.step()
        assert abs(loss / expected.item() - 1) <= 5e-6, f"step {step}"
    for name, parameter in reference.named_parameters():
        measured = error(model.state_dict()[name], parameter)
        assert measured <= 1e-5, f"{name}: relative error {measured:.2e}"
