// schemes.h - bilinear convolution schemes: three small matrices each, from which all transforms are generated, on the host (csrc/cpu)
// and on a GPU (v6). Knows no CUDA.
//
// In one dimension a scheme computes kOut outputs y from a patch x of kIn inputs and the kTaps taps g of a filter by kProducts
// multiplications:  y = A [ (G g) * (B x) ].  In two dimensions the matrices act on rows and on columns, and the product of two
// numbers becomes, over channels, one matrix product per pair of positions. Patches start kInStep apart. The gradients are the
// exact adjoints: transpose every matrix.
//
// kUp = 2 means that a nearest upsample by two stands before the convolution: x is the small image, y the large one.
// kStride = 2: the convolution has stride two. Even and odd rows and columns of x make four images of half the size, each convolved
// with every other tap at stride one; their products are added before A. Kernels of up to 2 kTaps fit.
// kBorrow >= 0: the last column of A takes that product of the *next* tile, which has computed it anyway.
// kSource, where B has fewer rows than there are products: the row of B that each product takes.
#pragma once

namespace warploom {

template <int R, int C>
struct Matrix {
  float v[R][C];
  static constexpr int rows = R, columns = C;
  constexpr Matrix<C, R> transposed() const {
    Matrix<C, R> t{};
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < C; ++j) t.v[j][i] = v[i][j];
    return t;
  }
};

// Winograd F(4, 3) at 0, 3/4, -3/4, 3/2, -3/2 and infinity: half the rounding error of the textbook's 0, 1, -1, 2, -2, since the
// powers of these points stay near one. For a point p: B's row holds the polynomial that is zero at the others, G's row 1, p, p^2
// over that polynomial's value at p, A's column the powers of p.
struct WinogradF4 {
  static constexpr const char* name = "winograd4";
  static constexpr int kTaps = 3, kStride = 1, kUp = 1, kIn = 6, kInStep = 4, kProducts = 6, kOut = 4, kBorrow = -1;
  static constexpr Matrix<6, 6> B = {{{81.0f / 64, 0, -45.0f / 16, 0, 1, 0},
                                      {0, -27.0f / 16, -9.0f / 4, 3.0f / 4, 1, 0},
                                      {0, 27.0f / 16, -9.0f / 4, -3.0f / 4, 1, 0},
                                      {0, -27.0f / 32, -9.0f / 16, 3.0f / 2, 1, 0},
                                      {0, 27.0f / 32, -9.0f / 16, -3.0f / 2, 1, 0},
                                      {0, 81.0f / 64, 0, -45.0f / 16, 0, 1}}};
  static constexpr Matrix<6, 3> G = {{{64.0f / 81, 0, 0},
                                      {-128.0f / 243, -32.0f / 81, -8.0f / 27},
                                      {-128.0f / 243, 32.0f / 81, -8.0f / 27},
                                      {32.0f / 243, 16.0f / 81, 8.0f / 27},
                                      {32.0f / 243, -16.0f / 81, 8.0f / 27},
                                      {0, 0, 1}}};
  static constexpr Matrix<4, 6> A = {{{1, 1, 1, 1, 1, 0},
                                      {0, 3.0f / 4, -3.0f / 4, 3.0f / 2, -3.0f / 2, 0},
                                      {0, 9.0f / 16, 9.0f / 16, 9.0f / 4, 9.0f / 4, 0},
                                      {0, 27.0f / 64, -27.0f / 64, 27.0f / 8, -27.0f / 8, 1}}};
};

// Winograd F(2, 3) at 0, 1, -1 and infinity: for maps too small to fill tiles of four.
struct WinogradF2 {
  static constexpr const char* name = "winograd2";
  static constexpr int kTaps = 3, kStride = 1, kUp = 1, kIn = 4, kInStep = 2, kProducts = 4, kOut = 2, kBorrow = -1;
  static constexpr Matrix<4, 4> B = {{{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}}};
  static constexpr Matrix<4, 3> G = {{{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}}};
  static constexpr Matrix<2, 4> A = {{{1, 1, 1, 0}, {0, 1, -1, 1}}};
};

// Upsample then 3x3, two outputs from three products: with S = g0 + g1 + g2,
//   y[2i]     = g0 (x[i-1] - x[i]) + S x[i]
//   y[2i + 1] = S x[i] + g2 (x[i+1] - x[i])
struct Upsample9 {
  static constexpr const char* name = "upsample9";
  static constexpr int kTaps = 3, kStride = 1, kUp = 2, kIn = 3, kInStep = 1, kProducts = 3, kOut = 2, kBorrow = -1;
  static constexpr Matrix<3, 3> B = {{{1, -1, 0}, {0, 1, 0}, {0, -1, 1}}};
  static constexpr Matrix<3, 3> G = {{{1, 0, 0}, {1, 1, 1}, {0, 0, 1}}};
  static constexpr Matrix<2, 3> A = {{{1, 1, 0}, {0, 1, 1}}};
};

