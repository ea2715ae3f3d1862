// Mean squared error. What every loss has: visit_loss in kernels/args.h.
#pragma once

#include "kernels/args.h"

namespace warploom {

// loss = weight * mean((prediction - target)^2) over `count` elements; grad = d loss / d prediction = weight * 2 / count * (p -
// t). total, where given: f64[2], total[0] += loss * samples, total[1] += samples (the running mean of an epoch, kept on the
// device). sums: takes what Entry::rest() reads; loss and total are empty then.
struct MseLoss {
  int64_t count = 0;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss, sums;  // grad empty: not wanted. loss: f32[1]
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count);
    visit_loss(a, v, a.count, a.count, static_cast<bool>(a.sums));
    v.tensor("sums", a.sums, DType::u8, kEntryDecides, true);
  }
};

}  // namespace warploom
