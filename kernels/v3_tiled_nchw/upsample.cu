// Maths    nearest: y[oh, ow] = x[oh / scale, ow / scale]; bilinear: half-pixel centres, edges clamped. Backward is the transpose.
// Layout   x, dx [planes, H, W]; y, dy [planes, H * scale_h, W * scale_w]: N and C are one dimension.
// Owns     A thread owns Vec neighbouring outputs (forward, nearest) or one input (backward: a gather in a fixed order).
// New      vs v2: rows are contiguous, so nearest writes float4 and the scale 2 gathers float2. Bound: memory.
// Needs    whole scales; one output image below 2^31 elements.
#include "../common/bilinear.cuh"
#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "../common/vector.cuh"
#include "entries.h"

namespace warploom::v3 {

constexpr int kUpsampleThreads = 256;

// x: [planes, H, W]; y: [planes, OH, OW]
template <int Vec>
__global__ void upsample_nearest_forward_kernel(UpsampleShape s, FastDivisor width, FastDivisor scale_h, FastDivisor scale_w,
                                                int64_t count, const float* __restrict__ x, float* __restrict__ y) {
  const int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * Vec;
  if (at >= count) return;
  const int OW = s.W * s.scale_w, area = s.H * s.scale_h * OW;
  const int64_t plane = at / area;
  const int rest = static_cast<int>(at - plane * area), oh = width.quotient(rest), ow = rest - oh * OW;
  const float* const row = x + plane * (int64_t(s.H) * s.W) + scale_h.quotient(oh) * s.W;
  float v[Vec];
  WL_UNROLL
  for (int i = 0; i < Vec; ++i) v[i] = row[scale_w.quotient(ow + i)];
  copy_vector<Vec>(y + at, v);
}

// dy: [planes, OH, OW]; dx: [planes, H, W]. Pairs: scale_w == 2, read as float2.
template <bool Pairs>
__global__ void upsample_nearest_backward_kernel(UpsampleShape s, FastDivisor width, int64_t count, const float* __restrict__ dy,
                                                 float* __restrict__ dx) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int OW = s.W * s.scale_w, area = s.H * s.W;
  const int64_t plane = at / area;
  const int rest = static_cast<int>(at - plane * area), h = width.quotient(rest), w = rest - h * s.W;
  const float* row = dy + plane * (int64_t(area) * s.scale_h * s.scale_w) + int64_t(h) * s.scale_h * OW + w * s.scale_w;
  float sum = 0.0f;
  for (int i = 0; i < s.scale_h; ++i, row += OW) {
    if (Pairs) {
      const float2 v = *reinterpret_cast<const float2*>(row);
      sum += v.x;
      sum += v.y;
    } else {
      for (int j = 0; j < s.scale_w; ++j) sum += row[j];
    }
  }
  dx[at] = sum;
}

// x: [planes, H, W]; y: [planes, OH, OW]
__global__ void upsample_bilinear_forward_kernel(UpsampleShape s, FastDivisor width, int64_t count, const float* __restrict__ x,
                                                 float* __restrict__ y) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int OW = s.W * s.scale_w, area = s.H * s.scale_h * OW;
  const int64_t plane = at / area;
  const int rest = static_cast<int>(at - plane * area), oh = width.quotient(rest), ow = rest - oh * OW;
  const float* const from = x + plane * (int64_t(s.H) * s.W);
  const BilinearSource v = bilinear_source(oh, s.scale_h, s.H), u = bilinear_source(ow, s.scale_w, s.W);
  const float* const top = from + v.low * s.W;
  const float* const bottom = from + v.high * s.W;
  y[at] = between(v, between(u, top[u.low], top[u.high]), between(u, bottom[u.low], bottom[u.high]));
}

// dy: [planes, OH, OW]; dx: [planes, H, W]
__global__ void upsample_bilinear_backward_kernel(UpsampleShape s, FastDivisor width, int64_t count, const float* __restrict__ dy,
                                                  float* __restrict__ dx) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int OW = s.W * s.scale_w, area = s.H * s.W;
  const int64_t plane = at / area;
  const int rest = static_cast<int>(at - plane * area), h = width.quotient(rest), w = rest - h * s.W;
  const float* const from = dy + plane * (int64_t(area) * s.scale_h * s.scale_w);
  const int ow0 = bilinear_first(w, s.scale_w), ow1 = bilinear_end(w, s.scale_w, s.W);
  float sum = 0.0f;
  for (int oh = bilinear_first(h, s.scale_h); oh < bilinear_end(h, s.scale_h, s.H); ++oh) {
    float row = 0.0f;
    for (int ow = ow0; ow < ow1; ++ow) row = add_share(row, bilinear_share(ow, w, s.scale_w, s.W), from[int64_t(oh) * OW + ow]);
    sum = add_share(sum, bilinear_share(oh, h, s.scale_h, s.H), row);
  }
  dx[at] = sum;
}

static void run_forward(const UpsampleForward& a, const Context& context) {
  const UpsampleShape& s = a.s;
  const int OW = s.W * s.scale_w;
  const int64_t count = s.y_count();
  const dim3 threads(kUpsampleThreads);
  if (a.mode == UpsampleMode::bilinear)
    return launch(context, "v3::upsample_bilinear_forward", upsample_bilinear_forward_kernel,
                  dim3(blocks_for(count, kUpsampleThreads)), threads, 0, s, FastDivisor(OW), count, a.x.ptr(), a.y.ptr());
  const bool vector = OW % 4 == 0 && aligned16(a.y.data);
  launch(context, "v3::upsample_nearest_forward",
         vector ? upsample_nearest_forward_kernel<4> : upsample_nearest_forward_kernel<1>,
         dim3(blocks_for(vector ? count / 4 : count, kUpsampleThreads)), threads, 0, s, FastDivisor(OW), FastDivisor(s.scale_h),
         FastDivisor(s.scale_w), count, a.x.ptr(), a.y.ptr());
}

static void run_backward(const UpsampleBackward& a, const Context& context) {
  const UpsampleShape& s = a.s;
  const int64_t count = s.x_count();
  const dim3 grid(blocks_for(count, kUpsampleThreads)), threads(kUpsampleThreads);
  if (a.mode == UpsampleMode::bilinear)
    return launch(context, "v3::upsample_bilinear_backward", upsample_bilinear_backward_kernel, grid, threads, 0, s,
                  FastDivisor(s.W), count, a.dy.ptr(), a.dx.ptr());
  const bool pairs = s.scale_w == 2 && aligned16(a.dy.data);
  launch(context, "v3::upsample_nearest_backward",
         pairs ? upsample_nearest_backward_kernel<true> : upsample_nearest_backward_kernel<false>, grid, threads, 0, s,
         FastDivisor(s.W), count, a.dy.ptr(), a.dx.ptr());
}

const Entry<UpsampleForward> upsample_forward = {run_forward, upsample_shape<UpsampleForward>, nullptr, nullptr};
const Entry<UpsampleBackward> upsample_backward = {run_backward, upsample_shape<UpsampleBackward>, nullptr, nullptr};

}  // namespace warploom::v3
