// Root-mean-square normalisation of rows, without a gain. Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
#pragma once

#include "kernels/args.h"

namespace warploom {

// y = x * inv_rms[row], inv_rms = 1 / sqrt(mean(x^2) + eps) over the row.
struct RmsNormForward {
  int64_t rows = 0, cols = 0;
  float eps = 1e-6f;
  In x;
  Out y, inv_rms;  // inv_rms: f32[rows] for the backward entry; empty at inference
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("rows", a.rows), v.attr("cols", a.cols), v.attr("eps", a.eps);
    v.tensor("x", a.x, DType::f32, elements(a.rows, a.cols), false),
        v.tensor("y", a.y, DType::f32, elements(a.rows, a.cols), false);
    v.tensor("inv_rms", a.inv_rms, DType::f32, a.rows, true);
  }
};
// dx = inv_rms * (dy - x * inv_rms^2 * mean(dy * x)).
struct RmsNormBackward {
  int64_t rows = 0, cols = 0;
  In dy, x, inv_rms;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("rows", a.rows), v.attr("cols", a.cols);
    v.tensor("dy", a.dy, DType::f32, elements(a.rows, a.cols), false),
        v.tensor("x", a.x, DType::f32, elements(a.rows, a.cols), false);
    v.tensor("inv_rms", a.inv_rms, DType::f32, a.rows, false), v.tensor("dx", a.dx, DType::f32, elements(a.rows, a.cols), false);
  }
};

}  // namespace warploom
