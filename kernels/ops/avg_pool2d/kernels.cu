// avg_pool2d/kernels.cu: y = mean of x over KH x KW windows; dx = sum over the windows that hold the element of dy / (KH * KW)
// Layout: x [N, C, H, W], y [N, C, OH, OW], both NCHW or both NHWC.
// One thread owns an output element (backward: an input element); in NHWC four neighbouring channels where shape and alignment allow.
// One implementation for all versions; overlapping windows are read from cache. Expected bottleneck: memory bandwidth.
// Preconditions: one image has fewer than 2^31 elements. The backward pass gathers: sums in window order, no atomics.
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

struct PoolUnits {
  Pool2dShape s;
  FastDivisor width, height, channels;  // of the tensor that is written; channels: units of them (NHWC)
  int64_t channel_step,
      pixel_step;              // elements from a channel, or a unit of channels, or a pixel to the next: of the other tensor
  int64_t image, other_image;  // elements of an image of the written and of the other tensor
  unsigned units;              // of an image
  float share;                 // 1 / (KH * KW)
};
struct PoolPlace {
  int h, w;
  int64_t channel;  // offset of the unit's first channel in the other tensor
};

template <bool kNhwc>
__device__ __forceinline__ PoolPlace pool_place(const PoolUnits& p, int unit) {
  int pixel = unit, c = 0;
  if (kNhwc) pixel = p.channels.quotient(unit), c = p.channels.remainder(unit, pixel);
  const int row = p.width.quotient(pixel), w = p.width.remainder(pixel, row);
  if (kNhwc) return {row, w, c * p.channel_step};
  c = p.height.quotient(row);
  return {p.height.remainder(row, c), w, c * p.channel_step};
}

template <bool kNhwc, int kVector>
__global__ void avg_pool2d_forward_kernel(PoolUnits p, const float* __restrict__ x, float* __restrict__ y) {
  const unsigned unit = blockIdx.x * kThreads + threadIdx.x;
  if (unit >= p.units) return;
  const PoolPlace at = pool_place<kNhwc>(p, static_cast<int>(unit));
  for (int64_t n = blockIdx.y; n < p.s.N; n += gridDim.y) {
    const float* plane = x + n * p.other_image + at.channel;
    Floats<kVector> sum = {};
    for (int kh = 0; kh < p.s.KH; ++kh)
      for (int kw = 0; kw < p.s.KW; ++kw) {
        const int64_t pixel = static_cast<int64_t>(at.h * p.s.stride_h + kh) * p.s.W + at.w * p.s.stride_w + kw;
        const Floats<kVector> f = load_floats<kVector>(plane + pixel * p.pixel_step);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) sum.v[e] += f.v[e];
      }
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) sum.v[e] *= p.share;
    store_floats<kVector>(y + n * p.image + static_cast<int64_t>(unit) * kVector, sum);
  }
}

template <bool kNhwc, int kVector>
__global__ void avg_pool2d_backward_kernel(PoolUnits p, const float* __restrict__ dy, float* __restrict__ dx) {
  const unsigned unit = blockIdx.x * kThreads + threadIdx.x;
  if (unit >= p.units) return;
  const PoolPlace at = pool_place<kNhwc>(p, static_cast<int>(unit));
  const Pool2dShape& s = p.s;
  const int h_first = at.h < s.KH ? 0 : (at.h - s.KH) / s.stride_h + 1, h_last = min(at.h / s.stride_h, s.OH - 1);
  const int w_first = at.w < s.KW ? 0 : (at.w - s.KW) / s.stride_w + 1, w_last = min(at.w / s.stride_w, s.OW - 1);
  for (int64_t n = blockIdx.y; n < s.N; n += gridDim.y) {
    const float* plane = dy + n * p.other_image + at.channel;
    Floats<kVector> sum = {};
    for (int oh = h_first; oh <= h_last; ++oh)
      for (int ow = w_first; ow <= w_last; ++ow) {
        const Floats<kVector> f = load_floats<kVector>(plane + (static_cast<int64_t>(oh) * s.OW + ow) * p.pixel_step);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) sum.v[e] += f.v[e];
      }
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) sum.v[e] *= p.share;
    store_floats<kVector>(dx + n * p.image + static_cast<int64_t>(unit) * kVector, sum);
  }
}

// The written tensor has maps of height x width, the other one `other` pixels.
static PoolUnits pool_units(const Pool2dShape& s, bool nhwc, int vector, int height, int width, int64_t other) {
  PoolUnits p;
  p.s = s;
  p.width = FastDivisor(width), p.height = FastDivisor(height), p.channels = FastDivisor(s.C / vector);
  p.channel_step = nhwc ? vector : other;
  p.pixel_step = nhwc ? s.C : 1;
  p.image = static_cast<int64_t>(s.C) * height * width, p.other_image = s.C * other;
  p.units = static_cast<unsigned>(p.image / vector);
  p.share = 1.0f / (static_cast<float>(s.KH) * static_cast<float>(s.KW));
  return p;
}

template <class Kernel>
static void launch_pool(const Context& context, const char* name, Kernel kernel, const PoolUnits& p, const float* from,
                        float* to) {
  const dim3 grid(blocks_for(p.units, kThreads), static_cast<unsigned>(p.s.N < 65535 ? p.s.N : 65535));
  launch(context, name, kernel, grid, dim3(kThreads), 0, p, from, to);
}

static void run_forward(const AvgPool2dForward& a, const Context& context) {
  const bool nhwc = a.layout == Layout::nhwc, vector = nhwc && a.s.C % 4 == 0 && aligned16(a.x.data, a.y.data);
  const PoolUnits p = pool_units(a.s, nhwc, vector ? 4 : 1, a.s.OH, a.s.OW, static_cast<int64_t>(a.s.H) * a.s.W);
  launch_pool(context, "shared::avg_pool2d_forward_kernel",
              nhwc ? (vector ? avg_pool2d_forward_kernel<true, 4> : avg_pool2d_forward_kernel<true, 1>)
                   : avg_pool2d_forward_kernel<false, 1>,
              p, a.x.ptr(), a.y.ptr());
}

static void run_backward(const AvgPool2dBackward& a, const Context& context) {
  const bool nhwc = a.layout == Layout::nhwc, vector = nhwc && a.s.C % 4 == 0 && aligned16(a.dy.data, a.dx.data);
  const PoolUnits p = pool_units(a.s, nhwc, vector ? 4 : 1, a.s.H, a.s.W, static_cast<int64_t>(a.s.OH) * a.s.OW);
  launch_pool(context, "shared::avg_pool2d_backward_kernel",
              nhwc ? (vector ? avg_pool2d_backward_kernel<true, 4> : avg_pool2d_backward_kernel<true, 1>)
                   : avg_pool2d_backward_kernel<false, 1>,
              p, a.dy.ptr(), a.dx.ptr());
}

Entry<AvgPool2dForward> avg_pool2d_forward() { return {run_forward, pool2d_shape<AvgPool2dForward>, nullptr, nullptr}; }
Entry<AvgPool2dBackward> avg_pool2d_backward() { return {run_backward, pool2d_shape<AvgPool2dBackward>, nullptr, nullptr}; }

}  // namespace warploom::shared
