// Maths    y = max over the window, first one wins, NaN wins; index = h * W + w of it. dx[h, w] = sum of dy over windows whose index it is.
// Layout   x, y, dy, dx, index NCHW: planes are independent, so N and C are one dimension.
// Owns     A thread owns one output (forward) or one input (backward, which looks at the windows that may hold it: no atomics).
// New      vs v2: pixels are neighbours, not channels; 2 x 2 with stride 2 on even widths takes a pair of outputs a thread with
//          float4 loads and float2 stores, backward a pair of windows with float4 stores. Bound: memory.
// Needs    fewer than 2^31 elements in an image.
#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "../common/vector.cuh"
#include "entries.h"

namespace warploom::v3 {

constexpr int kPoolThreads = 256;

struct PlaneShape {  // decodes an element of [planes, height, width]
  FastDivisor width, area;
};

// x: [planes, H, W]; y, index: [planes, OH, OW]
__global__ void max_pool2d_forward_kernel(Pool2dShape s, PlaneShape out, int64_t count, const float* __restrict__ x,
                                          float* __restrict__ y, int* __restrict__ index) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int64_t plane = at / (int64_t(s.OH) * s.OW);
  const int rest = static_cast<int>(at - plane * (int64_t(s.OH) * s.OW)), oh = out.width.quotient(rest), ow = rest - oh * s.OW;
  const float* const from = x + plane * (int64_t(s.H) * s.W);
  int best_at = oh * s.stride_h * s.W + ow * s.stride_w;
  float best = from[best_at];
  for (int kh = 0; kh < s.KH; ++kh) {
    for (int kw = 0; kw < s.KW; ++kw) {
      const int i = (oh * s.stride_h + kh) * s.W + ow * s.stride_w + kw;
      const float v = from[i];
      if (v > best || (v != v && best == best)) best = v, best_at = i;
    }
  }
  y[at] = best;
  if (index) index[at] = best_at;
}

// dy, index: [planes, OH, OW]; dx: [planes, H, W]
__global__ void max_pool2d_backward_kernel(Pool2dShape s, PlaneShape in, int64_t count, const float* __restrict__ dy,
                                           const int* __restrict__ index, float* __restrict__ dx) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int64_t plane = at / (int64_t(s.H) * s.W);
  const int rest = static_cast<int>(at - plane * (int64_t(s.H) * s.W)), h = in.width.quotient(rest), w = rest - h * s.W;
  const int64_t base = plane * (int64_t(s.OH) * s.OW);
  const int oh0 = h < s.KH ? 0 : (h - s.KH) / s.stride_h + 1, oh1 = min(h / s.stride_h, s.OH - 1);
  const int ow0 = w < s.KW ? 0 : (w - s.KW) / s.stride_w + 1, ow1 = min(w / s.stride_w, s.OW - 1);
  float sum = 0.0f;
  for (int oh = oh0; oh <= oh1; ++oh) {
    for (int ow = ow0; ow <= ow1; ++ow) {
      const int64_t i = base + int64_t(oh) * s.OW + ow;
      if (index[i] == rest) sum += dy[i];
    }
  }
  dx[at] = sum;
}

__device__ __forceinline__ void take_larger(float v, int at, float& best, int& best_at) {
  if (v > best || (v != v && best == best)) best = v, best_at = at;
}

// 2 x 2, stride 2, W % 4 == 0: two neighbouring windows a thread. rows = planes * OH when H is even; pairs = OW / 2.
// x: [planes, H, W]; y, index: [planes, OH, OW]
__global__ void max_pool2x2_forward_kernel(int H, int W, int OH, FastDivisor pairs, int64_t count, const float* __restrict__ x,
                                           float* __restrict__ y, int* __restrict__ index) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int OW = W / 2, per_plane = OH * (OW / 2);
  const int64_t plane = at / per_plane;
  const int rest = static_cast<int>(at - plane * per_plane), oh = pairs.quotient(rest), pair = rest - oh * (OW / 2);
  const int corner = 2 * oh * W + 4 * pair;
  const float* const from = x + plane * (int64_t(H) * W) + corner;
  const float4 top = load4(from), bottom = load4(from + W);
  float a = top.x, b = top.z;
  int a_at = corner, b_at = corner + 2;
  take_larger(top.y, corner + 1, a, a_at), take_larger(top.w, corner + 3, b, b_at);
  take_larger(bottom.x, corner + W, a, a_at), take_larger(bottom.z, corner + W + 2, b, b_at);
  take_larger(bottom.y, corner + W + 1, a, a_at), take_larger(bottom.w, corner + W + 3, b, b_at);
  const int64_t to = plane * (int64_t(OH) * OW) + oh * OW + 2 * pair;
  *reinterpret_cast<float2*>(y + to) = make_float2(a, b);
  if (index) *reinterpret_cast<int2*>(index + to) = make_int2(a_at, b_at);
}

