"""The parts of a GPU run, the most informative first, and their rehearsal. $WORK is the folder of logs and results."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from run import Part

PYTHON = shlex.quote(sys.executable)
COMPARE = f"{PYTHON} benchmarks/compare_versions.py --out $WORK/results.jsonl --device"
NODES = f"{PYTHON} benchmarks/gpu/nodes.py"
SMOKE = f"{PYTHON} benchmarks/gpu/smoke.py"
TESTS = f"{PYTHON} benchmarks/gpu/tests_apart.py"
FP32 = "v6 v4 v3 v2 v1"  # v5 and v7 take their float32 convolutions from others


def build(cuda: bool) -> str:
    """In place, into build-gpu. A cuda.so that was compiled elsewhere saves minutes: WARPLOOM_GPU_PREBUILT=FILE."""
    prebuilt = os.environ.get("WARPLOOM_GPU_PREBUILT", "")
    configure = f"cmake -S . -B build-gpu -G Ninja -DWARPLOOM_INPLACE=ON -DPython_EXECUTABLE={PYTHON}"
    if not cuda:
        return f"{configure} -DWARPLOOM_CUDA=OFF && ninja -C build-gpu -j {os.cpu_count()}"
    targets = "_core warploom_cpu_baseline" + (" warploom_cpu_avx2 warploom_cpu_avx512" if os.uname().machine == "x86_64" else "")
    if prebuilt:
        copy = f"cp {shlex.quote(str(Path(prebuilt).resolve()))} python/warploom/_lib/cuda.so"
        return f"{configure} -DWARPLOOM_CPU=all -DWARPLOOM_CUDA=OFF && ninja -C build-gpu -j {os.cpu_count()} {targets} && {copy}"
    # With what only this architecture has: 90a.
    found = (
        "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ' | sed 's/^\\(9.\\|1..\\)$/\\1a/')"
    )
    return (
        f"{configure} -DWARPLOOM_CPU=all -DWARPLOOM_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={found}-real && "
        f"ninja -C build-gpu -j {os.cpu_count()} {targets} warploom_cuda"
    )


def training(device: str, version: str, precision: str, size: str) -> str:
    data = "--data patches"
    if folder := os.environ.get("WARPLOOM_DATA", ""):
        data = f"--data cifar10 --data-dir {shlex.quote(folder)}"
    to = f"$WORK.runs/{version}-{precision}"
    return (
        f"rm -rf {to} && {PYTHON} train.py --version {version} --precision {precision} --device {device} {data} {size} "
        f"--out {to} && tail -n 1 {to}/metrics.jsonl | "
        f'sed \'s/"version": "{version}"/"version": "{version} {precision}"/\' >> $WORK/training.jsonl'
    )


def on_gpu() -> list[Part]:
    no_torch = "" if importlib.util.find_spec("torch") else "this python has no torch"
    no_sanitizer = "" if shutil.which("compute-sanitizer") else "compute-sanitizer is not installed"
    no_ncu = "" if shutil.which("ncu") else "ncu is not installed"
    steps = f"{COMPARE} cuda --step only"
    rival, newest = f"{steps} --torch only --precisions bf16", "--versions v7 v5 --precisions bf16"
    skip = "WARPLOOM_GPU_SKIP_BUILD is set" if os.environ.get("WARPLOOM_GPU_SKIP_BUILD") else ""
    checked = f"{COMPARE} cuda --step off --references torch"
    to_nodes = "--out $WORK/nodes.jsonl"
    found = [
        Part("build", 260, build(cuda=True), skip, True),
        Part("probe", 20, f"nvidia-smi; nvcc --version; {SMOKE} --probe cuda", needed=True),
        Part("smoke", 70, f"{SMOKE} cuda --jobs 4 --out $WORK/smoke.jsonl"),
        *(
            Part(f"step-v7-v5-{batch}", 30, f"{steps} --torch off --batch {batch} {newest} --seconds 25")
            for batch in (64, 256)
        ),
        *(
            Part(f"rival-{batch}", 60, f"{rival} --batch {batch} --ways whole --seconds 50", no_torch)
            for batch in (64, 256)
        ),
        Part("nodes-bf16", 40, f"{NODES} cuda --versions v7 v5 --precisions bf16 {to_nodes}", no_torch),
        Part("nodes-fp32", 40, f"{NODES} cuda --versions {FP32} --precisions fp32 {to_nodes}", no_torch),
        Part("step-fp32", 60, f"{steps} --torch off --batch 64 --versions {FP32} --precisions fp32 --seconds 50"),
        Part("step-others", 50, f"{steps} --torch off --batch 64 --versions v7 v5 --precisions tf32 fp16 --seconds 45"),
        Part("tests", 240, f"{TESTS} cuda --workers 8 --quiet-limit 60 --told $WORK/tests"),
        Part("nccl", 60, workers(), few_gpus() or no_nccl()),
        Part("memcheck", 60, sanitize("memcheck", "v7 or v5"), no_sanitizer),
        Part("synccheck", 45, sanitize("synccheck", "v7"), no_sanitizer),
        # Of v7's barriers, which are PTX, racecheck may say what is not so: the others only.
        Part("racecheck", 60, sanitize("racecheck", "v5 or v6 or v4"), no_sanitizer),
        Part("operations-bf16", 70, f"{checked} --versions v7 v5 --precisions bf16 --seconds 65", no_torch),
        Part("operations-fp32", 90, f"{checked} --versions {FP32} --precisions fp32 --seconds 85", no_torch),
        Part("operations-shared", 40, f"{COMPARE} cuda --step off --cases shared --torch off --seconds 35"),
        *(
            Part(f"train-{version}-{precision}", 40, training("cuda", version, precision, "--limit 12800 --epochs 2"))
            for version, precision in (("v7", "bf16"), ("v7", "fp16"), ("v5", "bf16"), ("v6", "fp32"), ("v2", "fp32"))
        ),
        *(
            Part(f"ncu-{version}-{entry}", 40, profile(version, precision, entry), no_ncu)
            for version, precision in (("v7", "bf16"), ("v5", "bf16"), ("v6", "fp32"))
            for entry in ("forward", "backward_input", "backward_weight")
        ),
        Part("rival-tuned", 240, f"{rival} --batch 64 --ways tuned compile graph --seconds 230", no_torch),
    ]  # fmt: skip
    return found


def few_gpus() -> str:
    done = (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False) if shutil.which("nvidia-smi") else None
    )
    count = len(done.stdout.splitlines()) if done else 0
    return "" if count > 1 else f"{count or 'no'} GPU: NCCL needs one for each of two workers"


def no_nccl() -> str:
    """In this process, which has no warploom yet: what a worker would say is in the part's own log."""
    return "" if importlib.util.find_spec("mpi4py") else "this python has no mpi4py"


