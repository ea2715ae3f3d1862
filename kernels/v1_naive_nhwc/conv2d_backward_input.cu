// conv2d_backward_input.cu (v1): dx[n,h,w,ic] = sum over kh,kw,oc of dy[n,oh,ow,oc] * w[oc,kh,kw,ic] where oh*stride+kh-pad == h
//   (w alike)
// Layout: dy [N, OH, OW, C_out], w [C_out, KH, KW, C_in/groups], dx [N, H, W, C_in]; zero padding, any groups.
// One thread owns one element of dx and gathers: it asks, tap by tap, which output pixel saw it there. No two threads write one
//   element.
// First rung.
// Expected bottleneck: memory, as in the forward kernel; with a stride most taps find no output pixel and do nothing.
// Preconditions: no fusion; one image below 2^31 elements.
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void conv2d_backward_input_kernel(Conv2dShape s, const float* __restrict__ dy,  // [N, OH, OW, C_out]
                                             const float* __restrict__ w,                  // [C_out, KH, KW, C_in/groups]
                                             float* __restrict__ dx) {                     // [N, H, W, C_in]
  const int per_image = s.H * s.W * s.C_in;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int channel = inside % s.C_in, col = inside / s.C_in % s.W, row = inside / s.C_in / s.W;

  const int C_group = s.C_in / s.groups, O_group = s.C_out / s.groups;
  const int group = channel / C_group, ic = channel - group * C_group;
  const float* image = dy + n * s.OH * s.OW * s.C_out + group * O_group;
  const int filter_size = s.KH * s.KW * C_group;

  float sum = 0.0f;
  for (int kh = 0; kh < s.KH; ++kh) {
    const int up = row + s.pad_top - kh;  // oh * stride_h
    if (up < 0 || up % s.stride_h || up / s.stride_h >= s.OH) continue;
    for (int kw = 0; kw < s.KW; ++kw) {
      const int left = col + s.pad_left - kw;
      if (left < 0 || left % s.stride_w || left / s.stride_w >= s.OW) continue;
      const float* pixel = image + (up / s.stride_h * s.OW + left / s.stride_w) * s.C_out;
      const float* taps = w + static_cast<int64_t>(group) * O_group * filter_size + (kh * s.KW + kw) * C_group + ic;
      for (int oc = 0; oc < O_group; ++oc) sum += pixel[oc] * taps[oc * filter_size];
    }
  }
  dx[element] = sum;
}

static void run(const Conv2dBackwardInput& a, const Context& context) {
  launch(context, "v1::conv2d_backward_input_kernel", conv2d_backward_input_kernel, dim3(blocks_for(a.s.x_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.dy.ptr(), a.w.ptr(), a.dx.ptr());
}

Entry<Conv2dBackwardInput> conv2d_backward_input() { return {run, plain_conv2d<Conv2dBackwardInput>, nullptr, nullptr}; }

}  // namespace warploom::v1
