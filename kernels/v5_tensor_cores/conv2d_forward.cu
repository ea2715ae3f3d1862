// conv2d_forward.cu (v5): y = pool(activation(conv(upsample(x), w) + bias)) as an implicit GEMM on tensor cores: pixels x (taps *
//   channels) times (taps * channels) x output channels
// Layout: x [N, H, W, C_in], w hwio [KH, KW, C_in/groups, C_out], bias [C_out], y [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out]
//   and saved the same, one byte each: the maximum's position in its window, + 4 where y <= 0; zero padding, any groups.
// One block owns a tile of pixels x output channels of one group, a warp mma fragments of it (implicit_gemm.cuh).
// From v2: operands rounded to bf16, fp16 or tf32, products summed in float32 by mma.sync; bias, activation and 2x2 max pool in the
//   epilogue; a nearest upsample by 2 in the loads. Expected bottleneck: mma issue with many channels, memory with few.
// Preconditions: pool 1 or 2; workspace: the summed taps of an upsample (upsample_taps.h); bf16 and tf32 need sm_80, fp16 sm_75;
//   float32 and groups of up to 4 channels are v2's.
#include <algorithm>
#include <type_traits>

#include "algorithm.h"
#include "entries.h"
#include "few_channels.h"
#include "few_outputs.h"
#include "implicit_gemm.cuh"
#include "upsample_taps.h"

namespace warploom::v5 {

// The loads of single elements need more registers than four blocks leave.
template <class Tile, bool kFast>
constexpr int kForwardBlocks = kFast ? Tile::kBlocksPerMultiprocessor : (Tile::kBlocksPerMultiprocessor + 2) / 2;

// kGradient: x is a gradient, of an upsampling convolution (upsample_taps.h).
template <class Tile, bool kFast, bool kPool, bool kGradient>
__global__ __launch_bounds__(Tile::kThreads, kForwardBlocks<Tile, kFast>) void conv2d_forward_kernel(
    ImplicitGemm g, Epilogue epilogue, const void* __restrict__ x,  // [N, H, W, C_in]
    const float* __restrict__ w,                                    // [KH, KW, C_in/groups, C_out]
    const float* __restrict__ scale,                                // [1], of fp16 gradients
    unsigned char* __restrict__ saved,                              // [N, OH/2, OW/2, C_out] or null
    void* y) {                                                      // [N, OH, OW, C_out], may be epilogue.output
  if constexpr (!kCompiledHere<typename Tile::T>) return;
  implicit_gemm<Tile, false, kFast, kPool, kGradient>(g, x, w, epilogue, scale, saved, y);
}

template <class T, bool kGradient>
static void run_as(const Conv2dForward& a, const Context& context, const Epilogue& epilogue, const float* scale) {
  const Conv2dShape& s = a.s;
  ImplicitGemm g;
  const int pool = a.fusion.pool;
  g.pool = pool == 2;
  g.rows = s.OH / pool, g.cols = s.OW / pool;
  g.groups = s.groups, g.k_channels = s.C_in / s.groups, g.n_channels = s.C_out / s.groups;
  g.taps_h = g.w_height = s.KH, g.taps_w = g.w_width = s.KW;
  g.up = a.fusion.upsample - 1;
  g.src_H = s.H >> g.up, g.src_W = s.W >> g.up, g.src_C = s.C_in;
  g.out_H = g.rows, g.out_W = g.cols, g.out_C = s.C_out;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_inputs = g.k_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.x.data);
  g.vector_n = g.n_channels % 4 == 0 && aligned16(a.w.data);
  g.pairs_n = g.n_channels % 2 == 0 && aligned16(a.y.data, a.saved.data, epilogue.bias, epilogue.output);
  g.source_bytes = static_cast<int>(dtype_bytes(a.fusion.x_type)), g.out_bytes = static_cast<int>(dtype_bytes(a.fusion.y_type));
  g.by_image = FastDivisor(std::max(g.rows * g.cols, 1)), g.by_col = FastDivisor(std::max(g.cols, 1));
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(s.KW);

