// halo_gemm.cuh (v7): out[pixel, n] = sum over taps and k of source[pixel + tap, k] * w[tap, k, n] on Hopper: wgmma fed by the copy engine
// Layout: source [N, src_H, src_W, C_k], prepared weights (errand.h), out [N, out_H, out_W, C_n]. Forward: source x, n an output
//   channel. Transposed (the gradient of x; forward after an upsample): taps mirrored, and each phase of a stride a dense problem.
//   By phases (the gradient of x before an upsample): source [N, 2 src_H, 2 src_W, C_k], of which each parity of row and column has
//   its own taps, a map of half the size whose channels are further k.
// One block owns 128 pixels (a box of images x rows x columns) x BN channels. Its warps have trades: one thread has the copy engine
//   bring the box and its halo, 32 channels at a time, another the weights of tap after tap; two warps round the halo to T; two
//   warpgroups multiply, A from the halo by ldmatrix, B where it lies.
// From v5: the source crosses L2 once per 128 pixels instead of once per tap, zeros outside the image come from the copy engine, and
//   no thread that multiplies loads or converts. Expected bottleneck: the two warps that round,
//   then the shared memory's bandwidth.
// Preconditions: choice.h; dynamic shared memory of shared_bytes().
#pragma once

#include "../common/warpgroup_mma.cuh"
#include "halo.cuh"

namespace warploom::v7 {

constexpr int kBM = 128;
constexpr int kWeightStages = 4, kUnitStages = 2, kHaloStages = 2,
              kDirectStages = 3;  // the latter of halos without units, if they fit
constexpr int kMultiplyWarps = 8, kWeightsWarp = 8, kPixelsWarp = 9, kRoundWarps = 2, kThreads = 32 * (10 + kRoundWarps);

struct HaloGemm {
  int N = 0, k_channels = 0, n_channels = 0;
  int rows = 0, cols = 0;      // pixels computed of an image, before a pool; for phase (0, 0)
  int taps_h = 0, taps_w = 0;  // of the whole kernel, or by phases of each
  int step_h = 1, step_w = 1;  // transposed: out row = step_h * i + phase
  int pad_top = 0, pad_left = 0;
  int out_H = 0, out_W = 0;             // after a pool
  int box_n = 1, log_h = 0, log_w = 0;  // a tile: box_n images x 2^log_h rows x 2^log_w columns, kBM pixels
  int tiles_h = 1, tiles_w = 1, n_tiles = 1;
  Halo halo;  // of the source: a tile and what its taps reach
  int chunks = 0;
  int out_bytes = 4;   // of an element (half_map.cuh)
  bool pairs = false;  // out can be stored two at a time
  int halo_stages = kHaloStages;
};

inline int shared_bytes(const HaloGemm& g, int columns, bool codes) {  // 1024: room to begin at a multiple of it
  return 1024 + kWeightStages * columns * kRowBytes + g.halo_stages * halo_bytes(g.halo) +
         kUnitStages * unit_bytes(g.halo, codes) +
         2 * (kWeightStages + kUnitStages + g.halo_stages) * static_cast<int>(sizeof(AsyncBarrier));
}

// What a block's phase sees of the problem: its pixels, its taps, where its source begins and where its pixels go.
template <bool kTransposed>
struct Phase {
  int rows, cols, taps_h, taps_w, reach_h, reach_w;  // reach: source row of pixel row 0 and the first tap
  int phase_h = 0, phase_w = 0, first_h = 0, first_w = 0;

