"""Every network of the zoo against its PyTorch twin in float64: outputs, losses, all gradients, buffers; training and evaluation.

Gradients are judged by what PyTorch's own float32 makes of the same network: at most four times its error, or 2e-5. But rounding
at a ReLU or a maximum sends a gradient another way now and then, in ours or in PyTorch's, and where a batch norm follows over few
values one such flip changes gradients by percents. A flip belongs to one draw of the weights; a wrong gradient is wrong for all:
so gradients may agree for one of several draws. At full width, with many values, no draw is without flips; there it is 1e-2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import warploom as wl
from conftest import device_mark, kernel_targets
from harness import Target
from networks import as_floats, smooth_images
from numpy.typing import NDArray
from warploom import models

Array = NDArray[Any]
torch = pytest.importorskip("torch", reason="torch is not installed: there is nothing to compare with")
import torch_twins as twins  # noqa: E402


@dataclass
class Case:
    model: str
    twin: Any
    loss: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    full: bool = False  # of full width: cpu only, for its own choice of algorithms


DRAWS = (4, 7, 8, 3)  # of weights
SMALL_LIAE = {"size": 32, "ae_dims": 6, "e_dims": 3, "d_dims": 2, "d_mask_dims": 2}
LIAE = {"size": 64, "ae_dims": 16, "e_dims": 8, "d_dims": 8, "d_mask_dims": 5}


def _gray(size: Any = 32, **arguments: Any) -> Case:
    full = "width" not in arguments
    return Case("gray_autoencoder", partial(twins.Gray, **arguments), twins.gray_loss, {"size": size, **arguments}, full=full)


CASES = {
    "cifar10": Case("cifar10_autoencoder", twins.Cifar10, twins.cifar10_loss, full=True),
    "unet-small": Case("unet_small", partial(twins.UNet, False, 5), twins.unet_loss, {"size": (16, 24), "classes": 5}),
    "unet-large": Case("unet_large", partial(twins.UNet, True, 7), twins.unet_loss, {"size": 16, "classes": 7}),
    "gray": _gray(width=6),
    "gray-skips": _gray(width=4, skips=True),
    "gray-residual": _gray(width=4, residual=True),
    "gray-both": _gray((32, 48), width=4, skips=True, residual=True),
    "gray-groups": _gray(width=4, groups=2),
    "gray-full": _gray(skips=True, groups=2),
    "dsresnet": Case("dsresnet", partial(twins.DsResNet, 2), twins.dsresnet_loss, {"size": (64, 32), "width": 2}, batch=4),
    "dsresnet-full": Case("dsresnet", twins.DsResNet, twins.dsresnet_loss, {"size": 64}, batch=2, full=True),
    "liae": Case("liae_ud", partial(twins.Liae, **SMALL_LIAE), twins.liae_loss(32), SMALL_LIAE, {"size": 32}),
    "liae-wider": Case("liae_ud", partial(twins.Liae, **LIAE), twins.liae_loss(64), LIAE, {"size": 64}, full=True),
}


def _cases() -> list[Any]:
    """Full width on real devices only. A version that takes its float32 kernels from another needs no checks of its own here."""
    found = []
    for name, case in CASES.items():
        for target in kernel_targets():
            again = target.device == "emulated:checked" and (target.inherits or target.falls_to)
            if not (case.full and target.device.startswith("emulated")) and not again:
                # The cost rule gives maps this small to no scheme; forced, each takes what it can.
                for scheme in ("winograd4", "upsample25") if target.falls_to and not case.full else ("",):
                    at = f"{name}-{target}" + f"-{scheme}" * bool(scheme)
                    found.append(pytest.param(name, target, scheme, id=at, marks=device_mark(target.device)))
    return found


def random_state(model: Any, rng: np.random.Generator) -> dict[str, Array]:
    """Weights as they start, everything else random: zero biases and unit variances would hide what cancels."""
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            state[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            state[name] = rng.normal(0, 0.1, value.shape).astype(np.float32)
    return dict(state)


def data(case: Case, model: Any, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    x = [as_floats(smooth_images(case.batch, t.shape, seed=i)) for i, t in enumerate(model.inputs)]
    kind = models.objective(case.model, **case.objective).data
    if kind == "images":
        return x, x
    if kind == "segmentation":
        classes, *size = model.outputs[0].shape
        return x, [rng.integers(0, classes, (case.batch, *size))]
    y = [as_floats(smooth_images(case.batch, t.shape, seed=10 + i)) for i, t in enumerate(model.outputs)]
    if kind == "composites":
        return x, [y[0], (y[1] > 0.5).astype(np.float32)]
    return x, [*y, *(as_floats(smooth_images(case.batch, y[1].shape[1:], seed=20 + i)) for i in (0, 1))]


class Pair:
    """A model and its twins in float64 and float32, with the same state."""

    def __init__(self, case: Case, target: Target, draw: int) -> None:
        self.case, rng = case, np.random.default_rng(draw)
        self.model = models.get(case.model, **case.arguments)
        objective = models.objective(case.model, **case.objective)
        place = {"version": target.version, "device": target.device}
        self.model.compile(wl.optim.SGD(lr=0.0), objective.make_losses(), batch_size=case.batch, seed=1, **place)
        state = random_state(self.model, rng)
        self.model.load_state_dict(state)
        twin = case.twin()
        missing, extra = twin.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
        assert not extra
        assert all(name.endswith("num_batches_tracked") for name in missing)
        self.twins = [copy.deepcopy(twin).double(), copy.deepcopy(twin).float()]
        self.x, self.y = data(case, self.model, rng)

    def truth(self, training: bool, which: int = 0) -> tuple[float, list[Array], dict[str, Array], dict[str, Array]]:
        """Loss, outputs, gradients and the buffers afterwards, of the twin in float64 (0) or float32 (1)."""
        twin = copy.deepcopy(self.twins[which]).train(training)
        kind = torch.float64 if which == 0 else torch.float32
        outputs = twin(*[torch.tensor(a).to(kind) for a in self.x])
        loss = self.case.loss(outputs, [torch.tensor(a).to(kind) for a in self.y])
        loss.backward()
        gradients = {name: p.grad.double().numpy() for name, p in twin.named_parameters()}
        buffers = {k: v.double().numpy() for k, v in twin.named_buffers() if not k.endswith("num_batches_tracked")}
        return float(loss.detach()), [o.detach().double().numpy() for o in outputs], gradients, buffers


def errors(got: dict[str, Array], right: dict[str, Array]) -> dict[str, float]:
    """L2 errors, relative to the array's own norm or a thousandth of the largest: a bias before a batch norm has gradient 0."""
    assert set(got) == set(right)
    floor = 1e-3 * max(float(np.linalg.norm(v)) for v in right.values())
    return {k: float(np.linalg.norm(got[k] - v)) / max(float(np.linalg.norm(v)), floor) for k, v in right.items()}


