// bias_columns.cuh (v5): db beside dw, in the same kernel: the partial sums of dy's columns, in float32
// Layout: dy [rows, channels] or, of a pool, its windows with codes the same; partials [runs][channels].
// When its product is stored, a block takes runs of rows of 64 channels, as many as there are for it; a thread has four channels of every
//   kThreads / 16-th row. Runs meet where those of dw do (errands.cu), so db costs no launch. The products' own loads will not do: they see
//   dy once a tap, or rounded.
// From conv2d_backward_bias.cu: four neighbours a load, four loads in flight, because fewer threads are at it.
// Preconditions: shared memory for kThreads * 4 floats.
#pragma once

#include <algorithm>

#include "../common/activation.cuh"
#include "table.h"
#include "tensor_tile.cuh"

namespace warploom::v5 {

struct BiasColumns {
  int64_t rows = 0, rows_per_run = 0;
  int channels = 0, tiles = 1, runs = 0;  // no runs: not wanted
  int bytes = 4;                          // of an element (half_map.cuh)
  bool vector = false;
  float negative_slope = 0.0f;           // of an activation before a pool
  const void* dy = nullptr;              // [rows, channels]
  const unsigned char* codes = nullptr;  // [rows, channels] of a pool, or null
  float* partials = nullptr;             // [runs, channels]
};
constexpr int kBiasChannels = 64, kBiasItems = 256, kShortestBiasRun = 64;

// Host code: all but where the sums go.
inline BiasColumns bias_columns(const Conv2dBackwardWeight& a) {
  BiasColumns b;
  if (!a.with_db) return b;
  const int pool = a.fusion.pool;
  b.rows = int64_t(a.s.N) * (a.s.OH / pool) * (a.s.OW / pool), b.channels = a.s.C_out;
  b.tiles = (b.channels + kBiasChannels - 1) / kBiasChannels;
  const int most = std::max(kBiasItems / b.tiles, 1);
  b.rows_per_run = std::max<int64_t>((b.rows + most - 1) / most, kShortestBiasRun);
  b.runs = static_cast<int>(std::max<int64_t>((b.rows + b.rows_per_run - 1) / b.rows_per_run, 1));
  b.bytes = static_cast<int>(dtype_bytes(gradient_type(a.fusion.y_type)));
  b.negative_slope = a.fusion.activation == Activation::leaky_relu ? a.fusion.negative_slope : 0.0f;
  b.dy = a.dy.data, b.codes = pool > 1 ? a.saved.ptr<unsigned char>() : nullptr;
  b.vector = b.channels % 4 == 0 && aligned16(b.dy, b.codes);
  return b;
}
template <class T, int kThreads>
__device__ __forceinline__ void sum_bias_columns(const BiasColumns& b, unsigned char* shared) {
  constexpr int kQuads = kBiasChannels / 4, kRows = kThreads / kQuads, kInFlight = 4;
  float* const sums = reinterpret_cast<float*>(shared);  // [kRows][kBiasChannels]
  const int thread = static_cast<int>(threadIdx.x), column = thread % kQuads * 4, row = thread / kQuads;
  for (int item = static_cast<int>(blockIdx.x); item < b.tiles * b.runs; item += static_cast<int>(gridDim.x)) {
    const int tile = item % b.tiles, run = item / b.tiles, channel = tile * kBiasChannels + column;
    const int there = b.channels - channel;
    const int64_t end = min((run + 1) * b.rows_per_run, b.rows);
    float sum[4] = {};
    for (int64_t first = run * b.rows_per_run + row; first < end; first += kInFlight * kRows) {
      float v[kInFlight][4];
      uint32_t codes[kInFlight];
      WL_UNROLL
      for (int l = 0; l < kInFlight; ++l) {
        const int64_t r = first + l * kRows, at = r * b.channels + channel;
        const int count = r < end ? there : 0;
        codes[l] = 0;
        if (b.vector) {
          assign_item<T>(v[l], count > 0, element_at<T>(b.dy, at, b.bytes), b.bytes);
          if (b.codes && count > 0) codes[l] = *reinterpret_cast<const uint32_t*>(b.codes + at);
          continue;
        }
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          assign_single<T>(v[l][e], e < count, element_at<T>(b.dy, at + e, b.bytes), b.bytes);
          if (b.codes && e < count) codes[l] |= static_cast<uint32_t>(b.codes[at + e]) << (8 * e);
        }
      }
      WL_UNROLL
      for (int l = 0; l < kInFlight; ++l) {
        if constexpr (T::kBytes == 2)
          if (in_halves<T>(b.bytes)) widen_item<T>(v[l], b.vector);
        WL_UNROLL
        for (int e = 0; e < 4; ++e) sum[e] += codes[l] >> (8 * e) & 4u ? sloped(v[l][e], b.negative_slope) : v[l][e];
      }
    }
    __syncthreads();  // all are done with what was there
    store4(sums + row * kBiasChannels + column, make_float4(sum[0], sum[1], sum[2], sum[3]));
    __syncthreads();
    const int mine = tile * kBiasChannels + thread;
    if (thread >= kBiasChannels || mine >= b.channels) continue;
    float total = sums[thread];
    for (int r = 1; r < kRows; ++r) total += sums[r * kBiasChannels + thread];
    b.partials[static_cast<int64_t>(run) * b.channels + mine] = total;
  }
}

}  // namespace warploom::v5
