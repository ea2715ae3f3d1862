// Maths    dw[o, c, kh, kw] = sum over n, h, w of dy[n, o, h, w] * x[n, c, h + kh - pad_top, w + kw - pad_left].
// Layout   dy, x NCHW; partial [splits, groups * O, I, 3, 3].
// Owns     A block owns 16 output x 4 input channels and a run of pixel tiles; a warp 8 x 1 of them, all nine taps; a lane a column.
// New      vs v2: lanes are pixels; a lane walks down its column with a rolling 3 x 3 window in registers, so 3 + 8 loads feed 72
//          multiply-adds; the 32 lanes' sums meet in warp shuffles at the end. Bound: FFMA issue.
// Needs    3x3, stride 1; any padding, channels, groups, map size.
#include <algorithm>

#include "warp_sums.cuh"
#include "weight_gradient.h"

namespace warploom::v3 {

constexpr int kInputs = 4, kSlices = 2;

// A tile kColumns wide; 32 / kColumns lanes share a column, kRows consecutive rows each. The pitch keeps their reads off each
// other's banks.
template <int kColumns, int kRows, int kPitch>
struct Tile3x3Gradient {
  static constexpr int Columns = kColumns, Rows = kRows, H = 32 / kColumns * kRows, Pitch = kPitch;
  static_assert(kPitch >= kColumns + 2, "the window has a column more on either side");
};

template <class Tile>
__global__ void __launch_bounds__(256, 2)
    weight_gradient_3x3_kernel(Conv2dShape s, WeightGradientPlan plan,
                               const float* __restrict__ dy,   // [N, C_out, OH, OW]
                               const float* __restrict__ x,    // [N, C_in, H, W]
                               float* __restrict__ partial) {  // [splits, C_out, C_in / groups, 9]
  constexpr int Outputs = kSlices * kSliceChannels, HaloH = Tile::H + 2, HaloW = Tile::Columns + 2;
  WL_SHARED(float, window, [kInputs][HaloH][Tile::Pitch]);
  WL_SHARED(float, gradient, [Outputs][Tile::H][Tile::Pitch]);

  const int O = s.C_out / s.groups, I = s.C_in / s.groups;
  int rest = blockIdx.x;
  const int o0 = rest % plan.blocks_o * Outputs;
  rest /= plan.blocks_o;
  const int c0 = rest % plan.blocks_r * kInputs;
  rest /= plan.blocks_r;
  const int group = rest % s.groups, split = rest / s.groups;

  const int t = threadIdx.x, lane = t % 32, warp = t / 32, slice = warp % kSlices, c = warp / kSlices;
  const int column = lane % Tile::Columns, row0 = lane / Tile::Columns * Tile::Rows;
  const int64_t plane = int64_t(s.H) * s.W, out_plane = int64_t(s.OH) * s.OW;

  float acc[kSliceChannels][9];
  WL_UNROLL
  for (int o = 0; o < kSliceChannels; ++o) {
    WL_UNROLL
    for (int k = 0; k < 9; ++k) acc[o][k] = 0.0f;
  }

  const int64_t begin = split * plan.tiles_per_split;
  const int64_t end = begin + plan.tiles_per_split < plan.tiles ? begin + plan.tiles_per_split : plan.tiles;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t n = tile / (plan.tiles_h * plan.tiles_w);
    const int within = static_cast<int>(tile - n * plan.tiles_h * plan.tiles_w);
    const int h0 = within / plan.tiles_w * Tile::H, w0 = within % plan.tiles_w * Tile::Columns;
    const float* const image = x + (n * s.C_in + group * I) * plane;
    const float* const out_image = dy + (n * s.C_out + group * O) * out_plane;
    if (tile != begin) __syncthreads();
    for (int i = t; i < kInputs * HaloH * HaloW; i += 256) {
      const int xx = i % HaloW, y = i / HaloW % HaloH, ci = i / (HaloW * HaloH);
      const int h = h0 - s.pad_top + y, w = w0 - s.pad_left + xx;
      const bool inside = c0 + ci < I && h >= 0 && h < s.H && w >= 0 && w < s.W;
      window[ci][y][xx] = inside ? image[(c0 + ci) * plane + h * s.W + w] : 0.0f;
    }
    for (int i = t; i < Outputs * Tile::H * Tile::Columns; i += 256) {
      const int xx = i % Tile::Columns, y = i / Tile::Columns % Tile::H, o = i / (Tile::Columns * Tile::H);
      const int h = h0 + y, w = w0 + xx;
      const bool inside = o0 + o < O && h < s.OH && w < s.OW;
      gradient[o][y][xx] = inside ? out_image[(o0 + o) * out_plane + h * s.OW + w] : 0.0f;
    }
    __syncthreads();
    float v[3][3];
    WL_UNROLL
    for (int i = 0; i < 2; ++i) {
      WL_UNROLL
      for (int j = 0; j < 3; ++j) v[i + 1][j] = window[c][row0 + i][column + j];
    }
    for (int r = 0; r < Tile::Rows; ++r) {
      WL_UNROLL
      for (int j = 0; j < 3; ++j) v[0][j] = v[1][j], v[1][j] = v[2][j], v[2][j] = window[c][row0 + r + 2][column + j];
      WL_UNROLL
      for (int o = 0; o < kSliceChannels; ++o) {
        const float g = gradient[slice * kSliceChannels + o][row0 + r][column];
        WL_UNROLL
        for (int k = 0; k < 9; ++k) acc[o][k] += g * v[k / 3][k % 3];
      }
    }
  }

