// The moving average of the weights. Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, in its exponential form.
#pragma once

#include "kernels/args.h"

namespace warploom {

// average += (1 - d) * (w - average) with d = 0 at step 1 (the average begins as the weights), then min(decay, step / (step + 9)):
// early averages reach back over few steps, so that what the weights were at the start is soon forgotten.
struct EmaUpdate {
  int64_t count = 0;
  In hyper;  // f64[1]: decay
  In step;   // i32[1]: the number of this step, from 1
  In w;
  InOut average;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count);
    v.tensor("hyper", a.hyper, DType::f64, 1, false), v.tensor("step", a.step, DType::i32, 1, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("average", a.average, DType::f32, a.count, false);
  }
};

}  // namespace warploom
