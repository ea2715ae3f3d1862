// conv2d_backward_weight.cu (v5): dw[k, oc] = sum over pixels of gathered x[pixel, k] * unpooled dy[pixel, oc], k = (tap, input
//   channel): a GEMM over pixels on tensor cores
// Layout: dy [N, OH, OW, C_out] or, pooled, [N, OH/2, OW/2, C_out] with saved as the forward entry made it; x [N, H, W, C_in] (half of
//   it with an upsample folded in), dw hwio [KH, KW, C_in/groups, C_out]. Both factors are contiguous across the sum, which
//   ldmatrix.trans turns (tf32: single words).
// One block owns a BM x BN tile of dw and one run of pixels, a warp mma fragments of it; runs meet in a second pass, in order. Where db
//   is wanted, they sum dy too (bias_columns.cuh).
// From v2: operands rounded to bf16, fp16 (dy scaled to its range) or tf32, products summed in float32 by mma.sync. Expected
//   bottleneck: mma
//   issue.
// Preconditions: an activation only with a pool; workspace: fp16's scale, then w_count() floats per run, at most kPartialsLimit, or
//   those of an upsample's summed taps (upsample_taps.h); bf16 and tf32 need sm_80, fp16 sm_75; float32 and groups of up to 4 channels are v2's.
#include <algorithm>

#include "../common/fast_divisor.cuh"
#include "algorithm.h"
#include "bias_columns.cuh"
#include "choice.h"
#include "entries.h"
#include "few_channels.h"
#include "gradient_scale.cuh"
#include "table.h"
#include "tensor_tile.cuh"
#include "upsample_taps.h"

namespace warploom::v5 {

struct WeightGemm {
  int64_t pixels = 0, run = 0;  // all pixels; those of one run (a multiple of BK, fewer in the last)
  int groups = 1, C_group = 0, O_group = 0, K = 0;
  int H = 0, W = 0, C_in = 0, OH = 0, OW = 0, C_out = 0;  // H x W: of the convolution's input, after an upsample
  int stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
  int up = 0;                     // 1: x is [N, H / 2, W / 2, C_in]
  float negative_slope = 0.0f;    // of an activation before a pool
  int x_bytes = 4, dy_bytes = 4;  // of an element (half_map.cuh)
  bool vector_x = false, vector_n = false, pairs_n = false;
  FastDivisor by_image, by_col, by_channel, by_tap;  // OH * OW, OW, C_in/groups, KW
};

// kVector: four neighbouring k lie within one tap and are one 16-byte load, and so are four neighbouring n.
// kFromX: the gradient is x, not dy.
template <class Tile, bool kVector, bool kUnpool, bool kFromX>
struct PixelLoader {
  static constexpr bool kKnowsColumns = true, kIsGradient = true, kGradientIsA = kFromX, kUnpools = kUnpool;
  using T = typename Tile::T;
  using A = typename Tile::A;
  using B = typename Tile::B;
  static constexpr int kColumns = kVector ? 1 : 4;
  static constexpr bool kHalves = T::kBytes == 2;
  const WeightGemm& g;
  const void* x;               // from the run's first image and the group's first channel
  const void* dy;              // the same
  const unsigned char* codes;  // kUnpool: of dy
  float gradient_scale;
  int p, end;  // pixels, counted from the run's first image
  int n;       // this thread's first column of dy
  int row_reach[kColumns], col_reach[kColumns], channel[kColumns];

