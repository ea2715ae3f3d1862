// Average pooling without padding, floor: as PyTorch's AvgPool2d.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct AvgPool2dForward {  // y = mean of x over KH x KW windows
  Pool2dShape s;
  Layout layout = Layout::nchw;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr), v.attr("layout", a.layout);
    v.tensor("x", a.x, DType::f32, a.s.x_count(), false), v.tensor("y", a.y, DType::f32, a.s.y_count(), false);
  }
};
struct AvgPool2dBackward {  // dx = sum over the windows that hold the element of dy / (KH * KW); windows may overlap
  Pool2dShape s;
  Layout layout = Layout::nchw;
  In dy;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr), v.attr("layout", a.layout);
    v.tensor("dy", a.dy, DType::f32, a.s.y_count(), false), v.tensor("dx", a.dx, DType::f32, a.s.x_count(), false);
  }
};

}  // namespace warploom
