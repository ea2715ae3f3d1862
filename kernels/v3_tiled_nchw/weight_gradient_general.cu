// Maths    dw[o, r] = sum over n, oh, ow of dy[n, o, oh, ow] * x[n, c, oh * stride + kh - pad, ow * stride + kw - pad], r = (c, kh, kw).
// Layout   dy, x NCHW; partial [splits, groups * O, I * KH * KW].
// Owns     A block owns 16 output channels x 32 of the r and a run of pixel tiles; a warp 8 x 8 of them; a lane a pixel of 32.
// New      vs v2: lanes are pixels, the window of x with its halo is in shared memory, a lane loads 8 + 8 values for 64 multiply-adds;
//          the lanes' sums meet in warp shuffles. Bound: shared loads. 3x3 with stride 1 has a kernel of its own.
// Needs    nothing; where the window does not fit shared memory (very large kernels), x is read from global memory.
#include <algorithm>

#include "warp_sums.cuh"
#include "weight_gradient.h"

namespace warploom::v3 {

constexpr int kSlices = 2, kRuns = 4, kRun = 8, kSharedFloats = 10240;
constexpr int kOutputs = kSlices * kSliceChannels, kBlockRows = kRuns * kRun;

// Input channels that kBlockRows consecutive r can touch.
static int spanned_channels(const Conv2dShape& s) {
  const int64_t taps = int64_t(s.KH) * s.KW;
  return static_cast<int>(std::min<int64_t>(s.C_in / s.groups, (kBlockRows + taps - 2) / taps + 1));
}

template <bool Staged>
__global__ void __launch_bounds__(256, Staged ? 2 : 1)
    weight_gradient_general_kernel(Conv2dShape s, WeightGradientPlan plan,
                                   const float* __restrict__ dy,   // [N, C_out, OH, OW]
                                   const float* __restrict__ x,    // [N, C_in, H, W]
                                   float* __restrict__ partial) {  // [splits, C_out, C_in / groups * KH * KW]
  WL_DYNAMIC_SHARED(float, gradient);                              // [kOutputs][tile_h * tile_w], then the window
  const int tile_pixels = plan.tile_h * plan.tile_w, taps = s.KH * s.KW;
  float* const window = gradient + kOutputs * tile_pixels;  // [channels][height][width]
  const int height = (plan.tile_h - 1) * s.stride_h + s.KH, width = (plan.tile_w - 1) * s.stride_w + s.KW;

  const int O = s.C_out / s.groups, I = s.C_in / s.groups, R = I * taps;
  int rest = blockIdx.x;
  const int o0 = rest % plan.blocks_o * kOutputs;
  rest /= plan.blocks_o;
  const int r0 = rest % plan.blocks_r * kBlockRows;
  rest /= plan.blocks_r;
  const int group = rest % s.groups, split = rest / s.groups;

  const int t = threadIdx.x, lane = t % 32, warp = t / 32, slice = warp % kSlices;
  const int run0 = r0 + warp / kSlices * kRun;
  const int64_t plane = int64_t(s.H) * s.W, out_plane = int64_t(s.OH) * s.OW;
  const int c0 = r0 / taps, channels = min(plan.channels, I - c0);

  int place[kRun];  // of each r in the window, or in the image
  int tap_h[kRun], tap_w[kRun];
  WL_UNROLL
  for (int i = 0; i < kRun; ++i) {
    const int r = run0 + i < R ? run0 + i : r0, c = r / taps, tap = r - c * taps;  // past the end: computed, not stored
    tap_h[i] = tap / s.KW, tap_w[i] = tap - tap_h[i] * s.KW;
    place[i] = Staged ? ((c - c0) * height + tap_h[i]) * width + tap_w[i] : c;
  }

  float acc[kSliceChannels][kRun];
  WL_UNROLL
  for (int o = 0; o < kSliceChannels; ++o) {
    WL_UNROLL
    for (int i = 0; i < kRun; ++i) acc[o][i] = 0.0f;
  }

  const int64_t begin = split * plan.tiles_per_split;
  const int64_t end = begin + plan.tiles_per_split < plan.tiles ? begin + plan.tiles_per_split : plan.tiles;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t n = tile / (plan.tiles_h * plan.tiles_w);
    const int within = static_cast<int>(tile - n * plan.tiles_h * plan.tiles_w);
    const int h0 = within / plan.tiles_w * plan.tile_h, w0 = within % plan.tiles_w * plan.tile_w;
    const float* const image = x + (n * s.C_in + group * I) * plane;
    const float* const out_image = dy + (n * s.C_out + group * O) * out_plane;
    const int first_h = h0 * s.stride_h - s.pad_top, first_w = w0 * s.stride_w - s.pad_left;
    if (tile != begin) __syncthreads();
    if (Staged) {
      for (int line = warp; line < channels * height; line += 8) {
        const int c = line / height, h = first_h + line - c * height;
        const float* const row = image + (c0 + c) * plane + int64_t(h) * s.W;
        for (int i = lane; i < width; i += 32) {
          const int w = first_w + i;
          window[line * width + i] = h >= 0 && h < s.H && w >= 0 && w < s.W ? row[w] : 0.0f;
        }
      }
    }
    for (int o = warp; o < kOutputs; o += 8) {
      for (int i = lane; i < tile_pixels; i += 32) {
        const int y = i / plan.tile_w, h = h0 + y, w = w0 + i - y * plan.tile_w;
        const bool inside = o0 + o < O && h < s.OH && w < s.OW;
        gradient[o * tile_pixels + i] = inside ? out_image[(o0 + o) * out_plane + h * s.OW + w] : 0.0f;
      }
    }
    __syncthreads();
    for (int pixel = lane; pixel < tile_pixels; pixel += 32) {
      const int y = pixel / plan.tile_w, xx = pixel - y * plan.tile_w;
      float v[kRun];
      WL_UNROLL
      for (int i = 0; i < kRun; ++i) {
        if (Staged) {
          v[i] = window[place[i] + y * s.stride_h * width + xx * s.stride_w];
        } else {
          const int h = first_h + y * s.stride_h + tap_h[i], w = first_w + xx * s.stride_w + tap_w[i];
          v[i] = h >= 0 && h < s.H && w >= 0 && w < s.W ? image[place[i] * plane + int64_t(h) * s.W + w] : 0.0f;
        }
      }
      WL_UNROLL
      for (int o = 0; o < kSliceChannels; ++o) {
        const float g = gradient[(slice * kSliceChannels + o) * tile_pixels + pixel];
        WL_UNROLL
        for (int i = 0; i < kRun; ++i) acc[o][i] += g * v[i];
      }
    }
    __syncwarp();
  }

