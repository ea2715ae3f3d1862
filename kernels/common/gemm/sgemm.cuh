// Maths    C[M, N] (+)= A[M, K] * B[K, N], then bias per row and activation; batched; K may be split over blocks.
// Layout   A, B, C are MatrixViews (matrix.cuh); each operand is stored contiguous along K or along its outer dimension.
// Owns     A block owns a BM x BN tile of C, a thread TM x TN of it, as 4x4 quadrants spread over the tile so that shared loads
//          are 16 bytes wide and free of conflicts. K advances BK at a time through two shared buffers; the next tile waits in
//          registers.
// Bound    FFMA issue. Rows and columns past the edge repeat a valid one and are not stored; K's odd end comes first.
// Needs    32-bit M, N, K; with vector loads, the alignment that columns_vectorize() states, and K % 4 == 0 if contiguous along
// K.
#pragma once

#include "../epilogue.cuh"
#include "../vector.cuh"
#include "matrix.cuh"

namespace warploom {

struct GemmProblem {
  int M = 0, N = 0, K = 0, batch = 1;
  MatrixView<const float> a, b;
  MatrixView<float> c;
  int64_t a_batch = 0, b_batch = 0, c_batch = 0;  // elements from one problem of the batch to the next
  int a_jump = 0, b_jump = 0;                     // both contiguous along K: from the end of an image to the next
  int splits = 1, split_length = 0;               // split s takes K in [s * split_length, (s + 1) * split_length)
  int64_t c_split = 0;                            // elements from one split's C to the next
  bool accumulate = false;                        // C += instead of C =
  bool c_vector = false;                          // C can be stored as float4
  int64_t bias_batch = 0;
  Epilogue epilogue;
};

template <int kBM, int kBN, int kBK, int kTM, int kTN, int kMinBlocks>
struct GemmTile {
  static constexpr int BM = kBM, BN = kBN, BK = kBK, TM = kTM, TN = kTN, MinBlocks = kMinBlocks;
  static constexpr int TY = BM / TM, TX = BN / TN, Threads = TY * TX;
  static constexpr int QM = TM < 4 ? TM : 4, QN = TN < 4 ? TN : 4;      // quadrant of a thread
  static constexpr int LanesY = TY < 4 ? TY : 4, LanesX = 32 / LanesY;  // a warp's shape in threads
  static_assert(BM % TM == 0 && BN % TN == 0 && Threads % 32 == 0 && TY % LanesY == 0 && TX % LanesX == 0, "warps must tile C");
  static_assert(TM % QM == 0 && TN % QN == 0 && BM % 4 == 0 && BN % 4 == 0 && BK % 4 == 0, "quadrants must tile a thread");
};

// Moves one BK x Extent tile of an operand from global memory through registers into shared memory [BK][Stride].
// Wraps: contiguous along K, and K runs over the pixels of several images.
template <int Extent, int BK, int Threads, int Vec, bool KContiguous, bool Wraps>
struct TileLoader {
  // Contiguous along K, a column of shared memory is written by scattered threads: the pad keeps them off each other's banks.
  static constexpr int Stride = KContiguous ? Extent + 4 : Extent;
  static constexpr int PerLine = (KContiguous ? BK : Extent) / Vec;  // loads along the contiguous direction
  static constexpr int Total = Extent * BK / Vec;
  static constexpr int Count = (Total + Threads - 1) / Threads;
  static constexpr int LineStep = Threads / PerLine;
  static_assert(Threads % PerLine == 0, "every load of a thread must stand at the same place of its line");

  const float* base;                         // this thread's first element of the current BK
  unsigned offset[KContiguous ? Count : 1];  // K contiguous: from there to its elements in other lines; offset[0] is 0
  float r[Count * Vec];

  __device__ __forceinline__ TileLoader(const MatrixView<const float>& v, int64_t batch_offset, int outer0, int extent, int k0) {
    const int t = threadIdx.x, line = t / PerLine, along = t % PerLine * Vec;
    if (KContiguous) {
      const int k = v.first + k0 + along, q = Wraps ? k / v.image_columns : 0;
      const int first = outer0 + line < extent ? outer0 + line : extent - 1;
      base = v.data + batch_offset + q * v.image_stride + first * v.row_stride + (k - q * v.image_columns);
      WL_UNROLL
      for (int i = 0; i < Count; ++i) {
        const int outer = outer0 + line + i * LineStep;
        offset[i] = static_cast<unsigned>((outer < extent ? outer : extent - 1) - first) * static_cast<unsigned>(v.row_stride);
      }
    } else {
      const int j = outer0 + along;
      base = v.data + batch_offset + v.column_offset(j < extent ? j : 0) + (k0 + line) * v.row_stride;
    }
  }

