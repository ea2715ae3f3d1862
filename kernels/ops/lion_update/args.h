// Lion, the sign of an interpolated momentum. Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675 (Program 1).
#pragma once

#include "kernels/args.h"

namespace warploom {

// w -= lr * (sign(beta1 m + (1 - beta1) g) + weight_decay * w), then m = beta2 m + (1 - beta2) g; sign(0) = 0. A NaN stays one.
struct LionUpdate {
  int64_t count = 0;
  In hyper;  // f64[4]: lr, beta1, beta2, weight_decay
  In scale;  // f32[1]
  In g;
  InOut w, m;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count);
    v.tensor("hyper", a.hyper, DType::f64, 4, false), v.tensor("scale", a.scale, DType::f32, 1, true);
    v.tensor("g", a.g, DType::f32, a.count, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("m", a.m, DType::f32, a.count, false);
  }
};

}  // namespace warploom
