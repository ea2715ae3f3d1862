// The global norm of all gradients, and the factor that clips it, as PyTorch's clip_grad_norm_.
#pragma once

#include "kernels/args.h"

namespace warploom {

// out[0] = sqrt(sum g^2), out[1] = min(1, max_norm / (out[0] + 1e-6)); NaN stays NaN. The sum is in double and in a fixed order.
struct GradientNorm {
  int64_t count = 0;
  In max_norm;  // f32[1], on the device
  In g;
  Out out;  // f32[2]
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.tensor("max_norm", a.max_norm, DType::f32, 1, false);
    v.tensor("g", a.g, DType::f32, a.count, false), v.tensor("out", a.out, DType::f32, 2, false);
  }
};

}  // namespace warploom
