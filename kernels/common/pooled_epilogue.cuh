// pooled_epilogue.cuh - how mma and wgmma fragments of C leave: pairs of neighbouring columns, and the maxima of 2x2 windows with the
// code by which the gradients unpool.
#pragma once

#include "epilogue.cuh"

namespace warploom {

// Stores one or two neighbouring values; `vector` (a bool or a constant): columns come in even numbers, two are one access.
template <class Vector>
__device__ __forceinline__ void store_pair(float* row, int n, int columns, Vector vector, float v0, float v1) {
  if (vector) {
    if (n < columns) *reinterpret_cast<float2*>(row + n) = make_float2(v0, v1);
  } else {
    if (n < columns) row[n] = v0;
    if (n + 1 < columns) row[n + 1] = v1;
  }
}

// The same into a map of float32 or of 16 bits of T.
template <class T, class Vector>
__device__ __forceinline__ void store_pair(void* row, int bytes, int n, int columns, Vector vector, float v0, float v1) {
  if constexpr (T::kBytes == 2) {
    if (in_halves<T>(bytes)) {
      uint16_t* const to = static_cast<uint16_t*>(row) + n;
      const uint32_t pair = pack2<T>(v0, v1);
      if (vector) {
        if (n < columns) *reinterpret_cast<uint32_t*>(to) = pair;
      } else {
        if (n < columns) to[0] = static_cast<uint16_t>(pair);
        if (n + 1 < columns) to[1] = static_cast<uint16_t>(pair >> 16);
      }
      return;
    }
  }
  store_pair(static_cast<float*>(row), n, columns, vector, v0, v1);
}

// One row of fragments (half h of kFragments x 8 columns, the thread's first at first_n) into a map. Of a fragment's row four lanes hold
// 16 bytes of 16-bit elements: neighbours exchange, so that two fragments leave together, in whole sectors of 32 bytes. All lanes take
// part; only those `inside` store.
template <class T, int kFragments, class Pairs>
__device__ __forceinline__ void store_row(const float (&sum)[kFragments][4], int half, int first_n, int columns, Pairs pairs,
                                          bool inside, void* __restrict__ row, int bytes) {
  if constexpr (T::kBytes == 2) {
    static_assert(kFragments % 2 == 0, "fragments leave in pairs");
    if (in_halves<T>(bytes) && pairs && columns % 4 == 0) {
      const int odd = static_cast<int>(threadIdx.x) % 2;
      WL_UNROLL
      for (int f = 0; f < kFragments; f += 2) {
        const uint32_t low = pack2<T>(sum[f][2 * half], sum[f][2 * half + 1]);
        const uint32_t high = pack2<T>(sum[f + 1][2 * half], sum[f + 1][2 * half + 1]);
        const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 1);
        const int n = first_n - 2 * odd + 8 * (f + odd);
        if (inside && n < columns)
          *reinterpret_cast<uint2*>(static_cast<uint16_t*>(row) + n) = odd ? make_uint2(other, high) : make_uint2(low, other);
      }
      return;
    }
  }
  if (!inside) return;
  WL_UNROLL
  for (int f = 0; f < kFragments; ++f)
    store_pair<T>(row, bytes, first_n + 8 * f, columns, pairs, sum[f][2 * half], sum[f][2 * half + 1]);
}

// The gradient at one of a window's 2 x 2 positions, from the gradient of its maximum and the code that store_pooled_row made.
__device__ __forceinline__ float unpooled(float v, uint32_t code, int position, float negative_slope) {
  return static_cast<int>(code & 3u) != position ? 0.0f : code & 4u ? sloped(v, negative_slope) : v;
}

