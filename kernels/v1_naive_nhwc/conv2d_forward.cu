// conv2d_forward.cu (v1): y[n,oh,ow,oc] = bias[oc] + sum over kh,kw,ic of x[n, oh*stride+kh-pad, ow*stride+kw-pad, ic] *
//   w[oc,kh,kw,ic]
// Layout: x [N, H, W, C_in], w [C_out, KH, KW, C_in/groups], bias [C_out], y [N, OH, OW, C_out]; zero padding, any groups.
// One thread owns one element of y; neighbouring threads own neighbouring output channels of the same pixel.
// First rung.
// Expected bottleneck: every multiply-add reads two values from memory, and a warp's weight reads lie KH*KW*C_in apart.
// Preconditions: no fusion; one image below 2^31 elements (offsets between images are 64-bit).
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void conv2d_forward_kernel(Conv2dShape s, const float* __restrict__ x,  // [N, H, W, C_in]
                                      const float* __restrict__ w,                 // [C_out, KH, KW, C_in/groups]
                                      const float* __restrict__ bias,              // [C_out] or null
                                      float* __restrict__ y) {                     // [N, OH, OW, C_out]
  const int per_image = s.OH * s.OW * s.C_out;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int oc = inside % s.C_out, ow = inside / s.C_out % s.OW, oh = inside / s.C_out / s.OW;

  const int C_group = s.C_in / s.groups;
  const int group = oc / (s.C_out / s.groups);
  const float* image = x + n * s.H * s.W * s.C_in + group * C_group;
  const float* filter = w + static_cast<int64_t>(oc) * s.KH * s.KW * C_group;

  float sum = bias ? bias[oc] : 0.0f;
  for (int kh = 0; kh < s.KH; ++kh) {
    const int h = oh * s.stride_h + kh - s.pad_top;
    if (h < 0 || h >= s.H) continue;
    for (int kw = 0; kw < s.KW; ++kw) {
      const int c = ow * s.stride_w + kw - s.pad_left;
      if (c < 0 || c >= s.W) continue;
      const float* pixel = image + (h * s.W + c) * s.C_in;
      const float* taps = filter + (kh * s.KW + kw) * C_group;
      for (int ic = 0; ic < C_group; ++ic) sum += pixel[ic] * taps[ic];
    }
  }
  y[element] = sum;
}

static void run(const Conv2dForward& a, const Context& context) {
  launch(context, "v1::conv2d_forward_kernel", conv2d_forward_kernel, dim3(blocks_for(a.s.y_count(), kThreads)), dim3(kThreads),
         0, a.s, a.x.ptr(), a.w.ptr(), a.bias.ptr(), a.y.ptr());
}

Entry<Conv2dForward> conv2d_forward() { return {run, plain_conv2d<Conv2dForward>, nullptr, nullptr}; }

}  // namespace warploom::v1
