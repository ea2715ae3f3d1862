// Maximum of each window, without padding.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct MaxPool2dForward {  // index: h * W + w of the maximum in its input plane (PyTorch's convention; first one wins); NaN wins
  Pool2dShape s;
  In x;
  Out y, index;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr);
    v.tensor("x", a.x, DType::f32, a.s.x_count(), false), v.tensor("y", a.y, DType::f32, a.s.y_count(), false);
    v.tensor("index", a.index, DType::i32, a.s.y_count(), true);  // empty at inference
  }
};
struct MaxPool2dBackward {  // windows may overlap (stride < kernel): contributions are summed in a fixed order, without atomics
  Pool2dShape s;
  In dy, index;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr);
    v.tensor("dy", a.dy, DType::f32, a.s.y_count(), false), v.tensor("index", a.index, DType::i32, a.s.y_count(), false);
    v.tensor("dx", a.dx, DType::f32, a.s.x_count(), false);
  }
};

}  // namespace warploom
