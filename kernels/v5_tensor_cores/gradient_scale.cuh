// gradient_scale.cuh (v5): the scale of a gradient whose operands are fp16, for the kernels that load it (gradient_scale.cu).
#pragma once

#include "../common/portable.cuh"
#include "table.h"

namespace warploom::v5 {

__device__ __forceinline__ float reciprocal_of_power(float scale) {
  return __uint_as_float((254u << 23) - __float_as_uint(scale));
}

}  // namespace warploom::v5
