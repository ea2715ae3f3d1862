"""What a measurement must carry: commit, command, device, clocks, toolkit, libraries."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any


def _said(*command: str, cwd: Path | None = None) -> str:
    """The command's output, or "" where it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def about_run(root: Path) -> dict[str, Any]:
    def installed(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return ""

    nvcc = _said("nvcc", "--version") or _said("/usr/local/cuda/bin/nvcc", "--version")
    return {
        "commit": _said("git", "rev-parse", "--short=12", "HEAD", cwd=root),
        "uncommitted": bool(_said("git", "status", "--porcelain", "--untracked-files=no", cwd=root)),
        "command": shlex.join(["python", *(Path(a).name if a == sys.argv[0] else a for a in sys.argv)]),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "numpy": installed("numpy"),
        "torch": installed("torch"),
        "toolkit": nvcc.splitlines()[-1] if nvcc else "",
    }


def about_device(core: Any, device: str) -> dict[str, Any]:
    """The device's name and, for a GPU, its clocks and the arithmetic they allow (two FLOPs a core and clock, 128 cores each)."""
    kind, _, index = device.partition(":") if device.startswith("cuda") else (device, "", "")
    info = next((x["devices"][int(index or 0)] for x in core.libraries() if x["kind"] == kind and x["usable"]), {})
    found: dict[str, Any] = {"device_name": info.get("name", ""), "multiprocessors": info.get("multiprocessors", 0)}
    if kind == "cuda":
        fields = "clocks.sm,clocks.max.sm,clocks.mem,driver_version,power.limit"
        values = _said("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "-i", index or "0").split(", ")
        if len(values) == 5:
            found |= dict(zip(("sm_mhz", "max_sm_mhz", "memory_mhz", "driver", "power_limit_w"), values, strict=True))
            if values[1].isdigit():
                found["peak_gflops"] = info["multiprocessors"] * 128 * 2 * int(values[1]) / 1e3
    return found
