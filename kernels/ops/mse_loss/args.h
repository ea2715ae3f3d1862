// Mean squared error; what every loss has besides its formula is described here.
#pragma once

#include "kernels/args.h"

namespace warploom {

// loss = weight * mean((prediction - target)^2) over `count` elements; grad = d loss / d prediction = weight * 2 / count * (p -
// t). total, where given: f64[2], total[0] += loss * samples, total[1] += samples (the running mean of an epoch, kept on the
// device).
struct MseLoss {
  int64_t count = 0;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;  // grad empty: not wanted. loss: f32[1]
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, a.count, false), v.tensor("target", a.target, DType::f32, a.count, false);
    v.tensor("grad", a.grad, DType::f32, a.count, true), v.tensor("loss", a.loss, DType::f32, 1, false);
    v.tensor("total", a.total, DType::f64, 2, true);
  }
};

}  // namespace warploom