def workers() -> str:
    """Two workers on two GPUs: through NCCL, through the host's memory, and one alone must end with the same bits."""
    small = f"{PYTHON} tests/distributed/small.py cuda none 0 0"
    mpirun = "$(command -v mpiexec || command -v mpirun) -n 2"
    bits = r"""sed -n 's/.*"bits": "\([0-9a-f]*\)".*/\1/p'"""
    return (
        f"set -o pipefail; {PYTHON} -m warploom devices | grep nccl; {small} | {bits} > $WORK/nccl.bits && "
        f"{mpirun} {small} | {bits} >> $WORK/nccl.bits && WARPLOOM_NCCL=off {mpirun} {small} | {bits} >> $WORK/nccl.bits && "
        "sort -u $WORK/nccl.bits && test $(sort -u $WORK/nccl.bits | wc -l) = 1"
    )


def sanitize(tool: str, versions: str) -> str:
    few = "conv_1x4x33x31 or conv_2x3x9x8_to5 or to65_k3x3 or _g3 or k4x4_s2 or pool_2x3x4x6 or mse_257 or sgd_259"
    return (
        f"CUDA_LAUNCH_BLOCKING=1 WARPLOOM_RECORD=0 compute-sanitizer --tool {tool} --error-exitcode 9 --target-processes all "
        f"{PYTHON} -m pytest -q -x -p no:cacheprovider -m gpu tests/kernels/test_ops.py -k '({versions}) and ({few})'"
    )


def profile(version: str, precision: str, entry: str) -> str:
    return (
        "ncu --clock-control none --section SpeedOfLight --section Occupancy --section MemoryWorkloadAnalysis "
        "--section WarpStateStats --kernel-name 'regex:conv|gemm|correlate|multiply' --launch-count 3 "
        f"{SMOKE} --one cuda {version} {precision} conv2d_{entry} --case cifar10.conv2"
    )


def rehearsal() -> list[Part]:
    """The same on the emulated device, as small as it goes: nothing of it is a measurement."""
    steps = f"{COMPARE} emulated --step only --batch 2 --repeat 1 --ceilings H100"
    checked = "--step off --cases conv_1x4x33x31_to3_k3x3_s1_p1 --repeat 1 --batch 2 --references torch"
    skip = "WARPLOOM_GPU_SKIP_BUILD is set" if os.environ.get("WARPLOOM_GPU_SKIP_BUILD") else ""
    return [
        Part("build", 900, build(cuda=False), skip, True),
        Part("probe", 60, f"{SMOKE} --probe emulated", needed=True),
        Part("smoke", 400, f"{SMOKE} emulated --jobs 2 --seconds 60 --out $WORK/smoke.jsonl --versions v7 v5 v2"),
        Part("step-v7-v5-2", 200, f"{steps} --versions v7 v5 --precisions bf16"),
        Part("nodes-bf16", 200, f"{NODES} emulated --versions v7 --precisions bf16 --batch 2 --out $WORK/nodes.jsonl"),
        Part("step-fp32", 200, f"{steps} --versions v6 v2 --precisions fp32"),
        Part("hangs", 4, "echo 'a deadlock, made up'; sleep 600"),
        Part("crashes", 60, "echo 'a device fault, made up'; kill -SEGV $$"),
        Part("tests", 400, f"{TESTS} emulated --workers 2 --quiet-limit 120 --told $WORK/tests --few"),
        Part("operations-bf16", 200, f"{COMPARE} emulated {checked} --versions v7 v5 --precisions bf16"),
        Part("operations-shared", 200, f"{COMPARE} emulated --step off --cases shared --elements 2048 --repeat 1 --versions v4"),
        Part("train-v7-bf16", 200, training("emulated", "v7", "bf16", "--limit 4 --batch-size 2 --epochs 1")),
        Part("nccl", 60, workers(), "a rehearsal: NCCL needs two GPUs"),
        Part("ncu", 40, "", "a rehearsal"),
    ]  # fmt: skip