  float sum[kRun];
  warp_sum_rows(acc, sum);
  const int o = o0 + slice * kSliceChannels + lane / 4;
  if (o >= O || lane % 4 != 0) return;
  float* const to = partial + split * plan.weights + int64_t(group * O + o) * R + run0;
  WL_UNROLL
  for (int i = 0; i < kRun; ++i)
    if (run0 + i < R) to[i] = sum[i];
}

static int64_t shared_floats(const Conv2dShape& s, const WeightGradientPlan& p) {
  const int64_t height = int64_t(p.tile_h - 1) * s.stride_h + s.KH, width = int64_t(p.tile_w - 1) * s.stride_w + s.KW;
  return int64_t(kOutputs) * p.tile_h * p.tile_w + p.channels * height * width;
}

WeightGradientPlan plan_general(const Conv2dShape& s) {
  WeightGradientPlan p;
  const int64_t R = int64_t(s.C_in / s.groups) * s.KH * s.KW;
  p.blocks_o = (s.C_out / s.groups + kOutputs - 1) / kOutputs;
  p.blocks_r = static_cast<int>((R + kBlockRows - 1) / kBlockRows);
  p.channels = spanned_channels(s);
  p.tile_w = std::min(s.OW, 32);
  p.tile_h = std::min(s.OH, 128 / p.tile_w);
  const WeightGradientPlan largest = p;
  while (shared_floats(s, p) > kSharedFloats && p.tile_h > 1) p.tile_h = (p.tile_h + 1) / 2;
  while (shared_floats(s, p) > kSharedFloats && p.tile_w > 1) p.tile_w = (p.tile_w + 1) / 2;
  if (shared_floats(s, p) > kSharedFloats) p = largest, p.channels = 0;
  p.tiles_h = (s.OH + p.tile_h - 1) / p.tile_h, p.tiles_w = (s.OW + p.tile_w - 1) / p.tile_w;
  choose_splits(s, p);
  return p;
}

void weight_gradient_general(const Conv2dShape& s, const WeightGradientPlan& p, const float* dy, const float* x, float* partial,
                             const Context& context) {
  const int64_t blocks = int64_t(p.blocks_o) * p.blocks_r * s.groups * p.splits;
  if (blocks > 2147483647) throw DeviceError("weight_gradient_general: more than 2^31 blocks; use fewer channels or groups");
  launch(context, "v3::weight_gradient_general",
         p.channels ? weight_gradient_general_kernel<true> : weight_gradient_general_kernel<false>,
         dim3(static_cast<unsigned>(blocks)), dim3(256), static_cast<size_t>(shared_floats(s, p)) * 4, s, p, dy, x, partial);
}

}  // namespace warploom::v3