  __device__ __forceinline__ explicit Phase(const HaloGemm& g)
      : rows(g.rows), cols(g.cols), taps_h(g.taps_h), taps_w(g.taps_w), reach_h(-g.pad_top), reach_w(-g.pad_left) {
    if constexpr (kTransposed) {
      const int number = static_cast<int>(blockIdx.y);
      phase_h = number / g.step_w, phase_w = number % g.step_w;
      first_h = (phase_h + g.pad_top) % g.step_h, first_w = (phase_w + g.pad_left) % g.step_w;
      rows = (g.out_H - phase_h + g.step_h - 1) / g.step_h, cols = (g.out_W - phase_w + g.step_w - 1) / g.step_w;
      taps_h = max(g.taps_h - first_h + g.step_h - 1, 0) / g.step_h,
      taps_w = max(g.taps_w - first_w + g.step_w - 1, 0) / g.step_w;
      reach_h = (phase_h + g.pad_top) / g.step_h - taps_h + 1, reach_w = (phase_w + g.pad_left) / g.step_w - taps_w + 1;
    }
  }
  // Which of the whole kernel's taps the phase's tap (a, b) is.
  __device__ __forceinline__ int tap(const HaloGemm& g, int a, int b) const {
    if constexpr (!kTransposed) return a * g.taps_w + b;
    return (first_h + g.step_h * (taps_h - 1 - a)) * g.taps_w + first_w + g.step_w * (taps_w - 1 - b);
  }
};

struct Shared {  // a block's shared memory
  unsigned char *weights, *halos, *units;
  AsyncBarrier *weights_full, *weights_empty, *units_full, *units_empty, *halo_full, *halo_empty;

  __device__ __forceinline__ Shared(unsigned char* memory, int columns, int halo_stages, int halo, int unit) {
    weights = memory + (0u - matrix_address(memory)) % 1024u;
    halos = weights + kWeightStages * columns * kRowBytes;
    units = halos + halo_stages * halo;
    weights_full = reinterpret_cast<AsyncBarrier*>(units + kUnitStages * unit);
    weights_empty = weights_full + kWeightStages;
    units_full = weights_empty + kWeightStages, units_empty = units_full + kUnitStages;
    halo_full = units_empty + kUnitStages, halo_empty = halo_full + halo_stages;
  }
};

// Where row m of the tile stands in its box. Pooled, the four pixels of a window are neighbouring rows.
template <bool kPool>
__device__ __forceinline__ void place_of(const HaloGemm& g, int m, int& n, int& i, int& j) {
  if constexpr (kPool) {
    const int window = m / 4, log_w = g.log_w - 1, log_h = g.log_h - 1;
    j = 2 * (window & ((1 << log_w) - 1)) + m % 2;
    i = 2 * (window >> log_w & ((1 << log_h) - 1)) + m % 4 / 2;
    n = window >> (log_w + log_h);
  } else {
    j = m & ((1 << g.log_w) - 1);
    i = m >> g.log_w & ((1 << g.log_h) - 1);
    n = m >> (g.log_w + g.log_h);
  }
}

// The two warps that round.
template <class T, bool kUnpool>
__device__ __forceinline__ void round_halos(const HaloGemm& g, const Shared& shared, bool any_taps, float scale, int first_row,
                                            int first_column) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % kRoundWarps;
  Stages from, to;
  for (int c = 0; any_taps && c < g.chunks; ++c) {
    wait(&shared.halo_empty[to.at], to.parity ^ 1u);
    for (int u = 0; u < units_of<T>(g.halo); ++u) {
      wait(&shared.units_full[from.at], from.parity);
      round_unit<T, kUnpool, kRoundWarps>(g.halo, warp, u, shared.units + from.at * unit_bytes(g.halo, kUnpool),
                                          shared.halos + to.at * halo_bytes(g.halo), scale, first_row, first_column);
      arrive(&shared.units_empty[from.at]);
      from.next(kUnitStages);
    }
    arrive(&shared.halo_full[to.at]);
    to.next(kHaloStages);
  }
}

