// maps_cpu.h - vectors over maps [outer, C, inner] on the host, each with its channel parameters.
//
// Channels innermost (inner == 1): with few channels several rows are seen as one row of `fold` times as many columns, so that whole
// vectors fit; column j belongs to channel j % C. Parameters are unfolded once per call into arrays of `padded` columns. In planes
// (inner > 1) a vector lies in one channel and its parameters are broadcast.
#pragma once

#include <numeric>

#include "csrc/cpu/common.h"

namespace warploom::cpu {

constexpr int64_t kTaskElements = 32768;

struct Maps {
  int64_t outer, C, inner;
  int64_t fold = 1, columns, padded;  // rows folded into one; columns of such a row; rounded up to whole vectors
  Maps(int64_t outer, int64_t C, int64_t inner) : outer(outer), C(C), inner(inner) {
    if (inner == 1 && C % kWidth != 0 && C < 4 * kWidth) fold = kWidth / std::gcd(C, int64_t(kWidth));
    columns = C * fold;
    padded = round_up(columns, kWidth);
  }
  bool planes() const { return inner > 1; }
  int64_t count() const { return outer * C * inner; }
  int64_t rows() const { return ceil_div(outer, fold); }  // the last one may be part of a row

  // to[padded] = the parameter by column; `missing` where there is none.
  void unfold(const float* parameter, float missing, float* to) const {
    for (int64_t j = 0; j < padded; ++j) to[j] = parameter && j < columns ? parameter[j % C] : missing;
  }
};

struct ColumnPlace {
  int64_t column;
  WL_INLINE vf operator()(const float* parameter) const { return load(parameter + column); }
};
struct PlanePlace {
  int64_t channel;
  WL_INLINE vf operator()(const float* parameter) const { return broadcast(parameter[channel]); }
};

// f(offset, n, place): every vector of the maps, of which n elements exist; place(parameter) is its part of an unfolded parameter.
template <class F>
void for_maps(const Maps& m, F&& f) {
  if (m.planes()) {
    parallel_blocks(m.outer * m.C, std::max<int64_t>(1, kTaskElements / m.inner), [&](int64_t begin, int64_t end, int) {
      for (int64_t plane = begin; plane < end; ++plane) {
        const PlanePlace place = {plane % m.C};
        const int64_t base = plane * m.inner;
        int64_t i = 0;
        for (; i + kWidth <= m.inner; i += kWidth) f(base + i, kWidth, place);
        if (i < m.inner) f(base + i, static_cast<int>(m.inner - i), place);
      }
    });
    return;
  }
  const int64_t total = m.count();
  parallel_blocks(m.rows(), std::max<int64_t>(1, kTaskElements / m.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t base = row * m.columns, columns = std::min(m.columns, total - base);
      int64_t j = 0;
      for (; j + kWidth <= columns; j += kWidth) f(base + j, kWidth, ColumnPlace{j});
      if (j < columns) f(base + j, static_cast<int>(columns - j), ColumnPlace{j});
    }
  });
}

// f(integral_constant<Activation>): the kind as a constant of the code.
template <class F>
void with_activation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::relu:
      return f(std::integral_constant<Activation, Activation::relu>());
    case Activation::leaky_relu:
      return f(std::integral_constant<Activation, Activation::leaky_relu>());
    case Activation::sigmoid:
      return f(std::integral_constant<Activation, Activation::sigmoid>());
    default:
      return f(std::integral_constant<Activation, Activation::none>());
  }
}

WL_INLINE void copy_floats(float* to, const float* from, int64_t n) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i < n) store_part(to + i, load_part(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

}  // namespace warploom::cpu
