"""One small convolution a version, precision and direction, each in a process of its own under its own limit, newest first.

    python benchmarks/gpu/smoke.py cuda --out smoke.jsonl       all of them; a line as each ends
    python benchmarks/gpu/smoke.py --one cuda v7 bf16 conv2d_forward [--case cifar10.conv2]
    python benchmarks/gpu/smoke.py --probe cuda                 what is here

Launches block and steps are not recorded, so that an error names the kernel that made it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks"), str(ROOT / "python")]
BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1", "WARPLOOM_RECORD": "0"}
ENTRIES = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
PRECISIONS = ("bf16", "fp16", "tf32", "fp32")


def one(device: str, version: str, precision: str, entry: str, name: str) -> int:
    import cases
    import harness
    from warploom import _core

    target = harness.target(_core, device, version)
    if target is None:
        print(f"there is no {version} on {device}")
        return 2
    case = cases.conv((2, 64, 12, 10), 64, 3, pad=1) if not name else next(c for c in cases.CIFAR10 if c.layer == name)
    case = case if precision == "fp32" else cases.precise(case, precision)
    refused = harness.refusal(_core, target, case, entry)
    if refused:
        print(f"refused: {refused}")
        return 0
    try:
        harness.check(_core, target, case, ("floats",), (entry,), twice=not name)
    except harness.Mismatch as error:
        print(error)
        return 1
    print(f"right: {harness.algorithm(_core, device, version, entry, case) or entry}")
    return 0


def probe(device: str) -> int:
    import warploom as wl

    print(sys.version)
    print(subprocess.run(["git", "log", "-1", "--format=%H %s"], cwd=ROOT, capture_output=True, text=True, check=False).stdout)
    for row in wl.devices():
        print(json.dumps(row))
    found = any(d["usable"] and d["name"].split(":")[0] == device for d in wl.devices())
    if not found:
        print(f"no usable device {device}")
    try:
        import torch

        print("torch", torch.__version__, torch.version.cuda, torch.cuda.is_available() and torch.cuda.get_device_name())
    except ImportError as error:
        print(error)
    return 0 if found else 1


def attempt(device: str, version: str, precision: str, entry: str, seconds: float) -> dict[str, Any]:
    about = {"kind": "smoke", "device": device, "version": version, "precision": precision, "entry": entry}
    command = [sys.executable, __file__, "--one", device, version, precision, entry]
    begun = time.monotonic()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | BLOCKING, start_new_session=True
    )
    try:
        said, _ = child.communicate(timeout=seconds)
        outcome = {0: "right", 1: "WRONG"}.get(child.returncode, f"CRASHED ({child.returncode})")
        if child.returncode == 0 and said.startswith("refused"):
            outcome = "refused"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        said, _ = child.communicate()
        outcome = f"HANGS ({seconds:.0f} s)"
    last = said.strip().splitlines()[-1] if said.strip() else ""
    return about | {"outcome": outcome, "said": last, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cuda")
    parser.add_argument("--one", nargs=4, metavar=("DEVICE", "VERSION", "PRECISION", "ENTRY"))
    parser.add_argument("--case", default="", help="of --one: a layer of the CIFAR-10 autoencoder")
    parser.add_argument("--probe", metavar="DEVICE")
    parser.add_argument("--versions", nargs="*", default=["v7", "v5", "v6", "v4", "v3", "v2", "v1"])
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20, help="of one process")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.probe:
        return probe(options.probe)
    if options.one:
        return one(*options.one, options.case)
    own = {"v7": PRECISIONS[:3], "v5": PRECISIONS[:3]}
    wanted = [(v, p, e) for v in options.versions for p in own.get(v, ("fp32",)) for e in ENTRIES]
    bad = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(lambda w: attempt(options.device, *w, options.seconds), wanted):
            bad += record["outcome"] not in ("right", "refused")
            print(
                f"{record['version']} {record['precision']:<5} {record['entry']:<24} {record['outcome']}: {record['said']}",
                flush=True,
            )
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
