// gradient_scale.cuh (v5): the scale of a gradient whose operands are fp16, for the kernels that load it (gradient_scale.cu).
#pragma once

#include "../common/portable.cuh"

namespace warploom::v5 {

constexpr int kScaleRuns = 256;
constexpr int64_t kScaleBytes = 4 * (kScaleRuns + 64);  // [0]: the scale; from 64 on: each run's maximum

// Writes the scale of dy to workspace[0] (gradient_scale.cu).
void find_gradient_scale(const Context& context, const float* dy, int64_t count, float* workspace);

__device__ __forceinline__ float reciprocal_of_power(float scale) {
  return __uint_as_float((254u << 23) - __float_as_uint(scale));
}

}  // namespace warploom::v5
