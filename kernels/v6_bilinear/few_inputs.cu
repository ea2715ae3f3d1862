// few_inputs.cu (v6): the first layer: y = pool(activation(conv(x, w) + bias)) of up to 4 input channels, directly, and the pooled dw
// Layout: x [N, H, W, C_in], w, dw hwio [3, 3, C_in, C_out], y [N, OH, OW, C_out] or pooled [N, OH/2, OW/2, C_out] with a code each
//   (the maximum's position, + 4 where an activation's slope applies).
// Forward: a thread owns 2 x 4 pixels (two pool windows) of four output channels. dw: a block owns a run of rows of windows, a thread
//   all taps of one output channel; patches of x stand in shared memory; runs meet in a second pass, in order.
// From v2: the map before the pool never exists, and dw multiplies one pixel of each window, the maximum: 4 times fewer products.
//   Expected bottleneck: forward FFMA issue, dw shared loads (one per product).
// Preconditions: 3x3, stride 1, C_in <= 4, forward C_out % 4 == 0 and 16-byte aligned; dw only with a pool of 2x2.
#include <algorithm>

#include "../common/portable.cuh"
#include "apply.cuh"
#include "convolution.h"
#include "entries.h"

namespace warploom::v6 {

template <int kC, int kPool>
__global__ __launch_bounds__(kTransformThreads, kTransformBlocks) void few_inputs_forward_kernel(
    int count, Tiles tiles, const float* __restrict__ x,  // [N, H, W, kC]
    int H, int W, int pad_top, int pad_left,              //
    const float* __restrict__ w,                          // [3, 3, kC, C_out]
    int OH, int OW, int C_out, Epilogue epilogue, float* __restrict__ y, unsigned char* __restrict__ codes) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= count) return;
  const Place at(tiles, index, 4);
  const int h0 = at.row * 2, w0 = at.column * 4;
  Pack<4> sum[2][4];
  if (epilogue.bias) {
    WL_UNROLL
    for (int p = 0; p < 8; ++p) copy_vector<4>(sum[p / 4][p % 4].v, epilogue.bias + at.channel);
  }
  x += static_cast<int64_t>(at.image) * H * W * kC;
  w += at.channel;
  WL_UNROLL
  for (int c = 0; c < kC; ++c) {
    float patch[4][6];
    WL_UNROLL
    for (int i = 0; i < 4; ++i) {
      WL_UNROLL
      for (int j = 0; j < 6; ++j) {
        const int h = h0 + i - pad_top, col = w0 + j - pad_left;
        const bool inside =
            static_cast<unsigned>(h) < static_cast<unsigned>(H) && static_cast<unsigned>(col) < static_cast<unsigned>(W);
        patch[i][j] = inside ? x[(h * W + col) * kC + c] : 0.0f;
      }
    }
    WL_UNROLL
    for (int tap = 0; tap < 9; ++tap) {
      float g[4];
      copy_vector<4>(g, w + (tap * kC + c) * C_out);
      WL_UNROLL
      for (int p = 0; p < 8; ++p) {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) sum[p / 4][p % 4].v[e] += patch[p / 4 + tap / 3][p % 4 + tap % 3] * g[e];
      }
    }
  }
  const int rows = OH / kPool, cols = OW / kPool;
  const int64_t image = static_cast<int64_t>(at.image) * rows * cols * C_out + at.channel;
  if constexpr (kPool == 1) {
    WL_UNROLL
    for (int p = 0; p < 8; ++p) {
      const int h = h0 + p / 4, col = w0 + p % 4;
      if (h >= rows || col >= cols) continue;
      Pack<4>& out = sum[p / 4][p % 4];
      WL_UNROLL
      for (int e = 0; e < 4; ++e) out.v[e] = epilogue(out.v[e]);
      store_pack(y + image + (h * cols + col) * C_out, out);
    }
  } else {
    WL_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int col = w0 / 2 + j;
      if (at.row >= rows || col >= cols) continue;
      store_window(sum[0][2 * j], sum[0][2 * j + 1], sum[1][2 * j], sum[1][2 * j + 1], epilogue, y, codes,
                   image + (at.row * cols + col) * C_out);
    }
  }
}

