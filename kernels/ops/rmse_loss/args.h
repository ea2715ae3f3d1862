// Root mean square error.
// What every loss has: visit_loss in kernels/args.h.
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
    visit_loss(a, v, a.count, a.count);
  }
};

}  // namespace warploom
