// errands.cu (v5): small work of several calls in one launch: weights rounded as v7's wgmma reads them, the summed taps of an upsample
// Layout: errand.h.
// One block owns 32 x 32 pairs of channels, which turn around in shared memory: of prepared weights one tap, of summed ones all nine.
// From v2: new. Sums of taps in float32, before any rounding. Expected bottleneck: memory, small.
// Preconditions: fewer than 2^31 weights; what is prepared is for GPUs with the operands' instructions.
#include "../common/summed_taps.cuh"
#include "../common/tensor_core.cuh"
#include "entries.h"

namespace warploom::v5 {

constexpr int kSide = 32, kErrandThreads = 256, kErrandLines = kErrandThreads / kSide, kPreparedRow = 128;
using ErrandTile = float[kSide][kSide + 1];

struct Errands {
  int blocks[kMostErrands] = {};
  Errand list[kMostErrands];
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

__global__ __launch_bounds__(kErrandThreads) void run_errands_kernel(const WL_GRID_CONSTANT Errands errands) {
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
    default:
      return sum_taps(e, block, tiles);
  }
}

static int64_t blocks_of(const Errand& e) {
  const auto sides = [](int64_t count) { return (count + kSide - 1) / kSide; };
  if (e.kind == ErrandKind::sum_taps) return sides(e.k) * sides(e.n);
  const int chunk = kPreparedRow / (e.kind == ErrandKind::prepare_tf32 ? Tf32::kBytes : Bf16::kBytes);
  return sides(int64_t(e.n_tiles) * e.columns) * sides(int64_t(e.chunks) * chunk) * e.taps;
}

void run_errands(const Errand* list, int count, const Context& context) {
  if (count > kMostErrands) throw DeviceError("more errands than a launch takes");
  Errands errands;
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i) {
    errands.list[i] = list[i];
    errands.blocks[i] = static_cast<int>(blocks_of(list[i]));
    blocks += blocks_of(list[i]);
  }
  launch(context, "v5::run_errands_kernel", run_errands_kernel, dim3(blocks_for(blocks, 1)), dim3(kErrandThreads), 0, errands);
}

}  // namespace warploom::v5
