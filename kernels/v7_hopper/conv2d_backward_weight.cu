// conv2d_backward_weight.cu (v7): dw[tap, ic, oc] = sum over pixels of x[pixel + tap, ic] * unpooled dy[pixel, oc] by wgmma
// Layout: x [N, H, W, C_in], dy [N, OH, OW, C_out] or, pooled, [N, OH/2, OW/2, C_out] with saved as the forward entry made it; dw hwio
//   [KH, KW, C_in, C_out]; zero padding.
// Long because those who move data and those who multiply are one kernel, with whose constants its blocks are chosen.
// One block owns 64 x 64 channels of nine or three taps and one run of boxes of 128 pixels; runs meet in a second pass, in order. One
//   thread has the copy engine bring the box of dy and the halo of x, some warps round what does not come as a halo, three warpgroups
//   take three taps or one each: A is x turned around by ldmatrix.trans, B is dy as it lies, across the sum. Where db is wanted, the
//   warps that round sum dy on its way, of each run in one of its blocks for 64 channels: the first.
// After an upsample [N, H/2, W/2, C_in] the sums of 9 taps that dy's phases meet there (common/summed_taps.cuh): a block owns one phase,
//   every second row and column of dy, and its four sums or two of them, in two warpgroups; the second pass spreads the sixteen to the
//   nine.
// Fewer taps a block: as many multiprocessors at work with fewer runs, so fewer sums written and read; but x and dy cross the L2 more
//   often. weight_problem() weighs that.
// From v5: a box of dy and a halo of x are loaded once for three to nine taps instead of once per 128 (tap, channel) pairs. Expected
//   bottleneck: the shared memory's bandwidth (A and B of 64 columns ask for all of it), of few taps the L2's; of a pool the warps that
//   round.
// Preconditions: compute capability 9.0; bf16 or fp16 (wgmma reads tf32 along the sum only), stride 1, six taps or more, channels as
//   weight_problem() says, v6 takes the rest; workspace: fp16's scale, then w_count() floats per run (16 C_in C_out after an upsample),
//   then db's C_out per run (and phase).
#include <algorithm>
#include <type_traits>

#include "../v5_tensor_cores/table.h"
#include "../v6_bilinear/table.h"
#include "choice.h"
#include "convolve.h"
#include "entries.h"

namespace warploom::v7 {

constexpr int kSide = 64;
constexpr int kWeightUnitStages = 3, kPairStages = 2, kMostPairStages = 4, kMostRoundWarps = 11;

// kFew: a warpgroup has one tap (or sum). Then sums leave registers for more warps that round, which all blocks of a box repeat.
template <bool kUpsampled, bool kFew>
struct WeightBlock {
  static constexpr int kWarpgroups = kUpsampled ? 2 : 3;
  static constexpr int kEach = kFew ? 1 : kWarpgroups, kTogether = kWarpgroups * kEach;  // taps of a warpgroup, of the block
  static constexpr int kSlabs = kFew ? 2 : 1;                                            // of 16 pixels in a step
  static constexpr int kCopyWarp = 4 * kWarpgroups, kRoundWarps = !kFew ? 3 : kUpsampled ? 7 : kMostRoundWarps;
  static constexpr int kThreads = 32 * (kCopyWarp + 1 + kRoundWarps);
};

struct HaloWeights {
  int N = 0, C_in = 0, C_out = 0, taps_w = 0, taps = 0;  // taps: of a phase after an upsample
  int pad_top = 0, pad_left = 0;
  int log_h = 0, log_w = 0, tiles_h = 1, tiles_w = 1;
  int tiles = 0, run = 0;  // boxes in all, in a run
  int unit = 0;            // bytes of a stage: the larger of both units; 0: both come as halos
  int stages = kPairStages;
  bool pairs = false;
  Halo x, dy;
};
inline int shared_bytes(const HaloWeights& g) {
  return 1024 + g.stages * (halo_bytes(g.x) + halo_bytes(g.dy)) + kWeightUnitStages * g.unit +
         kMostRoundWarps * kSide * static_cast<int>(sizeof(float)) +
         (2 * (kWeightUnitStages + g.stages) + 1) * static_cast<int>(sizeof(AsyncBarrier));
}

struct WeightShared {
  unsigned char *dy, *x, *units;
  float* sums;  // [round warps][kSide] of dy's columns
  AsyncBarrier *units_full, *units_empty, *pair_full, *pair_empty, *sums_full;

