// gemm.cpp - register tiles: 14 x 32 (AVX-512), 6 x 16 (AVX2), 6 x 8 (others) for A * B; 8 x 32, 8 x 8, 8 x 4 for A^T * B.
//
// One row of A is broadcast against the two vectors of a panel row, or the one that a last panel may have; the sums of a tile stay
// in registers over the whole of K. The strides of a blocked A are constants of the code, so that every address is base +
// displacement. K may come in runs, a distance apart. After every kChain steps the sums go to C and start anew: short sums round less.
#include "gemm.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kChain = 64;

// What a tile needs to know of K and A beside the address of its first row.
struct Depth {
  int64_t K, row, block;  // of a run
  int64_t runs, stride;
};
using Tile = void (*)(const Depth& depth, const float* a, const float* b, float* c, int64_t c_row, int64_t c_block, int columns);

// kRow: A's row stride where it is known (16), 0 where it is not. V: vectors of the panel that are there.
template <int R, int kRow, int V>
__attribute__((noinline)) void tile(const Depth& depth, const float* a, const float* b, float* c, int64_t c_row, int64_t c_block,
                                    int columns) {
  const int64_t row = kRow ? kRow : depth.row, K = depth.K;
  constexpr int kBases = (R + 2) / 3;
  vf sum[R][V];
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[i][v] = vf{};
  // The sums are written at the end, so their lines may come meanwhile; likewise the rows of the tile below, which is next.
  const int64_t second = kWidth == kBlock ? c_block : kWidth;  // a row's second vector may stand in the next block of columns
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) __builtin_prefetch(c + i * c_row + v * second, 1);
  // Three rows share a base pointer: base, base + row and base + 2 * row are all addressing modes.
  const float* base[kBases];
  auto step = [&](int j) __attribute__((always_inline)) {
    if (kRow && j < R) __builtin_prefetch(base[j / 3] + (j % 3 + R) * row);
    vf bv[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) bv[v] = load(b + j * kPanel + v * kWidth);
#pragma GCC unroll 14
    for (int i = 0; i < R; ++i) {
      const vf x = broadcast(base[i / 3][i % 3 * row + j]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[i][v] += x * bv[v];
    }
  };
  int64_t steps = 0;
  bool add = false;
  auto put = [&]() __attribute__((always_inline)) {
#pragma GCC unroll 14
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        float* to = c + i * c_row + v * second;
        const int part = columns - v * kWidth;
        store_part(to, add ? load_part(to, part) + sum[i][v] : sum[i][v], part);
        sum[i][v] = vf{};
      }
    add = true, steps = 0;
  };
#pragma GCC unroll 1
  for (int64_t run = 0; run < depth.runs; ++run, a += depth.stride) {
#pragma GCC unroll 5
    for (int q = 0; q < kBases; ++q) base[q] = a + 3 * q * row;
    int64_t k = 0;
    for (; k + kBlock <= K; k += kBlock, steps += kBlock) {
      if (steps >= kChain) put();
#pragma GCC unroll 16
      for (int j = 0; j < kBlock; ++j) step(j);
      b += kBlock * kPanel;
#pragma GCC unroll 5
      for (int q = 0; q < kBases; ++q) base[q] += depth.block;
    }
#pragma GCC unroll 1
    for (int j = 0; j < K - k; ++j) step(j);
    b += (K - k) * kPanel, steps += K - k;
  }
  put();
}

// The tile of `rows` rows out of kTileRows instances.
template <int kRow, int V, int R = kTileRows>
Tile tile_of(int rows) {
  if constexpr (R > 1)
    if (rows < R) return tile_of<kRow, V, R - 1>(rows);
  return tile<R, kRow, V>;
}

constexpr int kRows = 8;  // of a transposed tile
constexpr int kVectors = kWidth == 16 ? 2 : 1;

