"""A small training that the tests start on several workers. Arguments: device, what goes wrong, rank, step."""

import hashlib
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import warploom as wl
from warploom.distributed.meetings import Meetings

device, fault, rank, step = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if fault == "absent" and int(os.environ["PMI_RANK"]) == rank:
    os.environ["PYTHONPATH"] = ""
    sys.modules["mpi4py"] = None  # type: ignore[assignment]
world = wl.distributed.init()
mine = world.rank == rank

x = wl.Input((3, 8, 8), name="image")
h = wl.layers.BatchNorm2d(name="bn")(wl.layers.Conv2d(4, 3, padding=1, name="c1")(x))
h = wl.layers.Dropout(0.3, name="drop")(wl.layers.ReLU()(h))
model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(h), name="small")
options = wl.distributed.Options(**json.loads(os.environ.get("SMALL_OPTIONS", "{}")))
seed = 3 + (fault == "seed" and mine)
batch_size = 12 + (fault == "batch" and mine)
clip = float(os.environ.get("SMALL_CLIP", "1"))  # 0: none, so that a worker needs the gradient of its part alone
model.compile(wl.optim.Adam(1e-2, clip_norm=clip), device=device, batch_size=batch_size, seed=seed, distributed=options)


def at_bucket(number: int, send):
    """The group's way to send a bucket, with a fault in the middle of one: the others wait for it."""
    sent = 0

    def wrapped(*arguments) -> None:
        nonlocal sent
        sent += 1
        if sent == number and fault == "kill bucket":
            assert threading.current_thread().name == "warploom-reduce"
            os.kill(os.getpid(), signal.SIGKILL)
        if sent == number:
            raise wl.DeviceError("a cable is broken")
        send(*arguments)

    return wrapped


def at_meeting(number: int, meet):
    """Killed before it says what its shards bring to a meeting of batch norms."""
    come = 0

    def wrapped(*arguments):
        nonlocal come
        come += 1
        if come == number:
            os.write(2, f"killed {time.time()}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return meet(*arguments)

    return wrapped


if mine and fault == "kill meeting":
    Meetings.merged = at_meeting(step, Meetings.merged)
if mine and fault.endswith("bucket"):
    world.group.swap = at_bucket(step, world.group.swap)


class Fault(wl.Callback):
    """Does it after the step."""

    done = 0

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        self.done += 1
        if not mine or self.done != step:
            return
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "guard":
            os.kill(os.getppid(), signal.SIGKILL)
        if fault == "raise":
            raise wl.DataError("a file is gone")
        if fault == "stop":
            self.model.stop_training = True


images = np.random.default_rng(0).random((31, 3, 8, 8), dtype=np.float32)  # the last batch has 7: fewer than shards
if fault == "data" and mine:
    images[30] += 1
if fault == "weights" and mine:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})  # rank 0's are what counts
epochs = 2 if fault in ("none", "weights") else 100_000
history = model.fit(images, epochs=epochs, validation_data=images[:13], callbacks=[Fault()], verbose=False)
streamed = model.fit(images, images * 0.5, epochs=1, verbose=False) if epochs == 2 else {}
changed = wl.data.augmented(images, flip=True, shift=2, noise=0.1, cutout=3)
augmented = model.fit(*changed, epochs=1, verbose=False) if epochs == 2 else {}
bits = hashlib.sha256(b"".join(model.state_dict()[name].tobytes() for name in sorted(model.state_dict()))).hexdigest()
numbers = (
    [history["loss"][-2:], history["val_loss"][-2:], streamed["loss"], augmented["loss"], model.evaluate(images)["loss"]]
    if streamed
    else []
)
line = json.dumps({"rank": world.rank, "size": world.size, "bits": bits, "numbers": numbers, "at": vars(model.progress)})
os.write(1, (line + "\n").encode())
