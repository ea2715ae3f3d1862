// schemes.h - applies the matrices of kernels/common/schemes.h to vectors of the host: zeros vanish, ones cost no multiplication.
#pragma once

#include "common.h"
#include "kernels/common/schemes.h"

namespace warploom::cpu {

template <class M, int r, Part part, int c = 0, bool any = false>
WL_INLINE vf dot(const vf* x, vf sum) {
  if constexpr (c == M::m.columns) {
    return sum;
  } else {
    constexpr float k = coefficient<M>(r, c, part);
    if constexpr (k == 0.0f)
      return dot<M, r, part, c + 1, any>(x, sum);
    else if constexpr (k == 1.0f)
      return dot<M, r, part, c + 1, true>(x, any ? sum + x[c] : x[c]);
    else if constexpr (k == -1.0f)
      return dot<M, r, part, c + 1, true>(x, any ? sum - x[c] : -x[c]);
    else
      return dot<M, r, part, c + 1, true>(x, any ? sum + k * x[c] : k * x[c]);
  }
}

// y[i * step] = row i of M times x.
template <class M, int r = 0>
WL_INLINE void apply(const vf* x, vf* y, int step) {
  if constexpr (r < M::m.rows) {
    if constexpr (is_pair<M>(r)) {
      const vf same = dot<M, r, Part::same>(x, vf{}), other = dot<M, r, Part::other>(x, vf{});
      y[r * step] = same + other;
      y[(r + 1) * step] = same - other;
      apply<M, r + 2>(x, y, step);
    } else {
      y[r * step] = dot<M, r, Part::all>(x, vf{});
      apply<M, r + 1>(x, y, step);
    }
  }
}

// Y = M X M^T, element by element of a vector. X is [columns][columns], Y [rows][rows]; load(i, j) gives X, store(i, j, v) takes
// Y.
template <class M, class Load, class Store>
WL_INLINE void apply_2d(Load&& load_at, Store&& store_at) {
  constexpr int R = M::m.rows, C = M::m.columns;
  vf half[R * C];
#pragma GCC unroll 9
  for (int j = 0; j < C; ++j) {
    vf x[C];
#pragma GCC unroll 9
    for (int i = 0; i < C; ++i) x[i] = load_at(i, j);
    apply<M>(x, half + j, C);
  }
#pragma GCC unroll 9
  for (int i = 0; i < R; ++i) {
    vf y[R];
    apply<M>(half + i * C, y, 1);
#pragma GCC unroll 9
    for (int j = 0; j < R; ++j) store_at(i, j, y[j]);
  }
}

}  // namespace warploom::cpu
