// gradient_scale.cuh (v5): the power of two that brings a gradient into the range of fp16: its largest magnitude to 2^14 ... 2^15
// Layout: dy [count], any order; scale one float.
// One block reduces a run of dy to its largest magnitude; a last block takes the maximum of the runs and makes the scale.
// Why: the gradient of a mean over a batch is about 1e-6, fp16 ends at 6e-8. Other engines multiply the loss by a constant and skip
//   steps that overflow; a scale per tensor, undone in the sums' epilogue, is exact and never overflows. Bottleneck: memory.
// Preconditions: workspace of kScaleBytes. A gradient of zeros, infinities or NaN is left as it is.
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