  const int64_t windows = int64_t(g.rows) * g.cols, pixels = windows * pool * pool;
  const int64_t x_image = int64_t(s.C_in) * g.src_H * g.src_W, y_image = s.C_out * windows;
  const int images = images_per_launch(s.N, x_image, y_image * pool * pool);
  auto launch_with = [&](auto tile, auto kernel) {
    using Tile = decltype(tile);
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + Tile::BM - 1) / Tile::BM * ((g.n_channels + Tile::BN - 1) / Tile::BN) * s.groups;
      launch(context, "v5::conv2d_forward_kernel", kernel, dim3(blocks_for(blocks, 1)), dim3(Tile::kThreads), Tile::kSharedBytes,
             g, from_image(epilogue, first * y_image), into_map(a.x.data, first * x_image, g.source_bytes), a.w.ptr(), scale,
             a.saved ? a.saved.ptr<unsigned char>() + first * y_image : nullptr,
             into_map(a.y.data, first * y_image, g.out_bytes));
    }
  };
  auto launch_tile = [&](auto pooled) {
    constexpr bool kPool = decltype(pooled)::value;
    using Wide = WideTile<T, true, false>;
    using Square = SquareTile<T, true, false>;
    using Narrow = NarrowTile<T, true, false>;
    const TileKind kind = choose_tile(pixels * s.N, g.n_channels, s.groups);
    if (kind == TileKind::narrow)
      return launch_with(Narrow(), fast_form<Narrow>(g) ? conv2d_forward_kernel<Narrow, true, kPool, kGradient>
                                                        : conv2d_forward_kernel<Narrow, false, kPool, kGradient>);
    if (kind == TileKind::wide && fast_form<Wide>(g))
      return launch_with(Wide(), conv2d_forward_kernel<Wide, true, kPool, kGradient>);
    launch_with(Square(), fast_form<Square>(g) ? conv2d_forward_kernel<Square, true, kPool, kGradient>
                                               : conv2d_forward_kernel<Square, false, kPool, kGradient>);
  };
  if constexpr (!kGradient)
    if (g.pool) return launch_tile(std::true_type());
  launch_tile(std::false_type());
}

void run_strided(const Conv2dForward& a, const Context& context, const Epilogue& epilogue, const float* scale) {
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) {
    using T = decltype(type);
    run_as<T, kScaled<T>>(a, context, epilogue, scale);
  });
}

static Epilogue epilogue_of(const Conv2dForward& a) { return {a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope}; }

static void run_few_channels(const Conv2dForward& a, const Context& context, const float*) {
  FewChannels few;
  takes_few_channels(a, few);
  few.out_bytes = static_cast<int>(dtype_bytes(a.fusion.y_type));
  few_channels_product(context, few, a.fusion.precision, a.x.ptr(), a.w.ptr(), nullptr, epilogue_of(a), a.y.data,
                       a.saved.ptr<unsigned char>());
}

static void run_columns(const Conv2dForward& a, const Context& context, const float*) { run_few_outputs(a, context); }

static void run_summed_taps(const Conv2dForward& a, const Context& context, const float*) {
  Conv2dBackwardInput transposed;
  transposed.s = adjoint_of(a.s), transposed.fusion = adjoint_of(a.fusion, a.fusion.x_type, a.fusion.y_type);
  transposed.dy = a.x, transposed.dx = a.y;
  transposed.w = summed_taps(a, context);
  run_transposed(transposed, context, epilogue_of(a));
}

static void run_implicit_gemm(const Conv2dForward& a, const Context& context, const float*) {
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision,
                                     [&](auto type) { run_as<decltype(type), false>(a, context, epilogue_of(a), nullptr); });
}

struct ForwardWays {
  using Args = Conv2dForward;
  static constexpr auto kEntry = &OpTable::conv2d_forward;
  static constexpr bool kGradient = false;
  static const auto& list() {
    static const Algorithm<Args> ways[] = {
        {WL_MMA_NAMES(", few channels"), few_channels_refusal<Args>, run_few_channels, nullptr},
        {WL_MMA_NAMES(", columns"), few_outputs_refusal<Args>, run_columns, nullptr},
        {WL_MMA_NAMES(", summed taps"), summed_taps_refusal<Args>, run_summed_taps, summing_bytes<Args>, summing_of<Args>},
        {WL_MMA_NAMES(""), [](const Args&) { return std::string(); }, run_implicit_gemm, nullptr},
    };
    return ways;
  }
  static std::string refusal(const Args& a) { return tensor_core_error(a, true); }
  static In gradient(const Args&) { return {}; }
  static int64_t saved_bytes(const Args& a) { return a.fusion.pool == 2 ? fused_y_count(a.s, a.fusion) : 0; }
};

Entry<Conv2dForward> conv2d_forward() { return Listed<ForwardWays>::entry(); }

}  // namespace warploom::v5
