"""The end of the interpreter and fork() while other threads are inside the core; plans that are kept; long networks."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import warploom as wl

TRIES = int(os.environ.get("WARPLOOM_LIFETIME_TRIES", "6"))  # of each; 200 for docs/reliability.md

AT_EXIT = """
import sys, threading, time
import numpy as np
import warploom as wl
x = wl.Input((4, 32, 32))
model = wl.Model(x, wl.layers.Conv2d(4, 3, padding=1, name="c")(x))
data = np.random.default_rng(0).random((32, 4, 32, 32)).astype(np.float32)
model.compile(batch_size=8, device=sys.argv[2])
def work():
    while True:
        if sys.argv[1] == "fit":
            model.fit(data, epochs=1000, verbose=False)
        else:
            model.predict(data)
model.predict(data)
for _ in range(1 if sys.argv[1] == "fit" else 2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("what", ["predict", "fit"])
@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_exit_with_a_daemon_thread_at_work(what: str, device: str) -> None:
    for i in range(TRIES):
        arguments = [sys.executable, "-c", AT_EXIT, what, device, str(0.05 + 0.01 * (i % 7))]
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"try {i}: exit {ran.returncode}: {ran.stderr}"
        assert "terminate" not in ran.stderr, ran.stderr


def test_predict_at_exit_works() -> None:
    """A handler that runs after the gate has closed (registered before the import), on the thread that ends it all."""
    code = (
        "import atexit\n"
        "def last():\n    import numpy as np\n    print(model.predict(np.zeros((1, 1, 4, 4), np.float32)).shape)\n"
        "atexit.register(last)\n"
        "import warploom as wl\nx = wl.Input((1, 4, 4))\nmodel = wl.Model(x, wl.layers.ReLU()(x))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout.strip()) == (0, "(1, 1, 4, 4)"), ran.stderr


FORK = """
import os, signal, sys, threading, time
import numpy as np
import warploom as wl
x = wl.Input((4, 32, 32))
model = wl.Model(x, wl.layers.Conv2d(4, 3, padding=1, name="c")(x))
data = np.random.default_rng(0).random((32, 4, 32, 32)).astype(np.float32)
model.compile(batch_size=8, device=sys.argv[1])
model.predict(data)
stop = threading.Event()
class Stop(wl.Callback):
    def on_train_batch_end(self, batch, logs):
        self.model.stop_training = stop.is_set()
thread = threading.Thread(target=lambda: model.fit(data, epochs=100000, verbose=False, callbacks=[Stop()]))
thread.start()
bad = 0
for i in range(int(sys.argv[2])):
    time.sleep(0.01 + 0.003 * (i % 5))
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        state = model.state_dict()
        y = model.predict(data)
        again = model.predict(data)
        os._exit(0 if np.array_equal(y, again) and np.isfinite(state["c.weight"]).all() else 3)
    bad += os.waitpid(child, 0)[1] != 0
stop.set()
thread.join()
model.predict(data)
print("bad", bad)
"""


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_while_another_thread_trains(device: str) -> None:
    """state_dict and predict of that model work in the child, and go on to work in the parent."""
    ran = subprocess.run([sys.executable, "-c", FORK, device, str(TRIES)], capture_output=True, text=True, timeout=600)
    assert (ran.returncode, ran.stdout.strip()) == (0, "bad 0"), ran.stderr[-2000:]


def _bits(model: wl.Model, images: np.ndarray) -> tuple[bytes, int]:
    return model.predict(images).tobytes(), os.getpid()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
def test_workers_of_multiprocessing_get_the_same_bits(start: str) -> None:
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(x))
    images = np.random.default_rng(0).random((9, 3, 8, 8)).astype(np.float32)
    model.compile(batch_size=4, device="cpu")
    model.fit(images, epochs=1, verbose=False)
    expected, here = _bits(model, images)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(start)) as pool:
        for made, there in pool.map(_bits, [model] * 4, [images] * 4, timeout=300):
            assert made == expected
            assert there != here


def memory_in_use() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_plans_are_kept_in_a_bounded_number() -> None:
    x = h = wl.Input((2, 8, 8), name="x")
    for i in range(30):
        h = wl.layers.ReLU()(wl.layers.Conv2d(2, 3, padding=1, name=f"c{i}")(h))
    model = wl.Model(x, h)
    data = np.random.default_rng(0).random((600, 2, 8, 8)).astype(np.float32)
    first = model.predict(data[:1])
    model.predict(data[:64])
    for n in range(1, 65):  # enough to fill the cache and the arena
        model.predict(data[:n], batch_size=n)
    before = memory_in_use()
    for n in range(64, 300):
        model.predict(data[: min(n, 64)], batch_size=64)
        model.predict(data[: 1 + n % 63])
    for n in range(100, 300):
        model.predict(data[:n], batch_size=n)
    grown = memory_in_use() - before
    assert grown < 24 << 20, f"{grown >> 20} MB more after 200 other batch sizes"
    assert np.array_equal(model.predict(data[:1]), first)


@pytest.mark.parametrize("layers", ["relu", "conv"])
def test_long_networks_take_time_in_proportion(layers: str) -> None:
    """Four times the length: about four times the time to plan and run (a quadratic step takes 16 times)."""

    def seconds(length: int) -> float:
        x = h = wl.Input((1, 4, 4))
        for i in range(length):
            h = (wl.layers.ReLU() if layers == "relu" or i % 2 else wl.layers.Conv2d(1, 1, init="ones"))(h)
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            model = wl.Model(x, h)
            model.compile(device="cpu", batch_size=1)
            model.predict(np.ones((1, 1, 4, 4), np.float32))
            best = min(best, time.process_time() - begun)
        return best

    short, long = seconds(500), seconds(2000)
    assert long < 8 * short, (short, long)
