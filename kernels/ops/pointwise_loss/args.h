// Losses that are a mean over elements: mean absolute error, and binary cross-entropy of logits.
// What every loss has: visit_loss in kernels/args.h.
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
    visit_loss(a, v, a.count, a.count);
  }
};

}  // namespace warploom
