// upsample.cu (v2): nearest: y[oh,ow] = x[oh/scale, ow/scale]; bilinear: half-pixel centres, edges clamped. Backward is the
//   transpose.
// Layout: x, dx [N, H, W, C]; y, dy [N, H*scale_h, W*scale_w, C].
// One thread owns 4 channels (1 if C % 4) of one pixel of x (nearest forward, both backward) or of y (bilinear forward).
// From v1: 16-byte accesses, no divisions in the index, x read once for all the pixels it fills.
// Expected bottleneck: memory bandwidth.
// Preconditions: whole scales; one output image below 2^31 elements. Backward gathers row by row: a fixed order.
#include "../common/bilinear.cuh"
#include "channels.cuh"
#include "entries.h"

namespace warploom::v2 {

template <int kWidth>
__global__ void upsample_nearest_forward_kernel(UpsampleShape s, Places places, int items,
                                                const float* __restrict__ x,  // [N, H, W, C]
                                                float* __restrict__ y) {      // [N, OH, OW, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const int OW = s.W * s.scale_w;
  const Channels<kWidth> value = load<kWidth>(x + static_cast<int64_t>(item) * kWidth);
  float* image = y + at.n * s.H * s.scale_h * OW * s.C + at.c;
  for (int i = 0; i < s.scale_h; ++i)
    for (int j = 0; j < s.scale_w; ++j)
      store<kWidth>(image + ((at.row * s.scale_h + i) * OW + at.col * s.scale_w + j) * s.C, value);
}

template <int kWidth>
__global__ void upsample_nearest_backward_kernel(UpsampleShape s, Places places, int items,
                                                 const float* __restrict__ dy,  // [N, OH, OW, C]
                                                 float* __restrict__ dx) {      // [N, H, W, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const int OW = s.W * s.scale_w;
  const float* image = dy + at.n * s.H * s.scale_h * OW * s.C + at.c;
  Channels<kWidth> sum{};
  for (int i = 0; i < s.scale_h; ++i) {
    for (int j = 0; j < s.scale_w; ++j) {
      const Channels<kWidth> v = load<kWidth>(image + ((at.row * s.scale_h + i) * OW + at.col * s.scale_w + j) * s.C);
      WL_UNROLL
      for (int e = 0; e < kWidth; ++e) sum.v[e] += v.v[e];
    }
  }
  store<kWidth>(dx + static_cast<int64_t>(item) * kWidth, sum);
}

template <int kWidth>
__global__ void upsample_bilinear_forward_kernel(UpsampleShape s, Places places, int items,
                                                 const float* __restrict__ x,  // [N, H, W, C]
                                                 float* __restrict__ y) {      // [N, OH, OW, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const float* image = x + at.n * s.H * s.W * s.C + at.c;
  const BilinearSource v = bilinear_source(at.row, s.scale_h, s.H), u = bilinear_source(at.col, s.scale_w, s.W);
  const Channels<kWidth> top_left = load<kWidth>(image + (v.low * s.W + u.low) * s.C);
  const Channels<kWidth> top_right = load<kWidth>(image + (v.low * s.W + u.high) * s.C);
  const Channels<kWidth> bottom_left = load<kWidth>(image + (v.high * s.W + u.low) * s.C);
  const Channels<kWidth> bottom_right = load<kWidth>(image + (v.high * s.W + u.high) * s.C);
  Channels<kWidth> out;
  WL_UNROLL
  for (int e = 0; e < kWidth; ++e) {
    out.v[e] = between(v, between(u, top_left.v[e], top_right.v[e]), between(u, bottom_left.v[e], bottom_right.v[e]));
  }
  store<kWidth>(y + static_cast<int64_t>(item) * kWidth, out);
}

template <int kWidth>
__global__ void upsample_bilinear_backward_kernel(UpsampleShape s, Places places, int items,
                                                  const float* __restrict__ dy,  // [N, OH, OW, C]
                                                  float* __restrict__ dx) {      // [N, H, W, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const int OW = s.W * s.scale_w;
  const float* image = dy + at.n * s.H * s.scale_h * OW * s.C + at.c;
  Channels<kWidth> sum{};
  for (int oh = bilinear_first(at.row, s.scale_h); oh < bilinear_end(at.row, s.scale_h, s.H); ++oh) {
    Channels<kWidth> row{};
    for (int ow = bilinear_first(at.col, s.scale_w); ow < bilinear_end(at.col, s.scale_w, s.W); ++ow) {
      const float share = bilinear_share(ow, at.col, s.scale_w, s.W);
      const Channels<kWidth> v = load<kWidth>(image + (oh * OW + ow) * s.C);
      WL_UNROLL
      for (int e = 0; e < kWidth; ++e) row.v[e] = add_share(row.v[e], share, v.v[e]);
    }
    const float share = bilinear_share(oh, at.row, s.scale_h, s.H);
    WL_UNROLL
    for (int e = 0; e < kWidth; ++e) sum.v[e] = add_share(sum.v[e], share, row.v[e]);
  }
  store<kWidth>(dx + static_cast<int64_t>(item) * kWidth, sum);
}

static void run_forward(const UpsampleForward& a, const Context& context) {
  const UpsampleShape& s = a.s;
  const bool vector = s.C % 4 == 0 && aligned16(a.x.data, a.y.data), nearest = a.mode == UpsampleMode::nearest;
  const auto kernel = nearest ? (vector ? upsample_nearest_forward_kernel<4> : upsample_nearest_forward_kernel<1>)
                              : (vector ? upsample_bilinear_forward_kernel<4> : upsample_bilinear_forward_kernel<1>);
  const int rows = nearest ? s.H : s.H * s.scale_h, cols = nearest ? s.W : s.W * s.scale_w;
  over_places(s.N, rows, cols, s.C, vector ? 4 : 1, [&](int first, int items, const Places& places) {
    launch(context, nearest ? "v2::upsample_nearest_forward_kernel" : "v2::upsample_bilinear_forward_kernel", kernel,
           dim3(blocks_for(items, kThreads)), dim3(kThreads), 0, s, places, items, a.x.ptr() + first * (s.x_count() / s.N),
           a.y.ptr() + first * (s.y_count() / s.N));
  });
}

static void run_backward(const UpsampleBackward& a, const Context& context) {
  const UpsampleShape& s = a.s;
  const bool vector = s.C % 4 == 0 && aligned16(a.dy.data, a.dx.data), nearest = a.mode == UpsampleMode::nearest;
  const auto kernel = nearest ? (vector ? upsample_nearest_backward_kernel<4> : upsample_nearest_backward_kernel<1>)
                              : (vector ? upsample_bilinear_backward_kernel<4> : upsample_bilinear_backward_kernel<1>);
  over_places(s.N, s.H, s.W, s.C, vector ? 4 : 1, [&](int first, int items, const Places& places) {
    launch(context, nearest ? "v2::upsample_nearest_backward_kernel" : "v2::upsample_bilinear_backward_kernel", kernel,
           dim3(blocks_for(items, kThreads)), dim3(kThreads), 0, s, places, items, a.dy.ptr() + first * (s.y_count() / s.N),
           a.dx.ptr() + first * (s.x_count() / s.N));
  });
}

Entry<UpsampleForward> upsample_forward() { return {run_forward, upsample_shape<UpsampleForward>, nullptr, nullptr}; }
Entry<UpsampleBackward> upsample_backward() { return {run_backward, upsample_shape<UpsampleBackward>, nullptr, nullptr}; }

}  // namespace warploom::v2
