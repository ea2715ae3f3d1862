// conv2d_backward_input.cu (v5): dx = sum over the upsampled copies of conv(unpooled dy, mirrored w), an implicit GEMM on tensor
//   cores: pixels x (taps * output channels) times w^T
// Layout: dy [N, OH, OW, C_out] or, pooled, [N, OH/2, OW/2, C_out] with saved as the forward entry made it; w hwio [KH, KW,
//   C_in/groups, C_out], dx [N, H, W, C_in] (half of it with an upsample folded in); zero padding, any groups.
// One block owns a tile of pixels x input channels of one group and one phase of the stride, a warp mma fragments of it.
// From v2: operands rounded to bf16, fp16 (dy scaled to its range) or tf32, products summed in float32 by mma.sync; the sum over an
//   upsample's copies is part of the sum over k; dy is unpooled in the loads. Expected bottleneck: mma issue.
// Preconditions: an activation only with a pool; stride_h * stride_w <= 65535; workspace: fp16's scale, the summed taps of an upsample (upsample_taps.h); bf16 and tf32 need
//   sm_80, fp16 sm_75; float32 and groups of up to 4 channels are v2's.
#include <type_traits>

#include "algorithm.h"
#include "entries.h"
#include "few_channels.h"
#include "few_outputs.h"
#include "implicit_gemm.cuh"
#include "upsample_taps.h"

namespace warploom::v5 {

template <class Tile, bool kFast, bool kUnpool>
__global__ __launch_bounds__(Tile::kThreads, kGradientBlocks<Tile, kFast, kUnpool>) void conv2d_backward_input_kernel(
    ImplicitGemm g, Epilogue epilogue, const void* __restrict__ dy,  // [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out]
    const float* __restrict__ w,                                     // [KH, KW, C_in/groups, C_out]
    const float* __restrict__ scale,                                 // [1], of fp16
    const unsigned char* __restrict__ saved,                         // [N, OH/2, OW/2, C_out] of a pool
    void* dx) {                                                      // [N, H, W, C_in], may be epilogue.output
  if constexpr (!kCompiledHere<typename Tile::T>) return;
  implicit_gemm<Tile, true, kFast, kUnpool, true>(g, dy, w, epilogue, scale, saved, dx);
}

// dy_type, dx_type: how the maps are stored, which here may be no gradients (upsample_taps.h).
template <class T>
static void run_as(const Conv2dBackwardInput& a, DType dy_type, DType dx_type, const Context& context, const Epilogue& epilogue,
                   const float* scale) {
  const Conv2dShape& s = a.s;
  ImplicitGemm g;
  g.up = a.fusion.upsample - 1;
  g.out_H = s.H >> g.up, g.out_W = s.W >> g.up, g.out_C = s.C_in;
  g.rows = (g.out_H + s.stride_h - 1) / s.stride_h, g.cols = (g.out_W + s.stride_w - 1) / s.stride_w;
  g.groups = s.groups, g.k_channels = s.C_out / s.groups, g.n_channels = s.C_in / s.groups;
  g.w_height = s.KH, g.w_width = s.KW;
  g.taps_h = s.KH << g.up, g.taps_w = s.KW << g.up;
  const int pool = a.fusion.pool;
  g.pool = pool == 2;
  g.negative_slope = a.fusion.activation == Activation::leaky_relu ? a.fusion.negative_slope : 0.0f;
  g.src_H = s.OH / pool, g.src_W = s.OW / pool, g.src_C = s.C_out;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_inputs = g.n_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.dy.data, a.w.data, a.saved.data);
  g.vector_n = true;  // w is read along k
  g.pairs_n = g.n_channels % 2 == 0 && aligned16(a.dx.data, epilogue.bias, epilogue.output);
  g.source_bytes = static_cast<int>(dtype_bytes(dy_type)), g.out_bytes = static_cast<int>(dtype_bytes(dx_type));
  g.by_image = FastDivisor(g.rows * g.cols), g.by_col = FastDivisor(g.cols);
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(g.taps_w);

