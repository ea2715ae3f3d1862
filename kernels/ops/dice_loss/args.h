// Dice loss over the whole batch, of probabilities. Source: Milletari et al. 2016, https://arxiv.org/abs/1606.04797 (with plain
// sums in the denominator).
// What every loss has: visit_loss in kernels/args.h.
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
    visit_loss(a, v, a.count, a.count);
  }
};

}  // namespace warploom
