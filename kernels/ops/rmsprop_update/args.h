// RMSprop as PyTorch's (not centred). Source: Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.
// Updates of optimizers are one pass over the flat buffers of all trainable parameters. hyper lives on the device, so that a captured
// step sees a changed learning rate; `step` is the number of this step, from 1; g is first multiplied by `scale`, where given (the
// factor of gradient clipping).
#pragma once

#include "kernels/args.h"

namespace warploom {

// g += weight_decay * w; square = alpha square + (1 - alpha) g^2; d = g / (sqrt(square) + eps); with a velocity buffer:
// velocity = momentum velocity + d and d = velocity. w -= lr * keep * d, where keep is 1, or with lr_keep < 1 a draw per element and
// step that is 1 with probability lr_keep and else 0 (learning-rate dropout, https://arxiv.org/abs/1912.00144).
struct RmspropUpdate {
  int64_t count = 0;
  In hyper;  // f64[6]: lr, alpha, eps, momentum, weight_decay, lr_keep
  In step;   // i32[1]: numbers the draws
  In scale;  // f32[1]
  In g;
  InOut w, square, velocity;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.tensor("hyper", a.hyper, DType::f64, 6, false);
    v.tensor("step", a.step, DType::i32, 1, false), v.tensor("scale", a.scale, DType::f32, 1, true);
    v.tensor("g", a.g, DType::f32, a.count, false), v.tensor("w", a.w, DType::f32, a.count, false);
    v.tensor("square", a.square, DType::f32, a.count, false), v.tensor("velocity", a.velocity, DType::f32, a.count, true);
  }
};

}  // namespace warploom
