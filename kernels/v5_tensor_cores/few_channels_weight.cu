// few_channels_weight.cu (v5): dw[k, n] = sum over pixels of window[pixel, k] * others[pixel, n], k = (tap, channel) with at most 4 channels:
//   the gradient of the weights of a layer with few inputs (others: dy, unpooled) or few outputs (others: x, windows of dy mirrored)
// Layout: map [N, src_H, src_W, channels], others [N, rows, cols, others] and, of a pool, codes the same; partials [runs][k][others]; dw
//   hwio: [KH, KW, channels, others] or, mirrored, [KH, KW, others, channels]. bias [runs][others] or, mirrored, [runs][channels]: db.
// One block owns all k, a tile of the others and a run of boxes of pixels, a warp fragments of it; runs meet in a second pass, in order.
// db: others are summed on their way, before they are rounded; of the map each run sums its share once more, it is small.
// From conv2d_backward_weight.cu: windows are gathered from staged rows (few_channels.cuh); others are read once, of a pool too: a maximum
//   and its code become the four pixels of their window on the way into shared memory. Expected bottleneck: reading the others.
// Preconditions: few_channels_weight_fits; bf16 and tf32 need sm_80, fp16 sm_75.
#include <type_traits>

#include "../common/reduce.cuh"
#include "entries.h"
#include "few_channels.cuh"
#include "gradient_scale.cuh"
#include "table.h"

