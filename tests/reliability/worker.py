"""Runs `warploom train` again and again in forks of one process, each perhaps with a file-system call that fails (fail_calls.c).

Reads a JSON line per run: {"arguments": [...], "root": folder, "call": k, "how": errno or 0, "kill_after": seconds or null};
writes one: {"code": exit code, or minus the signal, "calls": counted, "seconds": ..., "said": stdout and stderr}. A fork costs
milliseconds, a fresh interpreter with NumPy and matplotlib seconds: that is what makes thousands of kills possible. The
pictures are files of the same names, written in the same way, but not drawn, which would take nine tenths of the time.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from typing import Any

import PIL.Image  # noqa: F401  # so that no fork has to
import safetensors.numpy  # noqa: F401
import warploom as wl
import warploom.runs.run
from warploom.cli import main
from warploom.ground.atomic import write_atomically
from warploom.models.cifar10 import objective
from warploom.models.registry import network
from warploom.runs import pictures


@network(objective)
def tiny() -> wl.Model:
    """3x8x8, 4 channels inside: a training step takes less than a millisecond."""
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.ReLU()(wl.layers.Conv2d(4, 3, padding=1, name="conv1")(x))
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv2")(h), name="tiny")


def not_drawn(path: Any, *_: Any) -> None:
    write_atomically(path, b"a picture")


def library() -> Any:
    """The preloaded library, or None where nothing is preloaded."""
    try:
        loaded = ctypes.CDLL(None)
        loaded.arm.argtypes, loaded.count.restype = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int], ctypes.c_long
        return loaded
    except AttributeError:
        return None


def run(job: dict[str, Any], shim: Any) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as counted:
        child = os.fork()
        if not child:
            code = 99
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                if shim is not None:
                    shim.arm(job["root"].encode(), job.get("call", 0), job.get("how", 0))
                code = main(job["arguments"])
                sys.stdout.flush()
                if shim is not None:
                    os.pwrite(counted.fileno(), str(shim.count()).encode(), 0)
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        if job.get("kill_after") is not None:
            time.sleep(job["kill_after"])
            os.kill(child, job.get("signal", signal.SIGKILL))
        _, status = os.waitpid(child, 0)
        said.seek(0)
        calls = int(os.pread(counted.fileno(), 20, 0) or b"0")
        text = said.read().decode(errors="replace")
    return {"code": os.waitstatus_to_exitcode(status), "calls": calls, "seconds": time.monotonic() - started, "said": text}


if __name__ == "__main__":
    warploom.runs.run.plot_loss = not_drawn
    pictures.plot_rows = pictures.plot_reconstructions = not_drawn
    loaded = library()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), loaded)), flush=True)
