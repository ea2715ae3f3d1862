// bilinear.cuh - which input rows (or columns) an output row of a bilinear upsample mixes; half-pixel centres, edges clamped.
#pragma once

#include "portable.cuh"

namespace warploom {

struct BilinearSource {
  int low, high;  // input rows
  float weight;   // of `high`; `low` has 1 - weight
};

// The source coordinate (o + 1/2) / scale - 1/2 is the fraction (2 o + 1 - scale) / (2 scale): exact in integers.
__device__ __forceinline__ BilinearSource bilinear_source(int o, int scale, int size) {
  const int numerator = max(2 * o + 1 - scale, 0);
  BilinearSource s;
  s.low = numerator / (2 * scale);
  s.high = scale == 1 ? s.low : min(s.low + 1, size - 1);  // by factor 1 nothing is interpolated: the neighbour is not looked at
  s.weight = static_cast<float>(numerator - s.low * 2 * scale) / static_cast<float>(2 * scale);
  return s;
}

// What lies between the values a of `low` and b of `high`. By factor 1 it is a itself, an infinite one too.
__device__ __forceinline__ float between(const BilinearSource& s, float a, float b) {
  return s.low == s.high && s.weight == 0.0f ? a : (1.0f - s.weight) * a + s.weight * b;
}

// Share of input row i in output row o.
__device__ __forceinline__ float bilinear_share(int o, int i, int scale, int size) {
  const BilinearSource s = bilinear_source(o, scale, size);
  return (s.low == i ? 1.0f - s.weight : 0.0f) + (s.high == i ? s.weight : 0.0f);
}

// sum + share * v; where there is no share, v is not looked at: it may be NaN.
__device__ __forceinline__ float add_share(float sum, float share, float v) { return share == 0.0f ? sum : sum + share * v; }

// Output rows with a share of input row i lie in [first, end).
__device__ __forceinline__ int bilinear_first(int i, int scale) { return max(0, scale * (i - 1) + scale / 2); }
__device__ __forceinline__ int bilinear_end(int i, int scale, int size) {
  return min(scale * size, scale * (i + 1) + (scale + 1) / 2);
}

}  // namespace warploom
