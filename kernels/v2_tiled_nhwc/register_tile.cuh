// register_tile.cuh (v2): sum[m][n] += gathered[k][m] * filter[k][n] over one step: the inner loop of all three convolution
//   kernels
// Layout: shared memory holds gathered [BK, BM] and filter [BK, BN]; a thread's rows (columns) lie in groups of 4, spread over
//   the tile.
// One block owns BM x BN sums, a warp a patch of kLanesM x kLanesN threads, one thread TM x TN of them in registers.
// From v1: new. A k costs a thread (TM + TN) / 4 shared reads for TM * TN multiply-adds; the reads of a warp meet no bank twice.
// Preconditions: rows of the shared arrays are multiples of 16 bytes.
#pragma once

#include "../common/vector.cuh"

namespace warploom::v2 {

template <int kM, int kN, int kK, int kThreadM, int kThreadN>
struct Tile {
  static constexpr int BM = kM, BN = kN, BK = kK, TM = kThreadM, TN = kThreadN;
  static constexpr int kThreads = BM * BN / (TM * TN);
  static constexpr int kVectorM = TM < 4 ? TM : 4, kVectorN = TN < 4 ? TN : 4;        // neighbouring rows (columns)
  static constexpr int kSpreadM = BM / TM * kVectorM, kSpreadN = BN / TN * kVectorN;  // from one group to the next
  static constexpr int kLanesN = BN / TN < 8 ? BN / TN : 8, kLanesM = 32 / kLanesN;   // a warp's patch
  static constexpr int kWarpsN = BN / TN / kLanesN;                                   // warps side by side
  static constexpr int kGathers = BM * BK / 4 / kThreads;                             // 4-element loads of a thread
  static constexpr int kFilters = (BN * BK / 4 + kThreads - 1) / kThreads;
  // Bounds the registers of a thread: 128, or 168 where a half-size block takes the full register tile.
  static constexpr int kBlocksPerMultiprocessor = kThreads >= 256 ? 2 : TM * TN >= 64 ? 3 : 4;
  static_assert(BM * BN % (TM * TN) == 0 && kThreads % 32 == 0 && kThreads <= 1024, "whole warps");
  static_assert(BM * BK % (4 * kThreads) == 0, "every thread loads the same number of groups");
  static_assert(BK % 8 == 0 && BM % 4 == 0 && BN % 4 == 0 && TM % kVectorM == 0 && TN % kVectorN == 0, "vector accesses");
  static_assert(BN / TN % kLanesN == 0 && BM / TM % kLanesM == 0, "warps tile the block");
  struct alignas(16) Shared {
    float gathered[BK][BM + 4];  // + 4: transposing stores of two k groups fall into different banks
    float filter[BK][BN + 4];
  };
};

// Which rows and columns a thread owns: group q, element e is row q * kSpreadM + thread_m * kVectorM + e.
template <class T>
__device__ __forceinline__ int thread_m() {
  const int t = static_cast<int>(threadIdx.x);
  return t / 32 / T::kWarpsN * T::kLanesM + t % 32 / T::kLanesN;
}
template <class T>
__device__ __forceinline__ int thread_n() {
  const int t = static_cast<int>(threadIdx.x);
  return t / 32 % T::kWarpsN * T::kLanesN + t % 32 % T::kLanesN;
}

template <class T>
__device__ __forceinline__ void clear(float (&sum)[T::TM][T::TN]) {
  WL_UNROLL
  for (int r = 0; r < T::TM; ++r) {
    WL_UNROLL
    for (int c = 0; c < T::TN; ++c) sum[r][c] = 0.0f;
  }
}

template <class T>
__device__ __forceinline__ void multiply_tiles(const typename T::Shared& tile, float (&sum)[T::TM][T::TN]) {
  const int tm = thread_m<T>(), tn = thread_n<T>();
  WL_UNROLL
  for (int k = 0; k < T::BK; ++k) {
    float m[T::TM], n[T::TN];
    WL_UNROLL
    for (int q = 0; q < T::TM / T::kVectorM; ++q)
      copy_vector<T::kVectorM>(m + q * T::kVectorM, &tile.gathered[k][q * T::kSpreadM + tm * T::kVectorM]);
    WL_UNROLL
    for (int q = 0; q < T::TN / T::kVectorN; ++q)
      copy_vector<T::kVectorN>(n + q * T::kVectorN, &tile.filter[k][q * T::kSpreadN + tn * T::kVectorN]);
    WL_UNROLL
    for (int r = 0; r < T::TM; ++r) {
      WL_UNROLL
      for (int c = 0; c < T::TN; ++c) sum[r][c] += m[r] * n[c];
    }
  }
}

// Writes one group of neighbouring columns of a row, as far as the row goes.
template <class T>
__device__ __forceinline__ void store_columns(float* row, int n, int columns, bool vector,
                                              const float* v) {  // [columns], [kVectorN]
  if (T::kVectorN == 4 && vector) {
    if (n < columns) store4(row + n, make_float4(v[0], v[1], v[2], v[3]));
    return;
  }
  WL_UNROLL
  for (int e = 0; e < T::kVectorN; ++e)
    if (n + e < columns) row[n + e] = v[e];
}

// Wide where there are many channels and enough pixels to occupy a large GPU, else narrower. Every tile adds in the same order of
// k.
using WideTile = Tile<128, 128, 8, 8, 8>;
using TallTile = Tile<128, 64, 8, 8, 8>;
using SquareTile = Tile<64, 64, 16, 4, 4>;
using NarrowTile = Tile<128, 16, 8, 4, 4>;
using SliverTile = Tile<256, 4, 8, 2, 4>;

}  // namespace warploom::v2
