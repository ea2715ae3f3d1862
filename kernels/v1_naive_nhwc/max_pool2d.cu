// max_pool2d.cu (v1): y = max over a KH x KW window of x, index = h*W+w of that maximum; dx[h,w] = sum of dy over the windows it
//   won.
// Layout: x, dx [N, H, W, C]; y, dy, index [N, OH, OW, C]. Windows may overlap; rows and columns past the last window get
//   gradient 0.
// One thread owns one output element (forward) or one input element (backward, which asks every window that contains it).
// First rung.
// Expected bottleneck: memory; overlapping windows read the input several times.
// Preconditions: windows inside the input. Of equal values the first wins (row by row); the first NaN wins over any number.
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void max_pool2d_forward_kernel(Pool2dShape s, const float* __restrict__ x,  // [N, H, W, C]
                                          float* __restrict__ y,                       // [N, OH, OW, C]
                                          int* __restrict__ index) {                   // [N, OH, OW, C] or null
  const int per_image = s.OH * s.OW * s.C;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int c = inside % s.C, ow = inside / s.C % s.OW, oh = inside / s.C / s.OW;

  const float* plane = x + n * s.H * s.W * s.C + c;
  int best = oh * s.stride_h * s.W + ow * s.stride_w;
  float maximum = plane[best * s.C];
  for (int kh = 0; kh < s.KH; ++kh) {
    for (int kw = 0; kw < s.KW; ++kw) {
      const int at = (oh * s.stride_h + kh) * s.W + ow * s.stride_w + kw;
      const float value = plane[at * s.C];
      if (value > maximum || (value != value && maximum == maximum)) maximum = value, best = at;
    }
  }
  y[element] = maximum;
  if (index) index[element] = best;
}

__global__ void max_pool2d_backward_kernel(Pool2dShape s, const float* __restrict__ dy,  // [N, OH, OW, C]
                                           const int* __restrict__ index,                // [N, OH, OW, C]
                                           float* __restrict__ dx) {                     // [N, H, W, C]
  const int per_image = s.H * s.W * s.C;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(s.N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int c = inside % s.C, w = inside / s.C % s.W, h = inside / s.C / s.W;

  const int64_t first = n * s.OH * s.OW * s.C + c;
  const int oh_from = h < s.KH ? 0 : (h - s.KH) / s.stride_h + 1, oh_to = min(h / s.stride_h, s.OH - 1);
  const int ow_from = w < s.KW ? 0 : (w - s.KW) / s.stride_w + 1, ow_to = min(w / s.stride_w, s.OW - 1);
  float sum = 0.0f;
  for (int oh = oh_from; oh <= oh_to; ++oh) {
    for (int ow = ow_from; ow <= ow_to; ++ow) {
      const int64_t at = first + (oh * s.OW + ow) * s.C;
      if (index[at] == h * s.W + w) sum += dy[at];
    }
  }
  dx[element] = sum;
}

static void run_forward(const MaxPool2dForward& a, const Context& context) {
  launch(context, "v1::max_pool2d_forward_kernel", max_pool2d_forward_kernel, dim3(blocks_for(a.s.y_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.x.ptr(), a.y.ptr(), a.index.ptr<int>());
}

static void run_backward(const MaxPool2dBackward& a, const Context& context) {
  launch(context, "v1::max_pool2d_backward_kernel", max_pool2d_backward_kernel, dim3(blocks_for(a.s.x_count(), kThreads)),
         dim3(kThreads), 0, a.s, a.dy.ptr(), a.index.ptr<int>(), a.dx.ptr());
}

Entry<MaxPool2dForward> max_pool2d_forward() { return {run_forward, pool2d_shape<MaxPool2dForward>, nullptr, nullptr}; }
Entry<MaxPool2dBackward> max_pool2d_backward() { return {run_backward, pool2d_shape<MaxPool2dBackward>, nullptr, nullptr}; }

}  // namespace warploom::v1
