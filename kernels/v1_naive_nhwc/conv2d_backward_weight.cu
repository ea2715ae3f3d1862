// conv2d_backward_weight.cu (v1): dw[oc,kh,kw,ic] = sum over n,oh,ow of dy[n,oh,ow,oc] * x[n, oh*stride+kh-pad, ow*stride+kw-
//   pad, ic]
// Layout: dy [N, OH, OW, C_out], x [N, H, W, C_in], dw [C_out, KH, KW, C_in/groups]; zero padding, any groups.
// One thread owns one element of dw and walks all pixels of all images, adding up image by image (shorter sums, smaller error).
// First rung.
// Expected bottleneck: as few threads as there are weights, each with a very long loop: a small layer leaves the GPU idle.
// Preconditions: no fusion; one image below 2^31 elements.
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void conv2d_backward_weight_kernel(Conv2dShape s, const float* __restrict__ dy,  // [N, OH, OW, C_out]
                                              const float* __restrict__ x,                  // [N, H, W, C_in]
                                              float* __restrict__ dw) {                     // [C_out, KH, KW, C_in/groups]
  const int C_group = s.C_in / s.groups;
  const int element = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (element >= s.C_out * s.KH * s.KW * C_group) return;
  const int ic = element % C_group, kw = element / C_group % s.KW, kh = element / C_group / s.KW % s.KH;
  const int oc = element / C_group / s.KW / s.KH;
  const int channel = oc / (s.C_out / s.groups) * C_group + ic;

  float total = 0.0f;
  for (int n = 0; n < s.N; ++n) {
    const float* dy_image = dy + static_cast<int64_t>(n) * s.OH * s.OW * s.C_out + oc;
    const float* x_image = x + static_cast<int64_t>(n) * s.H * s.W * s.C_in + channel;
    float sum = 0.0f;
    for (int oh = 0; oh < s.OH; ++oh) {
      const int row = oh * s.stride_h + kh - s.pad_top;
      if (row < 0 || row >= s.H) continue;
      for (int ow = 0; ow < s.OW; ++ow) {
        const int col = ow * s.stride_w + kw - s.pad_left;
        if (col < 0 || col >= s.W) continue;
        sum += dy_image[(oh * s.OW + ow) * s.C_out] * x_image[(row * s.W + col) * s.C_in];
      }
    }
    total += sum;
  }
  dw[element] = total;
}

static void run(const Conv2dBackwardWeight& a, const Context& context) {
  launch(context, "v1::conv2d_backward_weight_kernel", conv2d_backward_weight_kernel, dim3(blocks_for(a.s.w_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.dy.ptr(), a.x.ptr(), a.dw.ptr());
}

Entry<Conv2dBackwardWeight> conv2d_backward_weight() { return {run, plain_conv2d<Conv2dBackwardWeight>, nullptr, nullptr}; }

}  // namespace warploom::v1