  float sum[9];
  warp_sum_rows(acc, sum);
  const int o = o0 + slice * kSliceChannels + lane / 4;
  if (o >= O || c0 + c >= I || lane % 4 != 0) return;
  float* const to = partial + split * plan.weights + (int64_t(group * O + o) * I + c0 + c) * 9;
  WL_UNROLL
  for (int k = 0; k < 9; ++k) to[k] = sum[k];
}

using WideGradient = Tile3x3Gradient<32, 8, 34>;
using MiddleGradient = Tile3x3Gradient<16, 8, 18>;
using SmallGradient = Tile3x3Gradient<8, 2, 12>;

bool is_3x3(const Conv2dShape& s) { return s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1; }

template <class Tile>
static WeightGradientPlan plan_tile(const Conv2dShape& s) {
  WeightGradientPlan p;
  p.tile_h = Tile::H, p.tile_w = Tile::Columns;
  p.tiles_h = (s.OH + Tile::H - 1) / Tile::H, p.tiles_w = (s.OW + Tile::Columns - 1) / Tile::Columns;
  p.blocks_o = (s.C_out / s.groups + kSlices * kSliceChannels - 1) / (kSlices * kSliceChannels);
  p.blocks_r = (s.C_in / s.groups + kInputs - 1) / kInputs;
  choose_splits(s, p);
  return p;
}

WeightGradientPlan plan_3x3(const Conv2dShape& s) {
  if (s.OW > 16) return plan_tile<WideGradient>(s);
  return s.OW > 8 || s.OH > 8 ? plan_tile<MiddleGradient>(s) : plan_tile<SmallGradient>(s);
}

template <class Tile>
static void launch_tile(const Conv2dShape& s, const WeightGradientPlan& p, const float* dy, const float* x, float* partial,
                        const Context& context) {
  const int64_t blocks = int64_t(p.blocks_o) * p.blocks_r * s.groups * p.splits;
  launch(context, "v3::weight_gradient_3x3", weight_gradient_3x3_kernel<Tile>, dim3(static_cast<unsigned>(blocks)), dim3(256), 0,
         s, p, dy, x, partial);
}

void weight_gradient_3x3(const Conv2dShape& s, const WeightGradientPlan& p, const float* dy, const float* x, float* partial,
                         const Context& context) {
  if (p.tile_w == WideGradient::Columns) return launch_tile<WideGradient>(s, p, dy, x, partial, context);
  if (p.tile_w == MiddleGradient::Columns) return launch_tile<MiddleGradient>(s, p, dy, x, partial, context);
  launch_tile<SmallGradient>(s, p, dy, x, partial, context);
}

}  // namespace warploom::v3