  __device__ __forceinline__ WeightShared(unsigned char* memory, const HaloWeights& g) {
    dy = memory + (0u - matrix_address(memory)) % 1024u;
    x = dy + g.stages * halo_bytes(g.dy);
    units = x + g.stages * halo_bytes(g.x);
    sums = reinterpret_cast<float*>(units + kWeightUnitStages * g.unit);
    units_full = reinterpret_cast<AsyncBarrier*>(sums + kMostRoundWarps * kSide);
    units_empty = units_full + kWeightUnitStages;
    pair_full = units_empty + kWeightUnitStages, pair_empty = pair_full + g.stages;
    sums_full = pair_empty + g.stages;
  }
};

// db: each of the warps that round sums its pixels of every box, before they are rounded, into sums[kSide]: dy's columns. Not in
// round_unit, which has no registers left.
struct ColumnSums {
  float* sums;
  int warp, lane;

  __device__ __forceinline__ ColumnSums(const WeightShared& shared, int warp_)
      : sums(shared.sums + warp_ * kSide), warp(warp_), lane(static_cast<int>(threadIdx.x) % 32) {
    sums[lane] = sums[lane + 32] = 0.0f;
    __syncwarp();
  }
  // box: unit u, of a pool its windows, which lie within a box, whole; or the halo, where dy comes as one. A thread has four columns.
  template <class T, bool kUnpool, int kWarps>
  __device__ __forceinline__ void add(const HaloWeights& g, int u, const unsigned char* box) const {
    const bool halves = in_halves<T>(g.dy.bytes);
    const int lanes = halves ? 16 : 8, quad = lane % lanes, at_once = 32 / lanes;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int m = warp * at_once + lane / lanes; m < (kUnpool ? kBM / 4 : kBM); m += kWarps * at_once) {
      int pixel = m;
      if constexpr (kUnpool) {
        const int log_w = g.log_w - 1, log_h = g.log_h - 1;
        pixel =
            ((m >> (log_w + log_h)) * g.dy.unit_h + (m >> log_w & ((1 << log_h) - 1))) * g.dy.unit_w + (m & ((1 << log_w) - 1));
      }
      float4 v;
      if (halves) {
        const int at = kUnpool ? quad * 8 : (quad / 2 ^ (pixel & 7)) * 16 + quad % 2 * 8;
        const uint2 words = *reinterpret_cast<const uint2*>(box + pixel * kRowBytes + at);
        const float2 low = widen2<T>(words.x), high = widen2<T>(words.y);
        v = make_float4(low.x, low.y, high.x, high.y);
      } else {
        v = *reinterpret_cast<const float4*>(box + pixel * kRowBytes + quad * 16);
      }
      if constexpr (kUnpool) {
        const uint32_t code = *reinterpret_cast<const uint32_t*>(box + map_bytes(g.dy) + (pixel * lanes + quad) * 4);
        const float slope = g.dy.negative_slope;
        v.x = code & 4u ? sloped(v.x, slope) : v.x, v.y = code >> 8 & 4u ? sloped(v.y, slope) : v.y;
        v.z = code >> 16 & 4u ? sloped(v.z, slope) : v.z, v.w = code >> 24 & 4u ? sloped(v.w, slope) : v.w;
      }
      sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    for (int distance = lanes; distance < 32; distance *= 2) {
      sum.x += __shfl_xor_sync(0xffffffffu, sum.x, distance), sum.y += __shfl_xor_sync(0xffffffffu, sum.y, distance);
      sum.z += __shfl_xor_sync(0xffffffffu, sum.z, distance), sum.w += __shfl_xor_sync(0xffffffffu, sum.w, distance);
    }
    if (lane >= lanes) return;
    float* const to = sums + u * 32 + 4 * quad;  // a second unit is of float32
    const float4 before = load4(to);
    store4(to, make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w));
  }
};

