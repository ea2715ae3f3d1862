// Maths    columns[(c, kh, kw), pixel] = map[c, pixel * step + base + sign * (kh, kw)], zero outside (im2col).
// Layout   map [N, C, H, W]; columns [C * KH * KW, stride], pixels of several images side by side.
// Owns     A thread owns one column of all taps of a few channels: its place in the map is worked out once, and neighbouring threads
//          read and write neighbouring elements. (Four columns a thread, stored as a float4, would load 16 bytes apart: four times the
//          sectors.)
// Bound    memory: the writes. The window of columns is sized so that the matrix multiplication finds it in L2.
// Needs    fewer than 2^31 elements an image.
#include "../common/fast_divisor.cuh"
#include "unfold.h"

namespace warploom::v4 {

constexpr int kUnfoldThreads = 128, kUnfoldChannels = 4;  // a thread's channels

// Places of columns in the maps, from the window's first one on.
struct ColumnPlaces {
  int64_t first_image;
  int first_pixel;  // in that image
  FastDivisor area, width;
};

// map: [N, C, H, W]; columns: [C * KH * KW, stride]
__global__ void unfold_kernel(Unfold u, ColumnPlaces places, const float* __restrict__ map, int count, int64_t stride,
                              float* __restrict__ columns) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= stride) return;
  const int64_t from_first = places.first_pixel + column;
  const int pixels = u.OH * u.OW;
  const int image =
      from_first < 0x7fffffff ? places.area.quotient(static_cast<int>(from_first)) : static_cast<int>(from_first / pixels);
  const int pixel = static_cast<int>(from_first - int64_t(image) * pixels);
  const int oh = places.width.quotient(pixel), ow = pixel - oh * u.OW;
  const int h0 = oh * u.step_h + u.base_h, w0 = ow * u.step_w + u.base_w;
  const bool exists = column < count;
  const float* const maps = map + (places.first_image + image) * u.C * (int64_t(u.H) * u.W);
  for (int c = blockIdx.y; c < u.C; c += gridDim.y) {
    const float* const plane = maps + c * (int64_t(u.H) * u.W);
    float* to = columns + int64_t(c) * u.KH * u.KW * stride + column;
    for (int kh = 0; kh < u.KH; ++kh) {
      const int h = h0 + u.sign * kh;
      const bool row_inside = exists && h >= 0 && h < u.H;
      const float* const row = plane + int64_t(h) * u.W;
      for (int kw = 0; kw < u.KW; ++kw, to += stride) {
        const int w = w0 + u.sign * kw;
        *to = row_inside && w >= 0 && w < u.W ? row[w] : 0.0f;
      }
    }
  }
}

void unfold(const Unfold& u, const float* map, const Window& window, float* columns, const Context& context) {
  const ColumnPlaces places = {window.first / u.pixels(), static_cast<int>(window.first % u.pixels()),
                               FastDivisor(static_cast<int>(u.pixels())), FastDivisor(u.OW)};
  const dim3 grid(blocks_for(window.stride(), kUnfoldThreads),
                  std::min(static_cast<int>(blocks_for(u.C, kUnfoldChannels)), 65535));
  launch(context, "unfold", unfold_kernel, grid, dim3(kUnfoldThreads), 0, u, places, map, window.count, window.stride(), columns);
}

}  // namespace warploom::v4
