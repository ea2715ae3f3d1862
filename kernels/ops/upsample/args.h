// Enlarging by whole factors.
#pragma once

#include "kernels/args.h"

namespace warploom {

template <class Self, class V>
void visit_shape(Self& s, V& v, UpsampleShape*) {
  v.attr("N", s.N), v.attr("C", s.C), v.attr("H", s.H), v.attr("W", s.W), v.attr("scale_h", s.scale_h),
      v.attr("scale_w", s.scale_w);
}
struct UpsampleForward {  // nearest: each pixel becomes scale_h x scale_w; bilinear: half-pixel centres, edges clamped
  UpsampleShape s;
  UpsampleMode mode = UpsampleMode::nearest;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (UpsampleShape*)nullptr), v.attr("mode", a.mode);
    v.tensor("x", a.x, DType::f32, a.s.x_count(), false), v.tensor("y", a.y, DType::f32, a.s.y_count(), false);
  }
};
struct UpsampleBackward {  // the adjoint: every input pixel collects its share of the output pixels
  UpsampleShape s;
  UpsampleMode mode = UpsampleMode::nearest;
  In dy;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (UpsampleShape*)nullptr), v.attr("mode", a.mode);
    v.tensor("dy", a.dy, DType::f32, a.s.y_count(), false), v.tensor("dx", a.dx, DType::f32, a.s.x_count(), false);
  }
};

}  // namespace warploom
