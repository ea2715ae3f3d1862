"""Ten steps of every optimiser agree with PyTorch's (AdaBelief with its formula) in float64, from the same start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import warploom as wl
from networks import NumpyAutoencoder, as_floats, small_autoencoder, smooth_images
from numpy.typing import NDArray

Array = NDArray[Any]
STEPS = 10
IMAGES = as_floats(smooth_images(8 * STEPS))


def batch(step: int) -> Array:
    return IMAGES[8 * step : 8 * (step + 1)]


def compiled(optimizer: wl.optim.Optimizer, **options: Any) -> wl.Model:
    model = small_autoencoder(wl)
    model.compile(optimizer=optimizer, loss="mse", device="cpu", seed=3, **options)
    return model  # type: ignore[no-any-return]


class TorchUpdate:
    """torch.optim on float64 copies of the weights."""

    def __init__(self, weights: dict[str, Array], make: Callable[[Any, Any], Any], clip: float = 0.0) -> None:
        self.torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        self.parameters = {k: self.torch.tensor(v, requires_grad=True) for k, v in weights.items()}
        self.optimizer, self.clip = make(self.torch.optim, list(self.parameters.values())), clip

    def step(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        for name, parameter in self.parameters.items():
            parameter.grad = self.torch.tensor(gradients[name])
        if self.clip:
            self.torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        self.optimizer.step()
        for name, parameter in self.parameters.items():
            weights[name] = parameter.detach().numpy().copy()


class AdaBeliefUpdate:
    def __init__(self, weights: dict[str, Array], lr: float, betas: tuple[float, float], eps: float, decay: float, correct: bool):
        self.m, self.s = ({k: np.zeros_like(v) for k, v in weights.items()} for _ in range(2))
        self.hyper, self.count = (lr, *betas, eps, decay, correct), 0

    def step(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        lr, beta1, beta2, eps, decay, correct = self.hyper
        self.count += 1
        for name, w in weights.items():
            g = gradients[name] + decay * w
            m = self.m[name] = beta1 * self.m[name] + (1 - beta1) * g
            s = self.s[name] = beta2 * self.s[name] + (1 - beta2) * (g - m) ** 2
            if correct:
                m, s = m / (1 - beta1**self.count), s / (1 - beta2**self.count)
            weights[name] = w - lr * m / (np.sqrt(s) + eps)


class LionUpdate:
    """Program 1 of https://arxiv.org/abs/2302.06675."""

    def __init__(self, weights: dict[str, Array], lr: float, betas: tuple[float, float], decay: float):
        self.m = {k: np.zeros_like(v) for k, v in weights.items()}
        self.hyper = (lr, *betas, decay)

    def step(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        lr, beta1, beta2, decay = self.hyper
        for name, w in weights.items():
            g, m = gradients[name], self.m[name]
            weights[name] = w - lr * (np.sign(beta1 * m + (1 - beta1) * g) + decay * w)
            self.m[name] = beta2 * m + (1 - beta2) * g


O = wl.optim  # noqa: E741
CASES: dict[str, tuple[wl.optim.Optimizer, Callable[[dict[str, Array]], Any]]] = {
    "sgd": (O.SGD(0.05), lambda w: TorchUpdate(w, lambda t, p: t.SGD(p, 0.05))),
    "nesterov": (
        O.SGD(0.02, 0.9, 1e-3, nesterov=True),
        lambda w: TorchUpdate(w, lambda t, p: t.SGD(p, 0.02, 0.9, weight_decay=1e-3, nesterov=True)),
    ),
    "clipped": (O.SGD(0.05, 0.9, clip_norm=0.1), lambda w: TorchUpdate(w, lambda t, p: t.SGD(p, 0.05, 0.9), clip=0.1)),
    "adam": (
        O.Adam(0.003, (0.8, 0.99), 1e-6, 0.01),
        lambda w: TorchUpdate(w, lambda t, p: t.Adam(p, 0.003, (0.8, 0.99), 1e-6, 0.01)),
    ),
    "adamw": (
        O.AdamW(0.003, eps=1e-6, weight_decay=0.1, clip_norm=0.5),
        lambda w: TorchUpdate(w, lambda t, p: t.AdamW(p, 0.003, eps=1e-6, weight_decay=0.1), clip=0.5),
    ),
    "rmsprop": (
        O.RMSprop(0.001, 0.9, 1e-6, 0.01),
        lambda w: TorchUpdate(w, lambda t, p: t.RMSprop(p, 0.001, 0.9, 1e-6, 0.01)),
    ),
    "rmsprop with momentum": (
        O.RMSprop(0.001, 0.95, 1e-6, momentum=0.8),
        lambda w: TorchUpdate(w, lambda t, p: t.RMSprop(p, 0.001, 0.95, 1e-6, momentum=0.8)),
    ),
    "adabelief": (
        O.AdaBelief(0.002, eps=1e-6, weight_decay=0.01),
        lambda w: AdaBeliefUpdate(w, 0.002, (0.9, 0.999), 1e-6, 0.01, True),
    ),
    "lion": (O.Lion(1e-3, (0.8, 0.95), 0.1), lambda w: LionUpdate(w, 1e-3, (0.8, 0.95), 0.1)),
    "adabelief without correction": (
        O.AdaBelief(0.002, (0.9, 0.99), 1e-6, bias_correction=False),
        lambda w: AdaBeliefUpdate(w, 0.002, (0.9, 0.99), 1e-6, 0.0, False),
    ),
}


def test_every_optimizer_has_a_case() -> None:
    assert {type(optimizer) for optimizer, _ in CASES.values()} == set(O.BY_NAME.values()), "a new one needs an entry of CASES"


@pytest.mark.parametrize("name", CASES)
def test_ten_steps(name: str) -> None:
    optimizer, make = CASES[name]
    model = compiled(optimizer)
    reference = NumpyAutoencoder(model.state_dict(), 0.0)
    start, update = dict(reference.w), make(reference.w)
    for step in range(STEPS):
        loss, gradients = reference.gradients(batch(step), batch(step))
        if name == "lion":  # a sign turns with the rounding of a gradient near 0: compare the rule, given the same gradients
            gradients = {k: v.astype(float) for k, v in model.gradients(batch(step)).items()}
        assert model.train_step(batch(step))["loss"] == pytest.approx(loss, rel=2e-5)
        update.step(reference.w, gradients)
    for key, value in model.state_dict().items():
        moved = np.abs(reference.w[key] - start[key]).max()
        assert moved > 1e-3, "the steps must do something, or agreement means nothing"
        error = np.abs(value - reference.w[key]).max()
        assert error <= 2e-3 * moved, f"{key}: off by {error:.3g} after moving by {moved:.3g}"


@pytest.mark.parametrize("name", CASES)
def test_state_round_trip_gives_the_same_bits(name: str) -> None:
    optimizer = CASES[name][0]
    whole, first = compiled(optimizer), compiled(optimizer)
    for step in range(4):
        whole.train_step(batch(step))
    for step in range(2):
        first.train_step(batch(step))
    weights, state = first.state_dict(), first.engine.session.optimizer_state()
    second = compiled(optimizer)
    second.load_state_dict(weights)
    second.engine.session.set_optimizer_state(state)
    for step in range(2, 4):
        second.train_step(batch(step))
    for key, value in whole.state_dict().items():
        assert value.tobytes() == second.state_dict()[key].tobytes(), key


@pytest.mark.parametrize("make", [wl.optim.RMSprop, wl.optim.AdaBelief])
def test_learning_rate_dropout(make: Any) -> None:
    """Each element moves as without dropout, or not at all; the share that moves is lr_keep."""
    results = {}
    for keep in (1.0, 0.3):
        model = compiled(make(lr=0.01, lr_keep=keep))
        before = model.state_dict()
        model.train_step(batch(0))
        results[keep] = np.concatenate([(v - before[k]).ravel() for k, v in sorted(model.state_dict().items())])
    moved = results[0.3] != 0.0
    free = results[1.0] != 0.0  # the others have no gradient: their channel's ReLU is closed
    assert free.mean() > 0.8
    assert 0.22 < moved[free].mean() < 0.38, moved.mean()
    np.testing.assert_array_equal(results[0.3][moved], results[1.0][moved])


def test_hyperparameters_may_change_between_steps() -> None:
    optimizer = wl.optim.Adam(0.01, clip_norm=1.0)
    model = compiled(optimizer)
    model.train_step(batch(0))
    optimizer.lr, optimizer.clip_norm, before = 0.0, 0.5, model.state_dict()
    model.train_step(batch(1))
    assert all((v == before[k]).all() for k, v in model.state_dict().items())
    optimizer.clip_norm = 0.0
    with pytest.raises(wl.ArgumentError, match="clipping cannot be switched off while training"):
        model.train_step(batch(2))


def test_arguments_that_are_refused() -> None:
    for make, text in (
        (lambda: wl.optim.Adam(lr=-1.0), "Adam: lr must be finite and at least 0"),
        (lambda: wl.optim.Adam(betas=(0.9, 1.0)), "betas must be less than 1"),
        (lambda: wl.optim.AdamW(betas=0.9), "betas must be two numbers"),  # type: ignore[arg-type]
        (lambda: wl.optim.RMSprop(lr_keep=1.5), "lr_keep must be finite and between 0 and 1"),
        (lambda: wl.optim.AdaBelief(clip_norm=float("nan")), "clip_norm must be finite"),
        (lambda: wl.optim.get("lbfgs"), f"expected one of {', '.join(O.BY_NAME)}$"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    assert repr(wl.optim.AdaBelief(1e-4, clip_norm=1.0)) == (
        "AdaBelief(lr=0.0001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, lr_keep=1.0, bias_correction=True, clip_norm=1.0)"
    )