// Upsample then 3x3, four outputs from five products of its own and one of the next tile's:
//   y[2i + 2] = S x[i] + (g1 + g2) (x[i+1] - x[i])
//   y[2i + 3] = (g0 + g1) (x[i+1] - x[i+2]) + S x[i+2]
struct Upsample25 {
  static constexpr const char* name = "upsample25";
  static constexpr int kTaps = 3, kStride = 1, kUp = 2, kIn = 4, kInStep = 2, kProducts = 5, kOut = 4, kBorrow = 1;
  static constexpr Matrix<5, 4> B = {{{1, -1, 0, 0}, {0, 1, 0, 0}, {0, -1, 1, 0}, {0, -1, 1, 0}, {0, 0, 1, -1}}};
  static constexpr Matrix<5, 3> G = {{{1, 0, 0}, {1, 1, 1}, {0, 0, 1}, {0, 1, 1}, {1, 1, 0}}};
  static constexpr Matrix<4, 6> A = {{{1, 1, 0, 0, 0, 0}, {0, 1, 1, 0, 0, 0}, {0, 1, 0, 1, 0, 0}, {0, 0, 0, 0, 1, 1}}};
};

// Upsample then 3x3, eight outputs from nine products. Even and odd outputs are convolutions with two taps each, (g0, g1 + g2) of the
// small image and (g0 + g1, g2) of its next element: F(4, 2) at 1, 1/2, -3/4, -2 for both, and at 0 for the even, at infinity for the
// odd. Zero takes a patch that begins one element earlier to the other's, so both have the same rows of B at the four points. At 1 both
// filters are S = g0 + g1 + g2: one product for both.
struct Upsample81 {
  static constexpr const char* name = "upsample81";
  static constexpr int kTaps = 3, kStride = 1, kUp = 2, kIn = 6, kInStep = 4, kProducts = 9, kOut = 8, kBorrow = -1;
  static constexpr int kSource[9] = {0, 1, 1, 2, 2, 3, 3, 4, 5};
  static constexpr Matrix<6, 6> B = {{{0, -3.0f / 4, 1.0f / 8, 9.0f / 4, 1, 0},
                                      {0, -3.0f / 2, -5.0f / 4, 7.0f / 4, 1, 0},
                                      {0, 1, -5.0f / 2, 1.0f / 2, 1, 0},
                                      {0, 3.0f / 8, -5.0f / 8, -3.0f / 4, 1, 0},
                                      {3.0f / 4, -7.0f / 8, -17.0f / 8, 5.0f / 4, 1, 0},
                                      {0, 3.0f / 4, -7.0f / 8, -17.0f / 8, 5.0f / 4, 1}}};
  static constexpr Matrix<9, 3> G = {{{8.0f / 21, 8.0f / 21, 8.0f / 21},
                                      {-32.0f / 25, -16.0f / 25, -16.0f / 25},
                                      {-16.0f / 25, -16.0f / 25, -8.0f / 25},
                                      {-256.0f / 525, 64.0f / 175, 64.0f / 175},
                                      {64.0f / 175, 64.0f / 175, -48.0f / 175},
                                      {4.0f / 75, -8.0f / 75, -8.0f / 75},
                                      {-8.0f / 75, -8.0f / 75, 16.0f / 75},
                                      {4.0f / 3, 0, 0},
                                      {0, 0, 1}}};
  static constexpr Matrix<8, 9> A = {{{1, 1, 0, 1, 0, 1, 0, 1, 0},
                                      {1, 0, 1, 0, 1, 0, 1, 0, 0},
                                      {1, 1.0f / 2, 0, -3.0f / 4, 0, -2, 0, 0, 0},
                                      {1, 0, 1.0f / 2, 0, -3.0f / 4, 0, -2, 0, 0},
                                      {1, 1.0f / 4, 0, 9.0f / 16, 0, 4, 0, 0, 0},
                                      {1, 0, 1.0f / 4, 0, 9.0f / 16, 0, 4, 0, 0},
                                      {1, 1.0f / 8, 0, -27.0f / 64, 0, -8, 0, 0, 0},
                                      {1, 0, 1.0f / 8, 0, -27.0f / 64, 0, -8, 0, 1}}};
};

// Stride two, kernels of 5 and 6: Winograd F(4, 3) on the four images.
struct Strided36 {
  static constexpr const char* name = "strided36";
  static constexpr int kTaps = 3, kStride = 2, kUp = 1, kIn = 6, kInStep = 4, kProducts = 6, kOut = 4, kBorrow = -1;
  static constexpr auto B = WinogradF4::B;
  static constexpr auto G = WinogradF4::G;
  static constexpr auto A = WinogradF4::A;
};

