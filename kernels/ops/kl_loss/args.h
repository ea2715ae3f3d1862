// The divergence of a Gaussian with independent numbers from the standard one, the penalty of a variational autoencoder.
// Source: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114 (appendix B). What every loss has: visit_loss in kernels/args.h;
// this one compares with no target.
#pragma once

#include "kernels/args.h"

namespace warploom {

// prediction: [rows, 2, cols], means m and logarithms of variances v. The value is the sum of (m^2 + exp(v) - 1 - v) / 2 over all,
// divided by `samples`; gradients m / samples and (exp(v) - 1) / (2 samples).
struct KlLoss {
  int64_t rows = 0, cols = 0;
  int samples = 0;
  float weight = 1.0f;
  In prediction;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    const int64_t count = elements(a.rows, 2, a.cols);
    v.attr("rows", a.rows), v.attr("cols", a.cols), v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, count, false), v.tensor("grad", a.grad, DType::f32, count, true);
    v.tensor("loss", a.loss, DType::f32, 1, false), v.tensor("total", a.total, DType::f64, 2, true);
  }
};

}  // namespace warploom
