// Maths    columns[(c, kh, kw), pixel] = map[c, pixel * step + base + sign * (kh, kw)], zero outside (im2col).
// Layout   map [N, C, H, W]; columns [C * KH * KW, stride], pixels of several images side by side.
// Owns     A thread owns four neighbouring columns (one if a row of pixels is no multiple of four) of all taps of a channel: the
//          decoding of the columns is paid once, the map's values come from L1 after the first tap, the stores are float4.
// Bound    memory: the writes. The window of columns is sized so that the matrix multiplication finds it in L2.
// Needs    window.first a multiple of 4 for the vector path.
#include "../common/fast_divisor.cuh"
#include "../common/vector.cuh"
#include "unfold.h"

namespace warploom::v4 {

// map: [N, C, H, W]; columns: [C * KH * KW, stride]
template <int Vec>
__global__ void unfold_kernel(Unfold u, const float* __restrict__ map, int64_t first, int count, int64_t stride,
                              float* __restrict__ columns) {
  const int64_t item = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item * Vec >= stride) return;
  const int column = static_cast<int>(item * Vec);
  const int pixels = u.OH * u.OW;
  const int64_t j = first + column;
  const int64_t n = j / pixels;
  const int pixel = static_cast<int>(j - n * pixels), oh = pixel / u.OW, ow = pixel - oh * u.OW;
  const int h0 = oh * u.step_h + u.base_h, w0 = ow * u.step_w + u.base_w;
  const bool exists = column < count;  // with Vec == 4 count is a multiple of 4
  for (int c = blockIdx.y; c < u.C; c += gridDim.y) {
    const float* const plane = map + (n * u.C + c) * (int64_t(u.H) * u.W);
    float* to = columns + int64_t(c) * u.KH * u.KW * stride + column;
    for (int kh = 0; kh < u.KH; ++kh) {
      const int h = h0 + u.sign * kh;
      const bool row_inside = exists && h >= 0 && h < u.H;
      const float* const row = plane + int64_t(h) * u.W;
      for (int kw = 0; kw < u.KW; ++kw, to += stride) {
        const int w = w0 + u.sign * kw;
        float v[Vec];
        WL_UNROLL
        for (int i = 0; i < Vec; ++i) {
          const int at = w + i * u.step_w;
          v[i] = row_inside && at >= 0 && at < u.W ? row[at] : 0.0f;
        }
        copy_vector<Vec>(to, v);
      }
    }
  }
}

void unfold(const Unfold& u, const float* map, const Window& window, float* columns, const Context& context) {
  const bool vector = u.OW % 4 == 0 && window.first % 4 == 0 && window.count % 4 == 0 && aligned16(columns);
  const int threads = 256, vec = vector ? 4 : 1;
  const dim3 grid(blocks_for(window.stride() / vec, threads), std::min(u.C, 65535));
  launch(context, "unfold", vector ? unfold_kernel<4> : unfold_kernel<1>, grid, dim3(threads), 0, u, map, window.first,
         window.count, window.stride(), columns);
}

}  // namespace warploom::v4
