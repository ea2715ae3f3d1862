// program.h - everything that a CUDA program finds when the lab compiles it with the host's compiler: the device's words
// (kernels/emulator), launches, the host's API, and the functions that CUDA has besides.
//
// include/ holds files with CUDA's names that lead here. The program's own text has been through warploom.lab.rewriter, which
// replaces what is not C++: `<<<>>>`, `__shared__`, inline PTX, and marks variables with WL_DEVICE_VARIABLE or WL_CONSTANT_VARIABLE.
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../emulator/cuda.h"
// After cuda.h: its words are needed.
#include "device_functions.h"
#include "device_math.h"
#include "host_api.h"
#include "launch.h"
#include "ptx.h"
// Last: it renames memcpy.
#include "more_vectors.h"
