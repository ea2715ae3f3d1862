#!/usr/bin/env bash
# One command for a machine with a GPU and no network: benchmarks/gpu/run.py with the right python.
#   benchmarks/gpu_run.sh FOLDER [--from gpu_run.tar.gz]      (or OUT=FOLDER) newest first, under ten minutes; again: goes on
#   benchmarks/gpu_run.sh --rehearse FOLDER                    the same on the emulated device, small: everything but the GPU is tried
#   benchmarks/gpu_run.sh --prebuild 90a FOLDER                FOLDER/cuda.so for one architecture, to carry there; needs no GPU
#   benchmarks/gpu_run.sh FOLDER --list                        the parts and their limits; --only and --again take their names
# Needs cmake, ninja, nvcc 13 (or a carried cuda.so) and a python3 >= 3.10 with its headers and the modules below; those that it lacks
# are taken as wheels from .whl/ in the repository's root (python3 -m pip download --no-deps -d .whl NAME).
#   WARPLOOM_GPU_PREBUILT=FILE  that cuda.so        WARPLOOM_DATA=FOLDER  CIFAR-10 in its official layout; else embedded photographs
#   WARPLOOM_GPU_SKIP_BUILD=1   it is built already  WARPLOOM_GPU_PYTHON=FILE  this python and no other
set -uo pipefail

mode=run
case "${1:-}" in
  --rehearse) mode=rehearse; shift ;;
  --prebuild) mode=prebuild; architecture=${2:-}; shift 2 || shift ;;
esac
out=${OUT:-}
[ -z "${1:-}" ] || [ "${1#-}" != "$1" ] || { out=$1; shift; }
[ -n "$out" ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}"

# The first python3 with headers and torch; without torch the first with headers. Another on the PATH may have neither.
choose() {
  local python
  for python in ${WARPLOOM_GPU_PYTHON:-$(type -ap python3 python | awk '!seen[$0]++') /opt/*/.venv/bin/python3}; do
    "$python" - "$1" 2>/dev/null <<'PY' && { echo "$python"; return 0; }
import importlib.util, os, sys, sysconfig
there = os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")) and sys.version_info >= (3, 10)
sys.exit(not (there and (sys.argv[1] == "any" or importlib.util.find_spec("torch"))))
PY
  done
  return 1
}
python=$(choose torch) || python=$(choose any) || { echo "no python3 >= 3.10 with its headers (Python.h) was found" >&2; exit 1; }
echo "python: $python"

if [ -d .whl ] && ls .whl/*.whl >/dev/null 2>&1; then
  site=$PWD/build-gpu/site
  mkdir -p "$site"
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl || exit 1
  PYTHONPATH=$PYTHONPATH:$site
fi
missing=$("$python" - <<'PY'
import importlib.util
modules = {"numpy": "numpy", "pytest": "pytest", "pybind11": "pybind11", "typer": "typer", "rich": "rich", "pooch": "pooch",
           "safetensors": "safetensors", "PIL": "pillow", "matplotlib": "matplotlib", "hypothesis": "hypothesis"}
print(" ".join(package for module, package in modules.items() if importlib.util.find_spec(module) is None))
PY
)
[ -z "$missing" ] || { echo "missing Python packages: $missing. Put their wheels into .whl/ and run again." >&2; exit 1; }
for tool in cmake ninja; do command -v $tool >/dev/null || { echo "$tool is needed" >&2; exit 1; }; done

case $mode in
  prebuild)
    [ -n "$architecture" ] || { echo "which architecture? 90a for an H100" >&2; exit 2; }
    cmake -S . -B build-gpu/prebuild -G Ninja -DWARPLOOM_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$architecture-real" -DPython_EXECUTABLE="$python" &&
      ninja -C build-gpu/prebuild warploom_cuda || exit 1
    found=$(find build-gpu/prebuild -name cuda.so | head -n 1)
    cp "$found" "$out/cuda.so" && ls -l "$out/cuda.so"
    ;;
  rehearse) exec "$python" benchmarks/gpu/run.py --rehearse --seconds "${WARPLOOM_GPU_SECONDS:-3000}" --out "$out" "$@" ;;
  run)
    [ $# -gt 0 ] && [ "$1" = --list ] || nvidia-smi >/dev/null || { echo "nvidia-smi tells of no GPU; without one: benchmarks/gpu_run.sh --rehearse FOLDER" >&2; exit 1; }
    exec "$python" benchmarks/gpu/run.py --seconds "${WARPLOOM_GPU_SECONDS:-555}" --out "$out" "$@"
    ;;
esac