  __device__ __forceinline__ void load(float* to, const float* from, bool valid) {
    if (valid) {
      copy_vector<Vec>(to, from);
    } else {
      WL_UNROLL
      for (int v = 0; v < Vec; ++v) to[v] = 0.0f;
    }
  }

  // Guarded: only the first `count` of the BK rows exist; the others become zeros.
  template <bool Guarded>
  __device__ __forceinline__ void fetch(const MatrixView<const float>& v, int count) {
    const int t = threadIdx.x;
    WL_UNROLL
    for (int i = 0; i < Count; ++i) {
      const bool mine = Total % Threads == 0 || t + i * Threads < Total;
      const int k = KContiguous ? t % PerLine * Vec : t / PerLine + i * LineStep;
      const float* const from = KContiguous ? base + (i > 0 ? offset[i] : 0u) : base + i * LineStep * v.row_stride;
      load(r + i * Vec, from, mine && (!Guarded || k < count));
    }
    if (KContiguous)
      base += Guarded ? count : BK;
    else
      base += (Guarded ? count : BK) * v.row_stride;
  }

  __device__ __forceinline__ void commit(float* tile) const {  // [BK][Stride]
    const int t = threadIdx.x;
    WL_UNROLL
    for (int i = 0; i < Count; ++i) {
      if (Total % Threads != 0 && t + i * Threads >= Total) continue;
      const int along = t % PerLine * Vec, across = t / PerLine + i * LineStep;
      if constexpr (KContiguous) {
        WL_UNROLL
        for (int v = 0; v < Vec; ++v) tile[(along + v) * Stride + across] = r[i * Vec + v];
      } else if constexpr (Vec == 4) {
        *reinterpret_cast<float4*>(tile + across * Stride + along) =
            make_float4(r[i * 4], r[i * 4 + 1], r[i * 4 + 2], r[i * 4 + 3]);
      } else {
        tile[across * Stride + along] = r[i];
      }
    }
  }
};

// One BK step: acc[TM][TN] += a[BK][:] x b[BK][:].
template <class Tile, int StrideA, int StrideB>
__device__ __forceinline__ void multiply_tile(float (&acc)[Tile::TM][Tile::TN], const float* a, const float* b, int ty, int tx) {
  constexpr int TM = Tile::TM, TN = Tile::TN, QM = Tile::QM, QN = Tile::QN;
  WL_UNROLL
  for (int k = 0; k < Tile::BK; ++k) {
    float ra[TM], rb[TN];
    WL_UNROLL
    for (int q = 0; q < TM / QM; ++q) copy_vector<QM>(ra + q * QM, a + k * StrideA + (q * Tile::TY + ty) * QM);
    WL_UNROLL
    for (int q = 0; q < TN / QN; ++q) copy_vector<QN>(rb + q * QN, b + k * StrideB + (q * Tile::TX + tx) * QN);
    WL_UNROLL
    for (int i = 0; i < TM; ++i) {
      WL_UNROLL
      for (int j = 0; j < TN; ++j) acc[i][j] += ra[i] * rb[j];
    }
  }
}

template <class Tile>
__device__ __forceinline__ void store_tile(float (&acc)[Tile::TM][Tile::TN], const GemmProblem& p, int64_t offset,
                                           const float* bias, int m0, int n0, int ty, int tx) {
  constexpr int QM = Tile::QM, QN = Tile::QN;
  WL_UNROLL
  for (int qn = 0; qn < Tile::TN / QN; ++qn) {
    const int n = n0 + (qn * Tile::TX + tx) * QN;
    if (n >= p.N) continue;
    const bool vector = QN == 4 && p.c_vector && n + QN <= p.N;
    float* const column = p.c.data + offset + p.c.column_offset(n);
    WL_UNROLL
    for (int i = 0; i < Tile::TM; ++i) {
      const int m = m0 + (i / QM * Tile::TY + ty) * QM + i % QM;
      if (m >= p.M) continue;
      const float shift = bias ? bias[m] : 0.0f;
      float* const to = column + m * p.c.row_stride;
      float v[QN];
      WL_UNROLL
      for (int j = 0; j < QN; ++j) v[j] = acc[i][qn * QN + j];
      if (vector) {
        float4* const to4 = reinterpret_cast<float4*>(to);
        if (p.accumulate) {
          const float4 old = *to4;
          v[0] += old.x, v[1 % QN] += old.y, v[2 % QN] += old.z, v[3 % QN] += old.w;
        }
        WL_UNROLL
        for (int j = 0; j < QN; ++j) v[j] = p.epilogue(v[j] + shift);
        *to4 = make_float4(v[0], v[1 % QN], v[2 % QN], v[3 % QN]);
      } else {
        WL_UNROLL
        for (int j = 0; j < QN; ++j) {
          if (n + j >= p.N) continue;
          float* const at = p.c.data + offset + p.c.column_offset(n + j) + m * p.c.row_stride;
          if (p.accumulate) v[j] += *at;
          *at = p.epilogue(v[j] + shift);
        }
      }
    }
  }
}

// A: [M, K] contiguous along K (AK) or [K, M]; B: [K, N] or, contiguous along K (BKC), [N, K]. C: [M, N].
// With both contiguous along K, the views must have the same first and image_columns.
template <class Tile, bool AK, bool BKC, int VecA, int VecB>
__global__ void __launch_bounds__(Tile::Threads, Tile::MinBlocks) sgemm_kernel(GemmProblem p) {
  constexpr bool Wraps = AK && BKC;
  static_assert(!Wraps || VecA == VecB, "both operands step through the pixels together");
  using LoaderA = TileLoader<Tile::BM, Tile::BK, Tile::Threads, VecA, AK, Wraps>;
  using LoaderB = TileLoader<Tile::BN, Tile::BK, Tile::Threads, VecB, BKC, Wraps>;
  constexpr int SizeA = Tile::BK * LoaderA::Stride, SizeB = Tile::BK * LoaderB::Stride;
  WL_SHARED(float4, tile_a, [2][SizeA / 4]);
  WL_SHARED(float4, tile_b, [2][SizeB / 4]);

  // Row tiles run fastest: blocks that share columns of B (the large operand) run together and find them in L2.
  const int tiles_m = (p.M + Tile::BM - 1) / Tile::BM, tiles_n = (p.N + Tile::BN - 1) / Tile::BN;
  int rest = blockIdx.x;
  const int m0 = rest % tiles_m * Tile::BM;
  rest /= tiles_m;
  const int n0 = rest % tiles_n * Tile::BN;
  rest /= tiles_n;
  const int split = rest % p.splits, problem = rest / p.splits;
  const int k0 = split * p.split_length;
  const int k_end = k0 + p.split_length < p.K ? k0 + p.split_length : p.K;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  constexpr int WarpsX = Tile::TX / Tile::LanesX;
  const int ty = warp / WarpsX * Tile::LanesY + lane / Tile::LanesX;
  const int tx = warp % WarpsX * Tile::LanesX + lane % Tile::LanesX;

  LoaderA load_a(p.a, problem * p.a_batch, m0, p.M, k0);
  LoaderB load_b(p.b, problem * p.b_batch, n0, p.N, k0);
  float acc[Tile::TM][Tile::TN];
  WL_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    WL_UNROLL
    for (int j = 0; j < Tile::TN; ++j) acc[i][j] = 0.0f;
  }

