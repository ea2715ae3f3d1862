// channel_sums.cuh - two sums per channel of maps [outer, C, inner], over outer and inner: of batch norm, and
// of whatever learns one number a channel.
//
// A term gives a pair (u, v) per element. The sums are those of u and of u * v, or of u and u^2 (kSquares). A thread takes a handful
// of elements into registers and adds them up in float; handfuls, threads, blocks are added in double, always in the same order. The
// squares of a handful are taken around its own mean: sum u^2 = sum (u - m)^2 + (sum u)^2 / n, so that nothing cancels later.
#pragma once

#include <algorithm>

#include "maps.cuh"

namespace warploom::shared {

struct ChannelSplits {                         // how a reduction is cut into blocks; decided by the shape alone
  int64_t outer = 0, inner = 0, channels = 0;  // inner or channels in units
  int64_t outer_chunk = 1, inner_chunk = 1;
  int outer_splits = 1, inner_splits = 1, lanes = 1;
  __host__ __device__ int splits() const { return outer_splits * inner_splits; }
};

template <bool kSquares, int kCount>
__device__ __forceinline__ void add_handful(const float (&u)[kCount], const float (&v)[kCount], int count, double& first,
                                            double& second) {
  float sum = 0.0f, product = 0.0f;
  WL_UNROLL
  for (int e = 0; e < kCount; ++e) sum += e < count ? u[e] : 0.0f;
  if constexpr (kSquares) {
    const float mean = sum / static_cast<float>(count);
    WL_UNROLL
    for (int e = 0; e < kCount; ++e) product += e < count ? (u[e] - mean) * (u[e] - mean) : 0.0f;
    // The rounding of sum and of mean leaves sum (u - mean) = sum - count * mean, which the squares see; it is far below their own.
    second += static_cast<double>(product) + static_cast<double>(mean) * (2.0 * sum - static_cast<double>(count) * mean);
  } else {
    WL_UNROLL
    for (int e = 0; e < kCount; ++e) product += e < count ? u[e] * v[e] : 0.0f;
    second += product;
  }
  first += sum;
}

// Sums of one channel in planes: block (channel, split), `lanes` threads along inner, the others along outer.
template <class Term, int kVector>
__global__ void plane_sums_kernel(Term term, ChannelSplits s, double* __restrict__ partials) {  // [C, splits, 2]
  constexpr int kLoads = kVector == 4 ? 4 : 8;
  WL_SHARED(double, sums, [2][kThreads / 32]);
  const int thread = static_cast<int>(threadIdx.x), splits = s.splits();
  const int64_t c = blockIdx.x / splits;
  const int split = static_cast<int>(blockIdx.x - c * splits);
  const int64_t o_end = min((split / s.inner_splits + 1) * s.outer_chunk, s.outer);
  const int64_t i_begin = split % s.inner_splits * s.inner_chunk, i_end = min(i_begin + s.inner_chunk, s.inner);
  const int rows = kThreads / s.lanes;
  int64_t o = split / s.inner_splits * s.outer_chunk + thread / s.lanes;
  const int64_t i_first = i_begin + thread % s.lanes;
  int64_t i = i_first;
  if (i_first >= i_end || thread / s.lanes >= rows) o = o_end;
  const typename Term::Channel channel = o < o_end ? term.channel(c) : typename Term::Channel();
  double first = 0.0, second = 0.0;
  while (o < o_end) {
    float u[kLoads * kVector] = {}, v[kLoads * kVector] = {};
    int count = 0;
    WL_UNROLL
    for (int k = 0; k < kLoads; ++k) {
      if (o < o_end) {
        const int64_t offset = ((o * s.channels + c) * s.inner + i) * kVector;
        term.template load<kVector>(offset, &channel, 0, u + k * kVector, v + k * kVector);
        count += kVector;
        i += s.lanes;
        if (i >= i_end) i = i_first, o += rows;
      }
    }
    add_handful<Term::kSquares>(u, v, count, first, second);
  }
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    first += __shfl_xor_sync(0xffffffffu, first, distance);
    second += __shfl_xor_sync(0xffffffffu, second, distance);
  }
  if (thread % 32 == 0) sums[0][thread / 32] = first, sums[1][thread / 32] = second;
  __syncthreads();
  if (thread < 2) {
    double sum = 0.0;
    for (int w = 0; w < kThreads / 32; ++w) sum += sums[thread][w];
    partials[blockIdx.x * int64_t(2) + thread] = sum;
  }
}

