// max_pool2d.cu (v2): y = max over a KH x KW window of x, index = h*W+w of that maximum; dx[h,w] = sum of dy over the windows it
//   won.
// Layout: x, dx [N, H, W, C]; y, dy, index [N, OH, OW, C]. Windows may overlap; pixels in no window get gradient 0.
// One thread owns 4 channels (1 if C % 4) of one output pixel; backward: of one input pixel, or of one cell of stride_h x
//   stride_w input pixels where windows do not overlap.
// From v1: 16-byte accesses, no divisions, and dy and index read once per window, not per pixel.
// Expected bottleneck: memory bandwidth.
// Preconditions: windows inside the input. First maximum wins, row by row; first NaN wins over any number.
#include "channels.cuh"
#include "entries.h"

namespace warploom::v2 {

template <int kWidth>
__global__ void max_pool2d_forward_kernel(Pool2dShape s, Places places, int items, const float* __restrict__ x,  // [N, H, W, C]
                                          float* __restrict__ y,                                                 // [N, OH, OW, C]
                                          int* __restrict__ index) {  // [N, OH, OW, C] or null
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const float* plane = x + at.n * s.H * s.W * s.C + at.c;
  const int corner = at.row * s.stride_h * s.W + at.col * s.stride_w;
  Channels<kWidth> maximum = load<kWidth>(plane + corner * s.C);
  int best[kWidth];
  WL_UNROLL
  for (int e = 0; e < kWidth; ++e) best[e] = corner;
  for (int kh = 0; kh < s.KH; ++kh) {
    for (int kw = 0; kw < s.KW; ++kw) {
      const int pixel = corner + kh * s.W + kw;
      const Channels<kWidth> value = load<kWidth>(plane + pixel * s.C);
      WL_UNROLL
      for (int e = 0; e < kWidth; ++e)
        if (value.v[e] > maximum.v[e] || (value.v[e] != value.v[e] && maximum.v[e] == maximum.v[e]))
          maximum.v[e] = value.v[e], best[e] = pixel;
    }
  }
  const int64_t out = static_cast<int64_t>(item) * kWidth;
  store<kWidth>(y + out, maximum);
  if (index) store_index<kWidth>(index + out, best);
}

// Windows overlap: an input pixel asks every window that contains it.
template <int kWidth>
__global__ void max_pool2d_backward_kernel(Pool2dShape s, Places places, int items,
                                           const float* __restrict__ dy,   // [N, OH, OW, C]
                                           const int* __restrict__ index,  // [N, OH, OW, C]
                                           float* __restrict__ dx) {       // [N, H, W, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  const int64_t image = at.n * s.OH * s.OW * s.C + at.c;
  const int oh_from = at.row < s.KH ? 0 : (at.row - s.KH) / s.stride_h + 1, oh_to = min(at.row / s.stride_h, s.OH - 1);
  const int ow_from = at.col < s.KW ? 0 : (at.col - s.KW) / s.stride_w + 1, ow_to = min(at.col / s.stride_w, s.OW - 1);
  Channels<kWidth> sum{};
  for (int oh = oh_from; oh <= oh_to; ++oh) {
    for (int ow = ow_from; ow <= ow_to; ++ow) {
      const int64_t window = image + (oh * s.OW + ow) * s.C;
      int winner[kWidth];
      load_index<kWidth>(winner, index + window);
      const Channels<kWidth> gradient = load<kWidth>(dy + window);
      WL_UNROLL
      for (int e = 0; e < kWidth; ++e)
        if (winner[e] == at.row * s.W + at.col) sum.v[e] += gradient.v[e];
    }
  }
  store<kWidth>(dx + static_cast<int64_t>(item) * kWidth, sum);
}

// Windows do not overlap: cell (oh, ow) begins where window (oh, ow) does; cells past the last window hold zeros only.
template <int kWidth>
__global__ void max_pool2d_backward_disjoint_kernel(Pool2dShape s, Places places, int items,
                                                    const float* __restrict__ dy,   // [N, OH, OW, C]
                                                    const int* __restrict__ index,  // [N, OH, OW, C]
                                                    float* __restrict__ dx) {       // [N, H, W, C]
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= items) return;
  const Place at = place_of<kWidth>(places, item);
  int winner[kWidth];
  Channels<kWidth> gradient{};
  WL_UNROLL
  for (int e = 0; e < kWidth; ++e) winner[e] = -1;
  if (at.row < s.OH && at.col < s.OW) {
    const int64_t window = at.n * s.OH * s.OW * s.C + (at.row * s.OW + at.col) * s.C + at.c;
    load_index<kWidth>(winner, index + window);
    gradient = load<kWidth>(dy + window);
  }
  float* image = dx + at.n * s.H * s.W * s.C + at.c;
  const int h_end = min((at.row + 1) * s.stride_h, s.H), w_end = min((at.col + 1) * s.stride_w, s.W);
  for (int h = at.row * s.stride_h; h < h_end; ++h) {
    for (int w = at.col * s.stride_w; w < w_end; ++w) {
      const int pixel = h * s.W + w;
      Channels<kWidth> out;
      WL_UNROLL
      for (int e = 0; e < kWidth; ++e) out.v[e] = winner[e] == pixel ? gradient.v[e] : 0.0f;
      store<kWidth>(image + pixel * s.C, out);
    }
  }
}