  // The odd end of K comes first, so that the main loop tests nothing.
  const int odd = (k_end - k0 - 1) % Tile::BK + 1;
  // Where K runs over the pixels of images, both operands reach the end of an image together.
  int pixel = Wraps ? (p.a.first + k0 + int(threadIdx.x) % LoaderA::PerLine * VecA) % p.a.image_columns : 0;
  auto next_image = [&](int step) {
    pixel += step;
    while (pixel >= p.a.image_columns) {
      pixel -= p.a.image_columns;
      load_a.base += p.a_jump;
      load_b.base += p.b_jump;
    }
  };
  load_a.template fetch<true>(p.a, odd);
  load_b.template fetch<true>(p.b, odd);
  if (Wraps) next_image(odd);
  load_a.commit(reinterpret_cast<float*>(tile_a[0]));
  load_b.commit(reinterpret_cast<float*>(tile_b[0]));
  __syncthreads();
  int now = 0;
  for (int left = (k_end - k0 - odd) / Tile::BK; left > 0; --left) {
    load_a.template fetch<false>(p.a, 0);  // arrives while the current tile is multiplied
    load_b.template fetch<false>(p.b, 0);
    if (Wraps) next_image(Tile::BK);
    multiply_tile<Tile, LoaderA::Stride, LoaderB::Stride>(acc, reinterpret_cast<const float*>(tile_a[now]),
                                                          reinterpret_cast<const float*>(tile_b[now]), ty, tx);
    now ^= 1;  // the other buffer was last read before the barrier of the round before: free to write
    load_a.commit(reinterpret_cast<float*>(tile_a[now]));
    load_b.commit(reinterpret_cast<float*>(tile_b[now]));
    __syncthreads();
  }
  multiply_tile<Tile, LoaderA::Stride, LoaderB::Stride>(acc, reinterpret_cast<const float*>(tile_a[now]),
                                                        reinterpret_cast<const float*>(tile_b[now]), ty, tx);
  const float* const bias = p.epilogue.bias ? p.epilogue.bias + problem * p.bias_batch : nullptr;
  store_tile<Tile>(acc, p, problem * p.c_batch + split * p.c_split, bias, m0, n0, ty, tx);
}