struct Box {  // where a box of pixels begins
  int image, row, column;
  __device__ __forceinline__ Box(const HaloWeights& g, int number) {
    column = number % g.tiles_w << g.log_w;
    number /= g.tiles_w;
    row = number % g.tiles_h << g.log_h, image = number / g.tiles_h * g.dy.images;
  }
};

template <class T, bool kUnpool, bool kUpsampled, bool kFew>
__global__ __launch_bounds__(WeightBlock<kUpsampled, kFew>::kThreads, 1) void conv2d_backward_weight_kernel(
    HaloWeights g, const WL_GRID_CONSTANT TensorMap x,             // [N, H, W, C_in], before an upsample
    const WL_GRID_CONSTANT Maps<kUpsampled ? 4 : 1> dy_or_phases,  // [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out]
    const WL_GRID_CONSTANT TensorMap saved,                        // [N, OH/2, OW/2, C_out] of a pool
    const float* __restrict__ scale,                               // [1], of fp16, or null
    float* __restrict__ partials,                                  // [runs, KH, KW, C_in, C_out], upsampled [runs, 4, 4, ...]
    float* __restrict__ bias) {                                    // [runs, C_out], upsampled [runs, 4, C_out], or null
  if constexpr (!kHasWgmma) return;
  using Block = WeightBlock<kUpsampled, kFew>;
  constexpr int kEach = Block::kEach, kSlabs = Block::kSlabs, kCopyWarp = Block::kCopyWarp, kRoundWarps = Block::kRoundWarps;
  constexpr bool kMovesRegisters = kEach == 3;
  WL_DYNAMIC_SHARED(unsigned char, memory);
  const WeightShared shared(memory, g);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const bool x_direct = g.x.direct, dy_direct = !kUnpool && g.dy.direct;
  const bool rounds = !x_direct || !dy_direct, copies = x_direct || dy_direct;
  // Of a pair, dy's units before x's; what comes as a halo has none.
  const int dy_units = units_of<T>(g.dy), first_unit = dy_direct ? dy_units : 0,
            last_unit = dy_units + (x_direct ? 0 : units_of<T>(g.x));
  int block = static_cast<int>(blockIdx.x);
  const int out_tiles = (g.C_out + kSide - 1) / kSide, in_tiles = (g.C_in + kSide - 1) / kSide;
  const int oc0 = block % out_tiles * kSide;
  block /= out_tiles;
  const int ic0 = block % in_tiles * kSide;
  block /= in_tiles;
  const int of_phase = (g.taps + Block::kTogether - 1) / Block::kTogether, groups = kUpsampled ? 4 * of_phase : of_phase;
  const int group = block % groups, tap0 = group % of_phase * Block::kTogether, phase = kUpsampled ? group / of_phase : 0;
  const int run = block / groups, begin = run * g.run, end = min(begin + g.run, g.tiles);
  const bool sums = bias && ic0 == 0 && tap0 == 0, sums_halo = sums && dy_direct;
  const TensorMap& dy = dy_or_phases.of[phase];
  // Odd rows of dy meet their pixel of x and the next one, even ones that before, and so of columns.
  const int x_top = phase / 2 - g.pad_top, x_left = phase % 2 - g.pad_left;

  if (threadIdx.x == 0) {
    for (int s = 0; s < kWeightUnitStages; ++s) init(&shared.units_full[s], 1), init(&shared.units_empty[s], 32 * kRoundWarps);
    for (int s = 0; s < g.stages; ++s)
      init(&shared.pair_full[s], (rounds ? 32 * kRoundWarps : 0) + (copies ? 1 : 0)),
          init(&shared.pair_empty[s], kCopyWarp + (sums_halo ? kRoundWarps : 0));
    init(shared.sums_full, 32 * kRoundWarps);
    fence_async_proxy();
  }
  __syncthreads();

  const float gradient_scale = scale ? *scale : 1.0f;
  // Nine taps of sums want more registers than 512 threads can have alike: those who only move data give some away.
  if (warp >= kCopyWarp) {
    if constexpr (kMovesRegisters) give_registers<56>();
    if (warp == kCopyWarp) {
      if (lane != 0) return;
      Stages to, pair;
      for (int number = begin; number < end; ++number) {
        const Box box(g, number);
        for (int u = first_unit; u < last_unit; ++u) {
          wait(&shared.units_empty[to.at], to.parity ^ 1u);
          unsigned char* unit = shared.units + to.at * g.unit;
          if (u < dy_units)
            bring_unit<kUnpool>(g.dy, unit, dy, saved, oc0 + u * unit_channels(g.dy), box.row, box.column, box.image,
                                &shared.units_full[to.at]);
          else
            bring_unit<false>(g.x, unit, x, x, ic0 + (u - dy_units) * unit_channels(g.x), box.row + x_top, box.column + x_left,
                              box.image, &shared.units_full[to.at]);
          to.next(kWeightUnitStages);
        }
        if (!copies) continue;
        wait(&shared.pair_empty[pair.at], pair.parity ^ 1u);
        AsyncBarrier* const full = &shared.pair_full[pair.at];
        arrive_expecting(full, static_cast<uint32_t>((dy_direct ? copied_bytes(g.dy) : 0) + (x_direct ? copied_bytes(g.x) : 0)));
        if (dy_direct) bulk_copy_tensor(shared.dy + pair.at * halo_bytes(g.dy), dy, oc0, box.column, box.row, box.image, full);
        if (x_direct)
          bulk_copy_tensor(shared.x + pair.at * halo_bytes(g.x), x, ic0, box.column + x_left, box.row + x_top, box.image, full);
        pair.next(g.stages);
      }
      return;
    }
    if (!rounds && !sums) return;
    const int mine = warp - kCopyWarp - 1;
    const ColumnSums columns(shared, mine);
    Stages from, to;
    for (int number = begin; number < end; ++number) {
      unsigned char* const halo = shared.dy + to.at * halo_bytes(g.dy);
      if (rounds) {
        const Box box(g, number);
        wait(&shared.pair_empty[to.at], to.parity ^ 1u);
        for (int u = first_unit; u < last_unit; ++u) {
          wait(&shared.units_full[from.at], from.parity);
          const unsigned char* unit = shared.units + from.at * g.unit;
          if (u < dy_units) {
            round_unit<T, kUnpool, kRoundWarps>(g.dy, mine, u, unit, halo, gradient_scale, box.row, box.column);
            if (sums) columns.add<T, kUnpool, kRoundWarps>(g, u, unit);
          } else {
            round_unit<T, false, kRoundWarps>(g.x, mine, u - dy_units, unit, shared.x + to.at * halo_bytes(g.x), 1.0f, 0, 0);
          }
          arrive(&shared.units_empty[from.at]);
          from.next(kWeightUnitStages);
        }
        fence_async_proxy();  // wgmma reads dy where it lies
        arrive(&shared.pair_full[to.at]);
      }
      if (sums_halo) {
        wait(&shared.pair_full[to.at], to.parity);
        columns.add<T, kUnpool, kRoundWarps>(g, 0, halo);
        __syncwarp();
        if (lane == 0) arrive(&shared.pair_empty[to.at]);
      }
      to.next(g.stages);
    }
    if (!sums) return;
    arrive(shared.sums_full);
    if (mine > 1) return;
    wait(shared.sums_full, 0);
    const int column = 32 * mine + lane;
    float sum = 0.0f;
    for (int w = 0; w < kRoundWarps; ++w) sum += shared.sums[w * kSide + column];
    if (oc0 + column < g.C_out) bias[static_cast<int64_t>(kUpsampled ? 4 * run + phase : run) * g.C_out + oc0 + column] = sum;
    return;
  }
  if constexpr (kMovesRegisters) take_registers<152>();

  // Slab by slab of 16 pixels, three or two taps each, or two slabs of one; fragments alternate between two sets of registers.
  float sum[kEach][8][4];
  WL_UNROLL
  for (int t = 0; t < kEach; ++t) {
    WL_UNROLL
    for (int j = 0; j < 8; ++j) sum[t][j][0] = sum[t][j][1] = sum[t][j][2] = sum[t][j][3] = 0.0f;
  }
  const int first_tap = tap0 + warp / 4 * kEach;
  int reach[kEach];  // pixels of the halo; a tap past the last is computed as the last and not stored
  WL_UNROLL
  for (int t = 0; t < kEach; ++t) {
    const int tap = min(first_tap + t, g.taps - 1);
    reach[t] = tap / g.taps_w * g.x.pitch + tap % g.taps_w;
  }
  const int k = lane % 8 + lane / 16 * 8, chunk = warp % 4 * 2 + lane / 8 % 2;
  Stages from;
  auto step = [&](int first_slab, uint32_t (&fragment)[kSlabs][kEach][4]) {
    WL_UNROLL
    for (int l = 0; l < kSlabs; ++l) {
      const int m = 16 * (first_slab + l) + k, j = m & ((1 << g.log_w) - 1), i = m >> g.log_w & ((1 << g.log_h) - 1),
                n = m >> (g.log_w + g.log_h);
      const int pixel = (n * g.x.h + i) * g.x.pitch + j;
      WL_UNROLL
      for (int t = 0; t < kEach; ++t) {
        const int p = pixel + reach[t];
        load_matrices<4, true>(fragment[l][t], shared.x + from.at * halo_bytes(g.x) + p * kRowBytes + (chunk ^ (p & 7)) * 16);
      }
    }
    const uint64_t descriptor = matrix_descriptor(shared.dy + from.at * halo_bytes(g.dy)) + first_slab * kNextSlabAcross;
    warpgroup_fence();
    WL_UNROLL
    for (int l = 0; l < kSlabs; ++l) {
      WL_UNROLL
      for (int t = 0; t < kEach; ++t) multiply_warpgroup_across<T>(sum[t], fragment[l][t], descriptor + l * kNextSlabAcross);
    }
    warpgroup_commit();
    warpgroup_wait<1>();
  };
  uint32_t even[kSlabs][kEach][4], odd[kSlabs][kEach][4];
  for (int number = begin; number < end; ++number) {
    wait(&shared.pair_full[from.at], from.parity);
    for (int slab = 0; slab < kBM / 16; slab += 2 * kSlabs) {
      step(slab, even);
      step(slab + kSlabs, odd);
    }
    warpgroup_wait<0>();
    __syncwarp();
    if (lane == 0) arrive(&shared.pair_empty[from.at]);
    from.next(g.stages);
  }

  const float unscale = scale ? __uint_as_float((254u << 23) - __float_as_uint(gradient_scale)) : 1.0f;
  float* out = partials + static_cast<int64_t>(run) * (kUpsampled ? 16 : g.taps) * g.C_in * g.C_out;
  WL_UNROLL
  for (int t = 0; t < kEach; ++t) {
    const int tap = first_tap + t, place = kUpsampled ? (3 - 2 * (tap / 2) - phase / 2) * 4 + 3 - 2 * (tap % 2) - phase % 2 : tap;
    WL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int ic = ic0 + warp % 4 * 16 + lane / 4 + 8 * half;
      if (tap >= g.taps || ic >= g.C_in) continue;
      float* row = out + (static_cast<int64_t>(place) * g.C_in + ic) * g.C_out;
      WL_UNROLL
      for (int j = 0; j < 8; ++j)
        store_pair(row, oc0 + lane % 4 * 2 + 8 * j, g.C_out, g.pairs, sum[t][j][2 * half] * unscale,
                   sum[t][j][2 * half + 1] * unscale);
    }
  }
}

