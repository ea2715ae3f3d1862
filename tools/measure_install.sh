#!/usr/bin/env bash
# Times the README's two commands as a new user meets them: a fresh clone, a fresh environment, no ccache, nothing compiled before.
# Prints a small table: wall time and CPU-minutes. Run it on a quiet machine.
# Usage: tools/measure_install.sh [REPOSITORY]    default: this checkout's; WARPLOOM_MEASURE_TESTS=0 leaves the tests out
# As where a GPU is: CMAKE_ARGS="-DWARPLOOM_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90a-real" tools/measure_install.sh
set -euo pipefail
repository=$(cd "${1:-$(dirname "$0")/..}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/warploom-measure.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CMAKE_ARGS="-DWARPLOOM_CCACHE=OFF ${CMAKE_ARGS:-}" WARPLOOM_CACHE="$work/cache" CCACHE_DISABLE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
unset CMAKE_CXX_COMPILER_LAUNCHER CMAKE_CUDA_COMPILER_LAUNCHER PYTHONPATH VIRTUAL_ENV
git clone --quiet "$repository" "$work/warploom"
cd "$work/warploom"
rows=()

step() { # step WORDS COMMAND...: wall seconds and CPU-seconds, of all its processes
  local words=$1 before after
  shift
  TIMEFORMAT='%R %U %S'
  { time "$@" >"$work/log" 2>&1; } 2>"$work/time" || { tail -n 30 "$work/log"; exit 1; }
  rows+=("$(awk -v w="$words" '{printf "%-52s %3d min %02d s   %5.1f CPU-minutes", w, $1 / 60, $1 % 60, ($2 + $3) / 60}' "$work/time")")
  echo "${rows[-1]}"
}

first_line() { # the training command until its first epoch's line, then it is stopped
  local found
  set +o pipefail # the training ends by a closed pipe
  python train.py --preset sharp --limit 10000 --out "$work/run" 2>&1 | tee "$work/said" | grep -m 1 -E '^epoch +1/'
  found=${PIPESTATUS[2]}
  set -o pipefail
  [ "$found" = 0 ] || cat "$work/said"
  return "$found"
}

compiled() { find build -name '*.o' -newer "$1" -not -path '*/CMakeFiles/Check*' -not -path '*/CMakeFiles/[0-9]*' | wc -l; }

if [ "${WARPLOOM_MEASURE_TESTS:-1}" = 1 ]; then tests=1; else tests=0; fi
echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1 /proc/loadavg), $(c++ --version | head -n 1)"
python3 -m venv .venv
# shellcheck disable=SC1091
. .venv/bin/activate
step "command 1: pip install ." pip install .
step "           to the first epoch's line (10,000 images)" first_line
find build -name .ninja_log -execdir cp {} "$work/ninja_log" \;
touch "$work/stamp"
sleep 1
step "command 2: pip install \".[test]\"" pip install ".[test]"
echo "           objects compiled by it: $(compiled "$work/stamp")"
if [ $tests = 1 ]; then
  step "           pytest -n auto, compiling included" pytest -n auto -q
fi
printf '\n%s\n' "${rows[@]}"
python "$repository/.ci/build_times.py" build
