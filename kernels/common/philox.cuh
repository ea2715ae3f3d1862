// philox.cuh - counter-based draws on the device: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A draw depends on the step and on the number of the element (of dropout: also on the seed and the layer) alone: the same
// on every device and for every way of splitting the work. csrc/cpu/draws.h is its twin on the host.
#pragma once

#include "portable.cuh"

namespace warploom {

struct Draws4 {
  uint32_t word[4];
};

// One block: four words from a counter and a key.
__device__ __forceinline__ Draws4 philox4(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  WL_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The words of elements 4 * group .. 4 * group + 3 at `step`. The key spells the package's name.
__device__ __forceinline__ Draws4 draw4(int64_t group, int step) {
  return philox4(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), static_cast<uint32_t>(step), 0, 0x77617270u,
                 0x6c6f6f6du);
}

// A word below it says that something of probability `keep` < 1 happens.
__host__ __device__ __forceinline__ uint32_t draw_limit(double keep) {
  return keep > 0.0 ? static_cast<uint32_t>(keep * 4294967296.0) : 0u;
}

// Learning-rate dropout: an element moves with probability `keep`. A word below keep * 2^32 says that it does.
struct LearningRateDropout {
  uint32_t limit;  // floor(keep * 2^32)
  uint32_t draws;  // 0: everything moves and nothing is drawn

  __device__ __forceinline__ static LearningRateDropout of(double keep) {
    if (!(keep < 1.0)) return {0, 0};
    return {draw_limit(keep), 1};
  }
  // keep[e]: 1 or 0 for the kSize elements from i on; i is a multiple of kSize.
  template <int kSize>
  __device__ __forceinline__ void keep(int64_t i, int step, float (&kept)[kSize]) const {
    if (!draws) {
      WL_UNROLL
      for (int e = 0; e < kSize; ++e) kept[e] = 1.0f;
      return;
    }
    const Draws4 d = draw4(i / 4, step);
    if constexpr (kSize == 4) {
      WL_UNROLL
      for (int e = 0; e < 4; ++e) kept[e] = d.word[e] < limit ? 1.0f : 0.0f;
    } else {
      const int at = static_cast<int>(i % 4);
      const uint32_t word = at == 0 ? d.word[0] : at == 1 ? d.word[1] : at == 2 ? d.word[2] : d.word[3];
      kept[0] = word < limit ? 1.0f : 0.0f;
    }
  }
};

// base^exponent by repeated squaring: plain products, so the same bits on every device.
__device__ __forceinline__ double whole_power(double base, int exponent) {
  double result = 1.0;
  for (unsigned n = exponent > 0 ? static_cast<unsigned>(exponent) : 0u; n > 0; n >>= 1, base *= base)
    if (n & 1u) result *= base;
  return result;
}

}  // namespace warploom
