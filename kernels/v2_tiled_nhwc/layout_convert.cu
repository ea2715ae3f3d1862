// layout_convert.cu (v2): NCHW <-> NHWC, per image the transpose of a C x (H*W) matrix
// Layout: x [N, rows, cols] -> y [N, cols, rows] with rows = C, cols = H*W or the other way round.
// One block owns a 32 x 32 tile, read along cols into shared memory and written along rows; a thread moves 4 elements.
// From v1: both sides are coalesced.
// Expected bottleneck: memory bandwidth. Equal layouts are a plain copy of 16-byte groups.
// Preconditions: one image below 2^31 elements. The 33rd column keeps a warp's column-wise reads on 32 different banks.
#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "../common/vector.cuh"
#include "entries.h"

namespace warploom::v2 {

constexpr int kTile = 32, kTileRows = kThreads / kTile;

__global__ void layout_convert_kernel(int rows, int cols, const float* __restrict__ x,  // [N, rows, cols]
                                      float* __restrict__ y) {                          // [N, cols, rows]
  WL_SHARED(float, tile, [kTile][kTile + 1]);
  const int tiles_across = (cols + kTile - 1) / kTile, tiles_down = (rows + kTile - 1) / kTile;
  const int block = static_cast<int>(blockIdx.x);
  const int col0 = block % tiles_across * kTile, row0 = block / tiles_across % tiles_down * kTile;
  const int64_t image = static_cast<int64_t>(block / tiles_across / tiles_down) * rows * cols;
  const int lane = static_cast<int>(threadIdx.x) % kTile, part = static_cast<int>(threadIdx.x) / kTile;
  WL_UNROLL
  for (int i = part; i < kTile; i += kTileRows)
    if (row0 + i < rows && col0 + lane < cols) tile[i][lane] = x[image + (row0 + i) * cols + col0 + lane];
  __syncthreads();
  WL_UNROLL
  for (int i = part; i < kTile; i += kTileRows)
    if (col0 + i < cols && row0 + lane < rows) y[image + (col0 + i) * rows + row0 + lane] = tile[lane][i];
}

// Few channels would leave most of a tile empty: one thread a pixel, planes read along pixels, neighbouring pixels written
// together.
__global__ void layout_convert_narrow_kernel(int64_t images_pixels, int C, FastDivisor by_pixels, bool to_nhwc,
                                             const float* __restrict__ x,  // [N, C, pixels] or [N, pixels, C]
                                             float* __restrict__ y) {      // [N, pixels, C] or [N, C, pixels]
  const int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item >= images_pixels) return;
  const int pixels = static_cast<int>(by_pixels.divisor);
  const int64_t n = images_pixels < kImageLimit ? by_pixels.quotient(static_cast<int>(item)) : item / pixels;
  const int64_t planes = n * pixels * (C - 1) + item;  // n * C * pixels + pixel
  for (int c = 0; c < C; ++c) {
    if (to_nhwc)
      y[item * C + c] = x[planes + static_cast<int64_t>(c) * pixels];
    else
      y[planes + static_cast<int64_t>(c) * pixels] = x[item * C + c];
  }
}

__global__ void layout_copy_kernel(int64_t count, bool vector, const float* __restrict__ x, float* __restrict__ y) {  // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (vector && i < count / 4) store4(y + 4 * i, load4(x + 4 * i));
  if (!vector && i < count) y[i] = x[i];
}

static void run(const LayoutConvert& a, const Context& context) {
  const int pixels = a.H * a.W;
  const int64_t count = int64_t(a.N) * a.C * pixels;
  if (a.from == a.to) {
    const bool vector = count % 4 == 0 && aligned16(a.x.data, a.y.data);
    launch(context, "v2::layout_copy_kernel", layout_copy_kernel, dim3(blocks_for(vector ? count / 4 : count, kThreads)),
           dim3(kThreads), 0, count, vector, a.x.ptr(), a.y.ptr());
    return;
  }
  const bool to_nhwc = a.to == Layout::nhwc;
  if (a.C < 8) {
    launch(context, "v2::layout_convert_narrow_kernel", layout_convert_narrow_kernel,
           dim3(blocks_for(int64_t(a.N) * pixels, kThreads)), dim3(kThreads), 0, int64_t(a.N) * pixels, a.C, FastDivisor(pixels),
           to_nhwc, a.x.ptr(), a.y.ptr());
    return;
  }
  const int rows = to_nhwc ? a.C : pixels, cols = to_nhwc ? pixels : a.C;
  const int64_t tiles = int64_t((rows + kTile - 1) / kTile) * ((cols + kTile - 1) / kTile);
  launch(context, "v2::layout_convert_kernel", layout_convert_kernel, dim3(blocks_for(tiles * a.N, 1)), dim3(kThreads), 0, rows,
         cols, a.x.ptr(), a.y.ptr());
}

Entry<LayoutConvert> layout_convert() { return {run, image_shape<LayoutConvert>, nullptr, nullptr}; }

}  // namespace warploom::v2
