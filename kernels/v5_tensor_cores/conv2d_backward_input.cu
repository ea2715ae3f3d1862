// conv2d_backward_input.cu (v5): dx = sum over the upsampled copies of conv(dy, mirrored w), an implicit GEMM on tensor cores:
//   pixels x (taps * output channels) times w^T
// Layout: dy [N, OH, OW, C_out], w hwio [KH, KW, C_in/groups, C_out], dx [N, H, W, C_in] (half of it with an upsample folded in);
//   zero padding, any groups.
// One block owns a tile of pixels x input channels of one group and one phase of the stride, a warp mma fragments of it.
// From v2: operands rounded to bf16, fp16 or tf32, products summed in float32 by mma.sync; the sum over an upsample's copies is
//   part of the sum over k. Bottleneck: mma issue.
// Preconditions: no activation, no pool; stride_h * stride_w <= 65535; bf16 and tf32 need sm_80, fp16 sm_75; float32 and groups of
//   up to 4 channels are v2's.
#include "../v2_tiled_nhwc/table.h"
#include "entries.h"
#include "implicit_gemm.cuh"

namespace warploom::v5 {

template <class Tile, bool kFast>
__global__ __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor) void conv2d_backward_input_kernel(
    ImplicitGemm g, const float* __restrict__ dy,  // [N, OH, OW, C_out]
    const float* __restrict__ w,                   // [KH, KW, C_in/groups, C_out]
    float* __restrict__ dx) {                      // [N, H, W, C_in]
  implicit_gemm<Tile, true, kFast>(g, dy, w, Epilogue(), dx);
}

template <class T>
static void run_as(const Conv2dBackwardInput& a, const Context& context) {
  const Conv2dShape& s = a.s;
  ImplicitGemm g;
  g.up = a.fusion.upsample - 1;
  g.out_H = s.H >> g.up, g.out_W = s.W >> g.up, g.out_C = s.C_in;
  g.rows = (g.out_H + s.stride_h - 1) / s.stride_h, g.cols = (g.out_W + s.stride_w - 1) / s.stride_w;
  g.groups = s.groups, g.k_channels = s.C_out / s.groups, g.n_channels = s.C_in / s.groups;
  g.w_height = s.KH, g.w_width = s.KW;
  g.taps_h = s.KH << g.up, g.taps_w = s.KW << g.up;
  g.src_H = s.OH, g.src_W = s.OW, g.src_C = s.C_out;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_inputs = g.n_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.dy.data, a.w.data);
  g.vector_n = true;  // w is read along k
  g.pairs_n = g.n_channels % 2 == 0 && aligned16(a.dx.data);
  g.by_image = FastDivisor(g.rows * g.cols), g.by_col = FastDivisor(g.cols);
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(g.taps_w);

  const int64_t pixels = int64_t(g.rows) * g.cols, dx_image = int64_t(s.C_in) * g.out_H * g.out_W,
                dy_image = int64_t(s.C_out) * s.OH * s.OW;
  const int phases = s.stride_h * s.stride_w;
  const int images = images_per_launch(s.N, dx_image, dy_image);
  auto launch_with = [&](auto tile, auto kernel) {
    using Tile = decltype(tile);
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + Tile::BM - 1) / Tile::BM * ((g.n_channels + Tile::BN - 1) / Tile::BN) * s.groups;
      launch(context, "v5::conv2d_backward_input_kernel", kernel, dim3(blocks_for(blocks, 1), static_cast<unsigned>(phases)),
             dim3(Tile::kThreads), Tile::kSharedBytes, g, a.dy.ptr() + first * dy_image, a.w.ptr(),
             a.dx.ptr() + first * dx_image);
    }
  };
  using Wide = WideTile<T, true, true>;
  using Square = SquareTile<T, true, true>;
  using Narrow = NarrowTile<T, true, true>;
  const TileKind kind = choose_tile(pixels * s.N * phases, g.n_channels, s.groups);
  if (kind == TileKind::narrow) return launch_with(Narrow(), conv2d_backward_input_kernel<Narrow, false>);
  if (kind == TileKind::wide && fast_form<Wide>(g)) return launch_with(Wide(), conv2d_backward_input_kernel<Wide, true>);
  launch_with(Square(),
              fast_form<Square>(g) ? conv2d_backward_input_kernel<Square, true> : conv2d_backward_input_kernel<Square, false>);
}

static void run(const Conv2dBackwardInput& a, const Context& context) {
  if (!on_tensor_cores(a)) return v2::table().conv2d_backward_input.run(in_float32(a), context);
  require_tensor_cores(a.fusion.precision, context);
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) { run_as<decltype(type)>(a, context); });
}

static std::string why_not(const Conv2dBackwardInput& a) {
  if (!on_tensor_cores(a)) return v2::table().conv2d_backward_input.why_not(in_float32(a));
  const std::string why = tensor_core_error(a, false);
  if (!why.empty()) return why;
  return int64_t(a.s.stride_h) * a.s.stride_w > 65535 ? "stride_h * stride_w must be at most 65535, one grid row each" : "";
}

static const char* algorithm(const Conv2dBackwardInput& a) { return algorithm_name(a.fusion, a.s); }

Entry<Conv2dBackwardInput> conv2d_backward_input() { return {run, why_not, nullptr, nullptr, algorithm}; }

}  // namespace warploom::v5