  const int64_t pixels = int64_t(g.rows) * g.cols, dx_image = int64_t(s.C_in) * g.out_H * g.out_W;
  const int64_t dy_image = int64_t(s.C_out) * g.src_H * g.src_W;
  const int phases = s.stride_h * s.stride_w;
  const int images = images_per_launch(s.N, dx_image, dy_image);
  auto launch_with = [&](auto tile, auto kernel) {
    using Tile = decltype(tile);
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + Tile::BM - 1) / Tile::BM * ((g.n_channels + Tile::BN - 1) / Tile::BN) * s.groups;
      launch(context, "v5::conv2d_backward_input_kernel", kernel, dim3(blocks_for(blocks, 1), static_cast<unsigned>(phases)),
             dim3(Tile::kThreads), Tile::kSharedBytes, g, from_image(epilogue, first * dx_image),
             into_map(a.dy.data, first * dy_image, g.source_bytes), a.w.ptr(), scale,
             a.saved ? a.saved.ptr<unsigned char>() + first * dy_image : nullptr,
             into_map(a.dx.data, first * dx_image, g.out_bytes));
    }
  };
  auto launch_tile = [&](auto unpool) {
    constexpr bool kUnpool = decltype(unpool)::value;
    using Wide = WideTile<T, true, true, kUnpool>;
    using Square = SquareTile<T, true, true, kUnpool>;
    using Narrow = NarrowTile<T, true, true, kUnpool>;
    const TileKind kind = choose_tile(pixels * s.N * phases, g.n_channels, s.groups);
    if (kind == TileKind::narrow && fast_form<Narrow>(g) && !kUnpool)
      return launch_with(Narrow(), conv2d_backward_input_kernel<Narrow, !kUnpool, kUnpool>);
    if (kind == TileKind::narrow) return launch_with(Narrow(), conv2d_backward_input_kernel<Narrow, false, kUnpool>);
    if (kind == TileKind::wide && fast_form<Wide>(g))
      return launch_with(Wide(), conv2d_backward_input_kernel<Wide, true, kUnpool>);
    launch_with(Square(), fast_form<Square>(g) ? conv2d_backward_input_kernel<Square, true, kUnpool>
                                               : conv2d_backward_input_kernel<Square, false, kUnpool>);
  };
  if (g.pool)
    launch_tile(std::true_type());
  else
    launch_tile(std::false_type());
}

void run_transposed(const Conv2dBackwardInput& a, const Context& context, const Epilogue& epilogue) {
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) {
    run_as<decltype(type)>(a, a.fusion.y_type, a.fusion.x_type, context, epilogue, nullptr);
  });
}

static void run_few_channels(const Conv2dBackwardInput& a, const Context& context, const float* scale) {
  FewChannels few;
  takes_few_channels(a, few);
  few.out_bytes = static_cast<int>(dtype_bytes(gradient_type(a.fusion.x_type)));
  few_channels_product(context, few, a.fusion.precision, a.dy.ptr(), a.w.ptr(), scale, epilogue_of(a), a.dx.data, nullptr);
}

static void run_summed_taps(const Conv2dBackwardInput& a, const Context& context, const float* scale) {
  Conv2dForward strided;
  strided.s = adjoint_of(a.s);
  strided.fusion = adjoint_of(a.fusion, gradient_type(a.fusion.x_type), gradient_type(a.fusion.y_type));
  strided.x = a.dy, strided.y = a.dx;
  strided.w = summed_taps(a, context);
  run_strided(strided, context, epilogue_of(a), scale);
}

static void run_implicit_gemm(const Conv2dBackwardInput& a, const Context& context, const float* scale) {
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) {
    run_as<decltype(type)>(a, gradient_type(a.fusion.y_type), gradient_type(a.fusion.x_type), context, epilogue_of(a), scale);
  });
}

struct BackwardInputWays {
  using Args = Conv2dBackwardInput;
  static constexpr auto kEntry = &OpTable::conv2d_backward_input;
  static constexpr bool kGradient = true;
  static const auto& list() {
    static const Algorithm<Args> ways[] = {
        {WL_MMA_NAMES(", few channels"), few_channels_refusal<Args>, run_few_channels, nullptr},
        {WL_MMA_NAMES(", columns"), few_outputs_refusal<Args>, run_few_outputs, nullptr},
        {WL_MMA_NAMES(", summed taps"), summed_taps_refusal<Args>, run_summed_taps, summing_bytes<Args>, summing_of<Args>},
        {WL_MMA_NAMES(""), [](const Args&) { return std::string(); }, run_implicit_gemm, nullptr},
    };
    return ways;
  }
  static std::string refusal(const Args& a) {
    std::string why = tensor_core_error(a, false);
    if (why.empty()) why = slopes_error(a);
    if (why.empty() && a.x_activation != Activation::none && takes_few_outputs(a))
      why = std::string("v5 adds columns up, and takes no activation's slopes there") + kApart;
    if (!why.empty() || int64_t(a.s.stride_h) * a.s.stride_w <= 65535) return why;
    return "stride_h * stride_w must be at most 65535, one grid row each; v1 takes any stride, in fp32";
  }
  static In gradient(const Args& a) { return {a.dy.data, fused_y_count(a.s, a.fusion) * 4}; }
  static int64_t saved_bytes(const Args&) { return 0; }
};

Entry<Conv2dBackwardInput> conv2d_backward_input() { return Listed<BackwardInputWays>::entry(); }

}  // namespace warploom::v5