namespace warploom::v5 {
inline namespace few_channels_weight_kernels {

// 64 of the others: twice as many would take half as many windows, but twice as many runs for as many blocks, and each writes its sums.
template <class T, int BM>
using WeightTile = TensorTile<T, BM, 64, 1, 4, false, false, BM == 64 ? 2 : 4, true>;
constexpr int kTileColumns = 64;

template <class Tile>
int shared_bytes(const FewChannels& g) {
  return 2 * Tile::B::kBytes + kBoxPixels / Tile::BK * Tile::A::kBytes + 4 * (g.staged_floats + g.offsets);
}

// The sums of a run's share of the map's pixels. shared: kFewChannels floats for each warp.
__device__ __forceinline__ void sum_map(const FewChannels& g, int run, int runs, const float* __restrict__ map, float* shared,
                                        float* __restrict__ bias) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int64_t pixels = static_cast<int64_t>(g.images) * g.src_H * g.src_W, share = (pixels + runs - 1) / runs;
  const int64_t end = min((run + 1) * share, pixels);
  float sum[kFewChannels] = {};
  for (int64_t p = run * share + thread; p < end; p += kBoxPixels) {
    WL_UNROLL
    for (int c = 0; c < kFewChannels; ++c)
      if (c < g.channels) sum[c] += map[p * g.channels + c];
  }
  WL_UNROLL
  for (int c = 0; c < kFewChannels; ++c) {
    sum[c] = warp_sum(sum[c]);
    if (thread % 32 == 0) shared[warp * kFewChannels + c] = sum[c];
  }
  __syncthreads();
  if (thread >= g.channels) return;
  float total = shared[thread];
  for (int w = 1; w < kBoxPixels / 32; ++w) total += shared[w * kFewChannels + thread];
  bias[static_cast<int64_t>(run) * g.channels + thread] = total;
}

template <class Tile, int kCopies, bool kPool, bool kMapIsGradient>
__global__ __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor) void conv2d_few_channels_weight_kernel(
    FewChannels g, int boxes_per_run, float negative_slope,
    const float* __restrict__ map,            // [N, src_H, src_W, channels]
    const void* __restrict__ others,          // [N, rows, cols, others]
    const float* __restrict__ scale,          // [1], of fp16
    const unsigned char* __restrict__ codes,  // [N, rows, cols, others] of a pool
    float* __restrict__ partials,             // [runs, k, others]
    float* __restrict__ bias) {               // [runs, others or, mirrored, channels], or null
  using T = typename Tile::T;
  if constexpr (!kCompiledHere<T>) return;
  using A = typename Tile::A;
  using B = typename Tile::B;
  constexpr int kElements = 16 / T::kBytes, kSteps = kBoxPixels / Tile::BK;
  constexpr int kPixels = kPool ? 4 : 1, kRows = Tile::BK / kPixels;  // rows of others in a step, each of one pixel or window
  constexpr int kItems = (kRows * B::kQuads + Tile::kThreads - 1) / Tile::kThreads;
  static_assert(Tile::kThreads == kBoxPixels, "a thread builds the row of one pixel");
  WL_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const windows = shared + 2 * B::kBytes;
  float* const staged = reinterpret_cast<float*>(windows + kSteps * A::kBytes);
  int* const offsets = reinterpret_cast<int*>(staged + g.staged_floats);
  const int thread = static_cast<int>(threadIdx.x), column = thread % B::kQuads * 4, first_row = thread / B::kQuads;

  const int tiles = (g.others + Tile::BN - 1) / Tile::BN;
  const int run = static_cast<int>(blockIdx.x) / tiles, n0 = (static_cast<int>(blockIdx.x) - run * tiles) * Tile::BN;
  const int begin = run * boxes_per_run, end = min(begin + boxes_per_run, static_cast<int>(g.boxes));

  // A gradient that is scaled is float32 (gradient_type()).
  const int bytes = T::kBytes == 2 && (kMapIsGradient || !kScaled<T>) ? g.others_bytes : 4;
  float next[kItems][4];
  uint32_t next_codes[kItems];
  auto exists = [&](int row) { return kRows * B::kQuads % Tile::kThreads == 0 || row < kRows; };
  auto fetch = [&](const Box& box, int step) {
    const int64_t before = static_cast<int64_t>(box.image) * g.rows * g.cols * g.others + n0 + column;
    WL_UNROLL
    for (int l = 0; l < kItems; ++l) {
      const int row = first_row + l * (Tile::kThreads / B::kQuads);
      int at;
      const bool inside = box.find(g, step * kRows + row, at) && exists(row);
      const int64_t from = before + static_cast<int64_t>(at) * g.others;
      const int there = inside ? g.others - n0 - column : 0;
      if (g.vector_others) {
        assign_item<T>(next[l], there > 0, element_at<T>(others, from, bytes), bytes);
      } else {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) assign_single<T>(next[l][e], e < there, element_at<T>(others, from + e, bytes), bytes);
      }
      if constexpr (kPool) {
        next_codes[l] = 0;
        if (g.vector_others) {
          if (there > 0) next_codes[l] = *reinterpret_cast<const uint32_t*>(codes + from);
        } else {
          WL_UNROLL
          for (int e = 0; e < 4; ++e)
            if (e < there) next_codes[l] |= static_cast<uint32_t>(codes[from + e]) << (8 * e);
        }
      }
    }
  };
  float gradient_scale = 1.0f;
  if constexpr (kScaled<T>) gradient_scale = *scale * kScaleOfCopies<kCopies>;
  float column_sums[4] = {};  // of a dy among the others
  auto store = [&](unsigned char* to) {
    WL_UNROLL
    for (int l = 0; l < kItems; ++l) {
      const int row = first_row + l * (Tile::kThreads / B::kQuads);
      if (!exists(row)) continue;
      if constexpr (T::kBytes == 2)
        if (in_halves<T>(bytes)) widen_item<T>(next[l], g.vector_others);
      if constexpr (!kMapIsGradient) {
        WL_UNROLL
        for (int e = 0; e < 4; ++e)
          column_sums[e] += kPool && next_codes[l] >> (8 * e) & 4u ? sloped(next[l][e], negative_slope) : next[l][e];
      }
      WL_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        float v[4];
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          v[e] = kPool ? unpooled(next[l][e], next_codes[l] >> (8 * e), p, negative_slope) : next[l][e];
          if (kScaled<T> && !kMapIsGradient) v[e] *= gradient_scale;
        }
        unsigned char* const at = to + B::quad_at(row * kPixels + p, column / 4);
        if constexpr (T::kBytes == 2)
          *reinterpret_cast<uint2*>(at) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
        else
          *reinterpret_cast<float4*>(at) = make_float4(v[0], v[1], v[2], v[3]);
      }
    }
  };
  (void)next_codes;

  float sum[Tile::MT][Tile::NT][4];
  clear_sums<Tile>(sum);
  find_offsets(g, offsets);
  if (begin < end) {
    const Box box(g, begin);
    stage_map(g, box, map, staged);
    commit_copies();
    fetch(box, 0);
    wait_copies<0>();
  }
  __syncthreads();
  const float* const pixel = staged + staged_pixel(g, thread);
  for (int number = begin; number < end; ++number) {
    const Box box(g, number), following(g, number + 1);
    for (int chunk = 0; chunk < A::kChunks; ++chunk) {
      float v[kElements];
      window_chunk<T, kCopies, kMapIsGradient>(v, pixel, offsets, chunk * kElements, gradient_scale);
      store_chunk<T>(windows + thread / Tile::BK * A::kBytes + A::chunk_at(thread % Tile::BK, chunk), v);
    }
    for (int step = 0; step < kSteps; ++step) {
      unsigned char* const stage = shared + step % 2 * B::kBytes;
      store(stage);     // last read before the barrier of the step before
      __syncthreads();  // and the windows are built, the staged map has been read
      if (step == 0 && number + 1 < end) stage_map(g, following, map, staged);
      commit_copies();
      if (step + 1 < kSteps)
        fetch(box, step + 1);
      else if (number + 1 < end)
        fetch(following, 0);
      multiply_stage<Tile>(windows + step * A::kBytes, stage, sum);
    }
    wait_copies<0>();
    __syncthreads();  // the next box's map is there, and all are done with the windows
  }

  const float unscale = reciprocal_of_power(gradient_scale);
  partials += static_cast<int64_t>(run) * g.sum * g.others;
  const int first_n = n0 + first_column<Tile>();
  for_each_row<Tile>([&](int i, int half, int k) {
    if (k >= g.sum) return;
    WL_UNROLL
    for (int j = 0; j < Tile::NT; ++j)
      store_pair(partials + k * g.others, first_n + 8 * j, g.others, g.pairs, sum[i][j][2 * half] * unscale,
                 sum[i][j][2 * half + 1] * unscale);
  });
  if (!bias) return;
  float* const sums = reinterpret_cast<float*>(shared);  // all are done with the stages
  if constexpr (kMapIsGradient) {
    if (n0 == 0) sum_map(g, run, static_cast<int>(gridDim.x) / tiles, map, sums, bias);
  } else {
    constexpr int kSumRows = Tile::kThreads / B::kQuads;
    static_assert(kSumRows * Tile::BN * 4 <= 2 * B::kBytes && Tile::BN <= Tile::kThreads, "fits the stages");
    store4(sums + first_row * Tile::BN + column, make_float4(column_sums[0], column_sums[1], column_sums[2], column_sums[3]));
    __syncthreads();
    if (thread >= Tile::BN || n0 + thread >= g.others) return;
    float total = sums[thread];
    for (int r = 1; r < kSumRows; ++r) total += sums[r * Tile::BN + thread];
    bias[static_cast<int64_t>(run) * g.others + n0 + thread] = total;
  }
}

