// channels.cuh - inside v2: four neighbouring channels (or one, where their number is not a multiple of 4) as one value.
#pragma once

#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "../common/vector.cuh"

namespace warploom::v2 {

template <int kWidth>
struct Channels {
  float v[kWidth];
};

template <int kWidth>
__device__ __forceinline__ Channels<kWidth> load(const float* p) {
  Channels<kWidth> c;
  copy_vector<kWidth>(c.v, p);
  return c;
}
template <int kWidth>
__device__ __forceinline__ void store(float* p, const Channels<kWidth>& c) {
  if constexpr (kWidth == 4)
    store4(p, make_float4(c.v[0], c.v[1], c.v[2], c.v[3]));
  else
    p[0] = c.v[0];
}
template <int kWidth>
__device__ __forceinline__ void load_index(int (&to)[kWidth], const int* p) {
  if constexpr (kWidth == 4) {
    const int4 i = *reinterpret_cast<const int4*>(p);
    to[0] = i.x, to[1] = i.y, to[2] = i.z, to[3] = i.w;
  } else {
    to[0] = p[0];
  }
}
template <int kWidth>
__device__ __forceinline__ void store_index(int* p, const int (&from)[kWidth]) {
  if constexpr (kWidth == 4)
    *reinterpret_cast<int4*>(p) = make_int4(from[0], from[1], from[2], from[3]);
  else
    p[0] = from[0];
}

// The place of a thread in a tensor [images, rows, cols, C] of which it owns kWidth channels of one pixel (or cell of pixels).
struct Places {
  int64_t per_image;  // threads
  FastDivisor by_image, by_channels, by_cols;
};
struct Place {
  int64_t n;  // image
  int row, col, c;
};

template <int kWidth>
__device__ __forceinline__ Place place_of(const Places& p, int item) {
  const int n = p.by_image.quotient(item), inside = p.by_image.remainder(item, n);
  const int pixel = p.by_channels.quotient(inside), c = p.by_channels.remainder(inside, pixel);
  const int row = p.by_cols.quotient(pixel);
  return {n, row, p.by_cols.remainder(pixel, row), c * kWidth};
}

// Calls body(first image, images, items, places) so that items, one thread each, stay within 32 bits.
template <class Body>
void over_places(int N, int rows, int cols, int C, int width, Body body) {
  Places p;
  p.per_image = int64_t(rows) * cols * (C / width);
  p.by_image = FastDivisor(static_cast<int>(p.per_image));
  p.by_channels = FastDivisor(C / width);
  p.by_cols = FastDivisor(cols);
  const int64_t most = (kImageLimit - 1) / p.per_image;
  const int images = most < N ? static_cast<int>(most) : N;
  for (int first = 0; first < N; first += images) {
    const int n = N - first < images ? N - first : images;
    body(first, static_cast<int>(n * p.per_image), p);
  }
}

}  // namespace warploom::v2
