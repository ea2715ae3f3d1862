// apply.cuh - inside v6: the constant matrices of common/schemes.h applied to registers. Zeros vanish at compile time, ones cost no
// multiplication, rows that differ in signs only share their partial sums.
#pragma once

#include <type_traits>
#include <utility>

#include "../common/epilogue.cuh"
#include "../common/fast_divisor.cuh"
#include "../common/schemes.h"
#include "../common/vector.cuh"
#include "passes.h"

namespace warploom::v6 {

// kCount neighbouring channels.
template <int kCount>
struct Pack {
  float v[kCount] = {};
};

template <int kCount>
__device__ __forceinline__ void store_pack(float* to, const Pack<kCount>& p) {
  if constexpr (kCount == 4)
    store4(to, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]));
  else if constexpr (kCount == 2)
    *reinterpret_cast<float2*>(to) = make_float2(p.v[0], p.v[1]);
  else
    to[0] = p.v[0];
}

// f(Index<0>()), ..., f(Index<kCount - 1>()): a loop whose index is a constant. (Device code may not ask std::integral_constant.)
template <int kAt>
struct Index {
  static constexpr int value = kAt;
  __host__ __device__ constexpr operator int() const { return kAt; }
};
template <class F, int... kAt>
__device__ __forceinline__ void unrolled(std::integer_sequence<int, kAt...>, F&& f) {
  (f(Index<kAt>()), ...);
}
template <int kCount, class F>
__device__ __forceinline__ void unrolled(F&& f) {
  unrolled(std::make_integer_sequence<int, kCount>(), static_cast<F&&>(f));
}

template <class M>
constexpr bool column_used(int c) {
  for (int r = 0; r < kMatrixRows<M>; ++r)
    if (M::m.v[r][c] != 0) return true;
  return false;
}
template <class M, int c>
inline constexpr bool kColumnUsed = column_used<M>(c);

// sum += sum over columns c and later of M[r][c] x[c], of all columns or of one half of a pair of rows. any: there is a sum already.
template <class M, int r, Part part, int c, bool any, int kCount>
__device__ __forceinline__ void dot(const Pack<kCount>* x, Pack<kCount>& sum) {
  if constexpr (c < kMatrixColumns<M>) {
    constexpr float k = kCoefficient<M, r, c, part>;
    if constexpr (k != 0.0f) {
      WL_UNROLL
      for (int e = 0; e < kCount; ++e) {
        if constexpr (k == 1.0f)
          sum.v[e] = any ? sum.v[e] + x[c].v[e] : x[c].v[e];
        else if constexpr (k == -1.0f)
          sum.v[e] = any ? sum.v[e] - x[c].v[e] : -x[c].v[e];
        else
          sum.v[e] = any ? sum.v[e] + k * x[c].v[e] : k * x[c].v[e];
      }
    }
    dot<M, r, part, c + 1, any || k != 0.0f>(x, sum);
  }
}

// y[i * step] = row i of M times x.
template <class M, int step, int r = 0, int kCount>
__device__ __forceinline__ void apply(const Pack<kCount>* x, Pack<kCount>* y) {
  if constexpr (r < kMatrixRows<M>) {
    if constexpr (kIsPair<M, r>) {
      Pack<kCount> same, other;
      dot<M, r, Part::same, 0, false>(x, same);
      dot<M, r, Part::other, 0, false>(x, other);
      WL_UNROLL
      for (int e = 0; e < kCount; ++e) {
        y[r * step].v[e] = same.v[e] + other.v[e];
        y[(r + 1) * step].v[e] = same.v[e] - other.v[e];
      }
      apply<M, step, r + 2>(x, y);
    } else {
      dot<M, r, Part::all, 0, false>(x, y[r * step]);
      apply<M, step, r + 1>(x, y);
    }
  }
}

