// sums.h - sums over flat arrays in double precision with the same bits for any number of threads and any vector width.
//
// Blocks of kSumBlock elements are summed in 16 lanes, element i in lane i % 16; the lanes are added pairwise, the blocks in
// order.
#pragma once

#include "common.h"

namespace warploom::cpu {

constexpr int64_t kSumBlock = 16384;
constexpr int kSumVectors = 16 / kWidth;
using vd = double __attribute__((vector_size(kWidth * 8)));
using vl = int64_t __attribute__((vector_size(kWidth * 8)));

// By reference, as a vector wider than the machine's has no agreed way to be returned.
WL_INLINE void widen(vf v, vd& to) { to = __builtin_convertvector(v, vd); }

inline int64_t sum_workspace(int64_t count, int sums) {
  return ceil_div(count, kSumBlock) * sums * static_cast<int64_t>(sizeof(double));
}

WL_INLINE double add_lanes(const vd (&lanes)[kSumVectors]) {
  double t[16];
  for (int u = 0; u < kSumVectors; ++u) std::memcpy(t + u * kWidth, &lanes[u], sizeof(vd));
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) t[i] += t[i + half];
  return t[0];
}

// One block: f(i, n, terms) gives the terms of the n elements from i on; what it puts into further lanes is not counted.
template <int kSums, class F>
WL_INLINE void sum_range(int64_t begin, int64_t end, double* sums, F&& f) {
  vd lanes[kSums][kSumVectors] = {};
  int64_t i = begin;
  for (; i + 16 <= end; i += 16)
#pragma GCC unroll 4
    for (int u = 0; u < kSumVectors; ++u) {
      vd terms[kSums];
      f(i + u * kWidth, kWidth, terms);
      for (int s = 0; s < kSums; ++s) lanes[s][u] += terms[s];
    }
  for (int u = 0; i < end; i += kWidth, ++u) {
    const int n = static_cast<int>(std::min<int64_t>(kWidth, end - i));
    vd terms[kSums];
    f(i, n, terms);
    for (int s = 0; s < kSums; ++s)
      for (int k = 0; k < n; ++k) lanes[s][u][k] += terms[s][k];
  }
  for (int s = 0; s < kSums; ++s) sums[s] = add_lanes(lanes[s]);
}

// All of them; partial has room for sum_workspace(count, kSums) bytes.
template <int kSums, class F>
void sum_blocks(int64_t count, double* partial, double (&totals)[kSums], F&& f) {
  parallel_blocks(count, kSumBlock,
                  [&](int64_t begin, int64_t end, int) { sum_range<kSums>(begin, end, partial + begin / kSumBlock * kSums, f); });
  for (double& t : totals) t = 0.0;
  for (int64_t b = 0; b < ceil_div(count, kSumBlock); ++b)
    for (int s = 0; s < kSums; ++s) totals[s] += partial[b * kSums + s];
}

// f(i, n): the vector at i, of which n elements exist.
template <class F>
void for_vectors(int64_t count, F&& f) {
  parallel_blocks(count, 2 * kSumBlock, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) f(i, kWidth);
    if (i < end) f(i, static_cast<int>(end - i));
  });
}

// loss = weight * value, and the running mean of an epoch.
template <class Args>
void store_loss(const Args& a, double value) {
  const double loss = a.weight * value;
  *a.loss.ptr() = static_cast<float>(loss);
  if (!a.total) return;
  a.total.template ptr<double>()[0] += loss * a.samples;
  a.total.template ptr<double>()[1] += a.samples;
}

}  // namespace warploom::cpu