struct WeightProblem {
  HaloWeights g;
  int runs = 1;
  int64_t blocks = 0;
  bool upsampled = false, few = false;
  int64_t sums = 0, bias_sums = 0;  // floats of a run in the workspace
  std::string why;                  // not taken, because
};

// One block a multiprocessor of a large GPU, or some short of it, and runs of some boxes. The sums of all layers may be alive together: a
// layer's take 5 MiB, or up to 16 MiB where they are at most a quarter of its maps in 16 bits.
constexpr int64_t kTargetBlocks = 132, kShortestRun = 2, kPartialsLimit = int64_t(5) << 20, kPartialsOfLarge = int64_t(16) << 20;

// Clocks for a box in one of so many blocks at once, as docs/gpu_model.md counts. The shared memory's: 32 a tap and slab; the L2's: 40
// bytes for each multiprocessor of all, at most 64 for one; of the warps that round: 173 for each 128 elements.
template <class Block>
int64_t box_clocks(const HaloWeights& g, int64_t at_once) {
  int64_t bytes = 0, rounded = 0;
  for (const Halo& h : {g.x, g.dy}) {
    bytes += h.direct ? copied_bytes(h) : int64_t(kSide / unit_channels(h)) * unit_bytes(h, false);
    rounded += h.direct ? 0 : int64_t(h.images) * h.h * h.w * kSide;
  }
  return std::max({int64_t(Block::kTogether) * (kBM / 16) * 32, bytes * at_once / (40 * kTargetBlocks), bytes / 64,
                   rounded / 128 * 173 / Block::kRoundWarps});
}

