"""Every allocation of the native code fails once; afterwards the process must be as good as before.

    python tests/reliability/fail_allocations.py [--device cpu] [--version cpu] [--every 1] [--threads 2]

A network is built, trained on host and on device data, asked, saved and loaded, in a process in which allocation number k of
the engine and its kernels fails (fail_allocations.cpp), for every k. That must end in an OutOfMemoryError of one line, or go on
without the memory and give the same bits; and the same work right after it, in the same process, must give the bits of a process
in which nothing ever failed. The first failures of a process also hit what is made once, such as the pool of threads: --fresh
gives each k a process of its own. Exit code 1 where something else happened.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / "python"


def compiled(folder: Path) -> Path | None:
    """fail_allocations.cpp as a library; None where there is no compiler, or not the GNU C library."""
    compiler = next((c for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c and shutil.which(c)), None)
    if compiler is None or not sys.platform.startswith("linux") or not os.confstr("CS_GNU_LIBC_VERSION"):
        return None
    library = folder / "fail_allocations.so"
    source = HERE / "fail_allocations.cpp"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-std=c++17", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def work(version: str, device: str, folder: Path) -> str:
    """All bits that came of it, as text."""
    import hashlib

    import numpy as np
    import warploom as wl

    images = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)
    x = wl.Input((3, 8, 8), name="image")
    h = wl.layers.BatchNorm2d(name="norm")(wl.layers.Conv2d(8, 3, padding=1, name="c1")(x))
    h = wl.layers.MaxPool2d(2, name="pool")(wl.layers.ReLU(name="r1")(h))
    h = wl.layers.Latent(name="latent")(wl.layers.Dropout(0.2, name="drop")(h))
    h = wl.layers.Upsample(2, name="up")(h)
    model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="c2")(h), name="small")
    model.compile(wl.optim.Adam(0.01, clip_norm=1.0), "mse", version, device, batch_size=4, seed=3)
    found = hashlib.sha256()
    for data in (images, images[:, :, ::-1].astype(np.float32) / 255):
        found.update(np.array(model.fit(data, epochs=1, verbose=False)["loss"]).tobytes())
    found.update(model.predict(images[:2]).tobytes() + model.encode(images[:3]).tobytes())
    model.save(folder / "m.safetensors")
    again = wl.load(folder / "m.safetensors")
    again.compile("sgd", "mse", version, device, batch_size=4)
    found.update(again.predict(images[:5]).tobytes())
    for name, value in sorted(again.state_dict().items()):
        found.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def fail_in_this_process(arguments: argparse.Namespace) -> None:
    """The worker: one JSON line of each failed allocation."""
    import warploom as wl

    shim = ctypes.CDLL(None)
    shim.allocations.restype = ctypes.c_long
    shim.arm.argtypes = [ctypes.c_long]
    memory = "/dev/shm"  # a save waits for its disk, which is not what is tried here
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:

        def attempt() -> str:
            return work(arguments.version, arguments.device, Path(folder))

        expected = attempt() if not arguments.fresh else ""
        shim.arm(0)
        if arguments.count:
            attempt()
            shim.disarm()
            print(json.dumps({"allocations": shim.allocations(), "bits": attempt()}), flush=True)
            return
        for k in range(arguments.first, arguments.last + 1, arguments.every):
            print(json.dumps({"k": k}), flush=True)  # so that the parent knows where a process ended
            shim.arm(k)
            said, how = "", ""
            try:
                bits = attempt()
            except wl.OutOfMemoryError as error:
                bits, how, said = "", type(error).__name__, str(error)
            except BaseException as error:
                bits, how, said = "", f"wrong: {type(error).__name__}", str(error)
            shim.disarm()
            gc.collect()
            reached = shim.allocations() >= k
            after = attempt()
            print(json.dumps({"k": k, "how": how, "said": said, "bits": bits, "after": after, "reached": reached}), flush=True)
            if expected and after != expected:
                return


def answers(library: Path, arguments: list[str], threads: int) -> Iterator[tuple[dict[str, Any] | None, int, str]]:
    """The worker's lines; at the end (None, its exit code, what it said on stderr)."""
    environment = dict(os.environ, LD_PRELOAD=str(library), WARPLOOM_THREADS=str(threads))
    if (PYTHON / "warploom" / "_lib").is_dir():
        environment["PYTHONPATH"] = str(PYTHON) + os.pathsep + os.environ.get("PYTHONPATH", "")
    with tempfile.TemporaryFile("w+") as stderr:
        command = [sys.executable, str(Path(__file__)), "--worker", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line), 0, ""
        stderr.seek(0)
        yield None, process.returncode, stderr.read()


def fail_each(
    library: Path, version: str, device: str, every: int = 1, threads: int = 2, first: int = 1, last: int = 0, fresh: bool = False
) -> tuple[int, int, Counter[str], list[str]]:
    """(allocations of the work, how many failed, how each ended, what went wrong)."""
    which = ["--version", version, "--device", device, "--every", str(every)]
    count, code, said = next(answers(library, [*which, "--count", *(["--fresh"] if fresh else [])], threads))
    assert count is not None, (code, said)
    expected, total = count["bits"], count["allocations"]
    ways: Counter[str] = Counter()
    wrong: list[str] = []
    tried, k, last = 0, first, last or total
    while k <= last:
        at = k
        limits = ["--first", str(k), "--last", str(k if fresh else last), *(["--fresh"] if fresh else [])]
        for answer, code, said in answers(library, [*which, *limits], threads):
            if answer is None:
                if said.strip() or code:
                    wrong.append(f"allocation {at}: exit code {code}, stderr: {said[-800:]}")
                continue
            at = answer["k"]
            if "how" not in answer:
                continue
            tried += answer["reached"]
            way = answer["how"] or "went on"
            ways[way] += 1
            if way.startswith("wrong") or "\n" in answer["said"]:
                wrong.append(f"allocation {at}: {way}: {answer['said']}")
            if answer["bits"] not in ("", expected):
                wrong.append(f"allocation {at}: other bits")
            if answer["after"] != expected:
                wrong.append(f"allocation {at}: other bits in the work after it")
        k = at + every
    return total, tried, ways, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--version", default="cpu")
    parser.add_argument("--every", type=int, default=1, help="only each N-th allocation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int, default=0, help="default: all of them")
    parser.add_argument("--fresh", action="store_true", help="a process for each")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        fail_in_this_process(options)
        sys.exit(0)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        shim_library = compiled(Path(temporary))
        if shim_library is None:
            sys.exit("no C++ compiler, or not Linux with the GNU C library: nothing was tried")
        o = options
        allocations, tried, ways, wrong = fail_each(
            shim_library, o.version, o.device, o.every, o.threads, o.first, o.last, o.fresh
        )
    print(*wrong, sep="\n")
    ended = ", ".join(f"{count} {way}" for way, count in ways.most_common())
    print(f"{o.version} on {o.device}: {tried} of {allocations} allocations failed ({ended}), {len(wrong)} wrong")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(1 if wrong else 0)
