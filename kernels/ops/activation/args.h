// Activations, elementwise. relu, leaky_relu (negative_slope where x < 0) and sigmoid; tanh; elu: x where x > 0, else alpha *
// (exp(x) - 1), alpha in negative_slope (it is the slope just below 0), https://arxiv.org/abs/1511.07289; silu: x * sigmoid(x),
// https://arxiv.org/abs/1702.03118; gelu: x * Phi(x) = x / 2 * (1 + erf(x / sqrt 2)), https://arxiv.org/abs/1606.08415; gelu_tanh: its
// approximation x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))). With a number r or eps in negative_slope: exp: exp(r * (x - 1)),
// the Gaussian kernel of two unit vectors with the product x, https://arxiv.org/abs/1605.06265; signed_sqrt: sign(x) * sqrt(|x|), its
// gradient at 0 taken as 0; rsqrt: 1 / sqrt(max(x, 0) + eps), for sums of squares.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct ActivationForward {  // y may be x (in place)
  int64_t count = 0;
  Activation kind = Activation::relu;
  float negative_slope = 0.0f;
  DType type = DType::f32;  // of x and y
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("kind", a.kind), v.attr("negative_slope", a.negative_slope);
    v.attr("type", a.type);
    v.tensor("x", a.x, a.type, a.count, false), v.tensor("y", a.y, a.type, a.count, false);
  }
};
// From the output y (for relu and leaky_relu the input serves as well: same sign), or from the input x where gradient_needs_input():
// silu and gelu are not monotone and rsqrt is flat below 0, so the output does not say where it comes from. dx may be dy.
struct ActivationBackward {
  int64_t count = 0;
  Activation kind = Activation::relu;
  float negative_slope = 0.0f;
  DType type = DType::f32;  // of x and y; dx and dy: gradient_type()
  In dy, y, x;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("kind", a.kind), v.attr("negative_slope", a.negative_slope);
    v.attr("type", a.type);
    v.tensor("dy", a.dy, gradient_type(a.type), a.count, false);
    v.tensor("y", a.y, a.type, a.count, gradient_needs_input(a.kind));
    v.tensor("x", a.x, a.type, a.count, !gradient_needs_input(a.kind));
    v.tensor("dx", a.dx, gradient_type(a.type), a.count, false);
  }
};

}  // namespace warploom
