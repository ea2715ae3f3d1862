// pooled_epilogue.cuh - how mma and wgmma fragments of C leave: pairs of neighbouring columns, and the maxima of 2x2 windows with the
// code by which the gradients unpool.
#pragma once

#include "epilogue.cuh"

namespace warploom {

// Stores one or two neighbouring values; `vector`: columns come in even numbers, 8 bytes aligned.
__device__ __forceinline__ void store_pair(float* row, int n, int columns, bool vector, float v0, float v1) {
  if (vector) {
    if (n < columns) *reinterpret_cast<float2*>(row + n) = make_float2(v0, v1);
  } else {
    if (n < columns) row[n] = v0;
    if (n + 1 < columns) row[n + 1] = v1;
  }
}

// The gradient at one of a window's 2 x 2 positions, from the gradient of its maximum and the code that store_pooled_row made.
__device__ __forceinline__ float unpooled(float v, uint32_t code, int position, float negative_slope) {
  return static_cast<int>(code & 3u) != position ? 0.0f : code & 4u ? negative_slope * v : v;
}

// The better of two pixels, `mine` standing before `other` in the window if `before`: the first of equals, and a NaN above all.
__device__ __forceinline__ bool other_wins(float mine, float other, bool before) {
  const bool above = other > mine || (other != other && mine == mine);
  const bool equal = other == mine || (other != other && mine != mine);
  return above || (equal && !before);
}

// The pooled maxima of one row of fragments (half h of kFragments x 8 columns, the thread's first at first_n). The four pixels of a
// window stand in the rows of four lanes (bits 2 and 3 of the lane number), which first halve their columns between them, then halve
// again: each ends with the maxima of every fourth fragment. codes: 2 bits position, + 4 where the activation's slope applies. All
// lanes take part; only those `inside` store.
template <int kFragments>
__device__ __forceinline__ void store_pooled_row(const float (&sum)[kFragments][4], int half, const Epilogue& epilogue,
                                                 int first_n, int columns, bool pairs, bool inside,
                                                 float* __restrict__ row,            // [columns] of the pooled pixel
                                                 unsigned char* __restrict__ codes,  // the same, or null
                                                 int channels_before = 0) {          // of the bias
  const int position = static_cast<int>(threadIdx.x) % 32 / 4 % 4, p0 = position % 2, p1 = position / 2;
  WL_UNROLL
  for (int four = 0; four < kFragments; four += 4) {
    float best[2];
    uint32_t code[2];
    WL_UNROLL
    for (int e = 0; e < 2; ++e) {
      float v[4];
      WL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int fragment = four + j < kFragments ? four + j : 0, n = first_n + 8 * fragment + e;
        const float bias = epilogue.bias && n < columns ? epilogue.bias[channels_before + n] : 0.0f;
        v[j] = epilogue(sum[fragment][2 * half + e] + bias);
      }
      float u[2];
      uint32_t from[2];
      WL_UNROLL
      for (int t = 0; t < 2; ++t) {
        const float mine = p0 ? v[2 * t + 1] : v[2 * t], sent = p0 ? v[2 * t] : v[2 * t + 1];
        const float other = __shfl_xor_sync(0xffffffffu, sent, 4);
        const bool wins = other_wins(mine, other, p0 == 0);
        u[t] = wins ? other : mine;
        from[t] = static_cast<uint32_t>(wins ? position ^ 1 : position);
      }
      const float mine = p1 ? u[1] : u[0], sent = p1 ? u[0] : u[1];
      const uint32_t mine_from = p1 ? from[1] : from[0], sent_from = p1 ? from[0] : from[1];
      const float other = __shfl_xor_sync(0xffffffffu, sent, 8);
      const uint32_t other_from = __shfl_xor_sync(0xffffffffu, sent_from, 8);
      const bool wins = other_wins(mine, other, p1 == 0);
      best[e] = wins ? other : mine;
      code[e] = (wins ? other_from : mine_from) | (best[e] <= 0.0f && epilogue.activation != Activation::none ? 4u : 0u);
    }
    const int n = first_n + 8 * (four + position);
    if (!inside || four + position >= kFragments) continue;
    store_pair(row, n, columns, pairs, best[0], best[1]);
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
