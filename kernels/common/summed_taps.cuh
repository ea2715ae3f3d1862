// summed_taps.cuh - what the taps of a 3x3 convolution become on the image before a nearest upsample by 2: a transposed 4x4 convolution of
// stride 2, whose tap p of 16 sums those of the nine that meet the same small pixel: {2}, {1, 2}, {0, 1}, {0} of each axis.
#pragma once

#include "portable.cuh"

namespace warploom {

__device__ __forceinline__ constexpr int first_tap_of_sum(int a) { return a < 2 ? 2 - a : 0; }
__device__ __forceinline__ constexpr int last_tap_of_sum(int a) { return a < 2 ? 2 : 3 - a; }
// Whether tap t of nine is part of sum p of sixteen.
__device__ __forceinline__ constexpr bool sum_holds_tap(int p, int t) {
  return t / 3 >= first_tap_of_sum(p / 4) && t / 3 <= last_tap_of_sum(p / 4) && t % 3 >= first_tap_of_sum(p % 4) &&
         t % 3 <= last_tap_of_sum(p % 4);
}

}  // namespace warploom
