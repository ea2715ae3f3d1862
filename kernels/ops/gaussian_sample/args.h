// A draw from a Gaussian whose mean and variance a network gives, written so that gradients pass (the "reparameterization trick").
// Source: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114.
#pragma once

#include "kernels/args.h"

namespace warploom {

// x: [N, 2C, inner], channels c means and C + c logarithms of variances. y = mean + exp(log variance / 2) * e, with `draws` 0 the mean.
//
// e is drawn from the standard normal distribution by counter: element q = (n * C + c) * inner + i takes word q % 4 of the Philox
// 4x32-10 block with the counter (low and high half of q / 4, step, stream) and the key seed, two neighbouring words making two
// numbers (normal.h): the same bits on every device, in every layout and for every way of splitting the work.
struct GaussianSample {
  int64_t N = 0, C = 0, inner = 0;  // of y, in memory as `layout` says
  Layout layout = Layout::nchw;
  int draws = 1;
  int64_t seed = 0, stream = 0;  // stream: of the layer, 32 bits
  In step;                       // i32[1]: how many steps the optimizer has taken; empty without draws
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("layout", a.layout), v.attr("draws", a.draws);
    v.attr("seed", a.seed), v.attr("stream", a.stream);
    v.tensor("step", a.step, DType::i32, 1, true);
    v.tensor("x", a.x, DType::f32, elements(a.N, 2, a.C, a.inner), false);
    v.tensor("y", a.y, DType::f32, elements(a.N, a.C, a.inner), false);
  }
};
// dx: dy for the means, dy * e * exp(log variance / 2) / 2 for the logarithms of variances (0 without draws). e is drawn again.
struct GaussianSampleBackward {
  int64_t N = 0, C = 0, inner = 0;
  Layout layout = Layout::nchw;
  int draws = 1;
  int64_t seed = 0, stream = 0;
  In step;
  In x, dy;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("layout", a.layout), v.attr("draws", a.draws);
    v.attr("seed", a.seed), v.attr("stream", a.stream);
    v.tensor("step", a.step, DType::i32, 1, true);
    v.tensor("x", a.x, DType::f32, elements(a.N, 2, a.C, a.inner), false);
    v.tensor("dy", a.dy, DType::f32, elements(a.N, a.C, a.inner), false);
    v.tensor("dx", a.dx, DType::f32, elements(a.N, 2, a.C, a.inner), false);
  }
};

}  // namespace warploom