  __device__ __forceinline__ PixelLoader(const WeightGemm& g_, const void* x_, const void* dy_, const unsigned char* codes_,
                                         float scale_, int k0, int n0, int begin, int end_)
      : g(g_), x(x_), dy(dy_), codes(codes_), gradient_scale(scale_), p(begin), end(end_), n(n0 + item_column<B>()) {
    WL_UNROLL
    for (int e = 0; e < kColumns; ++e) {
      const int k = k0 + item_column<A>() + (Tile::kAsync && !a_vector() ? shared_element(e) : e);
      const int tap = g.by_channel.quotient(k), kh = g.by_tap.quotient(tap);
      channel[e] = g.by_channel.remainder(k, tap);
      row_reach[e] = k < g.K ? kh - g.pad_top : -g.H - g.OH * g.stride_h;  // outside the image from every pixel
      col_reach[e] = g.by_tap.remainder(tap, kh) - g.pad_left;
    }
  }
  // A gradient that is scaled is float32 (gradient_type()).
  __device__ __forceinline__ int a_bytes() const { return kHalves && !(kScaled<T> && kFromX) ? g.x_bytes : 4; }
  __device__ __forceinline__ int b_bytes() const { return kHalves && !(kScaled<T> && !kFromX) ? g.dy_bytes : 4; }
  __device__ __forceinline__ bool a_vector() const { return kVector || g.vector_x; }
  __device__ __forceinline__ bool b_vector() const { return kVector || g.vector_n; }
  __device__ __forceinline__ bool a_at(int l, int e, const void*& to) const {
    const int q = p + item_row<A, Tile::kThreads>(l), column = kVector ? 0 : e;
    const int image = g.by_image.quotient(q), at = g.by_image.remainder(q, image);
    const int oh = g.by_col.quotient(at), ow = g.by_col.remainder(at, oh);
    const int row = oh * g.stride_h + row_reach[column], col = ow * g.stride_w + col_reach[column];
    const uint32_t pixel =
        (static_cast<uint32_t>(image) * static_cast<uint32_t>(g.H >> g.up) + static_cast<uint32_t>(row >> g.up)) *
            static_cast<uint32_t>(g.W >> g.up) +
        static_cast<uint32_t>(col >> g.up);
    to = element_at<T>(x, static_cast<uint32_t>(pixel * static_cast<uint32_t>(g.C_in) + static_cast<uint32_t>(channel[column])),
                       a_bytes());
    return q < end && static_cast<unsigned>(row) < static_cast<unsigned>(g.H) &&
           static_cast<unsigned>(col) < static_cast<unsigned>(g.W);
  }
  __device__ __forceinline__ float scale() const { return gradient_scale; }
  __device__ __forceinline__ float negative_slope() const { return g.negative_slope; }
  // Where item l's pixel stands in dy, counted in pixels, and whether it does; a pool's last odd row and column are in no window.
  __device__ __forceinline__ bool gradient_pixel(int l, uint32_t& at, int& position) const {
    const int q = p + item_row<B, Tile::kThreads>(l);
    at = static_cast<uint32_t>(q), position = 0;
    if constexpr (!kUnpool) return q < end;
    const int image = g.by_image.quotient(q), in_image = g.by_image.remainder(q, image);
    const int oh = g.by_col.quotient(in_image), ow = g.by_col.remainder(in_image, oh);
    position = oh % 2 * 2 + ow % 2;
    const int rows = g.OH / 2, cols = g.OW / 2;
    at = (static_cast<uint32_t>(image) * static_cast<uint32_t>(rows) + static_cast<uint32_t>(oh / 2)) *
             static_cast<uint32_t>(cols) +
         static_cast<uint32_t>(ow / 2);
    return q < end && oh / 2 < rows && ow / 2 < cols;
  }
  __device__ __forceinline__ bool b_at(int l, int e, const void*& to) const {
    uint32_t at;
    int position;
    const bool inside = gradient_pixel(l, at, position);
    to = element_at<T>(dy, static_cast<uint32_t>(at * static_cast<uint32_t>(g.C_out) + static_cast<uint32_t>(n + e)), b_bytes());
    return inside && n + e < g.O_group;
  }
  __device__ __forceinline__ GradientItem gradient_item(int l, bool vector) const {
    GradientItem item;
    uint32_t at;
    const bool inside = gradient_pixel(l, at, item.position);
    const unsigned char* from = codes + static_cast<uint32_t>(at * static_cast<uint32_t>(g.C_out) + static_cast<uint32_t>(n));
    if (vector) {
      if (inside && n < g.O_group) item.codes = *reinterpret_cast<const uint32_t*>(from);
    } else {
      WL_UNROLL
      for (int e = 0; e < 4; ++e)
        if (inside && n + e < g.O_group) item.codes |= static_cast<uint32_t>(from[e]) << (8 * e);
    }
    return item;
  }
  __device__ __forceinline__ void advance() { p += Tile::BK; }
};

// Two maps, each of which may be in 16 bits, need more registers than four blocks leave.
template <class Tile, bool kVector, bool kUnpool>
constexpr int kWeightBlocks =
    kVector && Tile::T::kBytes == 2 && kGradientBlocks<Tile, kVector, kUnpool> > 3 ? 3 : kGradientBlocks<Tile, kVector, kUnpool>;

template <class Tile, bool kVector, bool kUnpool, bool kFromX>
__global__ __launch_bounds__(Tile::kThreads, kWeightBlocks<Tile, kVector, kUnpool>) void conv2d_backward_weight_kernel(
    WeightGemm g, const void* __restrict__ dy,  // [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out]
    const void* __restrict__ x,                 // [N, H, W, C_in]
    const float* __restrict__ scale,            // [1], of fp16
    const unsigned char* __restrict__ saved,    // [N, OH/2, OW/2, C_out] of a pool
    float* __restrict__ partials,               // [runs, KH, KW, C_in/groups, C_out]
    BiasColumns bias) {
  using T = typename Tile::T;
  if constexpr (!kCompiledHere<T>) return;
  const int n_tiles = (g.O_group + Tile::BN - 1) / Tile::BN, k_tiles = (g.K + Tile::BM - 1) / Tile::BM;
  int block = static_cast<int>(blockIdx.x);
  const int n0 = block % n_tiles * Tile::BN;
  block /= n_tiles;
  const int k0 = block % k_tiles * Tile::BM;
  block /= k_tiles;
  const int group = block % g.groups, run = block / g.groups;

  // Pixels and offsets are counted from the first image of the run, so that 32 bits hold them.
  const int image = g.OH * g.OW;
  const int64_t first_image = run * g.run / image;
  const int begin = static_cast<int>(run * g.run - first_image * image);
  const int64_t rest = g.pixels - run * g.run;
  const int end = begin + static_cast<int>(rest < g.run ? rest : g.run);

  float sum[Tile::MT][Tile::NT][4];
  float gradient_scale = 1.0f;
  if constexpr (kScaled<T>) gradient_scale = *scale;
  {
    const int64_t first_gradient = first_image * (kUnpool ? (g.OH / 2) * (g.OW / 2) : image) * g.C_out + group * g.O_group;
    PixelLoader<Tile, kVector, kUnpool, kFromX> from(
        g, element_at<T>(x, first_image * (g.H >> g.up) * (g.W >> g.up) * g.C_in + group * g.C_group, g.x_bytes),
        element_at<T>(dy, first_gradient, g.dy_bytes), saved + first_gradient, gradient_scale, k0, n0, begin, end);
    multiply_stream<Tile>(from, (end - begin + Tile::BK - 1) / Tile::BK, sum);
  }
  const float unscale = reciprocal_of_power(gradient_scale);

  partials += static_cast<int64_t>(run) * g.K * g.C_out + group * g.O_group;
  const int first_n = n0 + first_column<Tile>();
  for_each_row<Tile>([&](int i, int half, int in_tile) {
    const int k = k0 + in_tile;
    if (k >= g.K) return;
    float* to = partials + static_cast<int64_t>(k) * g.C_out;
    WL_UNROLL
    for (int j = 0; j < Tile::NT; ++j)
      store_pair(to, first_n + 8 * j, g.O_group, g.pairs_n, sum[i][j][2 * half] * unscale, sum[i][j][2 * half + 1] * unscale);
  });
  static_assert(16 * Tile::kThreads <= Tile::kSharedBytes, "four sums of each thread");
  WL_DYNAMIC_SHARED(unsigned char, shared);
  sum_bias_columns<T, Tile::kThreads>(bias, shared);
}

// Runs so that about kTargetBlocks blocks share the work, a run is not too short, and the partial sums fit their limit: of the
// autoencoder's layers that is one wave of 128 x 128 tiles, of which a multiprocessor holds one.
constexpr int64_t kTargetBlocks = 264, kShortestRun = 256, kPartialsLimit = int64_t(8) << 20;

// A run begins within its first image and may end within another; offsets from its first image stay below 2^32.
inline int64_t longest_run(const Conv2dShape& s) {
  const int64_t pixels = int64_t(s.OH) * s.OW, largest = std::max(int64_t(s.H) * s.W * s.C_in, pixels * s.C_out);
  return std::min(pixels * std::max((int64_t(1) << 32) / largest - 2, int64_t(1)), int64_t(1) << 30);
}

struct WeightPlan {
  int64_t run = 0, blocks = 0;
  int runs = 1;
};

template <class Tile>
int64_t tiles_of(const Conv2dShape& s) {
  const int64_t K = int64_t(s.C_in / s.groups) * s.KH * s.KW;
  return (K + Tile::BM - 1) / Tile::BM * ((s.C_out / s.groups + Tile::BN - 1) / Tile::BN) * s.groups;
}

template <class Tile>
WeightPlan plan_for(const Conv2dShape& s) {
  const int64_t pixels = int64_t(s.N) * s.OH * s.OW, tiles = tiles_of<Tile>(s);
  int64_t runs = (kTargetBlocks + tiles - 1) / tiles;
  runs = std::min(runs, (pixels + kShortestRun - 1) / kShortestRun);
  runs = std::min(runs, kPartialsLimit / (s.w_count() * 4));
  runs = std::max({runs, (pixels + longest_run(s) - 1) / longest_run(s), int64_t(1)});
  WeightPlan p;
  p.run = std::max((pixels + runs - 1) / runs, int64_t(1));
  p.run = (p.run + 31) / 32 * 32;  // BK of every operand type divides it, so that all precisions plan alike
  p.runs = static_cast<int>(std::max((pixels + p.run - 1) / p.run, int64_t(1)));
  p.blocks = tiles * p.runs;
  return p;
}

// Calls run(tile): as choose_tile of implicit_gemm.cuh; here the rows are taps * channels, and runs of pixels make up for few tiles.
template <class T, bool kUnpool, class Run>
auto with_weight_tile(const Conv2dShape& s, Run run) {
  const int channels = s.C_out / s.groups;
  const int64_t K = int64_t(s.C_in / s.groups) * s.KH * s.KW;
  if (channels <= 16) return run(NarrowTile<T, false, false, kUnpool>());
  if (channels <= 64 || K <= 64 || s.C_in / s.groups % 4 || channels % 4) return run(SquareTile<T, false, false, kUnpool>());
  return run(WideTile<T, false, false, kUnpool>());
}

// The gradient of the summed taps of an upsampling convolution: dy and x exchange their roles.
static Conv2dBackwardWeight strided_of(const Conv2dBackwardWeight& a, void* dw) {
  Conv2dBackwardWeight t;
  t.s = adjoint_of(a.s), t.fusion = adjoint_of(a.fusion, a.fusion.x_type, gradient_type(a.fusion.y_type));
  t.x = a.dy, t.dy = a.x;
  t.dw = Out{dw, summed_bytes(a.s)};
  return t;
}

static int runs_of(const Conv2dBackwardWeight& a) {
  return with_weight_tile<Bf16, false>(a.s, [&](auto tile) { return plan_for<decltype(tile)>(a.s).runs; });
}
static float* sums_of(const Conv2dBackwardWeight& a, const Context& context) {
  return a.sums ? a.sums.ptr() : context.workspace.ptr();
}

// Leaves the partial sums of its runs in `sums`; of one run dw itself. bias: of the layer, whose gradient may be a's x.
template <class T, bool kUnpool, bool kFromX>
static void run_as(const Conv2dBackwardWeight& a, const Context& context, const float* scale, float* sums,
                   const BiasColumns& bias) {
  const Conv2dShape& s = a.s;
  WeightGemm g;
  g.pixels = int64_t(s.N) * s.OH * s.OW;
  g.groups = s.groups, g.C_group = s.C_in / s.groups, g.O_group = s.C_out / s.groups, g.K = g.C_group * s.KH * s.KW;
  g.H = s.H, g.W = s.W, g.C_in = s.C_in, g.OH = s.OH, g.OW = s.OW, g.C_out = s.C_out;
  g.stride_h = s.stride_h, g.stride_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.up = a.fusion.upsample - 1;
  g.by_image = FastDivisor(s.OH * s.OW), g.by_col = FastDivisor(s.OW);
  g.by_channel = FastDivisor(g.C_group), g.by_tap = FastDivisor(s.KW);
  g.x_bytes = static_cast<int>(dtype_bytes(kFromX ? gradient_type(a.fusion.x_type) : a.fusion.x_type));
  g.dy_bytes = static_cast<int>(dtype_bytes(kFromX ? a.fusion.y_type : gradient_type(a.fusion.y_type)));
  g.vector_x = g.C_group % 4 == 0 && aligned16(a.x.data);
  g.vector_n = g.O_group % 4 == 0 && aligned16(a.dy.data, a.saved.data);
  g.negative_slope = a.fusion.activation == Activation::leaky_relu ? a.fusion.negative_slope : 0.0f;

  with_weight_tile<T, kUnpool>(s, [&](auto tile) {
    using Tile = decltype(tile);
    const WeightPlan p = plan_for<Tile>(s);
    g.run = p.run;
    float* partials = p.runs > 1 ? sums : a.dw.ptr();
    g.pairs_n = g.O_group % 2 == 0 && aligned16(partials);
    auto launch_with = [&](auto of, auto kernel) {
      using Taken = decltype(of);
      launch(context, "v5::conv2d_backward_weight_kernel", kernel, dim3(blocks_for(tiles_of<Taken>(s) * p.runs, 1)),
             dim3(Taken::kThreads), Taken::kSharedBytes, g, a.dy.data, a.x.data, scale, a.saved.ptr<unsigned char>(), partials,
             bias);
    };
    const bool vector = g.vector_x && g.vector_n;
    if constexpr (Tile::BN >= 64) {
      // What is not aligned takes the square tile, which can do without, in the runs that were planned.
      using Square = SquareTile<T, false, false, kUnpool>;
      if (vector)
        launch_with(tile, conv2d_backward_weight_kernel<Tile, true, kUnpool, kFromX>);
      else
        launch_with(Square(), conv2d_backward_weight_kernel<Square, false, kUnpool, kFromX>);
    } else {
      launch_with(tile, conv2d_backward_weight_kernel<Tile, false, kUnpool, kFromX>);
    }
  });
}

// Behind what a rest has already.
static void add_bias(Rest& rest, const Conv2dBackwardWeight& a) {
  const BiasColumns b = bias_columns(a);
  if (b.runs > 1) rest.add(ErrandKind::add_runs, b.runs, b.channels, a.db);
}
// The columns of db with the place of their sums, the last of the rest.
static BiasColumns placed_columns(const Conv2dBackwardWeight& a, const Rest& rest, float* sums) {
  BiasColumns b = bias_columns(a);
  b.partials = b.runs > 1 ? sums + reinterpret_cast<intptr_t>(rest.list[rest.count - 1].from.data) / 4 : a.db.ptr();
  return b;
}

static void run_few_channels(const Conv2dBackwardWeight& a, const Context& context, const float* scale) {
  FewChannels few;
  takes_few_channels(a, few);
  const float slope = a.fusion.activation == Activation::leaky_relu ? a.fusion.negative_slope : 0.0f;
  few.others_bytes = static_cast<int>(dtype_bytes(few.mirrored ? a.fusion.x_type : gradient_type(a.fusion.y_type)));
  few_channels_weight(context, few, a.fusion.precision, few.mirrored ? a.dy.ptr() : a.x.ptr(),
                      few.mirrored ? a.x.data : a.dy.data, scale, a.saved.ptr<unsigned char>(), slope, sums_of(a, context),
                      a.dw.ptr(), a.db.ptr(), a.with_db);
}

static Rest few_channels_rest(const Conv2dBackwardWeight& a) {
  FewChannels few;
  takes_few_channels(a, few);
  return few_channels_weight_rest(few, a.dw, a.db, a.with_db);
}

static Rest summed_taps_rest(const Conv2dBackwardWeight& a) {
  Rest rest;
  rest.add(ErrandKind::turn_and_spread_runs, runs_of(strided_of(a, nullptr)), int64_t(16) * a.s.C_in * a.s.C_out, a.dw);
  rest.list[0].n = a.s.C_out, rest.list[0].k = a.s.C_in;
  add_bias(rest, a);
  return rest;
}
static void run_summed_taps(const Conv2dBackwardWeight& a, const Context& context, const float* scale) {
  float* const sums = sums_of(a, context);
  const Conv2dBackwardWeight strided = strided_of(a, sums);  // in the place of its first run
  const BiasColumns bias = placed_columns(a, summed_taps_rest(a), sums);
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) {
    using T = decltype(type);
    run_as<T, false, kScaled<T>>(strided, context, scale, sums, bias);
  });
}