// The same windows backward; an odd last row of H belongs to no window and is written by the last row of windows.
// dy, index: [planes, OH, OW]; dx: [planes, H, W]
__global__ void max_pool2x2_backward_kernel(int H, int W, int OH, FastDivisor pairs, int64_t count, const float* __restrict__ dy,
                                            const int* __restrict__ index, float* __restrict__ dx) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int OW = W / 2, per_plane = OH * (OW / 2);
  const int64_t plane = at / per_plane;
  const int rest = static_cast<int>(at - plane * per_plane), oh = pairs.quotient(rest), pair = rest - oh * (OW / 2);
  const int corner = 2 * oh * W + 4 * pair;
  const int64_t from = plane * (int64_t(OH) * OW) + oh * OW + 2 * pair;
  const float2 g = *reinterpret_cast<const float2*>(dy + from);
  const int2 i = *reinterpret_cast<const int2*>(index + from);
  float* const to = dx + plane * (int64_t(H) * W) + corner;
  auto share = [&](int place, float value, int chosen) { return place == chosen ? value : 0.0f; };
  WL_UNROLL
  for (int row = 0; row < 2; ++row) {
    const int left = corner + row * W;
    store4(to + row * W,
           make_float4(share(left, g.x, i.x), share(left + 1, g.x, i.x), share(left + 2, g.y, i.y), share(left + 3, g.y, i.y)));
  }
  if (H % 2 && oh == OH - 1) store4(to + 2 * W, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}

static bool pairs_up(const Pool2dShape& s) {
  return s.KH == 2 && s.KW == 2 && s.stride_h == 2 && s.stride_w == 2 && s.W % 4 == 0;
}

static void run_forward(const MaxPool2dForward& a, const Context& context) {
  const Pool2dShape& s = a.s;
  const dim3 threads(kPoolThreads);
  if (pairs_up(s) && aligned16(a.x.data, a.y.data, a.index.data)) {
    const int64_t count = s.y_count() / 2;
    return launch(context, "v3::max_pool2x2_forward", max_pool2x2_forward_kernel, dim3(blocks_for(count, kPoolThreads)), threads,
                  0, s.H, s.W, s.OH, FastDivisor(s.OW / 2), count, a.x.ptr(), a.y.ptr(), a.index.ptr<int>());
  }
  launch(context, "v3::max_pool2d_forward", max_pool2d_forward_kernel, dim3(blocks_for(s.y_count(), kPoolThreads)), threads, 0, s,
         PlaneShape{FastDivisor(s.OW), FastDivisor(s.OH * s.OW)}, s.y_count(), a.x.ptr(), a.y.ptr(), a.index.ptr<int>());
}

static void run_backward(const MaxPool2dBackward& a, const Context& context) {
  const Pool2dShape& s = a.s;
  const dim3 threads(kPoolThreads);
  if (pairs_up(s) && aligned16(a.dy.data, a.dx.data, a.index.data)) {
    const int64_t count = s.y_count() / 2;
    return launch(context, "v3::max_pool2x2_backward", max_pool2x2_backward_kernel, dim3(blocks_for(count, kPoolThreads)),
                  threads, 0, s.H, s.W, s.OH, FastDivisor(s.OW / 2), count, a.dy.ptr(), a.index.ptr<int>(), a.dx.ptr());
  }
  launch(context, "v3::max_pool2d_backward", max_pool2d_backward_kernel, dim3(blocks_for(s.x_count(), kPoolThreads)), threads, 0,
         s, PlaneShape{FastDivisor(s.W), FastDivisor(s.H * s.W)}, s.x_count(), a.dy.ptr(), a.index.ptr<int>(), a.dx.ptr());
}

const Entry<MaxPool2dForward> max_pool2d_forward = {run_forward, pool2d_shape<MaxPool2dForward>, nullptr, nullptr};
const Entry<MaxPool2dBackward> max_pool2d_backward = {run_backward, pool2d_shape<MaxPool2dBackward>, nullptr, nullptr};

}  // namespace warploom::v3