// Runs of the boxes, if blocks take `Block::kTogether` taps; whether that is the faster way so far.
template <class Block>
bool try_blocks(WeightProblem& p, int64_t limit, int64_t& fewest_clocks) {
  HaloWeights& g = p.g;
  const int64_t tiles = int64_t((g.C_in + kSide - 1) / kSide) * ((g.C_out + kSide - 1) / kSide) * (p.upsampled ? 4 : 1);
  const int64_t blocks = tiles * ((g.taps + Block::kTogether - 1) / Block::kTogether);  // of a run
  int64_t runs = std::min({kTargetBlocks / blocks, (g.tiles + kShortestRun - 1) / kShortestRun, limit / (p.sums * 4)});
  runs = std::max(runs, int64_t(1));
  const int64_t run = (g.tiles + runs - 1) / runs;
  runs = (g.tiles + run - 1) / run;
  const int64_t waves = (blocks * runs + kTargetBlocks - 1) / kTargetBlocks;
  const int64_t clocks = waves * run * box_clocks<Block>(g, std::min(blocks * runs, kTargetBlocks));
  if (fewest_clocks && clocks >= fewest_clocks) return false;
  fewest_clocks = clocks;
  g.run = static_cast<int>(run), p.runs = static_cast<int>(runs), p.blocks = blocks * runs;
  return true;
}

