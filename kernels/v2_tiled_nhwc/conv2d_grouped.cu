// conv2d_grouped.cu (v2): the convolution and its gradients where a group has at most 4 channels in and out (depthwise: 1 and 1)
// Layout: x [N, H, W, C_in], w hwio [KH, KW, C_in/groups, C_out], y [N, OH, OW, C_out], and their gradients alike.
// One thread owns one channel of kStrip neighbouring pixels of a row (forward, input gradient) or one weight of one run of
//   pixels.
// From v1: neighbouring threads take neighbouring channels, so that x, w and y are all read in whole sectors, and a weight
//   serves a strip.
// Expected bottleneck: memory and L1.
// Preconditions: workspace for grouped_splits() partial sums of the weight gradient.
#include <algorithm>

#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "entries.h"
#include "grouped.h"
#include "partials.h"

namespace warploom::v2 {

constexpr int kStrip = 4;

struct Strips {  // how a thread finds its place: (image, row, strip, channel)
  FastDivisor by_channels, by_strips, by_rows, by_out_group, by_in_group;
};

__global__ void conv2d_grouped_forward_kernel(Conv2dShape s, Strips d, int count, const float* __restrict__ x,  // [N, H, W, C_in]
                                              const float* __restrict__ w,     // [KH, KW, C_in/groups, C_out]
                                              const float* __restrict__ bias,  // [C_out] or null
                                              float* __restrict__ y) {         // [N, OH, OW, C_out]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= count) return;
  const int place = d.by_channels.quotient(item), oc = d.by_channels.remainder(item, place);
  const int line = d.by_strips.quotient(place), ow = d.by_strips.remainder(place, line) * kStrip;
  const int n = d.by_rows.quotient(line), oh = d.by_rows.remainder(line, n);

  const int C_group = s.C_in / s.groups;
  const float* image = x + static_cast<int64_t>(n) * s.H * s.W * s.C_in + d.by_out_group.quotient(oc) * C_group;
  float sum[kStrip];
  WL_UNROLL
  for (int j = 0; j < kStrip; ++j) sum[j] = bias ? bias[oc] : 0.0f;
  for (int kh = 0; kh < s.KH; ++kh) {
    const int row = oh * s.stride_h + kh - s.pad_top;
    if (row < 0 || row >= s.H) continue;
    for (int kw = 0; kw < s.KW; ++kw) {
      for (int ic = 0; ic < C_group; ++ic) {
        const float tap = w[((kh * s.KW + kw) * C_group + ic) * s.C_out + oc];
        WL_UNROLL
        for (int j = 0; j < kStrip; ++j) {
          const int col = (ow + j) * s.stride_w + kw - s.pad_left;
          if (ow + j < s.OW && col >= 0 && col < s.W) sum[j] += image[(row * s.W + col) * s.C_in + ic] * tap;
        }
      }
    }
  }
  float* out = y + ((static_cast<int64_t>(n) * s.OH + oh) * s.OW + ow) * s.C_out + oc;
  WL_UNROLL
  for (int j = 0; j < kStrip; ++j)
    if (ow + j < s.OW) out[j * s.C_out] = sum[j];
}

__global__ void conv2d_grouped_backward_input_kernel(Conv2dShape s, Strips d, int count,
                                                     const float* __restrict__ dy,  // [N, OH, OW, C_out]
                                                     const float* __restrict__ w,   // [KH, KW, C_in/groups, C_out]
                                                     float* __restrict__ dx) {      // [N, H, W, C_in]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= count) return;
  const int place = d.by_channels.quotient(item), channel = d.by_channels.remainder(item, place);
  const int line = d.by_strips.quotient(place), col = d.by_strips.remainder(place, line) * kStrip;
  const int n = d.by_rows.quotient(line), row = d.by_rows.remainder(line, n);

  const int C_group = s.C_in / s.groups, O_group = s.C_out / s.groups;
  const int group = d.by_in_group.quotient(channel), ic = d.by_in_group.remainder(channel, group);
  const float* image = dy + static_cast<int64_t>(n) * s.OH * s.OW * s.C_out + group * O_group;
  float sum[kStrip] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int kh = 0; kh < s.KH; ++kh) {
    const int up = row + s.pad_top - kh;  // oh * stride_h
    if (up < 0 || up % s.stride_h || up / s.stride_h >= s.OH) continue;
    const int oh = up / s.stride_h;
    for (int kw = 0; kw < s.KW; ++kw) {
      for (int oc = 0; oc < O_group; ++oc) {
        const float tap = w[((kh * s.KW + kw) * C_group + ic) * s.C_out + group * O_group + oc];
        WL_UNROLL
        for (int j = 0; j < kStrip; ++j) {
          const int left = col + j + s.pad_left - kw;
          if (left < 0) continue;
          const int ow = left / s.stride_w;
          if (ow * s.stride_w == left && ow < s.OW) sum[j] += image[(oh * s.OW + ow) * s.C_out + oc] * tap;
        }
      }
    }
  }
  float* out = dx + ((static_cast<int64_t>(n) * s.H + row) * s.W + col) * s.C_in + channel;
  WL_UNROLL
  for (int j = 0; j < kStrip; ++j)
    if (col + j < s.W) out[j * s.C_in] = sum[j];
}

constexpr int kLanes = 32, kRowsOfLanes = kThreads / kLanes;  // a block: 32 output channels, 8 pixels at a time

