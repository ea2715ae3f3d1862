// conv2d_backward_weight.cu (v2): dw[k, oc] = sum over pixels of gathered x[pixel, k] * dy[pixel, oc], k = (tap, input channel):
//   a GEMM over pixels
// Layout: dy [N, OH, OW, C_out], x [N, H, W, C_in], dw hwio [KH, KW, C_in/groups, C_out]; both factors are contiguous where they
//   are loaded.
// One block owns a BM x BN tile of dw and one run of pixels, one thread a register tile; runs meet in a second pass of fixed
//   order.
// From v1: shared-memory and register tiles, and the pixels split over blocks, so that few weights still fill the GPU.
// Expected bottleneck: FFMA issue.
// Preconditions: no fusion; workspace of w_count() floats per run, at most kPartialsLimit.
#include <algorithm>

#include "../common/fast_divisor.cuh"
#include "../common/preconditions.h"
#include "entries.h"
#include "grouped.h"
#include "partials.h"
#include "register_tile.cuh"

namespace warploom::v2 {

struct WeightGemm {
  int64_t pixels = 0, run = 0;  // all pixels; those of one run (a multiple of BK, fewer in the last)
  int groups = 1, C_group = 0, O_group = 0, K = 0;
  int H = 0, W = 0, C_in = 0, OH = 0, OW = 0, C_out = 0;
  int stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
  uint32_t x_image = 0, x_step_h = 0, x_step_w = 0;  // elements of x from one image, oh, ow to the next
  bool vector_n = false;
  FastDivisor by_image, by_col, by_channel, by_tap;  // OH * OW, OW, C_in/groups, KW
};

// kVector: four neighbouring k lie within one tap and are one 16-byte load; in the large tiles so are four neighbouring n.
template <class T, bool kVector>
__global__ __launch_bounds__(T::kThreads, T::kBlocksPerMultiprocessor) void conv2d_backward_weight_kernel(
    WeightGemm g, const float* __restrict__ dy,  // [N, OH, OW, C_out]
    const float* __restrict__ x,                 // [N, H, W, C_in]
    float* __restrict__ partials) {              // [runs, KH, KW, C_in/groups, C_out]
  WL_SHARED(typename T::Shared, tile, [1]);      // gathered: x, filter: dy
  WL_SHARED(int, corner, [4]);                   // k0, n0, group, run: kept here while the loop needs every register
  static_assert(T::kThreads % (T::BM / 4) == 0, "a thread's k does not depend on the load");
  const int t = static_cast<int>(threadIdx.x);
  const int n_tiles = (g.O_group + T::BN - 1) / T::BN, k_tiles = (g.K + T::BM - 1) / T::BM;
  int block = static_cast<int>(blockIdx.x);
  const int n0 = block % n_tiles * T::BN;
  block /= n_tiles;
  const int k0 = block % k_tiles * T::BM;
  block /= k_tiles;
  const int group = block % g.groups, run = block / g.groups;

  // Pixels and offsets are counted from the first image of the run, so that 32 bits hold them.
  const int image = g.OH * g.OW;
  const int64_t first_image = run * g.run / image;
  const int begin = static_cast<int>(run * g.run - first_image * image);
  const int64_t rest = g.pixels - run * g.run;
  const int end = begin + static_cast<int>(rest < g.run ? rest : g.run);
  x += first_image * g.H * g.W * g.C_in + group * g.C_group;
  dy += first_image * image * g.C_out + group * g.O_group;

  const bool vector_n = (kVector && T::BN >= 64) || g.vector_n;
  // This thread's four rows of the tile, for all pixels: (tap, channel) -> offsets.
  constexpr int kRows = kVector ? 1 : 4;
  int row_offset[kRows], col_offset[kRows];
  uint32_t x_offset[kRows];
  const int my_k = k0 + t % (T::BM / 4) * 4;
  WL_UNROLL
  for (int e = 0; e < kRows; ++e) {
    const int tap = g.by_channel.quotient(my_k + e), c = g.by_channel.remainder(my_k + e, tap);
    const int kh = g.by_tap.quotient(tap), kw = g.by_tap.remainder(tap, kh);
    row_offset[e] = my_k + e < g.K ? kh - g.pad_top : -g.H - g.OH * g.stride_h;  // outside the image from every pixel
    col_offset[e] = kw - g.pad_left;
    x_offset[e] = static_cast<uint32_t>(((kh - g.pad_top) * g.W + col_offset[e]) * g.C_in + c);
  }

  float next_x[T::kGathers][4], next_dy[T::kFilters][4];
  auto fetch = [&](int p0) {
    WL_UNROLL
    for (int l = 0; l < T::kGathers; ++l) {
      const int p = p0 + (t + l * T::kThreads) / (T::BM / 4);
      const int n = g.by_image.quotient(p), inside = g.by_image.remainder(p, n);
      const int oh = g.by_col.quotient(inside), ow = g.by_col.remainder(inside, oh);
      const uint32_t at = n * g.x_image + oh * g.x_step_h + ow * g.x_step_w;
      WL_UNROLL
      for (int e = 0; e < kRows; ++e) {
        const int row = oh * g.stride_h + row_offset[e], col = ow * g.stride_w + col_offset[e];
        const bool covered = p < end && static_cast<unsigned>(row) < static_cast<unsigned>(g.H) &&
                             static_cast<unsigned>(col) < static_cast<unsigned>(g.W);
        const float* pixel = x + static_cast<uint32_t>(at + x_offset[e]);
        if constexpr (kVector)
          assign4(next_x[l], covered, pixel);
        else
          next_x[l][e] = covered ? *pixel : 0.0f;
      }
    }
    WL_UNROLL
    for (int l = 0; l < T::kFilters; ++l) {
      const int item = t + l * T::kThreads;
      const int p = p0 + item / (T::BN / 4), n = n0 + item % (T::BN / 4) * 4;
      assign_upto4(next_dy[l], p < end && item < T::BN * T::BK / 4 ? g.O_group - n : 0, vector_n,
                   dy + static_cast<uint32_t>(p * static_cast<uint32_t>(g.C_out) + n));
    }
  };
  auto store = [&] {
    WL_UNROLL
    for (int l = 0; l < T::kGathers; ++l) {
      const float* v = next_x[l];
      store4(&tile[0].gathered[(t + l * T::kThreads) / (T::BM / 4)][t % (T::BM / 4) * 4], make_float4(v[0], v[1], v[2], v[3]));
    }
    WL_UNROLL
    for (int l = 0; l < T::kFilters; ++l) {
      const int item = t + l * T::kThreads;
      const float* v = next_dy[l];
      if (item < T::BN * T::BK / 4)
        store4(&tile[0].filter[item / (T::BN / 4)][item % (T::BN / 4) * 4], make_float4(v[0], v[1], v[2], v[3]));
    }
  };

  if (t == 0) corner[0] = k0, corner[1] = n0, corner[2] = group, corner[3] = run;
  float sum[T::TM][T::TN];
  clear<T>(sum);
  fetch(begin);
  for (int left = end - begin; left > 0; left -= T::BK) {
    store();
    __syncthreads();
    fetch(end - left +
          T::BK);  // without a branch, or it would sink below the arithmetic it hides behind; past the end it loads nothing
    multiply_tiles<T>(tile[0], sum);
    __syncthreads();
  }

  if (begin >= end) __syncthreads();  // for corner
  partials += static_cast<int64_t>(corner[3]) * g.K * g.C_out + corner[2] * g.O_group;
  const int first_k = corner[0] + thread_m<T>() * T::kVectorM, first_n = corner[1] + thread_n<T>() * T::kVectorN;
  WL_UNROLL
  for (int r = 0; r < T::TM; ++r) {
    const int k = first_k + r / T::kVectorM * T::kSpreadM + r % T::kVectorM;
    if (k >= g.K) continue;
    float* row = partials + static_cast<int64_t>(k) * g.C_out;
    WL_UNROLL
    for (int q = 0; q < T::TN / T::kVectorN; ++q)
      store_columns<T>(row, first_n + q * T::kSpreadN, g.O_group, vector_n, sum[r] + q * T::kVectorN);
  }
}

// Runs so that about kTargetBlocks blocks share the work, a run is not too short, and the partial sums fit their limit.
constexpr int64_t kTargetBlocks = 512, kShortestRun = 256;

// A run begins within its first image and may end within another; offsets from its first image stay below 2^32.
inline int64_t longest_run(const Conv2dShape& s) {
  const int64_t pixels = int64_t(s.OH) * s.OW, largest = std::max(int64_t(s.H) * s.W * s.C_in, pixels * s.C_out);
  return std::min(pixels * std::max((int64_t(1) << 32) / largest - 2, int64_t(1)), int64_t(1) << 30);
}

struct WeightPlan {
  int64_t run = 0, blocks = 0;
  int runs = 1;
};

template <class T>
int64_t tiles_of(const Conv2dShape& s) {
  const int64_t K = int64_t(s.C_in / s.groups) * s.KH * s.KW;
  return (K + T::BM - 1) / T::BM * ((s.C_out / s.groups + T::BN - 1) / T::BN) * s.groups;
}

template <class T>
WeightPlan plan_for(const Conv2dShape& s) {
  const int64_t pixels = int64_t(s.N) * s.OH * s.OW, tiles = tiles_of<T>(s);
  int64_t runs = (kTargetBlocks + tiles - 1) / tiles;
  runs = std::min(runs, (pixels + kShortestRun - 1) / kShortestRun);
  runs = std::min(runs, kPartialsLimit / (s.w_count() * 4));
  runs = std::max({runs, (pixels + longest_run(s) - 1) / longest_run(s), int64_t(1)});
  WeightPlan p;
  p.run = std::max((pixels + runs - 1) / runs, int64_t(1));
  p.run = (p.run + T::BK - 1) / T::BK * T::BK;
  p.runs = static_cast<int>(std::max((pixels + p.run - 1) / p.run, int64_t(1)));
  p.blocks = tiles * p.runs;
  return p;
}

// As choose_tile of implicit_gemm.cuh; here the rows are taps * channels and the runs of pixels make up for few tiles.
template <class Run>
auto choose_weight_tile(const Conv2dShape& s, Run run) {
  const int channels = s.C_out / s.groups;
  const int64_t K = int64_t(s.C_in / s.groups) * s.KH * s.KW;
  if (channels <= 4) return run(SliverTile());
  if (channels <= 16) return run(NarrowTile());
  if (channels <= 64 || K <= 64 || s.C_in / s.groups % 4 || channels % 4) return run(SquareTile());
  return run(TallTile());
}

static int runs_of(const Conv2dShape& s) {
  if (small_groups(s)) return grouped_splits(s);
  return choose_weight_tile(s, [&](auto tile) { return plan_for<decltype(tile)>(s).runs; });
}

static int64_t workspace_bytes(const Conv2dBackwardWeight& a) {
  const int runs = runs_of(a.s);
  return runs > 1 ? runs * a.s.w_count() * 4 : 0;
}

static void run(const Conv2dBackwardWeight& a, const Context& context) {
  const Conv2dShape& s = a.s;
  if (small_groups(s)) return grouped_backward_weight(a, context);
  WeightGemm g;
  g.pixels = int64_t(s.N) * s.OH * s.OW;
  g.groups = s.groups, g.C_group = s.C_in / s.groups, g.O_group = s.C_out / s.groups, g.K = g.C_group * s.KH * s.KW;
  g.H = s.H, g.W = s.W, g.C_in = s.C_in, g.OH = s.OH, g.OW = s.OW, g.C_out = s.C_out;
  g.stride_h = s.stride_h, g.stride_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.x_image = s.H * s.W * s.C_in, g.x_step_h = s.stride_h * s.W * s.C_in, g.x_step_w = s.stride_w * s.C_in;
  g.by_image = FastDivisor(s.OH * s.OW), g.by_col = FastDivisor(s.OW);
  g.by_channel = FastDivisor(g.C_group), g.by_tap = FastDivisor(s.KW);

  choose_weight_tile(s, [&](auto tile) {
    using T = decltype(tile);
    const WeightPlan p = plan_for<T>(s);
    g.run = p.run;
    float* partials = p.runs > 1 ? context.workspace.ptr() : a.dw.ptr();
    g.vector_n = g.O_group % 4 == 0 && aligned16(a.dy.data, partials);
    // What is not aligned takes a tile that can do without, in the runs that were planned.
    using Other = std::conditional_t<std::is_same_v<T, TallTile>, SquareTile, T>;
    auto start = [&](auto kernel, int64_t blocks, int threads) {
      launch(context, "v2::conv2d_backward_weight_kernel", kernel, dim3(blocks_for(blocks, 1)), dim3(threads), 0, g, a.dy.ptr(),
             a.x.ptr(), partials);
    };
    if (g.C_group % 4 == 0 && aligned16(a.x.data) && (T::BN < 64 || g.vector_n))
      start(conv2d_backward_weight_kernel<T, true>, p.blocks, T::kThreads);
    else
      start(conv2d_backward_weight_kernel<Other, false>, tiles_of<Other>(s) * p.runs, Other::kThreads);
    if (p.runs > 1) reduce_partials(context, partials, p.runs, s.w_count(), a.dw.ptr());
  });
}

Entry<Conv2dBackwardWeight> conv2d_backward_weight() {
  return {run, plain_conv2d<Conv2dBackwardWeight>, workspace_bytes, nullptr};
}

}  // namespace warploom::v2
