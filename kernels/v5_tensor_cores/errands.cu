// errands.cu (v5): small work of several calls in one launch: weights rounded as v7's wgmma reads them, the summed taps of an upsample;
//   sums over the runs of weights' gradients, and the parameters' step with them; a loss's mean; counters
// Layout: errand.h.
// One block owns 32 x 32 pairs of channels, which turn around in shared memory: of prepared weights one tap, of summed ones all nine.
//   Of sums a thread owns one element or four neighbours, and all their runs; of kSplitRuns and more a warp every eighth run, and the
//   warps' sums are added in order.
// From v2: new. Sums of taps in float32, before any rounding. Expected bottleneck: memory, small.
// Preconditions: fewer than 2^31 weights; what is prepared is for GPUs with the operands' instructions.
#include "../common/finish_mean.cuh"
#include "../common/sgd_step.cuh"
#include "../common/summed_taps.cuh"
#include "../common/tensor_core.cuh"
#include "entries.h"

namespace warploom::v5 {

constexpr int kSide = 32, kErrandThreads = 256, kErrandLines = kErrandThreads / kSide, kPreparedRow = 128;
using ErrandTile = float[kSide][kSide + 1];
constexpr int kWarps = kErrandThreads / 32, kSplitRuns = 16;

struct Errands {
  int blocks[kMostErrands] = {};
  Errand list[kMostErrands];
};

// What moves with the gradients that errands write: those of `g`, and the parameters at the same places behind w.
struct ErrandUpdate {
  const float* hyper = nullptr;  // [3]
  const float* g = nullptr;
  float* w = nullptr;  // null: nothing moves
  float* velocity = nullptr;
  int nesterov = 0;

  __device__ __forceinline__ void store(float* to, float sum) const {
    *to = sum;
    if (w) SgdStep(hyper, 1.0f, nesterov != 0).update(sum, w + (to - g), velocity ? velocity + (to - g) : nullptr);
  }
  __device__ __forceinline__ void store(float* to, float4 sum) const {
    store4(to, sum);
    if (w) SgdStep(hyper, 1.0f, nesterov != 0).update4(sum, w + (to - g), velocity ? velocity + (to - g) : nullptr);
  }
};

template <class T>
__device__ __forceinline__ void prepare_weights(const Errand& e, int block, ErrandTile& tile) {  // [n][k]
  if constexpr (!kCompiledHere<T>) return;
  constexpr int kChunk = kPreparedRow / T::kBytes;
  const float* const w = static_cast<const float*>(e.from.data);
  const int n_blocks = e.n_tiles * e.columns / kSide, k_blocks = e.chunks * kChunk / kSide;
  const int n0 = block % n_blocks * kSide, k0 = block / n_blocks % k_blocks * kSide;
  const int tap = block / n_blocks / k_blocks, plane = e.n * e.k;
  const int lane = static_cast<int>(threadIdx.x) % kSide;
  const bool by_phases = e.form == WeightForm::upsampled_transposed, along_k = by_phases || e.form == WeightForm::transposed;
  int first_k = k0, sum = tap;  // of w; of the sixteen
  if (by_phases) {
    const int channels = e.chunks / 4 * kChunk, phase = k0 / channels;
    first_k -= phase * channels;
    sum = (2 * (tap / 2) + 1 - phase / 2) * 4 + 2 * (tap % 2) + 1 - phase % 2;
  }
  for (int line = static_cast<int>(threadIdx.x) / kSide; line < kSide; line += kErrandLines) {
    const int n = along_k ? n0 + line : n0 + lane, k = along_k ? first_k + lane : first_k + line;
    float v = 0.0f;
    if (n < e.n && k < e.k) {
      const int at = along_k ? n * e.k + k : k * e.n + n;
      if (e.form == WeightForm::forward || e.form == WeightForm::transposed) {
        v = w[tap * plane + at];
      } else {
        for (int t = 0; t < 9; ++t)
          if (sum_holds_tap(sum, t)) v += w[t * plane + at];
      }
    }
    tile[n - n0][k - first_k] = v;
  }
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x) / 8, quad = static_cast<int>(threadIdx.x) % 8;
  const float* v = &tile[n][4 * quad];
  const int at = n0 + n, chunk = (k0 + 4 * quad) / kChunk, in_chunk = (k0 + 4 * quad) % kChunk * T::kBytes;
  const int64_t row = (static_cast<int64_t>(at / e.columns * e.chunks + chunk) * e.taps + tap) * e.columns + at % e.columns;
  unsigned char* to =
      static_cast<unsigned char*>(e.to.data) + row * kPreparedRow + ((in_chunk / 16) ^ (at & 7)) * 16 + in_chunk % 16;
  if constexpr (T::kBytes == 2)
    *reinterpret_cast<uint2*>(to) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
  else
    *reinterpret_cast<uint4*>(to) = make_uint4(round_tf32(__float_as_uint(v[0])), round_tf32(__float_as_uint(v[1])),
                                               round_tf32(__float_as_uint(v[2])), round_tf32(__float_as_uint(v[3])));
}

