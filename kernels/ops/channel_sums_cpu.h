// channel_sums_cpu.h - two sums per channel of maps [outer, C, inner] on the host: of u and of u * v, or of u and u^2.
//
// As the kernels do it: handfuls of eight vectors are added up in float, the squares around the handful's own mean; handfuls, tasks
// and lanes are added in double. Tasks are cut by the shape alone and merged in order: the same bits for any number of threads.
// Planes are seen as rows of one vector, all of the same channel.
#pragma once

#include "maps_cpu.h"

namespace warploom::cpu {

constexpr int kHandful = 8;
constexpr int64_t kSumElements = 65536, kSumRows = 64;  // what a task adds up at least, if there is that much

using vd = double __attribute__((vector_size(kWidth * 8)));
using vd_any = double __attribute__((vector_size(kWidth * 8), aligned(8), may_alias));

struct SumTasks {
  int64_t columns = 0, chunk = 0, chunks = 0, groups = 1;  // padded columns of a partial; rows (outer in planes) of a chunk
  explicit SumTasks(const Maps& m) {
    columns = m.planes() ? kWidth : m.padded;
    groups = m.planes() ? m.C : 1;
    if (m.planes())
      chunk = std::max<int64_t>(1, kSumElements / m.inner);
    else
      chunk = round_up(std::max(kSumRows, ceil_div(kSumElements, m.columns)), kHandful);
    chunks = std::max<int64_t>(1, ceil_div(m.planes() ? m.outer : m.rows(), chunk));
  }
  int64_t doubles() const { return groups * chunks * 2 * columns; }
  double* partial(double* partials, int64_t group, int64_t c) const { return partials + (group * chunks + c) * 2 * columns; }
};

template <bool kSquares>
WL_INLINE void add_handful(const vf* u, const vf* v, int count, double* sums, double* products) {
  vf sum{}, product{};
  for (int k = 0; k < count; ++k) sum += u[k];
  vd more;
  if constexpr (kSquares) {
    const vf mean = sum / static_cast<float>(count);
    for (int k = 0; k < count; ++k) product += (u[k] - mean) * (u[k] - mean);
    const vd m = __builtin_convertvector(mean, vd), s = __builtin_convertvector(sum, vd);
    more = __builtin_convertvector(product, vd) + m * (2.0 * s - static_cast<double>(count) * m);
  } else {
    for (int k = 0; k < count; ++k) product += u[k] * v[k];
    more = __builtin_convertvector(product, vd);
  }
  *reinterpret_cast<vd_any*>(sums) = *reinterpret_cast<vd_any*>(sums) + __builtin_convertvector(sum, vd);
  *reinterpret_cast<vd_any*>(products) = *reinterpret_cast<vd_any*>(products) + more;
}

// Adds `rows` rows of `columns` columns that begin at `base`; the last row ends at element `end`. term(offset, n, place, u, v).
template <bool kSquares, class Term, class MakePlace>
void add_rows(const Term& term, MakePlace make_place, int64_t base, int64_t rows, int64_t columns, int64_t end, double* sums,
              double* products) {
  vf u[kHandful], v[kHandful];
  for (int64_t r = 0; r < rows; r += kHandful) {
    const int64_t first = base + r * columns;
    const int count = static_cast<int>(std::min<int64_t>(kHandful, rows - r));
    if (count == kHandful && first + kHandful * columns <= end) {
      for (int64_t j = 0; j + kWidth <= columns; j += kWidth) {
        const auto place = make_place(j);
#pragma GCC unroll 8
        for (int k = 0; k < kHandful; ++k) term(first + k * columns + j, kWidth, place, u[k], v[k]);
        add_handful<kSquares>(u, v, kHandful, sums + j, products + j);
      }
      if (const int64_t j = columns / kWidth * kWidth; j < columns) {
        for (int k = 0; k < kHandful; ++k)
          term(first + k * columns + j, static_cast<int>(columns - j), make_place(j), u[k], v[k]);
        add_handful<kSquares>(u, v, kHandful, sums + j, products + j);
      }
      continue;
    }
    for (int64_t j = 0; j < columns; j += kWidth)
      for (int k = 0; k < count; ++k) {  // one at a time: the last row may lack columns
        const int64_t at = first + k * columns + j;
        const int n = static_cast<int>(std::min<int64_t>({kWidth, columns - j, end - at}));
        if (n <= 0) continue;
        vf a, b;
        term(at, n, make_place(j), a, b);
        for (int lane = 0; lane < n; ++lane) {
          sums[j + lane] += a[lane];
          products[j + lane] += static_cast<double>(a[lane]) * (kSquares ? a[lane] : b[lane]);
        }
      }
  }
}

// finish(c, sum, product) for every channel, in order. Term: kSquares, operator()(offset, n, place, u, v).
template <bool kSquares, class Term, class Finish>
void channel_sums(const Maps& m, const Term& term, double* partials, Finish&& finish) {
  const SumTasks t(m);
  parallel(t.groups * t.chunks, [&](int64_t task, int) {
    double* sums = t.partial(partials, task / t.chunks, task % t.chunks);
    double* products = sums + t.columns;
    std::fill(sums, sums + 2 * t.columns, 0.0);
    const int64_t begin = task % t.chunks * t.chunk;
    if (m.planes()) {
      const int64_t c = task / t.chunks, end = std::min(begin + t.chunk, m.outer);
      for (int64_t o = begin; o < end; ++o) {
        const int64_t base = (o * m.C + c) * m.inner;
        add_rows<kSquares>(
            term, [&](int64_t) { return PlanePlace{c}; }, base, ceil_div(m.inner, kWidth), kWidth, base + m.inner, sums,
            products);
      }
    } else {
      const int64_t end = std::min(begin + t.chunk, m.rows());
      add_rows<kSquares>(
          term, [](int64_t j) { return ColumnPlace{j}; }, begin * m.columns, end - begin, m.columns, m.count(), sums, products);
    }
  });
  if (!m.planes()) {  // the tasks' partials into the first one, in order
    parallel_blocks(2 * t.columns, 128, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = 1; k < t.chunks; ++k) {
        const double* from = t.partial(partials, 0, k);
        for (int64_t j = begin; j < end; ++j) partials[j] += from[j];
      }
    });
  }
  for (int64_t c = 0; c < m.C; ++c) {
    double sum = 0.0, product = 0.0;
    if (m.planes()) {
      for (int64_t k = 0; k < t.chunks; ++k) {
        const double* from = t.partial(partials, c, k);
        for (int lane = 0; lane < kWidth; ++lane) sum += from[lane], product += from[t.columns + lane];
      }
    } else {
      for (int64_t j = c; j < m.columns; j += m.C) sum += partials[j], product += partials[t.columns + j];
    }
    finish(c, sum, product);
  }
}

}  // namespace warploom::cpu