template <int V>
__attribute__((noinline)) void tile_transposed(int64_t T, const float* a, int64_t a_row, const float* b, int64_t b_row,
                                               int64_t b_second, float* c, int64_t c_row, int64_t c_second, bool accumulate) {
  vf sum[kRows][V];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[i][v] = accumulate ? load(c + i * c_row + v * c_second) : vf{};
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) __builtin_prefetch(c + (kRows + i) * c_row + v * c_second, 1);  // the next tile's sums
#pragma GCC unroll 4
  for (int64_t t = 0; t < T; ++t, a += a_row, b += b_row) {
    vf bv[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) bv[v] = load(b + v * b_second);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const vf x = broadcast(a[i]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[i][v] += x * bv[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(c + i * c_row + v * c_second, sum[i][v]);
}

}  // namespace

void pack_panel(const float* source, int64_t stride_k, int64_t stride_n, int64_t K, int64_t k0, int64_t rows, int64_t N,
                int64_t panel, float* packed) {
  const int64_t n0 = panel * kPanel;
  const int columns = static_cast<int>(std::min<int64_t>(kPanel, N - n0));
  float* to = packed + panel * K * kPanel + k0 * kPanel;
  source += n0 * stride_n;
  if (stride_n == 1) {
    for (int64_t k = 0; k < rows; ++k, to += kPanel, source += stride_k) {
      store(to, load_part(source, columns));
      store(to + kWidth, columns > kWidth ? load_part(source + kWidth, columns - kWidth) : vf{});
    }
    return;
  }
  for (int64_t k = 0; k < rows; k += kBlock)  // blocks, so that a transposed source is read by whole cache lines
    for (int n = 0; n < kPanel; ++n)
      for (int64_t j = k; j < std::min<int64_t>(rows, k + kBlock); ++j)
        to[j * kPanel + n] = n < columns ? source[j * stride_k + n * stride_n] : 0.0f;
}

void pack_rows(const float* source, int64_t K, int64_t N, float* packed) {
  constexpr int64_t kRowsAtOnce = 32;
  parallel_blocks(K, kRowsAtOnce, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = 0; panel < ceil_div(N, kPanel); ++panel)
      pack_panel(source + begin * N, N, 1, K, begin, end - begin, N, panel, packed);
  });
}

namespace {

void multiply_tiles(int64_t m0, int64_t m1, const Depth& depth, int64_t N, const float* A, const float* packed,
                    const MutableView& C, bool exact) {
  const int64_t rows = m1 - m0;
  if (rows <= 0) return;
  const int64_t tiles = ceil_div(rows, kTileRows), panels = ceil_div(N, kPanel), panel_size = depth.runs * depth.K * kPanel;
  constexpr int64_t kTilesAtOnce = 8;  // their rows of A stay in the second-level cache while the panels pass
  for (int64_t first = 0; first < tiles; first += kTilesAtOnce)
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t left = (exact ? N : round_up(N, kBlock)) - p * kPanel;
      const int columns = static_cast<int>(std::min<int64_t>(left, kPanel));
      for (int64_t t = first; t < std::min(tiles, first + kTilesAtOnce); ++t) {
        const int64_t begin = m0 + rows * t / tiles, end = m0 + rows * (t + 1) / tiles;  // tiles of nearly equal height
        const int height = static_cast<int>(end - begin);
        const bool blocks = depth.row == kBlock;
        const Tile run = columns > kWidth ? (blocks ? tile_of<kBlock, 2>(height) : tile_of<0, 2>(height))
                                          : (blocks ? tile_of<kBlock, 1>(height) : tile_of<0, 1>(height));
        run(depth, A + begin * depth.row, packed + p * panel_size, C.at(begin, p * kPanel), C.row, C.block, columns);
      }
    }
}

}  // namespace

void multiply(int64_t m0, int64_t m1, int64_t K, int64_t N, const View& A, const float* packed, const MutableView& C,
              bool exact) {
  multiply_tiles(m0, m1, {K, A.row, A.block, 1, 0}, N, A.data, packed, C, exact);
}

void multiply_sum(int64_t m0, int64_t m1, int64_t K, int64_t N, const View& A, int64_t count, int64_t stride, const float* packed,
                  const MutableView& C) {
  multiply_tiles(m0, m1, {K, A.row, A.block, count, stride}, N, A.data, packed, C, false);
}

void multiply_runs(int64_t m1, const Runs& A, int64_t N, const float* packed, const MutableView& C) {
  multiply_tiles(0, m1, {A.length, A.row, kBlock, A.count, A.stride}, N, A.data, packed, C, false);
}

void multiply_transposed(int64_t t0, int64_t t1, int64_t k0, int64_t k1, int64_t N, const View& A, const View& B,
                         const MutableView& C, bool accumulate) {
  constexpr int64_t kDepth = 128;  // rows at once: B's strip stays in the first-level cache over all of k0..k1
  constexpr int kStep = kVectors * kWidth;
  int64_t t = t0;
  do {
    const int64_t depth = std::min(kDepth, t1 - t);
    const bool add = accumulate || t != t0;
    for (int64_t n = 0; n < N; n += kStep)
      for (int64_t k = k0; k < k1; k += kRows) {
        const bool whole = n + kStep <= N;
        (whole ? tile_transposed<kVectors> : tile_transposed<1>)(depth, A.at(t, k), A.row, B.at(t, n), B.row, B.block, C.at(k, n),
                                                                 C.row, C.block, add);
      }
    t += depth;
  } while (t < t1);
}

}  // namespace warploom::cpu