static void run_forward(const MaxPool2dForward& a, const Context& context) {
  const Pool2dShape& s = a.s;
  const bool vector = s.C % 4 == 0 && aligned16(a.x.data, a.y.data, a.index.data);
  over_places(s.N, s.OH, s.OW, s.C, vector ? 4 : 1, [&](int first, int items, const Places& places) {
    const int64_t out = first * (s.y_count() / s.N);
    launch(context, "v2::max_pool2d_forward_kernel", vector ? max_pool2d_forward_kernel<4> : max_pool2d_forward_kernel<1>,
           dim3(blocks_for(items, kThreads)), dim3(kThreads), 0, s, places, items, a.x.ptr() + first * (s.x_count() / s.N),
           a.y.ptr() + out, a.index ? a.index.ptr<int>() + out : nullptr);
  });
}

static void run_backward(const MaxPool2dBackward& a, const Context& context) {
  const Pool2dShape& s = a.s;
  const bool vector = s.C % 4 == 0 && aligned16(a.dy.data, a.index.data, a.dx.data);
  const bool disjoint = s.KH <= s.stride_h && s.KW <= s.stride_w;
  const int rows = disjoint ? (s.H + s.stride_h - 1) / s.stride_h : s.H,
            cols = disjoint ? (s.W + s.stride_w - 1) / s.stride_w : s.W;
  over_places(s.N, rows, cols, s.C, vector ? 4 : 1, [&](int first, int items, const Places& places) {
    const int64_t in = first * (s.y_count() / s.N);
    const auto kernel = disjoint ? (vector ? max_pool2d_backward_disjoint_kernel<4> : max_pool2d_backward_disjoint_kernel<1>)
                                 : (vector ? max_pool2d_backward_kernel<4> : max_pool2d_backward_kernel<1>);
    launch(context, disjoint ? "v2::max_pool2d_backward_disjoint_kernel" : "v2::max_pool2d_backward_kernel", kernel,
           dim3(blocks_for(items, kThreads)), dim3(kThreads), 0, s, places, items, a.dy.ptr() + in, a.index.ptr<int>() + in,
           a.dx.ptr() + first * (s.x_count() / s.N));
  });
}

Entry<MaxPool2dForward> max_pool2d_forward() { return {run_forward, pool2d_shape<MaxPool2dForward>, nullptr, nullptr}; }
Entry<MaxPool2dBackward> max_pool2d_backward() { return {run_backward, pool2d_shape<MaxPool2dBackward>, nullptr, nullptr}; }

}  // namespace warploom::v2
