// Root mean square error.
// Every loss: loss = weight * value, f32[1]; grad = d loss / d prediction (empty: not wanted); total, where given: f64[2], total[0] +=
// loss * samples, total[1] += samples (the running mean of an epoch, kept on the device). Sums are in double and in a fixed order.
#pragma once

#include "kernels/args.h"

namespace warploom {

// value = sqrt(mean((p - t)^2) + eps); gradient (p - t) / (count * value). At a value of 0 (eps 0, p == t) the gradient is 0.
struct RmseLoss {
  int64_t count = 0;
  float eps = 0.0f;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("eps", a.eps);
    v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, a.count, false), v.tensor("target", a.target, DType::f32, a.count, false);
    v.tensor("grad", a.grad, DType::f32, a.count, true), v.tensor("loss", a.loss, DType::f32, 1, false);
    v.tensor("total", a.total, DType::f64, 2, true);
  }
};

}  // namespace warploom