// Sums of `lanes` neighbouring units of channels where channels are innermost: block (split, tile of units), `lanes` threads across,
// the others along outer.
template <class Term, int kVector>
__global__ void row_sums_kernel(Term term, ChannelSplits s, double* __restrict__ partials) {  // [C, splits, 2]
  constexpr int kLoads = kVector == 4 ? 4 : 8;
  WL_SHARED(double, sums, [2 * kVector][kThreads]);
  const int thread = static_cast<int>(threadIdx.x), splits = s.splits();
  const int64_t tile = blockIdx.x / splits;
  const int split = static_cast<int>(blockIdx.x - tile * splits);
  const int rows = kThreads / s.lanes, lane = thread % s.lanes, row = thread / s.lanes;
  const int64_t unit = tile * s.lanes + lane;
  const int64_t o_end = unit < s.channels && row < rows ? min((split + 1) * s.outer_chunk, s.outer) : 0;
  int64_t o = split * s.outer_chunk + row;
  typename Term::Channel channel[kVector];
  double first[kVector] = {}, second[kVector] = {};
  if (o < o_end)
    for (int e = 0; e < kVector; ++e) channel[e] = term.channel(unit * kVector + e);
  while (o < o_end) {
    float u[kVector][kLoads] = {}, v[kVector][kLoads] = {};
    int count = 0;
    WL_UNROLL
    for (int k = 0; k < kLoads; ++k) {
      if (o < o_end) {
        float a[kVector], b[kVector];
        term.template load<kVector>((o * s.channels + unit) * kVector, channel, 1, a, b);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) u[e][k] = a[e], v[e][k] = b[e];
        ++count;
        o += rows;
      }
    }
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) add_handful<Term::kSquares>(u[e], v[e], count, first[e], second[e]);
  }
  WL_UNROLL
  for (int e = 0; e < kVector; ++e) sums[2 * e][thread] = first[e], sums[2 * e + 1][thread] = second[e];
  __syncthreads();
  for (int left = rows; left > 1; left = (left + 1) / 2) {  // a tree over the rows, whatever their number
    const int half = (left + 1) / 2;
    if (row < left - half)
      for (int q = 0; q < 2 * kVector; ++q) sums[q][thread] += sums[q][thread + half * s.lanes];
    __syncthreads();
  }
  if (row == 0 && unit < s.channels)
    for (int q = 0; q < 2 * kVector; ++q) partials[((unit * kVector + q / 2) * splits + split) * 2 + q % 2] = sums[q][thread];
}

// The warp's sums of one channel's partials, in every lane.
__device__ __forceinline__ void merge_partials(const double* __restrict__ partials, int splits, double& first, double& second) {
  first = second = 0.0;
  for (int k = static_cast<int>(threadIdx.x) % 32; k < splits; k += 32) first += partials[2 * k], second += partials[2 * k + 1];
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    first += __shfl_xor_sync(0xffffffffu, first, distance);
    second += __shfl_xor_sync(0xffffffffu, second, distance);
  }
}

// ---- Host ----

constexpr int64_t kEnoughBlocks = 1024;  // some eight blocks for each multiprocessor of a large GPU

inline ChannelSplits channel_splits(int64_t outer, int64_t C, int64_t inner, int vector) {
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  ChannelSplits s;
  s.outer = outer;
  if (inner == 1) {
    s.inner = 1, s.channels = C / vector;
    s.lanes = static_cast<int>(std::min<int64_t>(s.channels, 32));
    const int64_t most = std::max<int64_t>(1, outer / (8 * (kThreads / s.lanes)));
    const int64_t splits = std::clamp<int64_t>(up(kEnoughBlocks, up(s.channels, s.lanes)), 1, most);
    s.outer_chunk = std::max<int64_t>(1, up(outer, splits));
    s.outer_splits = static_cast<int>(std::max<int64_t>(1, up(outer, s.outer_chunk)));
    return s;
  }
  s.inner = inner / vector, s.channels = C;
  const int64_t most = std::max<int64_t>(1, outer * s.inner / (4 * kThreads));
  const int64_t splits = std::clamp<int64_t>(up(kEnoughBlocks, C), 1, most);
  s.inner_chunk = s.inner;
  s.outer_chunk = std::max<int64_t>(1, up(outer, splits));
  s.outer_splits = static_cast<int>(std::max<int64_t>(1, up(outer, s.outer_chunk)));
  if (outer > 0 && outer < splits) {
    s.inner_chunk = up(s.inner, up(splits, outer));
    s.inner_splits = static_cast<int>(up(s.inner, s.inner_chunk));
  }
  s.lanes = static_cast<int>(std::min<int64_t>(s.inner_chunk, kThreads));
  return s;
}

// Bytes of the partials, whatever the alignment turns out to be.
inline int64_t channel_sums_bytes(int64_t outer, int64_t C, int64_t inner) {
  int64_t splits = channel_splits(outer, C, inner, 1).splits();
  if (inner == 1 ? C % 4 == 0 : inner % 4 == 0) splits = std::max<int64_t>(splits, channel_splits(outer, C, inner, 4).splits());
  return C * splits * 2 * static_cast<int64_t>(sizeof(double));
}

// Fills partials; returns how many pairs each channel has.
template <class Term>
int launch_channel_sums(const Context& context, const char* name, const Term& term, int64_t outer, int64_t C, int64_t inner,
                        bool aligned, double* partials) {
  const int vector = aligned && (inner == 1 ? C % 4 == 0 : inner % 4 == 0) ? 4 : 1;
  const ChannelSplits s = channel_splits(outer, C, inner, vector);
  const int64_t tiles = inner == 1 ? (s.channels + s.lanes - 1) / s.lanes : C;
  const auto kernel = inner == 1 ? (vector == 4 ? row_sums_kernel<Term, 4> : row_sums_kernel<Term, 1>)
                                 : (vector == 4 ? plane_sums_kernel<Term, 4> : plane_sums_kernel<Term, 1>);
  launch(context, name, kernel, dim3(static_cast<unsigned>(tiles * s.splits())), dim3(kThreads), 0, term, s, partials);
  return s.splits();
}

}  // namespace warploom::shared
