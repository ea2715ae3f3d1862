// finish_mean.cuh - the last part of a loss that is a mean: the sums of its blocks become its value. One block of kThreads; the order of
// the sums depends on nothing but their number.
#pragma once

#include "reduce.cuh"

namespace warploom {

template <int kThreads>
__device__ __forceinline__ void finish_mean(int blocks, int64_t count, int samples, float weight, const double* block_sums,
                                            float* loss, double* total) {  // [1]; [2] or null
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) sum += block_sums[i];
  const double whole = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) {
    const double value = weight * whole / static_cast<double>(count);
    loss[0] = static_cast<float>(value);
    if (total) total[0] += value * samples, total[1] += samples;
  }
}

}  // namespace warploom