// Of a pool always few taps: its windows are undone by the warps that round, of which there are more then.
static void choose_blocks(WeightProblem& p, bool pool, int64_t limit) {
  int64_t clocks = 0;
  if (p.upsampled)
    try_blocks<WeightBlock<true, false>>(p, limit, clocks), p.few = try_blocks<WeightBlock<true, true>>(p, limit, clocks);
  else if (pool)
    p.few = try_blocks<WeightBlock<false, true>>(p, limit, clocks);
  else
    try_blocks<WeightBlock<false, false>>(p, limit, clocks), p.few = try_blocks<WeightBlock<false, true>>(p, limit, clocks);
}

static WeightProblem weight_problem(const Conv2dBackwardWeight& a) {
  const Conv2dShape& s = a.s;
  const Fusion& f = a.fusion;
  WeightProblem p;
  HaloWeights& g = p.g;
  p.why = common_error(s, f);
  if (p.why.empty() && f.precision == Precision::tf32) p.why = "wgmma takes tf32 along the sum only";
  if (p.why.empty()) p.why = pool_error(s, f);
  if (p.why.empty() && f.pool == 2 && s.C_out % 16) p.why = "the copy engine takes a pool's codes in multiples of 16 channels";
  if (p.why.empty() && f.pool == 1 && f.activation != Activation::none) p.why = "an activation without a pool is v5's to refuse";
  if (p.why.empty() && f.upsample != 1 && !upsampled_3x3(s, f)) p.why = kUpsampleOfOthers;
  if (p.why.empty() && (s.stride_h != 1 || s.stride_w != 1)) p.why = "strides are v5's";
  if (p.why.empty() && s.KH * s.KW < 6) p.why = "fewer than 6 taps leave warpgroups idle";
  const DType dy_type = gradient_type(f.y_type);
  if (p.why.empty() && (s.C_in % channels_step(f.x_type) || s.C_out % channels_step(dy_type) || s.C_in < 32 || s.C_out < 32))
    p.why = "the copy engine takes channels in multiples of 4, of 8 in 16 bits; fewer than 32 leave tiles of 64 empty";
  if (!p.why.empty()) return p;
  p.upsampled = f.upsample == 2;
  const int taps_h = p.upsampled ? 2 : s.KH, taps_w = p.upsampled ? 2 : s.KW;
  const int rows = s.OH / f.upsample, cols = s.OW / f.upsample;  // of a phase
  g.N = s.N, g.C_in = s.C_in, g.C_out = s.C_out, g.taps_w = taps_w, g.taps = taps_h * taps_w;
  g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  int64_t best = 0, best_halo = 0;
  const HaloWeights empty = g;
  const int least = f.pool == 2;  // windows of a pool lie within a box, whole
  for (int log_w = least; log_w <= 7; ++log_w) {
    for (int log_h = least; log_w + log_h <= 7; ++log_h) {
      HaloWeights h = empty;
      const int images = kBM >> (log_w + log_h);
      h.log_h = log_h, h.log_w = log_w;
      h.x = halo_of(images, log_h, log_w, taps_h - 1, taps_w - 1, false, false);
      h.dy = halo_of(images, log_h, log_w, 0, 0, false, f.pool == 2);
      set_storage(h.x, f.x_type, false), set_storage(h.dy, dy_type, f.pool == 2);
      h.dy.negative_slope = f.activation == Activation::leaky_relu ? f.negative_slope : 0.0f;
      h.unit = std::max(unit_bytes(h.x, false), unit_bytes(h.dy, f.pool == 2));
      if (h.x.h > 256 || h.x.pitch > 256 || shared_bytes(h) > kSharedLimit) continue;
      h.tiles_h = (rows + (1 << log_h) - 1) >> log_h, h.tiles_w = (cols + (1 << log_w) - 1) >> log_w;
      const int64_t tiles = int64_t((s.N + images - 1) / images) * h.tiles_h * h.tiles_w;
      if (tiles > 2147483647 || (best && (tiles > best || (tiles == best && halo_bytes(h.x) >= best_halo)))) continue;
      g = h, g.tiles = static_cast<int>(tiles), best = tiles, best_halo = halo_bytes(h.x);
    }
  }
  if (!best) {
    p.why = "a box and its halo for " + std::to_string(s.KH) + "x" + std::to_string(s.KW) + " taps do not fit shared memory";
    return p;
  }
  while (g.stages < kMostPairStages &&
         shared_bytes(g) + halo_bytes(g.x) + halo_bytes(g.dy) + 2 * static_cast<int>(sizeof(AsyncBarrier)) <= kSharedLimit)
    ++g.stages;
  p.sums = p.upsampled ? int64_t(16) * s.C_in * s.C_out : s.w_count();
  p.bias_sums = !a.with_db ? 0 : p.upsampled ? 4 * s.C_out : s.C_out;
  const int64_t maps =
      s.N * (int64_t(s.H) * s.W * s.C_in / (f.upsample * f.upsample) + int64_t(s.OH) * s.OW * s.C_out / (f.pool * f.pool));
  choose_blocks(p, f.pool == 2, std::clamp(2 * maps / 4, kPartialsLimit, kPartialsOfLarge));
  return p;
}