struct RunPlan {
  int runs = 1, boxes_per_run = 1;
};
RunPlan plan_for(const FewChannels& g) {
  const int64_t tiles = (g.others + kTileColumns - 1) / kTileColumns;
  // Of at most kFewProducts x kTileColumns sums a block, all together take some MiB.
  const int64_t runs = std::min((kFewChannelBlocks + tiles - 1) / tiles, std::max(g.boxes, int64_t(1)));
  RunPlan p;
  p.boxes_per_run = static_cast<int>(std::max((g.boxes + runs - 1) / runs, int64_t(1)));
  p.runs = static_cast<int>(std::max((g.boxes + p.boxes_per_run - 1) / p.boxes_per_run, int64_t(1)));
  return p;
}

// f(a tile of the operands' type).
template <class F>
auto with_tile(Precision p, const FewChannels& g, F f) {
  auto run = [&](auto type) {
    using T = decltype(type);
    return g.sum <= 32 ? f(WeightTile<T, 32>()) : f(WeightTile<T, 64>());
  };
  return p == Precision::tf32 ? run(Tf32()) : p == Precision::bf16 ? run(Bf16()) : run(F16());
}

}  // namespace few_channels_weight_kernels

// Fewer than 16 other channels would leave most of a tile empty.
bool few_channels_weight_fits(const FewChannels& g, Precision p) {
  return g.others >= 16 && with_tile(p, g, [&](auto tile) { return shared_bytes<decltype(tile)>(g); }) <= shared_limit(p);
}

static int bias_channels(const FewChannels& g) { return g.mirrored ? g.channels : g.others; }

Rest few_channels_weight_rest(const FewChannels& g, const Out& dw, const Out& db, bool with_db) {
  const RunPlan p = plan_for(g);
  Rest rest;
  if (p.runs == 1 && !g.mirrored) return rest;
  rest.add(g.mirrored ? ErrandKind::turn_runs : ErrandKind::add_runs, p.runs, int64_t(g.sum) * g.others, dw);
  rest.list[0].n = g.others, rest.list[0].k = g.channels;
  if (with_db) rest.add(ErrandKind::add_runs, p.runs, bias_channels(g), db);
  return rest;
}

void few_channels_weight(const Context& context, FewChannels g, Precision p, const float* map, const void* others,
                         const float* scale, const unsigned char* codes, float negative_slope, float* sums, float* dw, float* db,
                         bool with_db) {
  const RunPlan plan = plan_for(g);
  const int count = g.sum * g.others;
  const bool summed = plan.runs > 1 || g.mirrored;
  float* const partials = summed ? sums : dw;
  float* const bias = !with_db ? nullptr : summed ? sums + int64_t(plan.runs) * count : db;
  g.vector_others = g.others % 4 == 0 && aligned16(others, codes);
  g.pairs = g.others % 2 == 0 && aligned16(partials);
  with_tile(p, g, [&](auto tile) {
    using Tile = decltype(tile);
    auto launch_with = [&](auto kernel) {
      launch(context, "v5::conv2d_few_channels_weight_kernel", kernel,
             dim3(static_cast<unsigned>(plan.runs * ((g.others + kTileColumns - 1) / kTileColumns))), dim3(Tile::kThreads),
             shared_bytes<Tile>(g), g, plan.boxes_per_run, negative_slope, map, others, scale, codes, partials, bias);
    };
    if (g.pool)
      launch_with(conv2d_few_channels_weight_kernel<Tile, 1, true, false>);
    else if (g.copies == 2)
      launch_with(conv2d_few_channels_weight_kernel<Tile, 2, false, true>);
    else if (g.mirrored)
      launch_with(conv2d_few_channels_weight_kernel<Tile, 1, false, true>);
    else
      launch_with(conv2d_few_channels_weight_kernel<Tile, 1, false, false>);
    return 0;
  });
}

}  // namespace warploom::v5