__device__ __forceinline__ void sum_taps(const Errand& e, int block, ErrandTile* tile) {  // [tap][input][output channel]
  const int C_in = e.k, C_out = e.n, tiles = (C_out + kSide - 1) / kSide, plane = C_in * C_out;
  const int in0 = block / tiles * kSide, out0 = block % tiles * kSide;
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  const float* const w = static_cast<const float*>(e.from.data);
  float* const summed = static_cast<float*>(e.to.data);
  for (int r = line; r < kSide; r += kErrandLines) {
    if (in0 + r >= C_in || out0 + lane >= C_out) continue;
    WL_UNROLL
    for (int t = 0; t < 9; ++t) tile[t][r][lane] = w[t * plane + (in0 + r) * C_out + out0 + lane];
  }
  __syncthreads();
  for (int r = line; r < kSide; r += kErrandLines) {
    if (out0 + r >= C_out || in0 + lane >= C_in) continue;
    float taps[9];
    WL_UNROLL
    for (int t = 0; t < 9; ++t) taps[t] = tile[t][lane][r];
    WL_UNROLL
    for (int p = 0; p < 16; ++p) {
      float sum = 0.0f;
      WL_UNROLL
      for (int t = 0; t < 9; ++t)
        if (sum_holds_tap(p, t)) sum += taps[t];
      summed[p * plane + (out0 + r) * C_in + in0 + lane] = sum;
    }
  }
}

__host__ __device__ __forceinline__ bool splits(const Errand& e) {
  return e.runs >= kSplitRuns && e.kind != ErrandKind::spread_runs;
}

