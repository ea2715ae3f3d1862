// depth_to_space/kernels.cu: wide[n, c, h * block + i, w * block + j] = deep[n, k, h, w], k by order; and back
// Layout: deep [N, C * block^2, H, W] (phases: [block^2, N, C, H, W]), wide [N, C, H * block, W * block], both NCHW or both NHWC.
//   In deep every order is a matter of four strides: image, phase (i, j), channel, pixel.
// NCHW: one thread owns a run of `block` neighbours in wide, one from each of `block` planes of deep; neighbouring threads read
//   neighbours there. NHWC: one thread owns a wide element, or four neighbouring channels where they are neighbours in deep too (not crd).
// One implementation for all versions. Expected bottleneck: memory bandwidth.
// Preconditions: one image has fewer than 2^31 elements; x and y do not overlap.
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

struct Spread {
  FastDivisor W, block, H, channels;  // channels: units of them, NHWC only
  int side;
  int64_t N, wide_image;                                     // images, and elements of one
  int64_t image_step, phase_step, channel_step, pixel_step;  // in deep
  unsigned units;                                            // of an image: what the threads count
};

template <bool kInverse>
__global__ void depth_to_space_nchw_kernel(Spread s, const float* __restrict__ x, float* __restrict__ y) {
  const unsigned unit = blockIdx.x * kThreads + threadIdx.x;
  if (unit >= s.units) return;
  const int row = s.W.quotient(static_cast<int>(unit)), w = s.W.remainder(static_cast<int>(unit), row);
  const int above = s.block.quotient(row), i = s.block.remainder(row, above);
  const int c = s.H.quotient(above), h = s.H.remainder(above, c);
  const int64_t at = c * s.channel_step + i * s.side * s.phase_step + h * static_cast<int>(s.W.divisor) + w;
  for (int64_t n = blockIdx.y; n < s.N; n += gridDim.y) {
    const int64_t wide = n * s.wide_image + static_cast<int64_t>(unit) * s.side, deep = n * s.image_step + at;
    for (int j = 0; j < s.side; ++j) {
      const int64_t there = deep + j * s.phase_step;
      if (kInverse)
        y[there] = x[wide + j];
      else
        y[wide + j] = x[there];
    }
  }
}

template <bool kInverse, int kVector>
__global__ void depth_to_space_nhwc_kernel(Spread s, const float* __restrict__ x, float* __restrict__ y) {
  const unsigned unit = blockIdx.x * kThreads + threadIdx.x;
  if (unit >= s.units) return;
  const int pixel = s.channels.quotient(static_cast<int>(unit));
  const int c = s.channels.remainder(static_cast<int>(unit), pixel) * kVector;
  const int column_pair = s.block.quotient(pixel), j = s.block.remainder(pixel, column_pair);  // (h * block + i) * W + w
  const int row = s.W.quotient(column_pair), w = s.W.remainder(column_pair, row);
  const int h = s.block.quotient(row), i = s.block.remainder(row, h);
  const int64_t at =
      (h * static_cast<int>(s.W.divisor) + w) * s.pixel_step + (i * s.side + j) * s.phase_step + c * s.channel_step;
  for (int64_t n = blockIdx.y; n < s.N; n += gridDim.y) {
    const int64_t wide = n * s.wide_image + static_cast<int64_t>(unit) * kVector, deep = n * s.image_step + at;
    if (kInverse)
      store_floats<kVector>(y + deep, load_floats<kVector>(x + wide));
    else
      store_floats<kVector>(y + wide, load_floats<kVector>(x + deep));
  }
}

static void run(const DepthToSpace& a, const Context& context) {
  const bool nhwc = a.layout == Layout::nhwc, crd = a.order == DepthOrder::crd, apart = a.order == DepthOrder::phases;
  const bool vector = nhwc && !crd && a.C % 4 == 0 && aligned16(a.x.data, a.y.data);
  const int64_t pixels = a.H * a.W, phases = int64_t(a.block) * a.block, map = a.C * pixels;
  Spread s;
  s.W = FastDivisor(static_cast<int>(a.W)), s.H = FastDivisor(static_cast<int>(a.H)), s.block = FastDivisor(a.block);
  s.channels = FastDivisor(static_cast<int>(vector ? a.C / 4 : a.C));
  s.side = a.block;
  s.N = a.N, s.wide_image = map * phases;
  s.image_step = apart ? map : map * phases;
  s.channel_step = (crd ? phases : 1) * (nhwc ? 1 : pixels);
  s.phase_step = apart ? a.N * map : (crd ? 1 : a.C) * (nhwc ? 1 : pixels);
  s.pixel_step = nhwc ? (apart ? a.C : a.C * phases) : 1;
  s.units = static_cast<unsigned>(s.wide_image / (nhwc ? (vector ? 4 : 1) : a.block));
  const dim3 grid(blocks_for(s.units, kThreads), static_cast<unsigned>(a.N < 65535 ? a.N : 65535));
  const auto kernel = nhwc ? (vector ? (a.inverse ? depth_to_space_nhwc_kernel<true, 4> : depth_to_space_nhwc_kernel<false, 4>)
                                     : (a.inverse ? depth_to_space_nhwc_kernel<true, 1> : depth_to_space_nhwc_kernel<false, 1>))
                           : (a.inverse ? depth_to_space_nchw_kernel<true> : depth_to_space_nchw_kernel<false>);
  launch(context, "shared::depth_to_space_kernel", kernel, grid, dim3(kThreads), 0, s, a.x.ptr(), a.y.ptr());
}

Entry<DepthToSpace> depth_to_space() { return {run, depth_to_space_error, nullptr, nullptr}; }

}  // namespace warploom::shared