// The tile sizes. All sum K in the same order, so the choice does not change a bit of the result.
using TileLarge = GemmTile<128, 128, 8, 8, 8, 2>;
using TileSmall = GemmTile<64, 64, 8, 8, 8, 6>;  // when 128 x 128 would leave multiprocessors idle
using TileWide = GemmTile<32, 128, 8, 8, 4, 4>;  // few rows
using TileHigh = GemmTile<128, 32, 8, 8, 4, 4>;  // few columns
using TileThin = GemmTile<8, 128, 8, 4, 2, 4>;   // a handful of rows: bound by memory, not by arithmetic

template <class Tile, bool AK, bool BKC, int VecA, int VecB>
void launch_sgemm(const char* name, const GemmProblem& p, const Context& context) {
  const int64_t tiles = int64_t((p.M + Tile::BM - 1) / Tile::BM) * ((p.N + Tile::BN - 1) / Tile::BN);
  const int64_t blocks = tiles * p.splits * p.batch;
  if (blocks == 0) return;
  if (blocks > 2147483647) throw DeviceError(std::string(name) + ": the matrix has more than 2^31 tiles; use a smaller batch");
  launch(context, name, sgemm_kernel<Tile, AK, BKC, VecA, VecB>, dim3(static_cast<unsigned>(blocks)), dim3(Tile::Threads), 0, p);
}

// Enough blocks that every multiprocessor of a large GPU has one. A constant, so that all devices choose alike.
constexpr int64_t kFillBlocks = 128;

inline int64_t gemm_tiles(int64_t M, int64_t N, int64_t batch, int bm, int bn) {
  return (M + bm - 1) / bm * ((N + bn - 1) / bn) * batch;
}

// Which tile, by shape. Scalar loads (odd planes, three channels) are the rare case and keep to two tiles.
template <bool AK, bool BKC, int VecA, int VecB>
void choose_sgemm(const char* name, const GemmProblem& p, const Context& context) {
  if (p.M <= TileThin::BM) return launch_sgemm<TileThin, AK, BKC, VecA, VecB>(name, p, context);
  if constexpr (VecB == 4) {
    if (VecA == 4 && p.M <= TileWide::BM) return launch_sgemm<TileWide, AK, BKC, 4, 4>(name, p, context);
    if constexpr (AK && BKC) {
      if (p.N <= TileHigh::BN) return launch_sgemm<TileHigh, AK, BKC, 4, 4>(name, p, context);
    }
    const bool fills = gemm_tiles(p.M, p.N, int64_t(p.batch) * p.splits, TileLarge::BM, TileLarge::BN) >= kFillBlocks;
    if (VecA == 4 && fills && p.M > TileSmall::BM && p.N > TileSmall::BN)
      return launch_sgemm<TileLarge, AK, BKC, 4, 4>(name, p, context);
  }
  launch_sgemm<TileSmall, AK, BKC, VecA, VecB>(name, p, context);
}

}  // namespace warploom
