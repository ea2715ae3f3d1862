// fast_divisor.cuh - division by a number that is constant over a launch: a multiplication and a shift instead of some 20
// instructions. q = (mulhi(n, multiplier) + n) >> shift with shift = ceil(log2 d), multiplier = 2^32 * (2^shift - d) / d + 1;
// exact for 0 <= n < 2^31.
#pragma once

#include "portable.cuh"

namespace warploom {

struct FastDivisor {
  uint32_t divisor = 1, multiplier = 1, shift = 0;

  FastDivisor() = default;
  __host__ __device__ explicit FastDivisor(int d) : divisor(static_cast<uint32_t>(d)) {
    shift = 0;
    while ((1u << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - divisor)) / divisor + 1);
  }
  __device__ __forceinline__ int quotient(int n) const {
    return static_cast<int>((__umulhi(static_cast<uint32_t>(n), multiplier) + static_cast<uint32_t>(n)) >> shift);
  }
  __device__ __forceinline__ int remainder(int n, int quotient) const { return n - quotient * static_cast<int>(divisor); }
};

}  // namespace warploom
