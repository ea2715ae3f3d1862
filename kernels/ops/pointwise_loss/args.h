// Losses that are a mean over elements: mean absolute error, and binary cross-entropy of logits.
// Every loss: loss = weight * value, f32[1]; grad = d loss / d prediction (empty: not wanted); total, where given: f64[2], total[0] +=
// loss * samples, total[1] += samples (the running mean of an epoch, kept on the device). Sums are in double and in a fixed order.
#pragma once

#include "kernels/args.h"

namespace warploom {

// l1: mean |p - t|, gradient sign(p - t) / count (0 where they are equal). bce_with_logits: mean of max(p, 0) - p t +
// log(1 + exp(-|p|)), gradient (sigmoid(p) - t) / count, targets in [0, 1].
struct PointwiseLoss {
  int64_t count = 0;
  LossKind kind = LossKind::l1;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("kind", a.kind);
    v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, a.count, false), v.tensor("target", a.target, DType::f32, a.count, false);
    v.tensor("grad", a.grad, DType::f32, a.count, true), v.tensor("loss", a.loss, DType::f32, 1, false);
    v.tensor("total", a.total, DType::f64, 2, true);
  }
};

}  // namespace warploom