// Sums over runs, of kCount neighbours a thread.
template <int kCount>
__device__ __forceinline__ void sum_over_runs(const Errand& e, int block, float* shared, const ErrandUpdate& update) {
  const bool spreads = e.kind == ErrandKind::spread_runs, split = splits(e);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t count = e.to.bytes / 4, plane = static_cast<int64_t>(e.n) * e.k;
  const int64_t i = kCount * (block * static_cast<int64_t>(split ? 32 : kErrandThreads) + (split ? lane : thread));
  const bool inside = i < count;
  const int64_t run = spreads ? 16 * plane : count;
  const float* from = static_cast<const float*>(e.from.data) + i;
  if (spreads) {  // 2 - k and 3 - k of each axis hold tap k (summed_taps.cuh)
    const int tap = static_cast<int>(i / plane);
    from += ((2 - tap / 3) * 4 + 2 - tap % 3 - tap) * plane;
  }
  float sum[kCount] = {};
  if (inside) {
    const int step = split ? kWarps : 1, last = spreads ? 4 * e.runs : e.runs;
    constexpr int kInFlight = 4;  // loads; after an upsample the four of a run
    for (int r = split ? warp : 0; r < last; r += kInFlight * (spreads ? 1 : step)) {
      float next[kInFlight][kCount] = {};
      WL_UNROLL
      for (int l = 0; l < kInFlight; ++l) {
        const float* const of = spreads ? from + r / 4 * run + (l / 2 * 4 + l % 2) * plane : from + (r + l * step) * run;
        if (spreads || r + l * step < last) copy_vector<kCount>(next[l], of);
      }
      WL_UNROLL
      for (int l = 0; l < kInFlight; ++l) {
        WL_UNROLL
        for (int c = 0; c < kCount; ++c) sum[c] += next[l][c];
      }
    }
  }
  if (split) {
    WL_UNROLL
    for (int c = 0; c < kCount; ++c) shared[(c * kWarps + warp) * 32 + lane] = sum[c];
    __syncthreads();
    if (warp != 0) return;
    WL_UNROLL
    for (int c = 0; c < kCount; ++c) {
      sum[c] = shared[c * kWarps * 32 + lane];
      for (int w = 1; w < kWarps; ++w) sum[c] += shared[(c * kWarps + w) * 32 + lane];
    }
  }
  if (!inside) return;
  float* const to = static_cast<float*>(e.to.data);
  if (e.kind == ErrandKind::turn_runs) {
    const int n = static_cast<int>(i % e.n), row = static_cast<int>(i / e.n), tap = row / e.k;
    WL_UNROLL
    for (int c = 0; c < kCount; ++c) update.store(to + (static_cast<int64_t>(tap) * e.n + n + c) * e.k + row % e.k, sum[c]);
  } else if constexpr (kCount == 4) {
    update.store(to + i, make_float4(sum[0], sum[1], sum[2], sum[3]));
  } else {
    update.store(to + i, sum[0]);
  }
}

__device__ __forceinline__ void turn_and_spread_runs(const Errand& e, int block, ErrandTile* tile, const ErrandUpdate& update) {
  const int C_in = e.k, C_out = e.n, tiles = (C_out + kSide - 1) / kSide, plane = C_in * C_out;
  const int in0 = block / tiles * kSide, out0 = block % tiles * kSide;
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  for (int r = line; r < kSide; r += kErrandLines) {
    if (out0 + r >= C_out || in0 + lane >= C_in) continue;
    const float* from = static_cast<const float*>(e.from.data) + (out0 + r) * C_in + in0 + lane;
    float v[16] = {};
    for (int run = 0; run < e.runs; ++run, from += 16 * static_cast<int64_t>(plane)) {
      WL_UNROLL
      for (int p = 0; p < 16; ++p) v[p] += from[p * plane];
    }
    WL_UNROLL
    for (int t = 0; t < 9; ++t) {
      float sum = 0.0f;
      WL_UNROLL
      for (int p = 0; p < 16; ++p)
        if (sum_holds_tap(p, t)) sum += v[p];
      tile[t][lane][r] = sum;
    }
  }
  __syncthreads();
  for (int r = line; r < kSide; r += kErrandLines) {
    if (in0 + r >= C_in || out0 + lane >= C_out) continue;
    float* const to = static_cast<float*>(e.to.data) + (in0 + r) * C_out + out0 + lane;
    WL_UNROLL
    for (int t = 0; t < 9; ++t) update.store(to + t * plane, tile[t][r][lane]);
  }
}

