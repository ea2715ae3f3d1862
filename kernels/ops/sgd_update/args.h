// Stochastic gradient descent.
#pragma once

#include "kernels/args.h"

namespace warploom {

// PyTorch's SGD: d = g + weight_decay * w; velocity = momentum * velocity + d; w -= lr * (nesterov ? d + momentum * velocity :
// velocity). Without a velocity buffer: w -= lr * d. hyper lives on the device, so that a captured step sees a changed learning
// rate.
struct SgdUpdate {
  int64_t count = 0;
  int nesterov = 0;
  In hyper;  // f32[3]: lr, momentum, weight_decay
  In scale;  // f32[1]: g is multiplied by it first (gradient clipping); empty: 1
  In g;
  InOut w, velocity;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("nesterov", a.nesterov);
    v.tensor("hyper", a.hyper, DType::f32, 3, false), v.tensor("scale", a.scale, DType::f32, 1, true);
    v.tensor("g", a.g, DType::f32, a.count, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("velocity", a.velocity, DType::f32, a.count, true);
  }
};

}  // namespace warploom
