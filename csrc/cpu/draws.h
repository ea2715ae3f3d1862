// draws.h - random draws on the host: the twin of kernels/common/philox.cuh, word for word, vectors of counters at a time; and what
// else the optimizers share.
#pragma once

#include "common.h"

namespace warploom::cpu {

// 64-bit lanes that hold 32-bit words, so that a product keeps both its halves.
using vw = uint64_t __attribute__((vector_size(kWidth * 4)));
using vu = uint32_t __attribute__((vector_size(kWidth * 4)));

WL_INLINE vw product(vw words, uint32_t by) {
  const vw factor = vw{} + by;
#if defined(__AVX512F__)
  return reinterpret_cast<vw>(_mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(words), reinterpret_cast<__m512i>(factor)));
#elif defined(__AVX2__)
  return reinterpret_cast<vw>(_mm256_mul_epu32(reinterpret_cast<__m256i>(words), reinterpret_cast<__m256i>(factor)));
#else
  return words * factor;
#endif
}

// A word below it says that something of probability `keep` < 1 happens.
inline uint32_t draw_limit(double keep) { return keep > 0.0 ? static_cast<uint32_t>(keep * 4294967296.0) : 0u; }

constexpr int kDrawLanes = kWidth / 2, kDrawSets = 2;  // counters of a vector; vectors, to hide the products' latency
constexpr int kDraws = 4 * kDrawLanes * kDrawSets;     // words of one call

// The words of kDraws / 4 blocks one after the other: block b has the counter (low and high half of first(b), c2, c3).
template <class First>
WL_INLINE void draw(First first, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t (&words)[kDraws]) {
  const vw low = vw{} + 0xffffffffu;
  vw c[kDrawSets][4];
  for (int s = 0; s < kDrawSets; ++s) {
    vw counter;
    for (int l = 0; l < kDrawLanes; ++l) counter[l] = first(s * kDrawLanes + l);
    c[s][0] = counter & low, c[s][1] = counter >> 32, c[s][2] = vw{} + c2, c[s][3] = vw{} + c3;
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (int s = 0; s < kDrawSets; ++s) {
      const vw a = product(c[s][0], 0xD2511F53u), b = product(c[s][2], 0xCD9E8D57u);
      c[s][0] = (b >> 32) ^ c[s][1] ^ k0, c[s][2] = (a >> 32) ^ c[s][3] ^ k1;
      c[s][1] = b & low, c[s][3] = a & low;
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  for (int s = 0; s < kDrawSets; ++s) {
    const vw even = c[s][0] | (c[s][1] << 32), odd = c[s][2] | (c[s][3] << 32);
    for (int l = 0; l < kDrawLanes; ++l) {
      const uint64_t pair[2] = {even[l], odd[l]};
      std::memcpy(words + 4 * (s * kDrawLanes + l), pair, sizeof(pair));
    }
  }
}

// Learning-rate dropout: an element moves with probability `keep`.
struct LearningRateDropout {
  uint32_t limit = 0;
  bool draws = false;  // false: everything moves and nothing is drawn

  explicit LearningRateDropout(double keep) {
    draws = keep < 1.0;
    if (draws) limit = draw_limit(keep);
  }

  static constexpr int kSpan = kDraws;  // elements of one call

  // kept[e] = 1 or 0 for elements i .. i + kSpan - 1; i is a multiple of 4.
  WL_INLINE void keep(int64_t i, int step, float (&kept)[kSpan]) const {
    alignas(64) uint32_t words[kDraws];
    draw([=](int64_t group) { return static_cast<uint64_t>(i / 4 + group); }, static_cast<uint32_t>(step), 0, 0x77617270u,
         0x6c6f6f6du, words);
    for (int e = 0; e < kSpan; e += kWidth) {
      vu word;
      std::memcpy(&word, words + e, sizeof(word));
      store(kept + e, select(vi(word < limit), broadcast(1.0f), vf{}));
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

}  // namespace warploom::cpu
