// reduce.cuh - sums over the threads of a warp and of a block, always in the same order.
#pragma once

#include "portable.cuh"

namespace warploom {

// The warp's sum, in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// The block's sum, in thread 0 (others hold partial sums). All kThreads threads must call it; once per kernel and type.
template <int kThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024, "whole warps, at most 32 of them");
  WL_SHARED(T, sums, [32]);
  const int t = static_cast<int>(threadIdx.x);
  value = warp_sum(value);
  if (t % 32 == 0) sums[t / 32] = value;
  __syncthreads();
  if (t < 32) value = warp_sum(t < kThreads / 32 ? sums[t] : T(0));
  return value;
}

}  // namespace warploom
