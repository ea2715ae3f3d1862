// upsample.cu (v1): nearest: y[oh,ow] = x[oh/scale, ow/scale]; bilinear: half-pixel centres, edges clamped. Backward is the
//   transpose.
// Layout: x, dx [N, H, W, C]; y, dy [N, H*scale_h, W*scale_w, C].
// One thread owns one element of y (forward) or of dx (backward, which gathers from every output it had a share in, row by row).
// First rung.
// Expected bottleneck: memory; index arithmetic with divisions in every thread.
// Preconditions: whole scales; one output image below 2^31 elements.
#include "../common/bilinear.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void upsample_forward_kernel(UpsampleShape s, UpsampleMode mode, const float* __restrict__ x,  // [N, H, W, C]
                                        float* __restrict__ y) {                                          // [N, OH, OW, C]
  const int OH = s.H * s.scale_h, OW = s.W * s.scale_w, per_image = OH * OW * s.C;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int c = inside % s.C, ow = inside / s.C % OW, oh = inside / s.C / OW;

  const float* plane = x + n * s.H * s.W * s.C + c;
  if (mode == UpsampleMode::nearest) {
    y[element] = plane[(oh / s.scale_h * s.W + ow / s.scale_w) * s.C];
    return;
  }
  const BilinearSource v = bilinear_source(oh, s.scale_h, s.H), u = bilinear_source(ow, s.scale_w, s.W);
  const float top = between(u, plane[(v.low * s.W + u.low) * s.C], plane[(v.low * s.W + u.high) * s.C]);
  const float bottom = between(u, plane[(v.high * s.W + u.low) * s.C], plane[(v.high * s.W + u.high) * s.C]);
  y[element] = between(v, top, bottom);
}

__global__ void upsample_backward_kernel(UpsampleShape s, UpsampleMode mode, const float* __restrict__ dy,  // [N, OH, OW, C]
                                         float* __restrict__ dx) {                                          // [N, H, W, C]
  const int OH = s.H * s.scale_h, OW = s.W * s.scale_w, per_image = s.H * s.W * s.C;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int c = inside % s.C, w = inside / s.C % s.W, h = inside / s.C / s.W;

  const float* plane = dy + n * OH * OW * s.C + c;
  float sum = 0.0f;
  if (mode == UpsampleMode::nearest) {
    for (int oh = h * s.scale_h; oh < (h + 1) * s.scale_h; ++oh)
      for (int ow = w * s.scale_w; ow < (w + 1) * s.scale_w; ++ow) sum += plane[(oh * OW + ow) * s.C];
  } else {
    for (int oh = bilinear_first(h, s.scale_h); oh < bilinear_end(h, s.scale_h, s.H); ++oh) {
      float row = 0.0f;
      for (int ow = bilinear_first(w, s.scale_w); ow < bilinear_end(w, s.scale_w, s.W); ++ow)
        row = add_share(row, bilinear_share(ow, w, s.scale_w, s.W), plane[(oh * OW + ow) * s.C]);
      sum = add_share(sum, bilinear_share(oh, h, s.scale_h, s.H), row);
    }
  }
  dx[element] = sum;
}

static void run_forward(const UpsampleForward& a, const Context& context) {
  launch(context, "v1::upsample_forward_kernel", upsample_forward_kernel, dim3(blocks_for(a.s.y_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.mode, a.x.ptr(), a.y.ptr());
}

static void run_backward(const UpsampleBackward& a, const Context& context) {
  launch(context, "v1::upsample_backward_kernel", upsample_backward_kernel, dim3(blocks_for(a.s.x_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.mode, a.dy.ptr(), a.dx.ptr());
}

Entry<UpsampleForward> upsample_forward() { return {run_forward, upsample_shape<UpsampleForward>, nullptr, nullptr}; }
Entry<UpsampleBackward> upsample_backward() { return {run_backward, upsample_shape<UpsampleBackward>, nullptr, nullptr}; }

}  // namespace warploom::v1
