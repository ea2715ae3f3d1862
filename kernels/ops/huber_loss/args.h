// Huber's loss: quadratic near the target, linear further off. Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732, in the
// form of PyTorch's HuberLoss. What every loss has: visit_loss in kernels/args.h.
#pragma once

#include "kernels/args.h"

namespace warploom {

// mean of h(d), d = p - t: h = d^2 / 2 where |d| <= delta, else delta * (|d| - delta / 2); gradient d / count there, else delta *
// sign(d) / count.
struct HuberLoss {
  int64_t count = 0;
  float delta = 1.0f;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("delta", a.delta);
    visit_loss(a, v, a.count, a.count);
  }
};

}  // namespace warploom
