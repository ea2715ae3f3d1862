// Dice loss over the whole batch, of probabilities. Source: Milletari et al. 2016, https://arxiv.org/abs/1606.04797 (with plain
// sums in the denominator).
// Every loss: loss = weight * value, f32[1]; grad = d loss / d prediction (empty: not wanted); total, where given: f64[2], total[0] +=
// loss * samples, total[1] += samples (the running mean of an epoch, kept on the device). Sums are in double and in a fixed order.
#pragma once

#include "kernels/args.h"

namespace warploom {

// value = 1 - (2 I + smooth) / (P + T + smooth), I = sum p t, P = sum p, T = sum t; gradient by p:
// -(2 t (P + T + smooth) - (2 I + smooth)) / (P + T + smooth)^2.
struct DiceLoss {
  int64_t count = 0;
  float smooth = 1e-6f;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("smooth", a.smooth);
    v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, a.count, false), v.tensor("target", a.target, DType::f32, a.count, false);
    v.tensor("grad", a.grad, DType::f32, a.count, true), v.tensor("loss", a.loss, DType::f32, 1, false);
    v.tensor("total", a.total, DType::f64, 2, true);
  }
};

}  // namespace warploom
