// vec.h - one SIMD vector of floats, whatever the instruction set: compiler vector extensions, the width a constant of the build.
//
// kWidth floats make a vector: 16 with AVX-512, 8 with AVX2, else 4 (SSE2, NEON, anything the compiler lowers). Intrinsics appear
// only where the extensions have no word for it (masked loads and stores), each with a plain fallback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace warploom::cpu {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

#define WL_INLINE inline __attribute__((always_inline))

using vf = float __attribute__((vector_size(kWidth * 4)));
using vi = int32_t __attribute__((vector_size(kWidth * 4)));
using vf_any = float __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));  // at any address
using vi_any = int32_t __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
using vb = uint8_t __attribute__((vector_size(kWidth)));
using vb_any = uint8_t __attribute__((vector_size(kWidth), aligned(1), may_alias));

WL_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_any*>(p); }
WL_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_any*>(p) = v; }
WL_INLINE vi load(const int32_t* p) { return *reinterpret_cast<const vi_any*>(p); }
WL_INLINE void store(int32_t* p, vi v) { *reinterpret_cast<vi_any*>(p) = v; }
WL_INLINE vf broadcast(float x) { return x - vf{}; }  // x - 0 is x, also for -0: no addition is left of it
WL_INLINE vi broadcast(int32_t x) { return vi{} + x; }

// The first n (0 < n) floats of a vector; the others are zero on load and untouched on store. n >= kWidth: all of them.
WL_INLINE vf load_part(const float* p, int n) {
  if (n >= kWidth) return load(p);
#if defined(__AVX512F__)
  return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
#else
  float t[kWidth] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
#endif
}
WL_INLINE void store_part(float* p, vf v, int n) {
  if (n >= kWidth) return store(p, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512>(v));
#else
  float t[kWidth];
  store(t, v);
  for (int i = 0; i < n; ++i) p[i] = t[i];
#endif
}

// One byte per lane, as integers and back.
WL_INLINE vi load_bytes(const uint8_t* p, int n) {
  vb bytes{};
  if (n >= kWidth)
    bytes = *reinterpret_cast<const vb_any*>(p);
  else
    std::memcpy(&bytes, p, static_cast<size_t>(n));
  return __builtin_convertvector(bytes, vi);
}
WL_INLINE void store_bytes(uint8_t* p, vi v, int n) {
  const vb bytes = __builtin_convertvector(v, vb);
  if (n >= kWidth)
    *reinterpret_cast<vb_any*>(p) = bytes;
  else
    std::memcpy(p, &bytes, static_cast<size_t>(n));
}

WL_INLINE vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }
WL_INLINE vi select(vi mask, vi yes, vi no) { return mask ? yes : no; }
// One step of a maximum that remembers where it was: v, number i, replaces best where it is larger or the first NaN.
WL_INLINE void take_larger(vf v, int i, vf& best, vi& where) {
#if defined(__AVX512F__)
  const __mmask16 number = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(best), reinterpret_cast<__m512>(best), _CMP_ORD_Q);
  const __mmask16 wins =
      _mm512_mask_cmp_ps_mask(number, reinterpret_cast<__m512>(v), reinterpret_cast<__m512>(best), _CMP_NLE_UQ);
  best = reinterpret_cast<vf>(_mm512_mask_mov_ps(reinterpret_cast<__m512>(best), wins, reinterpret_cast<__m512>(v)));
  where = reinterpret_cast<vi>(_mm512_mask_set1_epi32(reinterpret_cast<__m512i>(where), wins, i));
#else
  const vi wins = ((v > best) | (v != v)) & (best == best);
  best = select(wins, v, best);
  where = select(wins, broadcast(int32_t(i)), where);
#endif
}
// Lane i of the result is lane at[i] of the table; 0 <= at[i] < kWidth.
WL_INLINE vf permute(vf table, vi at) {
#if defined(__clang__)
  vf y{};
  for (int i = 0; i < kWidth; ++i) y[i] = table[at[i]];
  return y;
#else
  return __builtin_shuffle(table, at);
#endif
}
WL_INLINE vf relu(vf x) { return x < 0.0f ? vf{} : x; }  // keeps NaN

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

WL_INLINE float sum(vf v) {  // pairwise, the same order at every call
  float t[kWidth];
  store(t, v);
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) t[i] += t[i + half];
  return t[0];
}

}  // namespace warploom::cpu