// Stride two, kernels of 2 to 4: Winograd F(4, 2) at 1/2, -1/2, 5/4, -5/4 and infinity on the four images.
struct Strided25 {
  static constexpr const char* name = "strided25";
  static constexpr int kTaps = 2, kStride = 2, kUp = 1, kIn = 5, kInStep = 4, kProducts = 5, kOut = 4, kBorrow = -1;
  static constexpr Matrix<5, 5> B = {{{-25.0f / 32, -25.0f / 16, 1.0f / 2, 1, 0},
                                      {25.0f / 32, -25.0f / 16, -1.0f / 2, 1, 0},
                                      {-5.0f / 16, -1.0f / 4, 5.0f / 4, 1, 0},
                                      {5.0f / 16, -1.0f / 4, -5.0f / 4, 1, 0},
                                      {25.0f / 64, 0, -29.0f / 16, 0, 1}}};
  static constexpr Matrix<5, 2> G = {
      {{-16.0f / 21, -8.0f / 21}, {16.0f / 21, -8.0f / 21}, {32.0f / 105, 8.0f / 21}, {-32.0f / 105, 8.0f / 21}, {0, 1}}};
  static constexpr Matrix<4, 5> A = {{{1, 1, 1, 1, 0},
                                      {1.0f / 2, -1.0f / 2, 5.0f / 4, -5.0f / 4, 0},
                                      {1.0f / 4, 1.0f / 4, 25.0f / 16, 25.0f / 16, 0},
                                      {1.0f / 8, -1.0f / 8, 125.0f / 64, -125.0f / 64, 1}}};
};

// The adjoint of A as a map from the outputs a tile's products reach: with a borrowed product, one output before the tile too.
template <class S>
constexpr auto adjoint_of_A() {
  constexpr int before = S::kBorrow >= 0 ? 1 : 0;
  Matrix<S::kProducts, S::kOut + before> t{};
  for (int o = 0; o < S::kOut; ++o) {
    for (int p = 0; p < S::kProducts; ++p) t.v[p][o + before] = S::A.v[o][p];
    if (before && S::A.v[o][S::kProducts] != 0) t.v[S::kBorrow][o + before - S::kOut] = S::A.v[o][S::kProducts];
  }
  return t;
}

// Where the products of two dimensions stand: those that take the same position of V (row and column of B) are neighbours.
template <class S>
struct Positions {
  static constexpr int P = S::kProducts, Q = S::B.rows;
  int of[P * P]{};                     // the place of product (i, j)
  int source[P * P]{};                 // V's position, i * Q + j, by place
  int first[Q * Q]{}, count[Q * Q]{};  // the places that take a position of V
  constexpr Positions() {
    int next = 0;
    for (int v = 0; v < Q * Q; ++v) {
      first[v] = next;
      for (int i = 0; i < P; ++i)
        for (int j = 0; j < P; ++j)
          if (row(i) == v / Q && row(j) == v % Q) source[next] = v, of[i * P + j] = next++;
      count[v] = next - first[v];
    }
  }
  static constexpr int row(int product) {
    if constexpr (P == Q)
      return product;
    else
      return S::kSource[product];
  }
};

// The matrices, as types, so that their elements are constants of the code.
template <class S>
struct MatrixB {
  static constexpr auto m = S::B;
};
template <class S>
struct MatrixBt {
  static constexpr auto m = S::B.transposed();
};
template <class S>
struct MatrixG {
  static constexpr auto m = S::G;
};
template <class S>
struct MatrixGt {
  static constexpr auto m = S::G.transposed();
};
template <class S>
struct MatrixA {
  static constexpr auto m = S::A;
};
template <class S>
struct MatrixAt {
  static constexpr auto m = adjoint_of_A<S>();
};

// Rows r and r + 1 that differ only in the signs of some columns share their partial sums: (same + other, same - other).
template <class M>
constexpr bool is_pair(int r) {
  if (r + 1 >= M::m.rows) return false;
  int same = 0, other = 0;
  for (int c = 0; c < M::m.columns; ++c) {
    const float a = M::m.v[r][c], b = M::m.v[r + 1][c];
    if (a == 0 && b == 0) continue;
    if (a == b)
      ++same;
    else if (a == -b)
      ++other;
    else
      return false;
  }
  return same > 0 && other > 0 && same + other > 2;
}
enum class Part { all, same, other };
template <class M>
constexpr float coefficient(int r, int c, Part part) {
  const float a = M::m.v[r][c];
  if (part == Part::all) return a;
  return (a == M::m.v[r + 1][c]) == (part == Part::same) ? a : 0.0f;
}

// The same as constants of a type: device code may read them but not call what made them.
template <class M>
inline constexpr int kMatrixRows = decltype(M::m)::rows;
template <class M>
inline constexpr int kMatrixColumns = decltype(M::m)::columns;
template <class M, int r>
inline constexpr bool kIsPair = is_pair<M>(r);
template <class M, int r, int c, Part part>
inline constexpr float kCoefficient = coefficient<M>(r, c, part);

}  // namespace warploom
