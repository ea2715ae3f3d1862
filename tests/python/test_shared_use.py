"""A model in several hands: threads, copies, pickles, forked processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import warploom as wl

X = np.random.default_rng(0).random((20, 3, 8, 8), np.float32)


def network(name: str = "net") -> wl.Model:
    x = wl.Input((3, 8, 8))
    h = wl.layers.ReLU()(wl.layers.Conv2d(4, 3, padding=1, name="conv1")(x))
    h = wl.layers.Latent()(wl.layers.MaxPool2d(2)(h))
    y = wl.layers.Conv2d(3, 3, padding=1, name="conv2")(wl.layers.Upsample(2)(h))
    return wl.Model(x, y, name=name)


def compiled(name: str = "net") -> wl.Model:
    model = network(name)
    model.compile(wl.optim.SGD(0.1), device="cpu", batch_size=8, seed=5)
    return model


def in_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_model_in_several_threads() -> None:
    """Outputs and gradients are those of the call, not of another thread's that came in between."""
    model = compiled()
    sizes = (1, 5, 20)
    outputs = {n: model.predict(X[:n], batch_size=n) for n in sizes}
    gradients = {n: model.gradients(X[:n]) for n in sizes}
    wrong: list[str] = []

    def work(n: int) -> None:
        for _ in range(60):
            if not np.array_equal(model.predict(X[:n], batch_size=n), outputs[n]):
                wrong.append(f"predict {n}")
            found = model.gradients(X[:n])
            if any(not np.array_equal(found[name], value) for name, value in gradients[n].items()):
                wrong.append(f"gradients {n}")

    in_threads([lambda n=n: work(n) for n in sizes])  # type: ignore[misc]
    assert not wrong


def test_two_models_trained_at_once() -> None:
    alone = compiled().fit(X, epochs=10)["loss"]
    found: dict[str, list[float]] = {}

    def work(name: str) -> None:
        found[name] = compiled(name).fit(X, epochs=10)["loss"]

    in_threads([lambda: work("a"), lambda: work("b")])
    assert found == {"a": alone, "b": alone}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_models_of_their_own(duplicate: Callable[[wl.Model], wl.Model]) -> None:
    model = compiled()
    model.layer("conv1").trainable = False
    before = model.predict(X)
    other = duplicate(model)
    assert np.array_equal(other.predict(X, batch_size=8), before)  # the batch decides which algorithm runs
    assert not other.layer("conv1").trainable
    other.compile(wl.optim.SGD(0.1), device="cpu", batch_size=8)
    other.fit(X, epochs=1)
    assert np.array_equal(model.predict(X), before)
    assert not np.array_equal(other.predict(X), before)


def _child(model: wl.Model, results: Any) -> None:
    results.put((model.predict(X), model.fit(X, epochs=1)["loss"]))


def test_a_forked_process_computes_too() -> None:
    model = compiled()
    wanted = model.predict(X)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_child, args=(model, results))
    process.start()
    try:
        outputs, loss = results.get(timeout=60)
    finally:
        process.join(10)
        process.kill()
    assert np.array_equal(outputs, wanted)
    assert loss == model.fit(X, epochs=1)["loss"]


def test_no_dimensions_stay_none() -> None:
    assert wl.ops.relu(np.array(-3.0, np.float32)).shape == ()


def test_what_eager_operations_refuse() -> None:
    x, w = np.zeros((1, 3, 4, 4), np.float32), np.zeros((2, 3, 1, 1), np.float32)
    with pytest.raises(wl.ArgumentError, match="padding 1073741824 is too large"):
        wl.ops.conv2d(x, w, padding=1 << 30)
    with pytest.raises(wl.ArgumentError, match=r"^linear: weight"):
        wl.ops.linear(np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32))
    with pytest.raises(wl.ArgumentError, match=r"^linear_backward: dy"):
        wl.ops.linear_backward(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(wl.ArgumentError, match="at most 2147483647"):
        wl.Input((1 << 40, 3, 3))
    with pytest.raises(wl.DTypeError, match="callbacks must be a list"):
        compiled().fit(X, epochs=1, callbacks=wl.Callback())  # type: ignore[arg-type]
