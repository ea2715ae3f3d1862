// Maths    db[o] = sum over n, oh, ow of dy[n, o, oh, ow].
// Layout   dy NCHW: a channel's values are runs of OH * OW; partial [splits, C_out].
// Owns     A block owns one channel of a run of images; its warps' sums meet by shuffles, then in shared memory, then over splits.
// New      vs v2: a channel is contiguous, so lanes are pixels and no thread needs to know another's channel. Bound: memory.
// Needs    a plain convolution.
#include <algorithm>

#include "../common/preconditions.h"
#include "entries.h"
#include "warp_sums.cuh"

namespace warploom::v3 {

constexpr int kBiasThreads = 256;

__global__ void __launch_bounds__(kBiasThreads)
    conv2d_backward_bias_kernel(int N, int channels, int pixels, int images_per_split,
                                const float* __restrict__ dy,   // [N, channels, pixels]
                                float* __restrict__ partial) {  // [splits, channels]
  WL_SHARED(float, sums, [kBiasThreads / 32]);
  const int channel = blockIdx.x % channels, split = blockIdx.x / channels;
  const int begin = split * images_per_split, end = min(begin + images_per_split, N);
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};  // four loads in flight
  // Short planes: warps take different images. Long ones: the whole block strides through each.
  const bool short_planes = pixels < kBiasThreads;
  const int step = short_planes ? 32 : kBiasThreads, first = threadIdx.x % step;
  const int skip = short_planes ? kBiasThreads / 32 : 1;
  for (int n = begin + (short_planes ? threadIdx.x / 32 : 0); n < end; n += skip) {
    const float* const plane = dy + (int64_t(n) * channels + channel) * pixels;
    int i = first;
    for (; i < pixels - 3 * step; i += 4 * step) {
      WL_UNROLL
      for (int j = 0; j < 4; ++j) sum[j] += plane[i + j * step];
    }
    for (; i < pixels; i += step) sum[0] += plane[i];
  }
  const float total = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = total;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const float all = warp_sum(threadIdx.x < kBiasThreads / 32 ? sums[threadIdx.x] : 0.0f);
  if (threadIdx.x == 0) partial[int64_t(split) * channels + channel] = all;
}

// partial: [splits, channels]; db: [channels]
__global__ void sum_bias_splits_kernel(int channels, int splits, const float* __restrict__ partial, float* __restrict__ db) {
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  float sum = 0.0f;
  for (int split = 0; split < splits; ++split) sum += partial[int64_t(split) * channels + channel];
  db[channel] = sum;
}

struct BiasPlan {
  int splits, images;
};

static BiasPlan plan_for(const Conv2dShape& s) {
  const int wanted = std::max(1, std::min(s.N, (264 + s.C_out - 1) / s.C_out));
  const int images = std::max(1, (s.N + wanted - 1) / wanted);
  return {std::max(1, (s.N + images - 1) / images), images};
}

static void run(const Conv2dBackwardBias& a, const Context& context) {
  const BiasPlan plan = plan_for(a.s);
  float* const partial = plan.splits > 1 ? context.workspace.ptr() : a.db.ptr();
  launch(context, "v3::conv2d_backward_bias", conv2d_backward_bias_kernel,
         dim3(static_cast<unsigned>(int64_t(plan.splits) * a.s.C_out)), dim3(kBiasThreads), 0, a.s.N, a.s.C_out, a.s.OH * a.s.OW,
         plan.images, a.dy.ptr(), partial);
  if (plan.splits > 1)
    launch(context, "v3::sum_bias_splits", sum_bias_splits_kernel, dim3(blocks_for(a.s.C_out, 128)), dim3(128), 0, a.s.C_out,
           plan.splits, partial, a.db.ptr());
}

static int64_t workspace_bytes(const Conv2dBackwardBias& a) {
  const BiasPlan plan = plan_for(a.s);
  return plan.splits > 1 ? int64_t(plan.splits) * a.s.C_out * 4 : 0;
}

const Entry<Conv2dBackwardBias> conv2d_backward_bias = {run, plain_conv2d<Conv2dBackwardBias>, workspace_bytes, nullptr};

}  // namespace warploom::v3