__global__ __launch_bounds__(kErrandThreads) void run_errands_kernel(const WL_GRID_CONSTANT Errands errands,
                                                                     const WL_GRID_CONSTANT ErrandUpdate update) {
  WL_SHARED(float, tiles, [9][kSide][kSide + 1]);
  int block = static_cast<int>(blockIdx.x), number = 0;
  while (block >= errands.blocks[number]) block -= errands.blocks[number++];
  const Errand& e = errands.list[number];
  switch (e.kind) {
    case ErrandKind::prepare_bf16:
      return prepare_weights<Bf16>(e, block, tiles[0]);
    case ErrandKind::prepare_f16:
      return prepare_weights<F16>(e, block, tiles[0]);
    case ErrandKind::prepare_tf32:
      return prepare_weights<Tf32>(e, block, tiles[0]);
    case ErrandKind::sum_taps:
      return sum_taps(e, block, tiles);
    case ErrandKind::turn_and_spread_runs:
      return turn_and_spread_runs(e, block, tiles, update);
    case ErrandKind::mean:
      return finish_mean<kErrandThreads>(e.runs, e.elements, e.samples, e.weight, static_cast<const double*>(e.from.data),
                                         static_cast<float*>(e.to.data), static_cast<double*>(e.total.data));
    case ErrandKind::advance:
      if (threadIdx.x == 0) *static_cast<int*>(e.to.data) += e.n;
      return;
    default:
      return e.columns == 4 ? sum_over_runs<4>(e, block, tiles[0][0], update) : sum_over_runs<1>(e, block, tiles[0][0], update);
  }
}

// Neighbours that a thread of a sum takes in one access: all places of its errand, and of the parameters, are then aligned.
static int neighbours(const Errand& e, const SgdUpdate* update) {
  const int64_t count = e.to.bytes / 4;
  const bool moves = update && (!aligned16(update->g.data, update->w.data, update->velocity.data));
  if (moves || !aligned16(e.from.data, e.to.data)) return 1;
  if (e.kind == ErrandKind::turn_runs) return e.n % 4 == 0 ? 4 : 1;
  if (e.kind == ErrandKind::spread_runs) return int64_t(e.n) * e.k % 4 == 0 ? 4 : 1;
  return count % 4 == 0 ? 4 : 1;
}

static int64_t blocks_of(const Errand& e) {
  const auto sides = [](int64_t count) { return (count + kSide - 1) / kSide; };
  switch (e.kind) {
    case ErrandKind::sum_taps:
    case ErrandKind::turn_and_spread_runs:
      return sides(e.k) * sides(e.n);
    case ErrandKind::mean:
    case ErrandKind::advance:
      return 1;
    case ErrandKind::add_runs:
    case ErrandKind::turn_runs:
    case ErrandKind::spread_runs:
      return blocks_for(e.to.bytes / 4, int64_t(e.columns) * (splits(e) ? 32 : kErrandThreads));
    default: {
      const int chunk = kPreparedRow / (e.kind == ErrandKind::prepare_tf32 ? Tf32::kBytes : Bf16::kBytes);
      return sides(int64_t(e.n_tiles) * e.columns) * sides(int64_t(e.chunks) * chunk) * e.taps;
    }
  }
}

static bool sums_runs(ErrandKind kind) {
  return kind == ErrandKind::add_runs || kind == ErrandKind::turn_runs || kind == ErrandKind::spread_runs;
}

void run_errands(const Errand* list, int count, const SgdUpdate* update, const Context& context) {
  if (count > kMostErrands) throw DeviceError("more errands than a launch takes");
  Errands errands;
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i) {
    Errand& e = errands.list[i] = list[i];
    if (sums_runs(e.kind)) e.columns = neighbours(e, update);
    errands.blocks[i] = static_cast<int>(blocks_of(e));
    blocks += errands.blocks[i];
  }
  ErrandUpdate moved;
  if (update) moved = {update->hyper.ptr(), update->g.ptr(), update->w.ptr(), update->velocity.ptr(), update->nesterov};
  launch(context, "v5::run_errands_kernel", run_errands_kernel, dim3(blocks_for(blocks, 1)), dim3(kErrandThreads), 0, errands,
         moved);
}

void do_rest(const Rest& rest, const void* memory, const Context& context) {
  Errand list[Rest::kMost];
  for (int i = 0; i < rest.count; ++i) {
    list[i] = rest.list[i];
    list[i].from.data = static_cast<const char*>(memory) + reinterpret_cast<intptr_t>(list[i].from.data);
  }
  if (rest.count > 0) run_errands(list, rest.count, nullptr, context);
}

}  // namespace warploom::v5