__global__ void conv2d_grouped_backward_weight_kernel(Conv2dShape s, FastDivisor by_row, int splits,
                                                      const float* __restrict__ dy,    // [N, OH, OW, C_out]
                                                      const float* __restrict__ x,     // [N, H, W, C_in]
                                                      float* __restrict__ partials) {  // [splits, KH, KW, C_in/groups, C_out]
  WL_SHARED(float, sums, [kRowsOfLanes][kLanes]);
  const int C_group = s.C_in / s.groups, weights = s.KH * s.KW * C_group;
  const int lane = static_cast<int>(threadIdx.x) % kLanes, part = static_cast<int>(threadIdx.x) / kLanes;
  const int split = static_cast<int>(blockIdx.x) % splits, k = static_cast<int>(blockIdx.x) / splits % weights;
  const int oc = static_cast<int>(blockIdx.x) / splits / weights * kLanes + lane;
  const int ic = k % C_group, kw = k / C_group % s.KW, kh = k / C_group / s.KW;
  const int channel = oc / (s.C_out / s.groups) * C_group + ic;

  float total = 0.0f;
  for (int n = split; n < s.N && oc < s.C_out; n += splits) {
    const float* dy_image = dy + static_cast<int64_t>(n) * s.OH * s.OW * s.C_out + oc;
    const float* x_image = x + static_cast<int64_t>(n) * s.H * s.W * s.C_in + channel;
    float sum = 0.0f;
    for (int p = part; p < s.OH * s.OW; p += kRowsOfLanes) {
      const int oh = by_row.quotient(p), ow = by_row.remainder(p, oh);
      const int row = oh * s.stride_h + kh - s.pad_top, col = ow * s.stride_w + kw - s.pad_left;
      if (row >= 0 && row < s.H && col >= 0 && col < s.W) sum += dy_image[p * s.C_out] * x_image[(row * s.W + col) * s.C_in];
    }
    total += sum;
  }
  sums[part][lane] = total;
  __syncthreads();
  if (part > 0 || oc >= s.C_out) return;
  for (int i = 1; i < kRowsOfLanes; ++i) total += sums[i][lane];
  partials[(static_cast<int64_t>(split) * weights + k) * s.C_out + oc] = total;
}

// Launches `kernel` over as many images at a time as keep the item numbers in 32 bits.
template <class Launch>
static void over_images(int N, int rows, int cols, int channels, Launch body) {
  const int64_t per_image = int64_t(rows) * ((cols + kStrip - 1) / kStrip) * channels;
  const int images = static_cast<int>(std::max(int64_t(1), std::min(int64_t(N), (kImageLimit - 1) / per_image)));
  for (int first = 0; first < N; first += images) {
    const int n = std::min(images, N - first);
    body(first, n, static_cast<int>(n * per_image));
  }
}

static Strips strips(const Conv2dShape& s, int rows, int cols, int channels) {
  return {FastDivisor(channels), FastDivisor((cols + kStrip - 1) / kStrip), FastDivisor(rows), FastDivisor(s.C_out / s.groups),
          FastDivisor(s.C_in / s.groups)};
}

void grouped_forward(const Conv2dForward& a, const Context& context) {
  const Conv2dShape& s = a.s;
  over_images(s.N, s.OH, s.OW, s.C_out, [&](int first, int, int count) {
    launch(context, "v2::conv2d_grouped_forward_kernel", conv2d_grouped_forward_kernel, dim3(blocks_for(count, kThreads)),
           dim3(kThreads), 0, s, strips(s, s.OH, s.OW, s.C_out), count, a.x.ptr() + first * (s.x_count() / s.N), a.w.ptr(),
           a.bias.ptr(), a.y.ptr() + first * (s.y_count() / s.N));
  });
}

void grouped_backward_input(const Conv2dBackwardInput& a, const Context& context) {
  const Conv2dShape& s = a.s;
  over_images(s.N, s.H, s.W, s.C_in, [&](int first, int, int count) {
    launch(context, "v2::conv2d_grouped_backward_input_kernel", conv2d_grouped_backward_input_kernel,
           dim3(blocks_for(count, kThreads)), dim3(kThreads), 0, s, strips(s, s.H, s.W, s.C_in), count,
           a.dy.ptr() + first * (s.y_count() / s.N), a.w.ptr(), a.dx.ptr() + first * (s.x_count() / s.N));
  });
}

int grouped_splits(const Conv2dShape& s) {
  const int64_t blocks = (s.C_out + kLanes - 1) / kLanes * (s.w_count() / s.C_out);
  return static_cast<int>(std::max(int64_t(1), std::min({int64_t(s.N), 1024 / blocks, kPartialsLimit / (s.w_count() * 4)})));
}

void grouped_backward_weight(const Conv2dBackwardWeight& a, const Context& context) {
  const Conv2dShape& s = a.s;
  const int splits = grouped_splits(s);
  float* partials = splits > 1 ? context.workspace.ptr() : a.dw.ptr();
  const int64_t blocks = (s.C_out + kLanes - 1) / kLanes * (s.w_count() / s.C_out) * splits;
  launch(context, "v2::conv2d_grouped_backward_weight_kernel", conv2d_grouped_backward_weight_kernel, dim3(blocks_for(blocks, 1)),
         dim3(kThreads), 0, s, FastDivisor(s.OW), splits, a.dy.ptr(), a.x.ptr(), partials);
  if (splits > 1) reduce_partials(context, partials, splits, s.w_count(), a.dw.ptr());
}

}  // namespace warploom::v2