def wrong_gradients(got: dict[str, Array], right: dict[str, Array], float32: dict[str, Array], full: bool) -> str:
    """ "" or the arrays that are off."""
    measured, own = errors(got, right), errors(float32, right)
    bound = max(1e-2 if full else 2e-5, 4 * max(own.values()))
    wrong = [f"{key} {value:.1e} (PyTorch {own[key]:.1e})" for key, value in measured.items() if not value <= bound]
    return f"bound {bound:.1e}: {', '.join(wrong)}" if wrong else ""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost these tiny networks more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def judge(pair: Pair, brief: bool = False) -> str:
    """Fails where numbers differ that no flip can change; returns what is wrong with the gradients, if anything.

    brief: without the gradients in evaluation mode.
    """
    model, x, y, full = pair.model, pair.x, pair.y, pair.case.full
    before = model.state_dict()

    loss, outputs, gradients, _ = pair.truth(training=False)
    predicted = model.predict(x)
    for got, right in zip([predicted] if len(outputs) == 1 else predicted, outputs, strict=True):
        assert np.abs(got - right).max() <= 2e-5 * np.abs(right).max()
    wrong = ""
    if not brief:
        assert abs(model.evaluate(x, y)["loss"] / loss - 1) <= 1e-5
        wrong = wrong_gradients(model.gradients(x, y, training=False), gradients, pair.truth(training=False, which=1)[2], full)

    loss, _, gradients, buffers = pair.truth(training=True)
    wrong = wrong or wrong_gradients(model.gradients(x, y), gradients, pair.truth(training=True, which=1)[2], full)
    after = model.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before), "gradients() changed the model"

    assert abs(model.train_step(x, y)["loss"] / loss - 1) <= 1e-5
    state = model.state_dict()
    for key, right in buffers.items():
        assert np.abs(state[key] - right).max() <= 1e-5 * max(1.0, np.abs(right).max()), key
    for key in gradients:
        np.testing.assert_array_equal(state[key], before[key])  # the rate is 0
    return wrong


def test_every_network_has_a_twin() -> None:
    """But `autoencoder`, which is what its arguments make of it."""
    networks = set(models.NAMES) - {"autoencoder"}
    assert {case.model for case in CASES.values()} == networks, "CASES has each network once at a small size"
    assert twins.of_full_size().keys() == networks, "of_full_size() in tests/support/torch_twins.py has each network"


@pytest.mark.parametrize(("name", "target", "scheme"), _cases())
def test_zoo_parity(monkeypatch: pytest.MonkeyPatch, name: str, target: Target, scheme: str) -> None:
    monkeypatch.setenv("WARPLOOM_BILINEAR", scheme)  # "": by the cost rule
    found = []
    for draw in DRAWS:
        # Under checks every version runs the deep ones, and v4 all of it.
        deep = target.device == "emulated:checked" and name in ("dsresnet", "unet-large") and target.version != "v4"
        wrong = judge(Pair(CASES[name], target, draw), brief=deep)
        if not wrong:
            return
        found.append(f"draw {draw}: {wrong}")
    raise AssertionError("\n".join(found))


def test_state_moves_from_pytorch() -> None:
    twin = twins.UNet(False, 5)
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    model = models.unet_small(size=16, classes=5)
    model.load_state_dict(twin.state_dict())  # with num_batches_tracked
    image = as_floats(smooth_images(2))
    right = twin.eval()(torch.tensor(image))[0].detach().numpy()
    np.testing.assert_allclose(model.predict(image), right, atol=2e-5 * np.abs(right).max())


def test_swap_parity() -> None:
    model = models.liae_ud(**SMALL_LIAE)
    twin = twins.Liae(**SMALL_LIAE)
    model.load_state_dict(twin.state_dict())
    image = as_floats(smooth_images(2, (3, 32, 32)))
    for got, right in zip(models.liae_swap(model).predict(image), twin.swap(torch.tensor(image)), strict=True):
        np.testing.assert_allclose(got, right.detach().numpy(), atol=2e-6)