// Adds the bias of a thread's columns to its kRows x 2 rows of fragments: one load of a column for all of them. `vector` as above.
template <int kRows, int kFragments>
__device__ __forceinline__ void add_bias(float (&sum)[kRows][kFragments][4], const float* __restrict__ bias, int first_n,
                                         int columns, bool vector) {
  if (!bias) return;
  WL_UNROLL
  for (int j = 0; j < kFragments; ++j) {
    const int n = first_n + 8 * j;
    float2 v = make_float2(0.0f, 0.0f);
    if (vector) {
      if (n < columns) v = *reinterpret_cast<const float2*>(bias + n);
    } else {
      if (n < columns) v.x = bias[n];
      if (n + 1 < columns) v.y = bias[n + 1];
    }
    WL_UNROLL
    for (int i = 0; i < kRows; ++i) sum[i][j][0] += v.x, sum[i][j][1] += v.y, sum[i][j][2] += v.x, sum[i][j][3] += v.y;
  }
}

// Whether the later of two pixels of a window is its maximum: not if they are equal; a NaN is above all, the first of two wins.
__device__ __forceinline__ bool later_wins(float first, float later) { return !(later <= first) && first == first; }

// The pooled maxima of one row of fragments (half h of kFragments x 8 columns, the thread's first at first_n). The four pixels of a
// window stand in the rows of four lanes (bits 2 and 3 of the lane number), which first halve their columns between them, then halve
// again: each ends with the maxima of every fourth fragment. The activation, which is monotonous, meets the maxima only. codes: 2 bits
// position, + 4 where the activation's slope applies. All lanes take part; only those `inside` store.
template <class T, int kFragments, class Pairs>
__device__ __forceinline__ void store_pooled_row(const float (&sum)[kFragments][4], int half, const Epilogue& epilogue,
                                                 int first_n, int columns, Pairs pairs, bool inside, void* __restrict__ row,
                                                 int bytes,                            // [columns] of the pooled pixel
                                                 unsigned char* __restrict__ codes) {  // the same, or null
  const int position = static_cast<int>(threadIdx.x) % 32 / 4 % 4, p0 = position % 2, p1 = position / 2;
  WL_UNROLL
  for (int four = 0; four < kFragments; four += 4) {
    float best[2];
    uint32_t code[2];
    WL_UNROLL
    for (int e = 0; e < 2; ++e) {
      float v[4];
      WL_UNROLL
      for (int j = 0; j < 4; ++j) v[j] = four + j < kFragments ? sum[four + j < kFragments ? four + j : 0][2 * half + e] : 0.0f;
      float u[2];
      uint32_t right[2];  // the maximum of a row of the window is the right pixel
      WL_UNROLL
      for (int t = 0; t < 2; ++t) {
        const float mine = p0 ? v[2 * t + 1] : v[2 * t], sent = p0 ? v[2 * t] : v[2 * t + 1];
        const float other = __shfl_xor_sync(0xffffffffu, sent, 4);
        const float first = p0 ? other : mine, later = p0 ? mine : other;
        const bool wins = later_wins(first, later);
        u[t] = wins ? later : first, right[t] = wins;
      }
      const float mine = p1 ? u[1] : u[0], sent = p1 ? u[0] : u[1];
      const uint32_t mine_right = p1 ? right[1] : right[0], sent_right = p1 ? right[0] : right[1];
      const float other = __shfl_xor_sync(0xffffffffu, sent, 8);
      const uint32_t other_right = __shfl_xor_sync(0xffffffffu, sent_right, 8);
      const float first = p1 ? other : mine, later = p1 ? mine : other;
      const bool wins = later_wins(first, later);
      best[e] = epilogue(wins ? later : first);
      code[e] = (wins == (p1 != 0) ? mine_right : other_right) | (wins ? 2u : 0u) |
                (takes_slope(epilogue.activation, best[e]) ? 4u : 0u);
    }
    const int n = first_n + 8 * (four + position);
    if (!inside || four + position >= kFragments) continue;
    store_pair<T>(row, bytes, n, columns, pairs, best[0], best[1]);
    if (!codes) continue;
    if (pairs) {
      if (n < columns) *reinterpret_cast<uint16_t*>(codes + n) = static_cast<uint16_t>(code[0] | code[1] << 8);
    } else {
      if (n < columns) codes[n] = static_cast<unsigned char>(code[0]);
      if (n + 1 < columns) codes[n + 1] = static_cast<unsigned char>(code[1]);
    }
  }
}

}  // namespace warploom
