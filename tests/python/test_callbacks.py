"""What a callback may do while fit() runs: every public call from every hook leaves losses and weights as they were."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.layers import BatchNorm2d, Conv2d, Latent, ReLU

HOOKS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end", "on_train_end")
IMAGES = np.random.default_rng(0).integers(0, 256, (22, 3, 8, 8), np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 256, (9, 3, 8, 8), np.uint8)

CALLS: dict[str, Callable[[wl.Model], Any]] = {
    "evaluate": lambda model: model.evaluate(OTHERS),
    "evaluate streamed": lambda model: model.evaluate(OTHERS, OTHERS.copy()),
    "predict": lambda model: model.predict(OTHERS),
    "encode": lambda model: model.encode(OTHERS),
    "gradients": lambda model: model.gradients(OTHERS[:5]),
    "state_dict": lambda model: model.state_dict(),
    "bypass": lambda model: model.bypass(OTHERS[:2]),
    "trace": lambda model: model.trace(OTHERS[:2]),
    "memory": lambda model: model.memory(7),
}


def made() -> wl.Model:
    x = wl.Input((3, 8, 8))
    h = Latent()(ReLU()(BatchNorm2d()(Conv2d(4, 3, padding=1)(x))))
    model = wl.Model(x, Conv2d(3, 3, padding=1)(h))
    model.compile(wl.optim.SGD(0.05, momentum=0.9), batch_size=4, seed=3)
    return model


class Calls(wl.Callback):
    """One call from one hook, each time."""

    def __init__(self, hook: str, call: Callable[[wl.Model], Any]) -> None:
        self.count = 0

        def called(*_: object) -> None:
            self.count += 1
            call(self.model)

        setattr(self, hook, called)


def trained(*callbacks: wl.Callback, streamed: bool = False) -> tuple[dict[str, list[float]], dict[str, Any]]:
    model = made()
    y = IMAGES.copy() if streamed else None
    history = model.fit(IMAGES, y, epochs=2, validation_data=IMAGES[:6], callbacks=callbacks)
    kept = {key: values for key, values in history.history.items() if key in ("loss", "val_loss")}
    return kept, model.state_dict()


@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", CALLS)
def test_calls_from_a_callback_change_nothing(name: str, hook: str, streamed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    losses, weights = trained(streamed=streamed)
    callback = Calls(hook, CALLS[name])
    found, same = trained(callback, streamed=streamed)
    assert callback.count
    assert found == losses
    assert all(np.array_equal(weights[key], same[key]) for key in weights)


def test_evaluate_in_a_callback_is_right() -> None:
    seen: list[float] = []
    model = made()

    class Sees(wl.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            seen.append(self.model.evaluate(OTHERS)["loss"])

    model.fit(IMAGES, epochs=1, callbacks=[Sees()])
    assert seen == [model.evaluate(OTHERS)["loss"]]


@pytest.mark.parametrize("call", ["fit", "compile"])
def test_fit_and_compile_inside_fit_are_refused(call: str) -> None:
    model = made()
    again = Calls("on_epoch_begin", lambda model: model.fit(IMAGES, epochs=1) if call == "fit" else model.compile())
    with pytest.raises(wl.StateError, match=r"trained already|while fit"):
        model.fit(IMAGES, epochs=1, callbacks=[again])
    model.fit(IMAGES, epochs=1)  # and it is usable afterwards


def test_a_second_thread_cannot_train_the_same_model() -> None:
    model, inside, go_on = made(), threading.Event(), threading.Event()
    failures: list[BaseException] = []

    class Waits(wl.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
            inside.set()
            assert go_on.wait(30)

    thread = threading.Thread(target=lambda: model.fit(IMAGES, epochs=1, callbacks=[Waits()]))
    thread.start()
    assert inside.wait(30)
    try:
        model.fit(OTHERS, epochs=1)
    except wl.StateError as error:
        failures.append(error)
    go_on.set()
    thread.join()
    assert len(failures) == 1
    assert model.progress.epoch == 1
