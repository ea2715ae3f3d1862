// What nearly every kernel file includes, to be compiled once and loaded by each: of the second that a small file takes, its headers
// are 0.7. Only for the package's own compilation (python/warploom/ground/emulated_builds.py); no file may need it to compile.
#pragma once

#include <algorithm>

#include "kernels/common/fast_divisor.cuh"
#include "kernels/common/flat.cuh"
#include "kernels/common/preconditions.h"
#include "kernels/common/vector.cuh"
