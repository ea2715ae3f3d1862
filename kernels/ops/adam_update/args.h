// Adam and AdamW. Sources: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; Loshchilov and Hutter 2019,
// https://arxiv.org/abs/1711.05101.
// Updates of optimizers are one pass over the flat buffers of all trainable parameters. hyper lives on the device, so that a captured
// step sees a changed learning rate; `step` is the number of this step, from 1; g is first multiplied by `scale`, where given (the
// factor of gradient clipping).
#pragma once

#include "kernels/args.h"

namespace warploom {

// decoupled (AdamW): w -= lr * weight_decay * w first; else g += weight_decay * w. m = beta1 m + (1 - beta1) g, v = beta2 v +
// (1 - beta2) g^2; w -= lr / (1 - beta1^step) * m / (sqrt(v / (1 - beta2^step)) + eps).
struct AdamUpdate {
  int64_t count = 0;
  int decoupled = 0;
  In hyper;  // f64[5]: lr, beta1, beta2, eps, weight_decay
  In step;   // i32[1]
  In scale;  // f32[1]
  In g;
  InOut w, m, v;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("decoupled", a.decoupled);
    v.tensor("hyper", a.hyper, DType::f64, 5, false), v.tensor("step", a.step, DType::i32, 1, false);
    v.tensor("scale", a.scale, DType::f32, 1, true), v.tensor("g", a.g, DType::f32, a.count, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("m", a.m, DType::f32, a.count, false);
    v.tensor("v", a.v, DType::f32, a.count, false);
  }
};

}  // namespace warploom