static int64_t scale_bytes(const Conv2dBackwardWeight& a) { return a.fusion.precision == Precision::fp16 ? v5::kScaleBytes : 0; }

template <class T, bool kUnpool, bool kUpsampled, bool kFew>
static void run_as(const Conv2dBackwardWeight& a, const Context& context, WeightProblem& p, const float* scale, float* partials,
                   float* bias) {
  const Conv2dShape& s = a.s;
  HaloWeights& g = p.g;
  g.pairs = s.C_out % 2 == 0 && aligned16(partials);
  const int up = a.fusion.upsample, smaller = a.fusion.pool * up, rows = s.OH / smaller, cols = s.OW / smaller;
  const TensorMap x = box_map(g.x, a.x.data, {s.C_in, s.W / up, s.H / up, s.N});
  Maps<kUpsampled ? 4 : 1> dy;
  if constexpr (kUpsampled)
    dy = phase_maps(g.dy, a.dy.data, {s.C_out, cols, rows, s.N});
  else
    dy.of[0] = box_map(g.dy, a.dy.data, {s.C_out, cols, rows, s.N});
  TensorMap saved = x;
  if constexpr (kUnpool) saved = codes_map(g.dy, a.saved.ptr<unsigned char>(), {s.C_out, cols, rows, s.N});
  launch(context, "v7::conv2d_backward_weight_kernel", conv2d_backward_weight_kernel<T, kUnpool, kUpsampled, kFew>,
         dim3(blocks_for(p.blocks, 1)), dim3(WeightBlock<kUpsampled, kFew>::kThreads), static_cast<size_t>(shared_bytes(g)), g, x,
         dy, saved, scale, partials, bias);
}

