// warp_sums.cuh - reductions by warp shuffles, in a fixed order.
#pragma once

#include "../common/portable.cuh"

namespace warploom::v3 {

// The sum over the warp's lanes, in every lane.
__device__ __forceinline__ float warp_sum(float v) {
  WL_UNROLL
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// Sums kRows x kWidth values of every lane over the warp; lane l is left with row l / (32 / kRows), in every lane of its group.
// Halving: at each step a lane keeps half of its rows and hands the other half to its partner, so 8 rows of 9 take 81 shuffles
// instead of 360.
template <int kRows, int kWidth>
__device__ __forceinline__ void warp_sum_rows(float (&v)[kRows][kWidth], float (&sum)[kWidth]) {
  const int lane = threadIdx.x % 32;
  WL_UNROLL
  for (int rows = kRows / 2, offset = 16; rows > 0; rows /= 2, offset /= 2) {
    const bool upper = lane & offset;
    WL_UNROLL
    for (int i = 0; i < rows; ++i) {
      WL_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const float keep = upper ? v[i + rows][j] : v[i][j], give = upper ? v[i][j] : v[i + rows][j];
        v[i][j] = keep + __shfl_xor_sync(0xffffffffu, give, offset);
      }
    }
  }
  WL_UNROLL
  for (int j = 0; j < kWidth; ++j) {
    sum[j] = v[0][j];
    WL_UNROLL
    for (int offset = 16 / kRows; offset > 0; offset /= 2) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], offset);
  }
}

}  // namespace warploom::v3
