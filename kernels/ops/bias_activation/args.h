// A bias per channel, then an activation: what follows a transposed convolution.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct BiasActivation {  // y[o, c, i] = activation(x[o, c, i] + bias[c]); y may be x (in place)
  int64_t outer = 0, C = 0, inner = 0;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In x, bias;  // no bias: 0
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("bias", a.bias, DType::f32, a.C, true);
    v.tensor("y", a.y, DType::f32, count, false);
  }
};

}  // namespace warploom
