// few_channels.cuh (v5): the rows of a map of few channels that a box of pixels needs, in shared memory, and the windows of its pixels as
//   an operand of mma: row m = pixel m of the box, column k = (tap, channel)
// Layout: map [N, src_H, src_W, channels]; staged [step phases of rows][rows / step][channels][step phases of columns][columns / step].
// The threads of a block copy together, in whole sectors, zeros where the map ends; then each builds the row of one pixel.
// From tensor_tile.cuh's loaders: an element is read from device memory once per box instead of once per tap, and neither copying nor
//   building divides per element.
// Preconditions: kBoxPixels threads; a layout by lay_out (few_channels.h).
#pragma once

#include "few_channels.h"
#include "tensor_tile.cuh"

namespace warploom::v5 {

// A block's pixels.
struct Box {
  int image, row, col;  // of the first pixel, or window of a pool

  __device__ __forceinline__ Box(const FewChannels& g, int number) {
    image = g.by_boxes.quotient(number);
    const int in_image = g.by_boxes.remainder(number, image), i = g.by_boxes_w.quotient(in_image);
    row = i * g.box_rows, col = g.by_boxes_w.remainder(in_image, i) * g.box_cols;
  }
  // Pixel (or window) `at` of the box in its image, and whether it is there.
  __device__ __forceinline__ bool find(const FewChannels& g, int at, int& in_image) const {
    const int i = g.by_box_col.quotient(at), j = g.by_box_col.remainder(at, i);
    in_image = (row + i) * g.cols + col + j;
    return i < g.box_rows && row + i < g.rows && col + j < g.cols;
  }
};

// Starts to copy the map's part under a box's windows.
__device__ __forceinline__ void stage_map(const FewChannels& g, const Box& box, const float* __restrict__ map, float* staged) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = g.by_channels.quotient(lane), c = g.by_channels.remainder(lane, column);
  const int pixels = g.pool ? 2 : 1, low = g.step - 1;  // the step is 1 or 2
  const int top = g.step * pixels * box.row + g.first_h, left = g.step * pixels * box.col + g.first_w - g.margin;
  map += static_cast<int64_t>(box.image) * g.src_H * g.src_W * g.channels;
  for (int r = warp; r < g.staged_rows; r += kBoxPixels / 32) {
    const bool inside = static_cast<unsigned>(top + r) < static_cast<unsigned>(g.src_H);
    const int from = (top + r) * g.src_W;
    float* const to = staged + ((r & low) * g.phase_rows + (r >> low)) * g.row_pitch + c * g.step * g.plane;
    // From a multiple of request_cols on, so that a request begins with a sector.
    for (int begin = left & -g.request_cols; begin < left + g.staged_cols; begin += g.request_cols) {
      const int col = begin + column, q = col - left;
      if (column >= g.request_cols || static_cast<unsigned>(q) >= static_cast<unsigned>(g.staged_cols)) continue;
      copy_async<4>(to + (q & low) * g.plane + (q >> low), map + (from + col) * g.channels + c,
                    inside && static_cast<unsigned>(col) < static_cast<unsigned>(g.src_W));
    }
  }
}

// offsets[k][copy]: where element k of a pixel's window lies from where the pixel's own place is; -1 past the sum.
__device__ __forceinline__ void find_offsets(const FewChannels& g, int* offsets) {
  const int low = g.step - 1, copies = g.copies * g.copies;
  for (int i = static_cast<int>(threadIdx.x); i < g.offsets; i += kBoxPixels) {
    const int k = i / copies, copy = i % copies;
    const int tap = g.by_channels.quotient(k), c = g.by_channels.remainder(k, tap);
    const int a = tap / g.taps_w, b = tap % g.taps_w;
    const int r = (g.mirrored ? g.taps_h - 1 - a : a) + copy / g.copies,
              q = (g.mirrored ? g.taps_w - 1 - b : b) + copy % g.copies + g.margin;
    offsets[i] =
        k < g.sum ? ((r & low) * g.phase_rows + (r >> low)) * g.row_pitch + (c * g.step + (q & low)) * g.plane + (q >> low) : -1;
  }
}

// A pixel's place in the staged map. Slots of the tile past the box's last pixel repeat it; nobody takes their sums.
__device__ __forceinline__ int staged_pixel(const FewChannels& g, int m) {
  m = min(m, g.box_rows * g.box_cols * (g.pool ? 4 : 1) - 1);
  const int at = g.pool ? m / 4 : m, i = g.by_box_col.quotient(at), j = g.by_box_col.remainder(at, i);
  return g.pool ? (2 * i + m % 4 / 2) * g.row_pitch + 2 * j + m % 2 : i * g.row_pitch + j;
}

// 16 bytes of an operand's row.
template <class T>
__device__ __forceinline__ void store_chunk(unsigned char* to, const float (&v)[16 / T::kBytes]) {
  if constexpr (T::kBytes == 2)
    *reinterpret_cast<uint4*>(to) =
        make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7]));
  else
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
}

// The largest gradient is scaled to 2^14 ... 2^15 (gradient_scale.cuh), and fp16 ends at 2^16: sums of four are scaled to a fourth.
template <int kCopies>
constexpr float kScaleOfCopies = 1.0f / (kCopies * kCopies);

// Elements first_k ... of the window at `pixel`, as many as 16 bytes of T hold; times `scale`, where the map is a gradient as fp16.
template <class T, int kCopies, bool kGradient>
__device__ __forceinline__ void window_chunk(float (&v)[16 / T::kBytes], const float* pixel, const int* offsets, int first_k,
                                             float scale) {
  WL_UNROLL
  for (int e = 0; e < 16 / T::kBytes; e += 4) {
    WL_UNROLL
    for (int i = 0; i < 4; ++i) {
      if constexpr (kCopies == 1) {
        const int at = offsets[first_k + e + i];
        v[e + i] = at < 0 ? 0.0f : pixel[at];
      } else {
        const int4 at = *reinterpret_cast<const int4*>(offsets + 4 * (first_k + e + i));
        v[e + i] = at.x < 0 ? 0.0f : (pixel[at.x] + pixel[at.y]) + (pixel[at.z] + pixel[at.w]);
      }
      if constexpr (kGradient && kScaled<T>) v[e + i] *= scale;
    }
  }
}

}  // namespace warploom::v5
