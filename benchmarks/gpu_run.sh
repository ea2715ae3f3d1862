#!/usr/bin/env bash
# One command for a machine with a GPU and no network: build, test, sanitize, time, train, profile, report; under nine minutes.
#   benchmarks/gpu_run.sh FOLDER              (or OUT=FOLDER) results go there: report.md, results.jsonl and a log per step
#   benchmarks/gpu_run.sh --rehearse FOLDER   the same on the emulated device, small: everything but the GPU is tried
# Needs nvcc 13, python3 >= 3.10, cmake, ninja, and the Python modules named below; those a machine lacks are taken as wheels from .whl/
# in the repository's root (python3 -m pip download --no-deps -d .whl NAME). Uses torch, compute-sanitizer and ncu where they are.
#   WARPLOOM_DATA=FOLDER   CIFAR-10 in its official layout to train on; otherwise the embedded photographs
set -uo pipefail

rehearse=0
if [ "${1:-}" = --rehearse ]; then rehearse=1; shift; fi
out=${1:-${OUT:-}}
[ -n "$out" ] || { echo "usage: benchmarks/gpu_run.sh [--rehearse] FOLDER (or set OUT)" >&2; exit 2; }
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 2
root=$PWD
results=$out/results.jsonl
results=${results#"$root"/} # in the records' commands
rm -f "$results" "$out"/*.log "$out/report.md"
started=$SECONDS
total=${WARPLOOM_GPU_SECONDS:-525}
[ $rehearse = 0 ] || total=${WARPLOOM_GPU_SECONDS:-1500}
outcome=()
export PYTHONUNBUFFERED=1 PYTHONPATH="$root/python"

step() {  # step NAME SECONDS LOG COMMAND...: under its own limit and what is left of the whole
  local name=$1 limit=$2 log=$out/$3 begun=$SECONDS status
  shift 3
  local left=$((total - (SECONDS - started)))
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -le 5 ]; then
    outcome+=("$name | left out: the time was over")
    return 1
  fi
  printf '\n=== %s (at %d s, at most %d s)\n' "$name" $((begun - started)) "$limit"
  timeout -k 5 "$limit" bash -o pipefail -c "$*" >>"$log" 2>&1
  status=$?
  tail -n 3 "$log"
  case $status in
    0) outcome+=("$name | passed, $((SECONDS - begun)) s") ;;
    124 | 137) outcome+=("$name | stopped at its limit of $limit s") ;;
    *) outcome+=("$name | FAILED (exit status $status, see $(basename "$log")), $((SECONDS - begun)) s") ;;
  esac
  return $status
}

# ---- What is here ----
if [ -d .whl ] && ls .whl/*.whl >/dev/null 2>&1; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl || exit 1
  PYTHONPATH=$PYTHONPATH:$site
fi
missing=$(python3 - <<'PY'
import importlib.util
modules = {"numpy": "numpy", "pytest": "pytest", "pybind11": "pybind11", "typer": "typer", "rich": "rich", "safetensors": "safetensors",
           "PIL": "pillow", "matplotlib": "matplotlib", "hypothesis": "hypothesis"}
print(" ".join(package for module, package in modules.items() if importlib.util.find_spec(module) is None))
PY
)
[ -z "$missing" ] || { echo "missing Python packages: $missing. Put their wheels into .whl/ and run again." >&2; exit 1; }
command -v cmake >/dev/null && command -v ninja >/dev/null || { echo "cmake and ninja are needed" >&2; exit 1; }
if [ $rehearse = 1 ]; then
  device=emulated
  cuda=(-DWARPLOOM_CUDA=OFF)
  targets=all
else
  device=cuda
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
  [ -n "$capability" ] || { echo "nvidia-smi tells of no GPU; without one: benchmarks/gpu_run.sh --rehearse FOLDER" >&2; exit 1; }
  [ "$capability" -lt 90 ] || capability=${capability}a # with what only this architecture has
  cuda=(-DWARPLOOM_CPU=all -DWARPLOOM_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$capability-real")
  targets="_core warploom_cuda warploom_cpu_baseline" # the emulators take longest to build, and are not needed here
  [ "$(uname -m)" != x86_64 ] || targets="$targets warploom_cpu_avx2 warploom_cpu_avx512"
  nvidia-smi >"$out/build.log"
fi

# ---- Build ----
build="cmake -S . -B build-gpu -G Ninja -DWARPLOOM_INPLACE=ON -DPython_EXECUTABLE=$(command -v python3) ${cuda[*]} && ninja -C build-gpu -j $(nproc) $targets"
[ -z "${WARPLOOM_GPU_SKIP_BUILD:-}" ] || outcome+=("build for $device | left out: WARPLOOM_GPU_SKIP_BUILD is set")
[ -n "${WARPLOOM_GPU_SKIP_BUILD:-}" ] || step "build for $device" 200 build.log "$build" || { tail -n 30 "$out/build.log"; exit 1; }
python3 -c "import warploom as wl; [print(d) for d in wl.devices()]" | tee -a "$out/build.log" || exit 1
# Of this device: a version for one compute capability may not be among them.
versions=$(python3 -c "
import warploom as wl
found = next(d for d in wl.devices() if d['name'].split(':')[0] == '$device'.split(':')[0] and d['usable'])
print(*found['versions'])") || exit 1

# ---- Right ----
# tests_by_version MARKER DEVICE WHICH: a process per version, several at once, and one for what is no version's; each must find tests.
tests_by_version() {
  local version
  {
    for version in $versions; do printf '%s\n' "tests/kernels/test_ops.py -k '$2-$version-$3'"; done
    [ -n "$3" ] || echo "tests --ignore=tests/kernels/test_ops.py"
  } | OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 xargs -d '\n' -P "$(nproc)" -I{} bash -c \
    'log=$(mktemp); python3 -m pytest -q -p no:cacheprovider -m '"$1"' {} >"$log" 2>&1; status=$?; echo "pytest {}"; cat "$log"; rm "$log"; exit $status'
}
export -f tests_by_version
export versions
few='conv_1x4x33x31 or conv_2x3x9x8_to5 or to65_k3x3 or _g3 or k4x4_s2 or conv_2x3x6x8 or pool_2x3x4x6 or bilinear_2x3x5x7 or mse_257 or sgd_259'
if [ $rehearse = 1 ]; then
  step "tests on the emulated device" 400 tests.log "tests_by_version emulated emulated conv_1x"
  step "checked emulator" 300 sanitizer.log "python3 -m pytest -q tests/kernels/test_ops.py -m emulated -k 'checked and ($few)'"
else
  step "tests on cuda" 150 tests.log "tests_by_version gpu cuda ''"
  for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
      step "compute-sanitizer $tool" 45 sanitizer.log "compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
        python3 -m pytest -q -p no:cacheprovider -m gpu tests/kernels/test_ops.py -k 'test_case and ($few)'"
    else
      outcome+=("compute-sanitizer $tool | left out: not installed")
    fi
  done
fi

# ---- Fast ----
if [ $rehearse = 1 ]; then
  step "compare versions" 400 benchmark.log "python3 benchmarks/compare_versions.py --device emulated --repeat 1 --batch 2 --seconds 300 \
    --cases conv_1x4x33x31_to3_k3x3_s1_p1 pool_2x3x4x6_k2x2_s2.2 --step off --ceilings H100 --out $results"
  step "shared operations" 200 benchmark.log "python3 benchmarks/compare_versions.py --device emulated --repeat 1 --seconds 120 --step off \
    --cases shared --elements 2048 --versions v1 v4 --ceilings H100 --out $results"
  step "whole step" 400 benchmark.log "python3 benchmarks/compare_versions.py --device emulated --repeat 1 --batch 2 --seconds 200 \
    --step only --precisions fp32 bf16 --ceilings H100 --out $results"
else
  for batch in 64 256; do
    step "training step against PyTorch, batch $batch" 60 benchmark.log "python3 benchmarks/compare_versions.py --device cuda --step only --batch $batch \
      --seconds 50 --out $results"
  done
  step "operations against PyTorch" 100 benchmark.log "python3 benchmarks/compare_versions.py --device cuda --step off --seconds 90 --out $results"
  step "shared operations" 30 benchmark.log "python3 benchmarks/compare_versions.py --device cuda --step off --cases shared --torch off --seconds 25 --out $results"
  if python3 -c 'import pycuda' 2>/dev/null; then
    step "tuning with PyCUDA" 40 tune.log "python3 benchmarks/tune_kernel.py sgemm --out $out/tune.jsonl && python3 benchmarks/tune_kernel.py conv2d --out $out/tune.jsonl"
  else
    outcome+=("tuning with PyCUDA | left out: not installed")
  fi
fi

if [ $rehearse = 1 ]; then
  step "tuning, dry" 200 tune.log "python3 benchmarks/tune_kernel.py sgemm --dry-run --tiles 64x64x8x8x8x6"
fi

# ---- A training run a version ----
data=(--data patches)
[ -z "${WARPLOOM_DATA:-}" ] || data=(--data cifar10 --data-dir "$WARPLOOM_DATA")
runs=$(mktemp -d)
if [ $rehearse = 1 ]; then size="--limit 4 --batch-size 2 --epochs 1" limit=240; else size="--limit 12800 --epochs 2" limit=40; fi
# A version that takes its float32 convolutions from another is for lower precision.
trained=$(python3 -c "
import sys
from warploom import _core
there = {v['name']: v for v in _core.versions()}
print(*(f'{n}:fp32' if not there[n]['float32_from'] else f'{n}:bf16' for n in sys.argv[1:]))" $versions)
for pair in $trained; do
  version=${pair%:*} precision=${pair#*:}
  step "train $version $precision" "$limit" train.log "python3 train.py --version $version --precision $precision --device $device ${data[*]} $size \
    --out $runs/$pair && tail -n 1 $runs/$pair/metrics.jsonl | sed 's/\"version\": \"$version\"/\"version\": \"$version $precision\"/' | tee $runs/$pair.json"
done

# ---- Why ----
if [ $rehearse = 0 ] && command -v ncu >/dev/null; then
  for version in $versions; do
    step "ncu $version" 30 ncu.log "ncu --clock-control none --section SpeedOfLight --section Occupancy --section MemoryWorkloadAnalysis \
      --kernel-name 'regex:conv|gemm|correlate|weight_gradient' --launch-count 3 python3 tests/support/harness.py cuda $version conv_64x256x16x16_to128_k3x3_s1_p1 conv2d_forward floats"
  done
else
  outcome+=("ncu | left out: $([ $rehearse = 1 ] && echo 'a rehearsal' || echo 'not installed')")
fi

# ---- With the time that is left ----
if [ $rehearse = 0 ]; then
  step "torch.compile" 200 benchmark.log "python3 benchmarks/compare_versions.py --device cuda --step only --ways compile --precisions fp32 --versions v4 --out $results"
fi

# ---- One page ----
{
  [ $rehearse = 0 ] || printf '**A rehearsal on the emulated device: nothing on this page was measured on a GPU.**\n\n'
  python3 benchmarks/report.py "$results" --png "$out/roofline.png" 2>/dev/null || printf '# Benchmark report\n\nNo results: see benchmark.log.\n'
  printf '\n## Training runs (the last epoch of each; seconds for 50,000 images are extrapolated)\n\n| version | device | train loss | images/s | s for 50,000 |\n|-|-|-|-|-|\n'
  for pair in $trained; do
    [ -s "$runs/$pair.json" ] && python3 - "$runs/$pair.json" <<'PY'
import json, sys
m = json.loads(open(sys.argv[1]).read())
emulated = m["device"].startswith("emulated")
times = "not measured | not measured" if emulated else f"{m['images_per_second']:,.0f} | {50000 / m['images_per_second']:.1f}"
print(f"| {m['version']} | {m['device']} | {m['train_loss']:.6f} | {times} |")
PY
  done
  printf '\n## Steps\n\n| step | outcome |\n|-|-|\n'
  printf '| %s |\n' "${outcome[@]}"
  printf '\n%d s in all.\n' $((SECONDS - started))
} >"$out/report.md"
rm -rf "$runs"
cat "$out/report.md"
case "${outcome[*]}" in *FAILED*) exit 1 ;; esac