// Y = M X M^T, element by element of a pack: load(i, j) gives X[i][j], take(i, row) gets row i of Y. i and j are constants. Columns
// of M without a coefficient are not loaded.
template <class M, int kCount, class Load, class Take>
__device__ __forceinline__ void apply_2d(Load&& load, Take&& take) {
  constexpr int R = kMatrixRows<M>, C = kMatrixColumns<M>;
  Pack<kCount> half[R * C];
  unrolled<C>([&](auto j) {
    if constexpr (kColumnUsed<M, decltype(j)::value>) {
      Pack<kCount> x[C];
      unrolled<C>([&](auto i) {
        if constexpr (kColumnUsed<M, decltype(i)::value>) x[i] = load(i, j);
      });
      apply<M, C>(x, half + j);
    }
  });
  unrolled<R>([&](auto i) {
    Pack<kCount> y[R];
    apply<M, 1>(half + i * C, y);
    take(i, y);
  });
}

// The adjoint of an upsampling scheme's B, gathered: a tile's own kInStep small pixels from its products and those of the tiles
// before and after it. Column (d + 1) * kProducts + p is product p of tile t + d.
template <class S>
constexpr auto gather_of_B() {
  constexpr int P = S::kProducts;
  Matrix<S::kInStep, 3 * P> g{};
  for (int s = 0; s < S::kInStep; ++s)
    for (int d = -1; d <= 1; ++d) {
      const int i = s + 1 - d * S::kInStep;  // patches begin one pixel before their tile
      if (i < 0 || i >= S::kIn) continue;
      for (int p = 0; p < P; ++p) g.v[s][(d + 1) * P + p] = S::B.v[p][i];
    }
  return g;
}
template <class S>
struct MatrixGather {
  static constexpr auto m = gather_of_B<S>();
};

// Which tile and which channels of a chunk a thread owns; neighbouring threads own neighbouring channels.
struct Place {
  int tile, row, column, image, channel;  // tile: within the chunk; row, column: of tiles within the image
  __device__ __forceinline__ Place(const Tiles& t, int index, int width) {
    tile = t.by_group.quotient(index);
    channel = t.by_group.remainder(index, tile) * width;
    const int line = t.by_TW.quotient(tile);
    column = t.by_TW.remainder(tile, line);
    const int q = t.first_row + line;
    image = t.by_TH.quotient(q);
    row = t.by_TH.remainder(q, image);
  }
};

constexpr int kTransformThreads = 128, kTransformBlocks = 4;  // up to 128 registers: a thread's loads are all in flight at once

// Channels a thread takes at once: a patch of up to 16 numbers a channel leaves registers for four.
template <class S>
inline constexpr int kWide = S::kProducts <= 4 ? 4 : 2;

// A 2x2 pool window's maximum, activated, into y[to], and its code. The first NaN wins, else the first maximum.
template <int kCount>
__device__ __forceinline__ void store_window(const Pack<kCount>& first, const Pack<kCount>& second, const Pack<kCount>& third,
                                             const Pack<kCount>& fourth, const Epilogue& epilogue, float* y, unsigned char* codes,
                                             int64_t to) {
  Pack<kCount> best = first;
  uint32_t code = 0;
  WL_UNROLL
  for (int e = 0; e < kCount; ++e) {
    const float others[3] = {second.v[e], third.v[e], fourth.v[e]};
    uint32_t where = 0;
    WL_UNROLL
    for (int o = 0; o < 3; ++o)
      if (others[o] > best.v[e] || (others[o] != others[o] && best.v[e] == best.v[e])) {
        best.v[e] = others[o];
        where = static_cast<uint32_t>(o) + 1;
      }
    best.v[e] = epilogue(best.v[e]);
    if (takes_slope(epilogue.activation, best.v[e])) where |= 4u;
    code |= where << (8 * e);
  }
  store_pack(y + to, best);
  if (!codes) return;
  if constexpr (kCount == 4)
    *reinterpret_cast<uint32_t*>(codes + to) = code;
  else if constexpr (kCount == 2)
    *reinterpret_cast<uint16_t*>(codes + to) = static_cast<uint16_t>(code);
  else
    codes[to] = static_cast<unsigned char>(code);
}

}  // namespace warploom::v6
