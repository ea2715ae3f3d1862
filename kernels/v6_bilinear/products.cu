// products.cu (v6): M[p] = V[p] U[p] for every position p of a scheme, and dU[p] = V[p]^T dM[p]: batched float32 matrix products
// Layout: V, M, dM [position, tile, channels padded to 4]; U [position, K, N]; dU [split, position, C, N].
// Blocks and threads as common/gemm/sgemm.cuh says: register tiles of 8 x 8, double-buffered shared memory.
// From v4: one problem of the batch per position. Expected bottleneck: FFMA issue; with few channels the traffic of V and M.
// Preconditions: row lengths are multiples of 4, so that every load is 16 bytes wide.
#include <algorithm>

#include "../common/gemm/sgemm.cuh"
#include "entries.h"
#include "passes.h"

namespace warploom::v6 {

using TileHalf = GemmTile<128, 64, 8, 8, 8, 4>;

// The blocks of a product are dealt out to multiprocessors (those of an H100; a constant, so that all devices choose alike); the last
// round is seldom full. Small tiles waste less of it and read more: on paper, by bytes per multiply-add, this much.
constexpr int64_t kMultiprocessors = 132;
static double rounds(int64_t M, int64_t N, int64_t batch, int bm, int bn, double reads) {
  const int64_t blocks = gemm_tiles(M, N, batch, bm, bn);
  return double((blocks + kMultiprocessors - 1) / kMultiprocessors) * bm * bn * reads;
}

void multiply(const Context& context, int positions, int tiles, int K, int N, const float* from, int64_t from_position,
              const float* U, float* to, int64_t to_position) {
  GemmProblem p;
  p.M = tiles, p.N = N, p.K = K, p.batch = positions;
  p.a = plain_matrix(from, K, K), p.b = plain_matrix(U, N, N), p.c = plain_matrix(to, N, N);
  p.a_batch = from_position, p.b_batch = int64_t(K) * N, p.c_batch = to_position;
  p.split_length = K, p.c_vector = true;
  const double large = rounds(tiles, N, positions, 128, 128, 1.0), half = rounds(tiles, N, positions, 128, 64, 1.08),
               small = rounds(tiles, N, positions, 64, 64, 1.16), high = rounds(tiles, N, positions, 128, 32, 1.3);
  const double best = std::min({large, half, small, high});
  const char* const name = "v6::multiply";
  if (best == large) return launch_sgemm<TileLarge, true, false, 4, 4>(name, p, context);
  if (best == half) return launch_sgemm<TileHalf, true, false, 4, 4>(name, p, context);
  if (best == small) return launch_sgemm<TileSmall, true, false, 4, 4>(name, p, context);
  launch_sgemm<TileHigh, true, false, 4, 4>(name, p, context);
}

static double weight_rounds(int positions, int64_t splits, int C, int N, double& large) {
  large = rounds(C, N, positions * splits, 128, 128, 1.0);
  return std::min(large, rounds(C, N, positions * splits, 64, 64, 1.16));
}

constexpr int64_t kSplitsLimit = int64_t(32) << 20;  // bytes of all of them

int weight_splits(int positions, int64_t tiles, int C, int N) {
  const int64_t each = int64_t(positions) * C * N * 4;
  int best = 1;
  double lowest = 0, large;
  for (int splits = 1; splits <= 8 && (splits == 1 || (tiles / splits >= 128 && splits * each <= kSplitsLimit)); ++splits) {
    const double time =
        weight_rounds(positions, splits, C, N, large) / splits * (1.0 + 0.02 * splits);  // each is written and summed
    if (splits == 1 || time < lowest) best = splits, lowest = time;
  }
  const int64_t length = (tiles + best - 1) / best;
  return static_cast<int>((tiles + length - 1) / length);  // none without tiles
}

void multiply_transposed(const Context& context, int positions, int tiles, int C, int N, int splits, bool accumulate,
                         const float* V, int64_t V_position, const float* dM, int64_t dM_position, float* dU) {
  GemmProblem p;
  p.M = C, p.N = N, p.K = tiles, p.batch = positions;
  p.a = plain_matrix(V, C, C), p.b = plain_matrix(dM, N, N), p.c = plain_matrix(dU, N, N);
  p.a_batch = V_position, p.b_batch = dM_position, p.c_batch = int64_t(C) * N;
  p.split_length = (tiles + splits - 1) / splits, p.splits = (tiles + p.split_length - 1) / p.split_length;
  p.c_split = positions * p.c_batch;
  p.accumulate = accumulate, p.c_vector = true;
  double large;
  const bool is_large = weight_rounds(positions, splits, C, N, large) == large;
  const char* const name = "v6::multiply_transposed";
  if (is_large) return launch_sgemm<TileLarge, false, false, 4, 4>(name, p, context);
  launch_sgemm<TileSmall, false, false, 4, 4>(name, p, context);
}

}  // namespace warploom::v6
