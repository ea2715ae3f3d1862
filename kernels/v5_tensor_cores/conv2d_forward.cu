// conv2d_forward.cu (v5): y = activation(conv(upsample(x), w) + bias) as an implicit GEMM on tensor cores: pixels x (taps *
//   channels) times (taps * channels) x output channels
// Layout: x [N, H, W, C_in], w hwio [KH, KW, C_in/groups, C_out], bias [C_out], y [N, OH, OW, C_out]; zero padding, any groups.
// One block owns a tile of pixels x output channels of one group, a warp mma fragments of it (implicit_gemm.cuh).
// From v2: operands rounded to bf16, fp16 or tf32, products summed in float32 by mma.sync; bias and activation in the epilogue; a
//   nearest upsample by 2 in the loads. Bottleneck: mma issue with many channels, memory with few.
// Preconditions: no pool; bf16 and tf32 need sm_80, fp16 sm_75; float32 and groups of up to 4 channels are v2's.
#include "../v2_tiled_nhwc/table.h"
#include "entries.h"
#include "implicit_gemm.cuh"

namespace warploom::v5 {

template <class Tile, bool kFast>
__global__ __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor) void conv2d_forward_kernel(
    ImplicitGemm g, Epilogue epilogue, const float* __restrict__ x,  // [N, H, W, C_in]
    const float* __restrict__ w,                                     // [KH, KW, C_in/groups, C_out]
    float* __restrict__ y) {                                         // [N, OH, OW, C_out]
  implicit_gemm<Tile, false, kFast>(g, x, w, epilogue, y);
}

template <class T>
static void run_as(const Conv2dForward& a, const Context& context) {
  const Conv2dShape& s = a.s;
  ImplicitGemm g;
  g.rows = s.OH, g.cols = s.OW;
  g.groups = s.groups, g.k_channels = s.C_in / s.groups, g.n_channels = s.C_out / s.groups;
  g.taps_h = g.w_height = s.KH, g.taps_w = g.w_width = s.KW;
  g.up = a.fusion.upsample - 1;
  g.src_H = s.H >> g.up, g.src_W = s.W >> g.up, g.src_C = s.C_in;
  g.out_H = s.OH, g.out_W = s.OW, g.out_C = s.C_out;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_inputs = g.k_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.x.data);
  g.vector_n = g.n_channels % 4 == 0 && aligned16(a.w.data);
  g.pairs_n = g.n_channels % 2 == 0 && aligned16(a.y.data);
  g.by_image = FastDivisor(s.OH * s.OW), g.by_col = FastDivisor(s.OW);
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(s.KW);
  const Epilogue epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope};

  const int64_t pixels = int64_t(s.OH) * s.OW, x_image = int64_t(s.C_in) * g.src_H * g.src_W, y_image = s.C_out * pixels;
  const int images = images_per_launch(s.N, x_image, y_image);
  auto launch_with = [&](auto tile, auto kernel) {
    using Tile = decltype(tile);
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + Tile::BM - 1) / Tile::BM * ((g.n_channels + Tile::BN - 1) / Tile::BN) * s.groups;
      launch(context, "v5::conv2d_forward_kernel", kernel, dim3(blocks_for(blocks, 1)), dim3(Tile::kThreads), Tile::kSharedBytes,
             g, epilogue, a.x.ptr() + first * x_image, a.w.ptr(), a.y.ptr() + first * y_image);
    }
  };
  using Wide = WideTile<T, true, false>;
  using Square = SquareTile<T, true, false>;
  using Narrow = NarrowTile<T, true, false>;
  const TileKind kind = choose_tile(pixels * s.N, g.n_channels, s.groups);
  if (kind == TileKind::narrow)
    return launch_with(Narrow(),
                       fast_form<Narrow>(g) ? conv2d_forward_kernel<Narrow, true> : conv2d_forward_kernel<Narrow, false>);
  if (kind == TileKind::wide && fast_form<Wide>(g)) return launch_with(Wide(), conv2d_forward_kernel<Wide, true>);
  launch_with(Square(), fast_form<Square>(g) ? conv2d_forward_kernel<Square, true> : conv2d_forward_kernel<Square, false>);
}

static void run(const Conv2dForward& a, const Context& context) {
  if (!on_tensor_cores(a)) return v2::table().conv2d_forward.run(in_float32(a), context);
  require_tensor_cores(a.fusion.precision, context);
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) { run_as<decltype(type)>(a, context); });
}

static std::string why_not(const Conv2dForward& a) {
  return on_tensor_cores(a) ? tensor_core_error(a, true) : v2::table().conv2d_forward.why_not(in_float32(a));
}

static const char* algorithm(const Conv2dForward& a) { return algorithm_name(a.fusion, a.s); }

Entry<Conv2dForward> conv2d_forward() { return {run, why_not, nullptr, nullptr, algorithm}; }

}  // namespace warploom::v5