// f(channels as a constant).
template <class F>
static void with_channels(int channels, F&& f) {
  switch (channels) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    default:
      return f(std::integral_constant<int, 4>());
  }
}

void few_inputs_forward(const Context& context, int images, const Map& x, int pad_top, int pad_left, const float* w,
                        const Result& to) {
  if (!aligned16(w, to.bias, to.y, to.codes))
    throw DeviceError("v6's direct convolution of few inputs needs 16-byte aligned buffers");
  Tiles tiles;
  tiles.TH = static_cast<int>(blocks_for(to.H, 2)), tiles.TW = static_cast<int>(blocks_for(to.W, 4));
  tiles.by_TH = FastDivisor(tiles.TH), tiles.by_TW = FastDivisor(tiles.TW), tiles.by_group = FastDivisor(to.C / 4);
  const Epilogue epilogue{to.bias, to.activation, to.slope};
  // As many images at once as a thread's number has bits for.
  const int64_t threads_each = int64_t(tiles.TH) * tiles.TW * (to.C / 4);
  const int most = static_cast<int>(std::max<int64_t>(((int64_t(1) << 31) - 1) / threads_each, 1));
  const int64_t x_image = int64_t(x.H) * x.W * x.C, y_image = int64_t(to.H / to.pool) * (to.W / to.pool) * to.C;
  with_channels(x.C, [&](auto channels) {
    constexpr int kC = decltype(channels)::value;
    const auto kernel = to.pool == 2 ? few_inputs_forward_kernel<kC, 2> : few_inputs_forward_kernel<kC, 1>;
    for (int first = 0; first < images; first += most) {
      const int threads = static_cast<int>(std::min(most, images - first) * threads_each);
      launch(context, "v6::few_inputs_forward_kernel", kernel, dim3(blocks_for(threads, kTransformThreads)),
             dim3(kTransformThreads), 0, threads, tiles, x.data + first * x_image, x.H, x.W, pad_top, pad_left, w, to.H, to.W,
             to.C, epilogue, to.y + first * y_image, to.codes ? to.codes + first * y_image : nullptr);
    }
  });
}

constexpr int kWindows = 16, kPatchWidth = 2 * kWindows + 2, kWeightThreads = 256, kRunsAtMost = 264, kAhead = 4;

template <int kC>
__global__ __launch_bounds__(kWeightThreads) void few_inputs_weight_kernel(
    int rows, int rows_per_run, int PH, int PW, int C_out, float slope, const float* __restrict__ dy,  // [rows, PW, C_out]
    const unsigned char* __restrict__ codes,                                                           // [rows, PW, C_out]
    const float* __restrict__ x,                                                                       // [N, H, W, kC]
    int H, int W, int pad_top, int pad_left, float* __restrict__ partials) {                           // [runs, 3, 3, kC, C_out]
  WL_SHARED(float, patch, [4 * kPatchWidth * kC]);
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int first = static_cast<int>(blockIdx.y) * rows_per_run, end = min(first + rows_per_run, rows);
  float sum[9 * kC];
  WL_UNROLL
  for (int t = 0; t < 9 * kC; ++t) sum[t] = 0.0f;
  for (int row = first; row < end; ++row) {
    const int image = row / PH, h0 = (row - image * PH) * 2 - pad_top;
    const float* const from = x + static_cast<int64_t>(image) * H * W * kC;
    for (int p0 = 0; p0 < PW; p0 += kWindows) {
      __syncthreads();  // the patch before has been read
      for (int i = static_cast<int>(threadIdx.x); i < 4 * kPatchWidth * kC; i += static_cast<int>(blockDim.x)) {
        const int line = i / (kPatchWidth * kC), in_line = i - line * (kPatchWidth * kC), h = h0 + line;
        const int col = 2 * p0 - pad_left + in_line / kC;
        const bool inside =
            static_cast<unsigned>(h) < static_cast<unsigned>(H) && static_cast<unsigned>(col) < static_cast<unsigned>(W);
        patch[i] = inside ? from[(h * W + col) * kC + in_line % kC] : 0.0f;
      }
      __syncthreads();
      if (channel >= C_out) continue;
      const int windows = min(kWindows, PW - p0);
      const int64_t at = (static_cast<int64_t>(row) * PW + p0) * C_out + channel;
      for (int i0 = 0; i0 < windows; i0 += kAhead) {
        float v[kAhead];
        int code[kAhead];
        WL_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const bool there = i0 + i < windows;
          v[i] = there ? dy[at + static_cast<int64_t>(i0 + i) * C_out] : 0.0f;
          code[i] = there ? codes[at + static_cast<int64_t>(i0 + i) * C_out] : 0;
        }
        WL_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          if (i0 + i >= windows) continue;
          const float g = code[i] & 4 ? sloped(v[i], slope) : v[i];
          const float* const pixel = patch + ((code[i] >> 1 & 1) * kPatchWidth + 2 * (i0 + i) + (code[i] & 1)) * kC;
          WL_UNROLL
          for (int t = 0; t < 9 * kC; ++t) sum[t] += g * pixel[(t / kC / 3 * kPatchWidth + t / kC % 3) * kC + t % kC];
        }
      }
    }
  }
  if (channel >= C_out) return;
  partials += static_cast<int64_t>(blockIdx.y) * (9 * kC) * C_out + channel;
  WL_UNROLL
  for (int t = 0; t < 9 * kC; ++t) partials[static_cast<int64_t>(t) * C_out] = sum[t];
}

