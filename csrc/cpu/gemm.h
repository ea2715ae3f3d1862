// gemm.h - the matrix products behind every convolution of the host kernel set.
//
// A View names a matrix whose columns come in blocks of 16: element (m, k) stands at data[m * row + (k / 16) * block + k % 16].
//   row-major with leading dimension ld:   row = ld, block = 16        (an NHWC activation is one, without any packing)
//   blocked [K / 16][M][16]:               row = 16, block = M * 16    (what transforms and im2col write: all strides small)
// B of multiply() is packed: panels of kPanel columns, [N / kPanel][K][kPanel], the columns past N zero.
#pragma once

#include "common.h"

namespace warploom::cpu {

constexpr int kPanel = 2 * kWidth;                // columns of one register tile
constexpr int kTileRows = kWidth == 16 ? 14 : 6;  // rows: 28 of 32 registers, or 12 of 16, hold sums

template <class T>
struct ViewOf {
  T* data;
  int64_t row, block;
  T* at(int64_t m, int64_t k) const { return data + m * row + k / kBlock * block + k % kBlock; }
};
using View = ViewOf<const float>;
using MutableView = ViewOf<float>;

inline View blocked(const float* data, int64_t rows) { return {data, kBlock, rows * kBlock}; }
inline MutableView blocked(float* data, int64_t rows) { return {data, kBlock, rows * kBlock}; }

// Columns that a product with N of them computes: the last panel's second vector is left out where nothing needs it.
constexpr double panel_columns(int64_t N) {
  const int64_t left = N % kPanel;
  return static_cast<double>(left > 0 && left <= kWidth ? N - left + kWidth : round_up(N, kPanel));
}

constexpr int64_t packed_size(int64_t K, int64_t N) { return K * round_up(N, kPanel); }

// Packs rows k0..k0+rows-1 of panel `panel` of B[K, N], whose element (k, n) is source[k * stride_k + n * stride_n]; source
// points at row k0. `packed` is the whole packed matrix.
void pack_panel(const float* source, int64_t stride_k, int64_t stride_n, int64_t K, int64_t k0, int64_t rows, int64_t N,
                int64_t panel, float* packed);

// All of a row-major B [K, N], some rows at a time, so that B is read from end to end.
void pack_rows(const float* source, int64_t K, int64_t N, float* packed);

// C[m0..m1, 0..N] = A * B; C's columns up to the next multiple of 16 may be written (with zeros) unless `exact`.
void multiply(int64_t m0, int64_t m1, int64_t K, int64_t N, const View& A, const float* packed, const MutableView& C, bool exact);

// C[m0..m1, 0..N] = A0 * B0 + A1 * B1 + ..., `count` matrices [., K] that stand `stride` apart; `packed` is their B's, one below the
// other, packed as one.
void multiply_sum(int64_t m0, int64_t m1, int64_t K, int64_t N, const View& A, int64_t count, int64_t stride, const float* packed,
                  const MutableView& C);

// Rows of A that are not one piece: `count` runs of `length` floats, `stride` apart. The rows of a padded NHWC image that a kernel
// looks at are such a matrix, without any packing: a run is a kernel row.
struct Runs {
  const float* data;
  int64_t row, length, count, stride;
};
// C[0..m1, 0..N] = A * B, K = length * count; the tails of C's blocks may be written.
void multiply_runs(int64_t m1, const Runs& A, int64_t N, const float* packed, const MutableView& C);

// C[k0..k1, 0..N] (+)= A^T * B over rows t0..t1 of A and B. k0, k1 multiples of 16 and N a multiple of 16: operands padded.
void multiply_transposed(int64_t t0, int64_t t1, int64_t k0, int64_t k1, int64_t N, const View& A, const View& B,
                         const MutableView& C, bool accumulate);

}  // namespace warploom::cpu
