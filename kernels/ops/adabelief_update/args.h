// AdaBelief. Source: Zhuang et al. 2020, https://arxiv.org/abs/2010.07468; eps stands outside the root and is not added to s.
// Updates of optimizers are one pass over the flat buffers of all trainable parameters. hyper lives on the device, so that a captured
// step sees a changed learning rate; `step` is the number of this step, from 1; g is first multiplied by `scale`, where given (the
// factor of gradient clipping).
#pragma once

#include "kernels/args.h"

namespace warploom {

// g += weight_decay * w; m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) (g - m)^2; with bias_correction m and s are divided by
// 1 - beta^step before use; w -= lr * keep * m / (sqrt(s) + eps), keep as in RmspropUpdate.
struct AdabeliefUpdate {
  int64_t count = 0;
  int bias_correction = 0;
  In hyper;  // f64[6]: lr, beta1, beta2, eps, weight_decay, lr_keep
  In step;   // i32[1]
  In scale;  // f32[1]
  In g;
  InOut w, m, s;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("bias_correction", a.bias_correction);
    v.tensor("hyper", a.hyper, DType::f64, 6, false), v.tensor("step", a.step, DType::i32, 1, false);
    v.tensor("scale", a.scale, DType::f32, 1, true), v.tensor("g", a.g, DType::f32, a.count, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("m", a.m, DType::f32, a.count, false);
    v.tensor("s", a.s, DType::f32, a.count, false);
  }
};

}  // namespace warploom