// One of two warpgroups: the sums of its 64 rows.
template <class T, int BN, bool kPool, bool kTransposed>
__device__ __forceinline__ void multiply_halos(const HaloGemm& g, const Phase<kTransposed>& phase, const Shared& shared,
                                               float (&sum)[BN / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  WL_UNROLL
  for (int j = 0; j < BN / 8; ++j) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
  int n, i, j;
  place_of<kPool>(g, 16 * warp + lane % 16, n, i, j);
  const int pixel = (n * g.halo.h + i) * g.halo.pitch + j, halo = halo_bytes(g.halo);
  const int steps = g.chunks * phase.taps_h * phase.taps_w;
  Stages weights, from;
  int a = 0, b = 0, before = 0;
  // The weights of one tap and chunk: 128 bytes of k in four slabs of 32.
  auto step = [&](int number, uint32_t (&fragment)[4][4]) {
    if (a == 0 && b == 0) wait(&shared.halo_full[from.at], from.parity);
    const int p = pixel + a * g.halo.pitch + b;
    const unsigned char* row = shared.halos + from.at * halo + p * kRowBytes;
    WL_UNROLL
    for (int slab = 0; slab < 4; ++slab) load_matrices<4, false>(fragment[slab], row + ((2 * slab + lane / 16) ^ (p & 7)) * 16);
    if (++b == phase.taps_w) b = 0, ++a;
    if (a == phase.taps_h) {
      a = 0;
      __syncwarp();
      if (lane == 0) arrive(&shared.halo_empty[from.at]);
      from.next(g.halo_stages);
    }
    wait(&shared.weights_full[weights.at], weights.parity);
    const uint64_t descriptor = matrix_descriptor(shared.weights + weights.at * BN * kRowBytes);
    warpgroup_fence();
    WL_UNROLL
    for (int slab = 0; slab < 4; ++slab) multiply_warpgroup<T, BN>(sum, fragment[slab], descriptor + slab * kNextSlab);
    warpgroup_commit();
    warpgroup_wait<1>();  // of the step before: its weights may be overwritten, and its fragments in the next step
    if (number > 0 && lane == 0) arrive(&shared.weights_empty[before]);
    before = weights.at;
    weights.next(kWeightStages);
  };
  uint32_t even[4][4], odd[4][4];
  int number = 0;
  for (; number + 1 < steps; number += 2) {  // without a branch between the two, or ptxas makes wgmma wait for each of them
    step(number, even);
    step(number + 1, odd);
  }
  if (number < steps) step(number, even);
  warpgroup_wait<0>();
}

// sources: one, or if kByPhases four (PhaseMaps). scale: [1], of a gradient as fp16, or null. codes: of a pool, or null. source_codes: of
// the source, if kUnpool. out: may be epilogue.output.
template <class T, int BN, bool kPool, bool kTransposed, bool kUnpool, bool kByPhases = false>
__device__ __forceinline__ void halo_gemm(const HaloGemm& g, const TensorMap* sources, const TensorMap& source_codes,
                                          const unsigned char* __restrict__ packed, const Epilogue& epilogue,
                                          const float* __restrict__ scale, unsigned char* __restrict__ codes, void* out) {
  WL_DYNAMIC_SHARED(unsigned char, memory);
  const Shared shared(memory, BN, g.halo_stages, halo_bytes(g.halo), unit_bytes(g.halo, kUnpool));
  const bool direct = T::kBytes == 2 && !kUnpool && g.halo.direct;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kWeightStages; ++s) init(&shared.weights_full[s], 1), init(&shared.weights_empty[s], kMultiplyWarps);
    for (int s = 0; s < kUnitStages; ++s) init(&shared.units_full[s], 1), init(&shared.units_empty[s], 32 * kRoundWarps);
    for (int s = 0; s < g.halo_stages; ++s)
      init(&shared.halo_full[s], direct ? 1 : 32 * kRoundWarps), init(&shared.halo_empty[s], kMultiplyWarps);
    fence_async_proxy();
  }
  __syncthreads();

  int block = static_cast<int>(blockIdx.x);
  const int n_tile = block % g.n_tiles;
  block /= g.n_tiles;
  const int j0 = block % g.tiles_w << g.log_w;
  block /= g.tiles_w;
  const int i0 = block % g.tiles_h << g.log_h, image0 = block / g.tiles_h * g.box_n;
  const Phase<kTransposed> phase(g);
  const int taps = phase.taps_h * phase.taps_w, first_row = i0 + phase.reach_h, first_column = j0 + phase.reach_w;

  if (warp == kWeightsWarp) {
    if (lane != 0) return;
    Stages to;
    for (int c = 0; c < g.chunks; ++c) {
      const unsigned char* from = packed + static_cast<int64_t>(n_tile * g.chunks + c) * g.taps_h * g.taps_w * (BN * kRowBytes);
      for (int t = 0; t < taps; ++t) {
        wait(&shared.weights_empty[to.at], to.parity ^ 1u);
        arrive_expecting(&shared.weights_full[to.at], BN * kRowBytes);
        bulk_copy(shared.weights + to.at * BN * kRowBytes,
                  from + phase.tap(g, t / phase.taps_w, t % phase.taps_w) * (BN * kRowBytes), BN * kRowBytes,
                  &shared.weights_full[to.at]);
        to.next(kWeightStages);
      }
    }
    return;
  }
  if (warp == kPixelsWarp) {
    if (lane != 0) return;
    constexpr int kSources = kByPhases ? 4 : 1;
    const int chunks = taps > 0 ? g.chunks / kSources : 0;
    Stages to;
    for (int s = 0; s < kSources; ++s) {  // of odd rows the pixel above is met, of even ones that below, and so of columns
      const int row = first_row - s / 2, column = first_column - s % 2;
      for (int c = 0; direct && c < chunks; ++c) {
        wait(&shared.halo_empty[to.at], to.parity ^ 1u);
        arrive_expecting(&shared.halo_full[to.at], static_cast<uint32_t>(copied_bytes(g.halo)));
        bulk_copy_tensor(shared.halos + to.at * halo_bytes(g.halo), sources[s], c * kChunk<T>, column, row, image0,
                         &shared.halo_full[to.at]);
        to.next(g.halo_stages);
      }
      for (int u = 0; !direct && u < chunks * units_of<T>(g.halo); ++u) {
        wait(&shared.units_empty[to.at], to.parity ^ 1u);
        bring_unit<kUnpool>(g.halo, shared.units + to.at * unit_bytes(g.halo, kUnpool), sources[s], source_codes,
                            u * unit_channels(g.halo), row, column, image0, &shared.units_full[to.at]);
        to.next(kUnitStages);
      }
    }
    return;
  }
  const float gradient_scale = scale ? *scale : 1.0f;
  if (warp >= kMultiplyWarps && direct) return;
  if (warp >= kMultiplyWarps) return round_halos<T, kUnpool>(g, shared, taps > 0, gradient_scale, first_row, first_column);

  float sum[1][BN / 8][4];
  multiply_halos<T, BN, kPool>(g, phase, shared, sum[0]);
  // Powers of two: exact either way; 1 where there is a bias.
  const float unscale = scale ? __uint_as_float((254u << 23) - __float_as_uint(gradient_scale)) : 1.0f;
  const int first_n = n_tile * BN + lane % 4 * 2;
  add_bias(sum, epilogue.bias, first_n, g.n_channels, g.pairs);
  if (scale) scale_all(sum, unscale);
  if constexpr (!kPool) activate_all(sum, epilogue);
  with_pairs(g.pairs, [&](auto pairs) {
    WL_UNROLL
    for (int half = 0; half < 2; ++half) {
      int n, i, j;
      place_of<kPool>(g, 16 * warp + lane / 4 + 8 * half, n, i, j);
      n += image0, i += i0, j += j0;
      if constexpr (kPool) {
        const bool inside = n < g.N && i / 2 < g.out_H && j / 2 < g.out_W;
        const int64_t to = ((static_cast<int64_t>(n) * g.out_H + i / 2) * g.out_W + j / 2) * g.n_channels;
        store_pooled_row<T>(sum[0], half, epilogue, first_n, g.n_channels, pairs, inside, element_at<T>(out, to, g.out_bytes),
                            g.out_bytes, codes ? codes + to : nullptr);
      } else {
        const bool inside = n < g.N && i < phase.rows && j < phase.cols;
        const int row = i * g.step_h + phase.phase_h, col = j * g.step_w + phase.phase_w;
        const int64_t offset = ((static_cast<int64_t>(n) * g.out_H + row) * g.out_W + col) * g.n_channels;
        if ((kTransposed || kByPhases) && epilogue.output && inside)
          take_slopes<T>(sum[0], half, epilogue, offset, first_n, g.n_channels, pairs);
        store_row<T>(sum[0], half, first_n, g.n_channels, pairs, inside, element_at<T>(out, offset, g.out_bytes), g.out_bytes);
      }
    }
  });
}

}  // namespace warploom::v7