template <class T>
static void run_as(const Conv2dBackwardWeight& a, const Context& context, WeightProblem& p, const float* scale, float* partials,
                   float* bias) {
  auto run = [&](auto few) {
    constexpr bool kFew = decltype(few)::value;
    p.upsampled ? run_as<T, false, true, kFew>(a, context, p, scale, partials, bias)
                : run_as<T, false, false, kFew>(a, context, p, scale, partials, bias);
  };
  if (a.fusion.pool == 2) return run_as<T, true, false, true>(a, context, p, scale, partials, bias);
  p.few ? run(std::true_type()) : run(std::false_type());
}

static Rest rest_of(const Conv2dBackwardWeight& a, const WeightProblem& p) {
  Rest rest;
  if (!p.upsampled && p.runs == 1) return rest;
  rest.add(p.upsampled ? ErrandKind::spread_runs : ErrandKind::add_runs, p.runs, p.sums, a.dw);
  rest.list[0].n = a.s.C_out, rest.list[0].k = a.s.C_in;
  if (a.with_db) rest.add(ErrandKind::add_runs, static_cast<int>(p.runs * p.bias_sums / a.s.C_out), a.s.C_out, a.db);
  return rest;
}

static void run(const Conv2dBackwardWeight& a, const Context& context) {
  WeightProblem p = weight_problem(a);
  if (!p.why.empty()) return v6::table().conv2d_backward_weight.run(a, context);
  if (!aligned16(a.x.data, a.dy.data, a.saved.data)) {
    require_aligned(a.sums.data);
    return v6::table().conv2d_backward_weight.run(a, context);
  }
  require_hopper(context);
  float* const sums = a.sums ? a.sums.ptr() : context.workspace.ptr() + scale_bytes(a) / 4;
  const Rest rest = rest_of(a, p);
  float* partials = rest.count ? sums : a.dw.ptr();
  float* bias = !a.with_db ? nullptr : rest.count ? sums + p.runs * p.sums : a.db.ptr();
  const float* scale = nullptr;
  if (a.fusion.precision == Precision::fp16) {
    v5::find_gradient_scale(context, a.dy.ptr(), fused_y_count(a.s, a.fusion), context.workspace.ptr());
    scale = context.workspace.ptr();
  }
  a.fusion.precision == Precision::bf16 ? run_as<Bf16>(a, context, p, scale, partials, bias)
                                        : run_as<F16>(a, context, p, scale, partials, bias);
  if (!a.sums) v5::do_rest(rest, sums, context);
}

static std::string why_not(const Conv2dBackwardWeight& a) {
  return weight_problem(a).why.empty() ? "" : v6::table().conv2d_backward_weight.why_not(a);
}
static int64_t workspace_bytes(const Conv2dBackwardWeight& a) {
  const WeightProblem p = weight_problem(a);
  if (a.sums && p.why.empty()) return scale_bytes(a);
  return std::max(p.why.empty() ? scale_bytes(a) + rest_of(a, p).bytes : 0,
                  v6::table().conv2d_backward_weight.workspace_bytes(a));
}
static const char* algorithm(const Conv2dBackwardWeight& a) {
  return weight_problem(a).why.empty() ? algorithm_name(a.fusion.precision) : v6::table().conv2d_backward_weight.algorithm(a);
}

static Rest rest(const Conv2dBackwardWeight& a) {
  const WeightProblem p = weight_problem(a);
  return p.why.empty() ? rest_of(a, p) : v6::table().conv2d_backward_weight.rest(a);
}

Entry<Conv2dBackwardWeight> conv2d_backward_weight() {
  return {run, why_not, workspace_bytes, nullptr, algorithm, nullptr, rest};
}

}  // namespace warploom::v7
