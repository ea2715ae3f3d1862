"""Schedules: PyTorch's numbers, composition, memory through checkpoints, and the command line's notation."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.optim import schedules as s

EPOCHS, STEPS = 12, 5
LOSSES = [1.0, 0.8, 0.8, 0.9, 0.79999, 0.85, 0.7, 0.7, 0.71, 0.72, 0.73, 0.69]


def rates(schedule: s.Schedule, *, start: int = 0, stop: int = EPOCHS, model: Any = None) -> list[float]:
    """The learning rate of every batch, as fit() would use them."""
    model = model or SimpleNamespace(optimizer=wl.optim.SGD(lr=0.1))
    schedule.model = model
    schedule.on_train_begin({"epochs": EPOCHS, "steps": STEPS})
    used = []
    for epoch in range(start, stop):
        schedule.on_epoch_begin(epoch, {"batch": 0})
        for batch in range(STEPS):
            used.append(model.optimizer.lr)
            schedule.on_train_batch_end(batch, {})
        schedule.on_epoch_end(epoch, {"loss": 9.0, "val_loss": LOSSES[epoch]})
    return used


def torch_rates(make: Callable[[Any, Any], Any], per: str) -> list[float]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    used = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per == "step":
                scheduler.step()
        if per == "epoch":
            scheduler.step(LOSSES[epoch]) if "Plateau" in type(scheduler).__name__ else scheduler.step()
    return used


CASES: list[tuple[Callable[[], s.Schedule], str, Callable[[Any, Any], Any]]] = [
    (lambda: s.StepLR(3, 0.5), "epoch", lambda t, o: t.StepLR(o, 3, 0.5)),
    (lambda: s.StepLR(7, 0.9, per="step"), "step", lambda t, o: t.StepLR(o, 7, 0.9)),
    (lambda: s.MultiStepLR([8, 2], 0.2), "epoch", lambda t, o: t.MultiStepLR(o, [2, 8], 0.2)),
    (lambda: s.ExponentialLR(0.9), "epoch", lambda t, o: t.ExponentialLR(o, 0.9)),
    (lambda: s.CosineLR(), "epoch", lambda t, o: t.CosineAnnealingLR(o, EPOCHS)),
    (lambda: s.CosineLR(60, 0.01, per="step"), "step", lambda t, o: t.CosineAnnealingLR(o, 60, 0.01)),
    (
        lambda: s.CosineLR(warmup=4, start_factor=0.2),
        "epoch",
        lambda t, o: t.SequentialLR(o, [t.LinearLR(o, 0.2, 1.0, 4), t.CosineAnnealingLR(o, EPOCHS - 4)], [4]),
    ),
    (lambda: s.Warmup(20, 0.1), "step", lambda t, o: t.LinearLR(o, 0.1, 1.0, 20)),
    (lambda: s.LambdaLR(lambda e: 1 / (1 + e)), "epoch", lambda t, o: t.LambdaLR(o, lambda e: 1 / (1 + e))),
    (lambda: s.PlateauLR(0.5, 1), "epoch", lambda t, o: t.ReduceLROnPlateau(o, factor=0.5, patience=1)),
    (
        lambda: s.PlateauLR(0.1, 0, threshold=0.05, cooldown=2, min_lr=0.002),
        "epoch",
        lambda t, o: t.ReduceLROnPlateau(o, factor=0.1, patience=0, threshold=0.05, cooldown=2, min_lr=0.002),
    ),
    (
        lambda: s.Chain([s.StepLR(4, 0.5), s.ExponentialLR(0.9)]),
        "epoch",
        lambda t, o: t.ChainedScheduler([t.StepLR(o, 4, 0.5), t.ExponentialLR(o, 0.9)]),
    ),
]


@pytest.mark.parametrize(("make", "per", "make_torch"), CASES)
@pytest.mark.filterwarnings("ignore")  # PyTorch warns that the epoch parameter of SequentialLR is old
def test_rates_are_pytorchs(make: Callable[[], s.Schedule], per: str, make_torch: Callable[[Any, Any], Any]) -> None:
    expected = torch_rates(make_torch, per)
    assert len(set(expected)) > 2
    np.testing.assert_allclose(rates(make()), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("make", [case[0] for case in CASES])
def test_the_rest_of_a_run_has_the_same_rates(make: Callable[[], s.Schedule]) -> None:
    whole = rates(make())
    first, model = make(), SimpleNamespace(optimizer=wl.optim.SGD(lr=0.1))
    first_half = rates(first, stop=5, model=model)
    state = json.loads(json.dumps(first.state()))
    second = make()
    second.load_state(state)
    assert first_half + rates(second, start=5) == whole, "bits, from a fresh optimizer"
    assert first_half + rates(first, start=5, model=model) == whole, "bits, in the same process"


@pytest.mark.parametrize("make", [case[0] for case in CASES])
def test_an_epoch_tells_the_rate_of_its_last_batch(make: Callable[[], s.Schedule]) -> None:
    """Also where a run was stopped after its last batch, before its validation, and goes on."""
    whole = rates(make())
    for epoch in (0, 3, EPOCHS - 1):
        first, model = make(), SimpleNamespace(optimizer=wl.optim.SGD(lr=0.1))
        rates(first, stop=epoch, model=model)
        first.on_epoch_begin(epoch, {"batch": 0})
        for batch in range(STEPS):
            first.on_train_batch_end(batch, {})
        state, rate = json.loads(json.dumps(first.state())), model.optimizer.lr
        second = make()
        second.load_state(state)
        for schedule, optimizer in ((first, model.optimizer), (second, wl.optim.SGD(lr=rate))):
            schedule.model = SimpleNamespace(optimizer=optimizer)
            schedule.on_train_begin({"epochs": EPOCHS, "steps": STEPS})
            schedule.on_epoch_begin(epoch, {"batch": STEPS})
            logs = {"loss": 9.0, "val_loss": LOSSES[epoch]}
            schedule.on_epoch_end(epoch, logs)
            assert logs["lr"] == whole[STEPS * epoch + STEPS - 1]


def test_cyclic_cosine() -> None:
    used = rates(s.CyclicCosineLR(20))
    assert used[0] == used[20] == used[40] == 0.1
    assert used[10] == pytest.approx(0.0, abs=1e-17)
    np.testing.assert_allclose(used[:60], 0.05 * (1 + np.cos(2 * np.pi * np.arange(60) / 20)), atol=1e-15)


def test_a_rate_set_by_the_user_is_the_new_base() -> None:
    model = SimpleNamespace(optimizer=wl.optim.SGD(lr=0.1))
    schedule = s.StepLR(1, 0.5)
    rates(schedule, stop=2, model=model)
    model.optimizer.lr = 0.8
    assert rates(schedule, stop=2, model=model)[::STEPS] == [0.8, 0.4]


def test_the_command_lines_notation() -> None:
    assert rates(s.parse("step:step_size=3,gamma=0.5")) == rates(s.StepLR(3, 0.5))
    assert rates(s.parse("multistep:milestones=2/8,gamma=2e-1")) == rates(s.MultiStepLR([2, 8], 0.2))
    assert rates(s.parse("cosine")) == rates(s.CosineLR())
    chained = s.Chain([s.Warmup(7), s.CosineLR(60, per="step")])
    assert rates(s.parse("warmup:length=7+cosine:t_max=60,per=step")) == rates(chained)
    for text, reason in (
        ("steps", "unknown schedule 'steps'; expected one of step, multistep"),
        ("step:3", "'3' is no key=value"),
        ("step:gamma=half", "gamma='half' is no number"),
        ("step:size=3", "unexpected keyword argument 'size'"),
        ("multistep", "missing 1 required positional argument: 'milestones'"),
        ("step:step_size=0", "step_size must be at least 1"),
        ("cosine:t_max=3,warmup=3", "t_max must be larger than warmup"),
        ("step:per=batch", "per must be 'epoch' or 'step'"),
    ):
        with pytest.raises(wl.ArgumentError, match=reason):
            s.parse(text)


def test_plateau_names_what_it_cannot_find() -> None:
    with pytest.raises(wl.ArgumentError, match="monitor='accuracy', but an epoch gives loss, val_loss"):
        rates(s.PlateauLR(monitor="accuracy"))