constexpr int kSumColumns = 32, kSumRows = 8;

__global__ __launch_bounds__(kSumColumns* kSumRows) void few_inputs_sum_kernel(
    int runs, int count,
    const float* __restrict__ partials,  // [runs, count]
    float* __restrict__ dw) {            // [count]
  WL_SHARED(float, sums, [kSumRows][kSumColumns]);
  const int column = static_cast<int>(threadIdx.x) % kSumColumns, row = static_cast<int>(threadIdx.x) / kSumColumns;
  const int i = static_cast<int>(blockIdx.x) * kSumColumns + column;
  float sum = 0.0f;
  if (i < count)
    for (int r = row; r < runs; r += kSumRows) sum += partials[static_cast<int64_t>(r) * count + i];
  sums[row][column] = sum;
  __syncthreads();
  if (row != 0 || i >= count) return;
  for (int r = 1; r < kSumRows; ++r) sum += sums[r][column];
  dw[i] = sum;
}

int64_t few_inputs_weight(const Context* context, const Gradients& g) {
  const Conv2dShape& s = g.s;
  const int PH = s.OH / 2, PW = s.OW / 2, rows = s.N * PH, count = 9 * s.C_in * s.C_out;
  const int rows_per_run = static_cast<int>(blocks_for(rows, kRunsAtMost));
  const int runs = static_cast<int>(blocks_for(rows, rows_per_run));
  Workspace space(context);
  float* const partials = space.take(int64_t(runs) * count);
  if (!context) return space.bytes();
  const int threads = std::min(kWeightThreads, (s.C_out + 31) / 32 * 32);
  with_channels(s.C_in, [&](auto channels) {
    launch(*context, "v6::few_inputs_weight_kernel", few_inputs_weight_kernel<decltype(channels)::value>,
           dim3(blocks_for(s.C_out, threads), static_cast<unsigned>(runs)), dim3(static_cast<unsigned>(threads)), 0, rows,
           rows_per_run, PH, PW, s.C_out, g.dy.slope, g.dy.data, g.dy.codes, g.x, s.H, s.W, s.pad_top, s.pad_left, partials);
  });
  launch(*context, "v6::few_inputs_sum_kernel", few_inputs_sum_kernel, dim3(blocks_for(count, kSumColumns)),
         dim3(kSumColumns * kSumRows), 0, runs, count, partials, g.dw);
  return space.bytes();
}

}  // namespace warploom::v6
