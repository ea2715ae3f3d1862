// draws.h - learning-rate dropout on the host: the twin of kernels/common/philox.cuh, word for word, a vector of counters at a time.
#pragma once

#include "common.h"

namespace warploom::cpu {

struct Dropout {
  uint32_t limit = 0;
  bool draws = false;  // false: everything moves and nothing is drawn

  explicit Dropout(double keep) {
    draws = keep < 1.0;
    if (draws && keep > 0.0) limit = static_cast<uint32_t>(keep * 4294967296.0);
  }

  static constexpr int kSpan = 4 * kWidth;  // elements of one call

  // kept[e] = 1 or 0 for elements i .. i + kSpan - 1; i is a multiple of 4.
  void keep(int64_t i, int step, float (&kept)[kSpan]) const {
    uint32_t c0[kWidth], c1[kWidth], c2[kWidth], c3[kWidth];
    for (int l = 0; l < kWidth; ++l) {
      const uint64_t group = static_cast<uint64_t>(i / 4 + l);
      c0[l] = static_cast<uint32_t>(group), c1[l] = static_cast<uint32_t>(group >> 32);
      c2[l] = static_cast<uint32_t>(step), c3[l] = 0;
    }
    uint32_t k0 = 0x77617270u, k1 = 0x6c6f6f6du;
    for (int round = 0; round < 10; ++round) {
      for (int l = 0; l < kWidth; ++l) {  // written so that the compiler makes vectors of it
        const uint64_t a = uint64_t(0xD2511F53u) * c0[l], b = uint64_t(0xCD9E8D57u) * c2[l];
        const uint32_t n0 = static_cast<uint32_t>(b >> 32) ^ c1[l] ^ k0, n2 = static_cast<uint32_t>(a >> 32) ^ c3[l] ^ k1;
        c0[l] = n0, c1[l] = static_cast<uint32_t>(b), c2[l] = n2, c3[l] = static_cast<uint32_t>(a);
      }
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < kWidth; ++l) {
      kept[4 * l] = c0[l] < limit ? 1.0f : 0.0f, kept[4 * l + 1] = c1[l] < limit ? 1.0f : 0.0f;
      kept[4 * l + 2] = c2[l] < limit ? 1.0f : 0.0f, kept[4 * l + 3] = c3[l] < limit ? 1.0f : 0.0f;
    }
  }

  // body(i, n, kept) for vectors of n elements from i on; kept is 1 or 0 per lane.
  template <class Body>
  void for_vectors(int64_t count, int step, Body&& body) const {
    parallel_blocks(count, 32768, [&](int64_t begin, int64_t end, int) {
      float kept[kSpan];
      for (float& k : kept) k = 1.0f;
      for (int64_t i = begin; i < end; i += kSpan) {
        if (draws) keep(i, step, kept);
        for (int part = 0; part < kSpan && i + part < end; part += kWidth)
          body(i + part, static_cast<int>(std::min<int64_t>(kWidth, end - i - part)), load(kept + part));
      }
    });
  }
};

// base^exponent by repeated squaring, as on the device.
inline double whole_power(double base, int exponent) {
  double result = 1.0;
  for (unsigned n = exponent > 0 ? static_cast<unsigned>(exponent) : 0u; n > 0; n >>= 1, base *= base)
    if (n & 1u) result *= base;
  return result;
}

WL_INLINE vf root(vf x) {
#if defined(__AVX512F__)
  return reinterpret_cast<vf>(_mm512_maskz_sqrt_ps(static_cast<__mmask16>(0xffff), reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<vf>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  vf y{};
  for (int i = 0; i < kWidth; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}

}  // namespace warploom::cpu