static Rest implicit_gemm_rest(const Conv2dBackwardWeight& a) {
  Rest rest;
  const int runs = runs_of(a);
  if (runs > 1) rest.add(ErrandKind::add_runs, runs, a.s.w_count(), a.dw);
  add_bias(rest, a);
  return rest;
}
static void run_implicit_gemm(const Conv2dBackwardWeight& a, const Context& context, const float* scale) {
  float* const sums = sums_of(a, context);
  const BiasColumns bias = placed_columns(a, implicit_gemm_rest(a), sums);
  with_operand_type<Bf16, F16, Tf32>(a.fusion.precision, [&](auto type) {
    using T = decltype(type);
    a.fusion.pool == 2 ? run_as<T, true, false>(a, context, scale, sums, bias)
                       : run_as<T, false, false>(a, context, scale, sums, bias);
  });
}

struct BackwardWeightWays {
  using Args = Conv2dBackwardWeight;
  static constexpr auto kEntry = &OpTable::conv2d_backward_weight;
  static constexpr bool kGradient = true;
  static const auto& list() {
    static const Algorithm<Args> ways[] = {
        {WL_MMA_NAMES(", few channels"), few_channels_refusal<Args>, run_few_channels, nullptr, nullptr, few_channels_rest},
        {WL_MMA_NAMES(", summed taps"), summed_taps_refusal<Args>, run_summed_taps, nullptr, nullptr, summed_taps_rest},
        {WL_MMA_NAMES(""), [](const Args&) { return std::string(); }, run_implicit_gemm, nullptr, nullptr, implicit_gemm_rest},
    };
    return ways;
  }
  static std::string refusal(const Args& a) { return tensor_core_error(a, false); }
  static In gradient(const Args& a) { return {a.dy.data, fused_y_count(a.s, a.fusion) * 4}; }
  static int64_t saved_bytes(const Args&) { return 0; }
};

Entry<Conv2dBackwardWeight> conv2d_backward_weight() { return Listed<BackwardWeightWays>::entry(); }

}  // namespace warploom::v5
